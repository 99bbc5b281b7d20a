"""Frames and scans agree with the mesh, and with each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax.simulate.rooms.kinds import CLASS_OF_KIND, KINDS
from uov_jax.simulate.rooms.path import camera_poses
from uov_jax.simulate.rooms.room import SimulatedRoom, from_world, make_room
from uov_jax.simulate.rooms.scan import NOISE, Scan, scan_room
from uov_jax.simulate.rooms.views import (
    DEPTH_UNITS,
    depth_of,
    developed,
    intrinsics,
    look,
    measured_depth,
    photograph,
)

DENSITY = 6000


@pytest.fixture(scope="module", params=[1, 7])
def room(request: pytest.FixtureRequest) -> SimulatedRoom:
    return make_room(21, request.param)


@pytest.fixture(scope="module")
def poses(room: SimulatedRoom) -> np.ndarray:
    return camera_poses(room, 12, np.random.default_rng(2))


@pytest.fixture(scope="module")
def scan(room: SimulatedRoom, poses: np.ndarray) -> Scan:
    return scan_room(room, poses, DENSITY, np.random.default_rng(3))


def distance_to_faces(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """float64[N]: how far points [N, 3] are from the nearest of triangles [F, 3, 3].

    By the plane where its foot lies in the triangle, by the three edges else.
    """
    best = np.full(len(points), np.inf)
    for a, b, c in corners:
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal) + 1e-18
        foot = points - ((points - a) @ normal)[:, None] * normal
        inside = np.ones(len(points), bool)
        for start, end in ((a, b), (b, c), (c, a)):
            edge = end - start
            inside &= np.cross(edge, foot - start) @ normal >= -1e-9
            along = np.clip((points - start) @ edge / (edge @ edge + 1e-18), 0, 1)
            best = np.minimum(best, np.linalg.norm(points - start - along[:, None] * edge, axis=1))
        best = np.where(inside, np.minimum(best, np.abs((points - a) @ normal)), best)
    return best


def test_intrinsics_are_those_of_scannet_adapted() -> None:
    full = intrinsics(640, 480)
    np.testing.assert_allclose(full[[0, 1], [0, 1]], 577.870605, rtol=1e-12)
    np.testing.assert_allclose(full[:2, 2], [319.5, 239.5])
    half = intrinsics()
    np.testing.assert_allclose(half[[0, 1], [0, 1]], 577.870605 / 2)
    np.testing.assert_allclose(half[:2, 2], [319.5 * 319 / 639, 239.5 * 239 / 479])


def test_points_lie_on_surfaces_of_their_kind(room: SimulatedRoom, scan: Scan) -> None:
    """What a point is called is what a thing there is made of; noise is Gaussian, 6 sigma."""
    back = from_world(room)
    points = scan.coords.astype(np.float64) @ back[:3, :3].T + back[:3, 3]
    chosen = np.random.default_rng(0).choice(len(points), 400, replace=False)
    code = room.mesh.instance.astype(np.int64) * len(KINDS) + room.mesh.kind
    for each in np.unique(scan.objects[chosen]):
        rows = chosen[scan.objects[chosen] == each]
        corners = room.mesh.vertices[room.mesh.faces[code == each]]
        assert len(corners)
        assert distance_to_faces(points[rows], corners).max() < 6 * NOISE
        assert (scan.labels[rows] == CLASS_OF_KIND[each % len(KINDS)]).all()
    assert set(np.unique(scan.labels)) - {0} <= set(room.classes)


def test_the_scan_has_about_the_points_that_were_asked_for(scan: Scan) -> None:
    assert 0.95 * DENSITY < len(scan.coords) < 1.05 * DENSITY
    assert scan.coords.dtype == np.float32
    assert scan.colors.dtype == np.uint8
    assert scan.colors.std() > 10


def test_points_are_where_the_depth_says(
    room: SimulatedRoom, scan: Scan, poses: np.ndarray
) -> None:
    """Every point is seen by some view; a view sees nothing behind its depth, but by the noise."""
    matrix = intrinsics()
    seen = np.zeros(len(scan.coords), int)
    generator = np.random.default_rng(4)
    for pose in poses:
        view = look(room, pose)
        depth = measured_depth(view, generator) / DEPTH_UNITS
        world_to_camera = np.linalg.inv(room.to_world @ pose)
        local = scan.coords @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        z = local[:, 2]
        ahead = np.flatnonzero(z > 0.3)
        u = np.rint(matrix[0, 0] * local[ahead, 0] / z[ahead] + matrix[0, 2]).astype(int)
        v = np.rint(matrix[1, 1] * local[ahead, 1] / z[ahead] + matrix[1, 2]).astype(int)
        inside = (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        ahead, u, v = ahead[inside], u[inside], v[inside]
        near = np.abs(depth[v, u] - z[ahead]) < 0.06
        seen[ahead[near]] += 1
        # What the view sees there is what the point is called, but for pixels at borders.
        label = CLASS_OF_KIND[view.kind[v, u]]
        assert (label[near] == scan.labels[ahead[near]]).mean() > 0.9
    assert (seen > 0).mean() > 0.85
    assert 0.02 < (seen <= 1).mean() < 0.7


def test_depth_has_holes_and_noise_of_millimetres(room: SimulatedRoom, poses: np.ndarray) -> None:
    view = look(room, poses[0])
    np.testing.assert_array_equal(view.depth, depth_of(room, poses[0]))
    measured = measured_depth(view, np.random.default_rng(0))
    assert measured.dtype == np.uint16
    holes = measured == 0
    assert 0.005 < holes.mean() < 0.6
    error = measured[~holes] / DEPTH_UNITS - view.depth[~holes]
    assert 0.0005 < error.std() < 0.02
    assert abs(error.mean()) < 0.002
    grazing = dataclasses.replace(view, slant=np.full_like(view.slant, 0.1))
    assert (measured_depth(grazing, np.random.default_rng(0)) == 0).mean() > 0.7


def test_depth_is_along_the_optical_axis(room: SimulatedRoom, poses: np.ndarray) -> None:
    """Pixels lifted by their depth lie on the mesh that the ray met."""
    view = look(room, poses[3])
    matrix = np.linalg.inv(intrinsics())
    rows, columns = np.array([20, 120, 200, 7]), np.array([30, 160, 300, 310])
    for v, u in zip(rows, columns, strict=True):
        point = matrix @ np.array([u, v, 1.0]) * view.depth[v, u]
        point = poses[3][:3, :3] @ point + poses[3][:3, 3]
        corners = room.mesh.vertices[room.mesh.faces[view.face[v, u]]][None]
        assert distance_to_faces(point[None], corners)[0] < 2e-3


def test_pictures_have_light_and_shadow(room: SimulatedRoom, poses: np.ndarray) -> None:
    view = look(room, poses[0])
    image = photograph(view, np.random.default_rng(0))
    assert image.size == (320, 240)
    assert np.asarray(image).std() > 8
    dark, bright = developed(np.array([0.01, 1.0], np.float32))
    assert dark < 40
    assert bright > 180
