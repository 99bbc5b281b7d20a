"""Rays against an independent intersection of every triangle, and against moving bodies."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulate.conftest import unit
from uov_jax.simulate.casting import World, _Bundles
from uov_jax.simulate.triangles import FAR


def every_triangle(vertices, faces, origin, direction) -> float:
    """Nearest distance by Moeller and Trumbore's test of all triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    p = np.cross(direction, c - a)
    determinant = np.einsum("ij,ij->i", b - a, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = origin - a
        u = np.einsum("ij,ij->i", s, p) / determinant
        q = np.cross(s, b - a)
        v = q @ direction / determinant
        t = np.einsum("ij,ij->i", c - a, q) / determinant
    hit = (np.abs(determinant) > 1e-12) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-4)
    return float(t[hit].min()) if hit.any() else np.inf


def rays(world: World, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rotation, translation = world.scene.ego.pose(0.3)
    origin = rotation @ np.array([0.94, 0.0, 1.84]) + translation
    generator = np.random.default_rng(seed)
    directions = unit(generator.normal(size=(count, 3)) * [1, 1, 0.25]).astype(np.float32)
    return np.repeat(origin[None].astype(np.float32), count, axis=0), directions


def test_nearest_hit_equals_the_test_of_every_triangle(world: World) -> None:
    origins, directions = rays(world, 12)
    time = 0.3
    distance, face = world.cast(origins, directions, np.array([time]))
    meshes = [(world.scene.static, np.eye(3), np.zeros(3))]
    meshes += [(a.mesh, *a.motion.pose(time)) for a in world.scene.actors]
    for i in range(len(origins)):
        if face[i] >= world.first_ground_face:
            continue
        expected = min(
            every_triangle(
                mesh.vertices,
                mesh.faces,
                (origins[i] - translation) @ rotation,
                directions[i].astype(float) @ rotation,
            )
            for mesh, rotation, translation in meshes
        )
        if face[i] < 0:
            assert distance[i] == FAR
            assert expected == np.inf
        else:
            assert distance[i] == pytest.approx(expected, abs=2e-3)


def test_no_bundle_leaves_out_a_ray_that_hits(world: World) -> None:
    origins, directions = rays(world, 4000, 1)
    order = np.argsort(np.arctan2(directions[:, 1], directions[:, 0]))
    origins, directions, times = origins[order], directions[order], np.array([0.3])
    distance, face = world.cast(origins, directions, times)
    for body, (rotation, translation) in world._poses(0.3):
        local = (origins - translation) @ rotation, directions @ rotation
        alone, _ = body.intersect(*local)
        hit = alone < FAR
        assert np.all(distance[hit] <= alone[hit] + 1e-3)
        chosen = _Bundles(origins, directions).near(body, rotation, translation, 0.0)
        assert set(np.flatnonzero(hit)) <= set(chosen)


def test_moving_things_are_met_where_they_are_at_each_rays_time(world: World) -> None:
    actor = max(world.scene.actors, key=lambda a: abs(getattr(a.motion, "speed", 0.0)))
    times = np.linspace(0.0, 0.4, 9)
    rotation, translation = actor.motion.pose(times)
    middle = actor.mesh.bounds()[1] * [0, 0, 0.5]
    above = translation + rotation @ middle + [0, 0, 30.0]
    down = np.tile(np.array([[0, 0, -1]], np.float32), (9, 1))
    body = next(b for b in world.moving if b.motion is actor.motion)
    _, face = world.cast(above.astype(np.float32), down, times)
    inside = (face >= body.first_face) & (face < body.first_face + body.num_faces)
    assert inside.all()
    _, frozen = world.cast(above.astype(np.float32), down, np.zeros(1))
    still = (frozen >= body.first_face) & (frozen < body.first_face + body.num_faces)
    assert not still.all()


def test_shadow_falls_under_a_body(world: World) -> None:
    body, (_, translation) = world._poses(0.3)[0]
    under = translation + np.array([0, 0, 0.01], np.float32)
    up = np.array([0, 0, 1], np.float32)
    aside = under + np.array([0, 0, 60], np.float32)
    shadowed = world.shadowed(np.stack([under, aside]), up, 0.3, under)
    assert shadowed.tolist() == [True, False]
