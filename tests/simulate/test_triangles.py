"""Rays at triangles: the caster in numpy against Embree and against the test of every triangle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.simulate.conftest import unit
from uov_jax.simulate import drive as drives
from uov_jax.simulate import triangles
from uov_jax.simulate.camera import _pixel_rays
from uov_jax.simulate.casting import World
from uov_jax.simulate.lidar import sweep
from uov_jax.simulate.numpy_triangles import BUNDLE, FAR, LEAF, NumpyTriangles, _groups
from uov_jax.simulate.sensors import CAMERA_MODELS
from uov_jax.simulate.triangles import WITHOUT_EMBREE, EmbreeTriangles

needs_embree = pytest.mark.skipif(bool(WITHOUT_EMBREE), reason="Embree is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[NumpyTriangles, pytest.param(EmbreeTriangles, marks=needs_embree)])
def kind(request: pytest.FixtureRequest) -> type:
    return request.param


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


def through_planes(corners, origin, direction) -> tuple[np.ndarray, np.ndarray]:
    """Where a ray goes through the planes of triangles [F, 3, 3]: distances, and how far inside.

    The latter is the least of the three shares that the corners have in the point: negative
    outside, 0 at an edge.
    """
    a, b, c = np.moveaxis(corners.astype(np.float64), 1, 0)
    origin, direction = origin.astype(np.float64), direction.astype(np.float64)
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.einsum("fi,fi->f", normal, a - origin) / (normal @ direction)
        point = origin + distance[:, None] * direction
        shares = [
            np.einsum("fi,fi->f", normal, np.cross(q - p, point - p))
            / np.einsum("fi,fi->f", normal, normal)
            for p, q in ((a, b), (b, c), (c, a))
        ]
    return distance, np.min(shares, axis=0)


TRIANGLE = rows((0, 0, 5), (2, 0, 5), (0, 2, 5))


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((0.5, 0.5, 0), (0, 0, 1), 5.0),
        ((0.5, 0.5, 9), (0, 0, -1), 4.0),  # from behind
        ((0.5, 0.5, 9), (0, 0, 1), None),  # it lies behind
        ((1.5, 1.5, 0), (0, 0, 1), None),  # beside
        ((-1, 0.5, 5), (1, 0, 0), None),  # along its plane
        ((0.5, 0.5, 5), (0, 0, 1), 0.0),  # from it
        ((0.5, 0.5, 4), (0.6, 0, 0.8), 1.25),
    ],
)
def test_one_triangle(kind, origin, direction, expected):
    mesh = kind(TRIANGLE, np.array([[0, 1, 2]], np.int32))
    distance, face = mesh.intersect(rows(origin), rows(direction))
    assert (distance.dtype, face.dtype) == (np.float32, np.int32)
    assert distance[0] == pytest.approx(FAR if expected is None else expected, rel=1e-6)
    assert face[0] == (-1 if expected is None else 0)
    assert mesh.blocks(rows(origin), rows(direction)).tolist() == [expected is not None]


def test_no_rays(kind):
    mesh = kind(TRIANGLE, np.array([[0, 1, 2]], np.int32))
    none = np.zeros((0, 3), np.float32)
    distance, face = mesh.intersect(none, none)
    assert len(distance) == len(face) == len(mesh.blocks(none, none)) == 0


def test_no_ray_falls_between_two_faces(kind):
    corners = rows((0, 0, 5), (1, 0, 5), (1, 1, 5), (0, 1, 5))
    mesh = kind(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    on_the_seam = np.repeat(np.linspace(0.05, 0.95, 31, dtype=np.float32)[:, None], 3, axis=1)
    on_the_seam[:, 2] = 0
    distance, face = mesh.intersect(on_the_seam, np.tile(rows((0, 0, 1)), (31, 1)))
    # Embree divides by estimates that instruction sets refine differently.
    np.testing.assert_array_max_ulp(distance, np.full_like(distance, 5), maxulp=2)
    assert set(face) <= {0, 1}


@pytest.mark.parametrize("count", [1, LEAF, LEAF + 1, 300])
def test_rays_that_have_nothing_in_common(kind, count):
    """From anywhere to anywhere, in no order."""
    generator = np.random.default_rng(count)
    corners = generator.uniform(-8, 8, (count, 1, 3)) + generator.normal(size=(count, 3, 3))
    corners = corners.astype(np.float32)
    mesh = kind(corners.reshape(-1, 3), np.arange(3 * count, dtype=np.int32).reshape(-1, 3))
    origins = generator.uniform(-12, 12, (5 * BUNDLE + 7, 3)).astype(np.float32)
    aims = corners.mean(axis=1)[generator.integers(count, size=len(origins))]
    aims += generator.normal(0, 0.3, aims.shape).astype(np.float32)
    directions = unit(aims - origins).astype(np.float32)
    distance, face = mesh.intersect(origins, directions)
    np.testing.assert_array_equal(mesh.blocks(origins, directions), face >= 0)
    judged = 0
    for i in range(len(origins)):
        depth, inside = through_planes(corners, origins[i], directions[i])
        depth[depth < 0] = np.inf
        if np.abs(inside[depth < np.inf]).min(initial=1) < 1e-4:
            continue  # at an edge
        depth[inside < 0] = np.inf
        judged += 1
        if depth.min() < np.inf:
            assert face[i] == depth.argmin()
            assert distance[i] == pytest.approx(depth.min(), rel=1e-5)
        else:
            assert (face[i], distance[i]) == (-1, FAR)
    assert judged > 0.8 * len(origins)
    assert 0.05 < np.mean(face >= 0) < 1


def sensor_rays(world: World, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Those of a camera, of the LiDAR as it moves, or shadow rays from the ground."""
    rotation, translation = world.scene.ego.pose(0.3)
    if which == "camera":
        turn = (rotation @ CAMERA_MODELS[0].rotation()).T.astype(np.float32)
        directions = _pixel_rays(CAMERA_MODELS[0], 320, 180) @ turn
        at = (translation + [0, 0, 1.5]).astype(np.float32)
        return np.broadcast_to(at, directions.shape), directions
    generator = np.random.default_rng(0)
    if which == "LiDAR":
        azimuth, height = np.meshgrid(np.linspace(0, 6.28, 400), np.linspace(-0.5, 0.2, 32))
        aim = np.stack([np.cos(azimuth), np.sin(azimuth), height], axis=-1).transpose(1, 0, 2)
        start = translation + [0, 0, 1.8] + np.linspace(0, 0.5, 400)[:, None] * rotation[0]
        return (
            np.repeat(start, 32, axis=0).astype(np.float32),
            unit(aim.reshape(-1, 3)).astype(np.float32),
        )
    # Some lie far out, as the horizon does.
    away = generator.exponential(40, (5000, 1)) * unit(generator.normal(size=(5000, 2)))
    ground = np.pad(away + translation[:2], ((0, 0), (0, 1)), constant_values=0.05)
    sun = unit(np.array([0.4, 0.3, 0.6])).astype(np.float32)
    return ground.astype(np.float32), np.broadcast_to(sun, ground.shape)


