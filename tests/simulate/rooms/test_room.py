"""Rooms themselves: the same for a seed, all classes, nothing in anything else."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from uov_jax.simulate.rooms.furnish import ROOM_TYPES
from uov_jax.simulate.rooms.kinds import (
    CLASS_IDS,
    CLASS_NAMES,
    CLASS_OF_KIND,
    KIND,
    KINDS,
    NYU40_NAMES,
)
from uov_jax.simulate.rooms.path import camera_poses
from uov_jax.simulate.rooms.room import make_room
from uov_jax.vocabulary import load_vocabulary

DEFAULT_ROOMS = 40


def test_classes_are_those_of_the_vocabulary() -> None:
    assert ("ignore", *CLASS_NAMES) == load_vocabulary("scannet").eval_classes
    assert len(NYU40_NAMES) == 41
    for kind, number in zip(KINDS, CLASS_OF_KIND, strict=True):
        assert bool(number) == (kind.nyu40 in CLASS_IDS)
        if not number:
            assert kind.like
            assert set(kind.like) <= set(CLASS_NAMES)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_class_is_in_several_rooms_of_both_splits_and_in_few_of_all(seed: int) -> None:
    present = [set(make_room(seed, number).classes) for number in range(DEFAULT_ROOMS)]
    count = collections.Counter(c for classes in present[:32] for c in classes)
    assert set(count) == set(range(1, 21))
    assert min(count.values()) >= 3
    # What a scene has says something of it: a class that is everywhere would not.
    everywhere = {CLASS_NAMES.index(name) + 1 for name in ("wall", "floor", "door", "window")}
    assert all(count[c] < 36 for c in count.keys() - everywhere)
    judged = set().union(*present[32:])
    assert len(judged) >= 19


def test_a_room_is_a_function_of_seed_and_number() -> None:
    one, again, other, next_one = (make_room(*key) for key in ((3, 4), (3, 4), (4, 4), (3, 12)))
    np.testing.assert_array_equal(one.mesh.vertices, again.mesh.vertices)
    np.testing.assert_array_equal(one.mesh.color, again.mesh.color)
    np.testing.assert_array_equal(one.to_world, again.to_world)
    for different in (other, next_one):
        assert different.type == one.type
        assert (
            different.mesh.vertices.shape != one.mesh.vertices.shape
            or not (different.mesh.vertices == one.mesh.vertices).all()
        )


@pytest.mark.parametrize("number", range(len(ROOM_TYPES)))
def test_nothing_stands_in_anything_else_or_outside(number: int) -> None:
    room = make_room(7, number)
    low, high = (
        np.array([getattr(thing, side) for thing in room.things]) for side in ("low", "high")
    )
    apart = (low[:, None] >= high[None] - 2e-6).any(axis=2)
    apart |= apart.T
    np.fill_diagonal(apart, True)
    assert len(low) >= 2
    assert apart.all()
    zones = np.array([(zone.x, zone.y) for zone in room.plan.zones])
    inside = (low[:, None, :2] >= zones[None, :, :, 0] - 0.002).all(axis=2)
    inside &= (high[:, None, :2] <= zones[None, :, :, 1] + 0.002).all(axis=2)
    assert inside.any(axis=1).all()
    assert high[:, 2].max() <= room.plan.height


@pytest.mark.parametrize("number", range(len(ROOM_TYPES)))
def test_faces_of_a_thing_lie_in_its_box(number: int) -> None:
    room = make_room(8, number)
    corners = room.mesh.vertices[room.mesh.faces]
    for thing in room.things:
        own = corners[room.mesh.instance == thing.number].reshape(-1, 3)
        assert len(own)
        assert (own >= thing.low - 1e-6).all()
        assert (own <= thing.high + 1e-6).all()


@pytest.mark.parametrize("number", range(len(ROOM_TYPES)))
def test_no_ray_leaves_a_room(number: int) -> None:
    room = make_room(9, number)
    generator = np.random.default_rng(0)
    (pose,) = camera_poses(room, 1, generator)
    directions = generator.normal(size=(20_000, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origin = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
    distance, face = room.triangles.intersect(origin, directions)
    assert (face < 0).mean() < 1e-3
    assert distance[face >= 0].max() < 15


def test_normals_look_at_who_sees_them() -> None:
    room = make_room(9, 2)
    generator = np.random.default_rng(0)
    (pose,) = camera_poses(room, 1, generator)
    directions = generator.normal(size=(20_000, 3)).astype(np.float32)
    origin = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
    _, face = room.triangles.intersect(origin, directions)
    met = face >= 0
    toward = np.einsum("ij,ij->i", directions[met], room.normals[face[met]])
    assert (toward < 0).mean() > 0.999


@pytest.mark.parametrize("number", range(len(ROOM_TYPES)))
def test_the_camera_stays_in_the_room_and_out_of_furniture(number: int) -> None:
    room = make_room(11, number)
    poses = camera_poses(room, 24, np.random.default_rng(1))
    rotation = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (24, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-12)
    # The camera's y looks down, and it is held level more or less.
    assert (rotation[:, 2, 1] < -0.6).all()
    for place in poses[:, :3, 3]:
        assert any(zone.holds(place, place, -0.05) for zone in room.plan.zones)
        assert not any((place > t.low).all() and (place < t.high).all() for t in room.things)


def test_things_are_of_many_triangles_and_colours_do_not_tell_the_class() -> None:
    colors: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for number in range(16):
        mesh = make_room(2, number).mesh
        for name in ("chair", "table", "desk", "cabinet", "door"):
            of_class = mesh.kind == KIND[name]
            for thing in np.unique(mesh.instance[of_class]):
                own = of_class & (mesh.instance == thing)
                if name == "chair":
                    assert 60 < own.sum() < 2000
                colors[name].append(mesh.color[own].mean(axis=0))
    spread = {name: np.std(values, axis=0).mean() for name, values in colors.items()}
    middle = np.array([np.mean(values, axis=0) for values in colors.values()])
    assert min(spread.values()) > 0.05
    # Objects of one class differ more than the classes do from each other.
    assert np.mean(list(spread.values())) > middle.std(axis=0).mean()
