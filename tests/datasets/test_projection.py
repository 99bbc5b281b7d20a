"""Projection: against a step by step oracle, the official devkit, and simple geometry."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.conftest import real_nuscenes_root
from uov_jax.datasets.keyframe import CameraView, Keyframe, Pose
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import pair_points, project


def oracle(points: np.ndarray, keyframe: Keyframe, camera: CameraView) -> np.ndarray:
    """float64[N, 3]: column, row, depth by quaternions, one motion after the other."""
    from pyquaternion import Quaternion

    result = []
    for point in points[:, :3].astype(np.float64):
        for pose in (keyframe.sensor_to_ego, keyframe.ego_to_global):
            point = Quaternion(pose.rotation).rotate(point) + np.array(pose.translation)
        for pose in (camera.ego_to_global, camera.sensor_to_ego):
            point = Quaternion(pose.rotation).inverse.rotate(point - np.array(pose.translation))
        column, row, depth = camera.intrinsic @ point
        result.append((column / depth, row / depth, point[2]))
    return np.array(result)


IDENTITY = Pose((1, 0, 0, 0), (0, 0, 0))
# x right, y down, z forward from x forward, y left, z up
FORWARD = Pose((0.5, -0.5, 0.5, -0.5), (0, 0, 0))
INTRINSIC = np.array([[100.0, 0, 50], [0, 100.0, 40], [0, 0, 1]])


def simple_keyframe(**changes) -> Keyframe:
    view = CameraView("CAM", "t", None, INTRINSIC, FORWARD, IDENTITY, width=101, height=81)
    view = dataclasses.replace(view, **changes)
    return Keyframe("k", "s", None, "l", IDENTITY, IDENTITY, (view,), None)


def project_simple(points, **changes):
    keyframe = simple_keyframe(**changes)
    return project(np.array(points, np.float32), keyframe, keyframe.cameras[0])


def test_a_point_straight_ahead_falls_on_the_principal_point():
    found = project_simple([[10, 0, 0]])
    np.testing.assert_allclose(found.uv, [[50, 40]])
    np.testing.assert_allclose(found.depth, [10])
    row, column = found.pixels()
    assert (row.tolist(), column.tolist()) == ([40], [50])
    assert row.dtype == np.int32


def test_left_and_up_are_smaller_columns_and_rows():
    np.testing.assert_allclose(project_simple([[10, 1, 2]]).uv, [[40, 20]])


def test_only_points_deeper_than_one_metre_strictly_inside_are_visible():
    inside = [[10, 0, 0], [10, 4.99, 0], [10, -4.99, 0], [10, 0, 3.99], [1.001, 0, 0]]
    outside = [[1, 0, 0], [-10, 0, 0], [10, 5, 0], [10, -5, 0], [10, 0, 4], [10, 0, -4]]
    assert project_simple(inside).visible.all()
    assert not project_simple(outside).visible.any()


def test_the_vehicles_motion_between_sweep_and_image_counts():
    moved = Pose((1, 0, 0, 0), (5, 0, 0))
    np.testing.assert_allclose(project_simple([[15, 1, 0]], ego_to_global=moved).uv, [[40, 40]])


def test_no_points_give_no_pairs():
    pairs = pair_points(np.zeros((0, 5), np.float32), simple_keyframe())
    assert [len(column) for column in pairs] == [0, 0, 0, 0]


def test_pairs_are_the_visible_points_of_every_camera_in_order(tiny_keyframes):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    pairs = pair_points(points, keyframe)
    assert (np.diff(pairs.camera) >= 0).all()
    assert set(pairs.camera) == set(range(6))
    for number, camera in enumerate(keyframe.cameras):
        found = project(points, keyframe, camera)
        own = pairs.select(pairs.camera == number)
        np.testing.assert_array_equal(own.point, np.flatnonzero(found.visible))
        np.testing.assert_array_equal(own.u, np.round(found.uv[found.visible, 0]))
        np.testing.assert_array_equal(own.v, np.round(found.uv[found.visible, 1]))


@pytest.mark.parametrize("layout", ["by column", "every second row", "backwards"])
def test_points_may_lie_in_memory_in_any_way(tiny_keyframes, layout):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    laid = {
        "by column": np.asfortranarray(points),
        "every second row": np.repeat(points, 2, axis=0)[::2],
        "backwards": points[::-1].copy()[::-1],
    }[layout]
    for expected, found in zip(
        pair_points(points, keyframe), pair_points(laid, keyframe), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_agrees_with_the_oracle_on_the_tiny_dataset(tiny_keyframes):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()[:100]
    for camera in keyframe.cameras:
        expected = oracle(points, keyframe, camera)
        found = project(points, keyframe, camera)
        deep = expected[:, 2] > 1
        np.testing.assert_allclose(found.depth, expected[:, 2], atol=1e-9)
        np.testing.assert_allclose(found.uv[deep], expected[deep, :2], atol=1e-7)
        assert np.isnan(found.uv[~deep]).all()


@pytest.fixture(scope="module")
def real_root() -> str:
    return str(real_nuscenes_root())


@pytest.fixture(scope="module")
def real_keyframe(real_root) -> Keyframe:
    (keyframe,) = NuScenesTables(real_root, "v1.0-mini").keyframes("mini_train")
    return keyframe


def test_agrees_with_the_oracle_on_the_real_keyframe(real_keyframe):
    points = real_keyframe.points()[::150]
    for camera in real_keyframe.cameras:
        expected = oracle(points, real_keyframe, camera)
        found = project(points, real_keyframe, camera)
        inside = (expected[:, :2] > 0).all(axis=1)
        inside &= (expected[:, 0] < camera.width - 1) & (expected[:, 1] < camera.height - 1)
        np.testing.assert_array_equal(found.visible, inside & (expected[:, 2] > 1))
        np.testing.assert_allclose(found.uv[found.visible], expected[found.visible, :2], atol=1e-6)


def test_agrees_with_the_official_devkit_to_the_pixel(real_root, real_keyframe, monkeypatch):
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.data_classes import LidarPointCloud as cloud

    explorer = NuScenes("v1.0-mini", real_root, verbose=False).explorer
    read = cloud.from_file
    points = real_keyframe.points()

    def compare(camera):
        uv, depth, image = explorer.map_pointcloud_to_image(real_keyframe.lidar_token, camera.token)
        image.close()
        found = project(points, real_keyframe, camera)
        shown = found.visible & (found.uv > 1).all(axis=1)  # the devkit's margin is a pixel wider
        assert uv.shape[1] == shown.sum() > 2000
        return found.uv[shown], uv[:2].T, found.depth[shown] - depth

    for camera in real_keyframe.cameras:  # as it is: float32 global coordinates
        ours, theirs, depth = compare(camera)
        np.testing.assert_allclose(ours, theirs, atol=0.03)
        np.testing.assert_allclose(depth, 0, atol=2e-4)
    monkeypatch.setattr(cloud, "from_file", lambda path: cloud(read(path).points.astype(float)))
    for camera in real_keyframe.cameras:  # in double precision: to the pixel, every point
        ours, theirs, _ = compare(camera)
        np.testing.assert_array_equal(np.round(ours), np.round(theirs))
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