@needs_embree
@pytest.mark.parametrize("which", ["camera", "LiDAR", "shadows"])
def test_a_street_is_met_as_by_embree(world: World, which):
    """The same distances; the same faces but where several lie in one place or the ray at an edge.

    At an edge, one of the two may let through what the other stops: Embree computes in float32.
    """
    mesh = world.scene.static
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    ours, theirs = NumpyTriangles(vertices, faces), EmbreeTriangles(vertices, faces)
    origins, directions = sensor_rays(world, which)
    distance, face = ours.intersect(origins, directions)
    expected, their_face = theirs.intersect(origins, directions)
    assert 0.05 < np.mean(face >= 0) < 1
    np.testing.assert_array_equal(ours.blocks(origins, directions), face >= 0)
    close = np.abs(distance - expected) <= 1e-5 * expected
    for ray in np.flatnonzero(~close):
        hit = sorted({int(face[ray]), int(their_face[ray])} - {-1})
        _, inside = through_planes(vertices[faces[hit]], origins[ray], directions[ray])
        assert np.abs(inside).min() < 1e-3
    assert np.mean(close) > 0.999
    assert np.mean(face == their_face) > 0.99


@needs_embree
def test_a_sweep_without_embree_is_the_same(world: World, monkeypatch):
    monkeypatch.setattr(triangles, "WITHOUT_EMBREE", "it was uninstalled")
    other = World(world.scene)
    assert isinstance(other.static.triangles, NumpyTriangles)
    ours = sweep(other, 0.6, np.random.default_rng(0))
    expected = sweep(world, 0.6, np.random.default_rng(0))
    assert np.mean(ours.raw == expected.raw) > 0.999
    near = np.abs(ours.points - expected.points).max(axis=1) < 1e-3
    assert np.mean(near) > 0.999


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 63, 64, 65, 1000])
def test_groups_hold_every_point_and_lie_apart(count):
    points = np.random.default_rng(count).uniform(size=(count, 3)) * [1, 1, 100]
    groups = _groups(points, 8)
    assert set(groups.ravel()) == set(range(count))
    assert groups.shape[1] <= 8
    assert groups.size < count + len(groups)
    assert np.log2(len(groups)) % 1 == 0
    if count == 1000:
        extent = np.ptp(points[groups][..., 2], axis=1)
        assert np.median(extent) < 5


COMMAND = """
import sys
sys.modules["embreex"] = None  # as if it were not there
from uov_jax.command_line.simulate import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_drive_is_simulated_without_embree(tmp_path):
    settings = ["--scenes=1", "--keyframes=1", "--image-scale=0.1", "--workers=1"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, f"--output={tmp_path / 'drive'}", *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "Embree" in line]
    assert len(said) == 1
    assert said[0].startswith("Embree cannot be imported (")
    assert "three times as long" in said[0]
    assert len(list((tmp_path / "drive" / "samples").rglob("*.pcd.bin"))) == 1


def test_it_is_said_how_long_it_takes_without_embree(monkeypatch, settings):
    monkeypatch.setattr(drives, "WITHOUT_EMBREE", "")
    with_embree = drives.expected_seconds(settings, 1)
    monkeypatch.setattr(drives, "WITHOUT_EMBREE", "it was uninstalled")
    assert drives.expected_seconds(settings, 1) > 1.5 * with_embree
