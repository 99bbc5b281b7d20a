"""Calibration and timing of the simulated sensors."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.simulate.sensors import (
    CAMERA_MODELS,
    ELEVATIONS,
    FIRINGS,
    RINGS,
    SPIN,
    lidar_rays,
    lidar_rotation,
    quaternion,
)


def matrix(q: list[float]) -> np.ndarray:
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_quaternion_gives_the_rotation_back() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        np.testing.assert_allclose(matrix(quaternion(rotation)), rotation, atol=1e-9)
    np.testing.assert_allclose(matrix(quaternion(np.diag([1.0, -1, -1]))), np.diag([1.0, -1, -1]))


@pytest.mark.parametrize("model", CAMERA_MODELS, ids=lambda model: model.channel)
def test_cameras_look_where_they_say(model) -> None:
    rotation = model.rotation()
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    forward = rotation[:, 2]
    assert np.degrees(np.arctan2(forward[1], forward[0])) == pytest.approx(model.yaw)
    assert rotation[2, 1] < -0.99  # the image's v runs downwards


def test_cameras_are_triggered_in_the_order_in_which_the_lidar_passes() -> None:
    order = sorted(CAMERA_MODELS, key=lambda model: model.trigger())
    assert [model.channel for model in order] == [
        "CAM_FRONT_LEFT",
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK_RIGHT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
    ]
    assert all(-SPIN < model.trigger() <= 0.001 for model in order)


def test_intrinsic_scales_about_pixel_corners() -> None:
    model = CAMERA_MODELS[0]
    full, half = model.intrinsic(), model.intrinsic(0.5)
    ray = np.array([0.3, -0.2, 1.0])
    np.testing.assert_allclose(((full @ ray)[:2] + 0.5) / 2, (half @ ray)[:2] + 0.5, atol=1e-9)


def test_lidar_fires_rings_in_order_clockwise_from_the_left() -> None:
    directions, delays = lidar_rays()
    assert directions.shape == (RINGS * FIRINGS, 3)
    np.testing.assert_allclose(np.arcsin(directions[:RINGS, 2]), ELEVATIONS, atol=1e-9)
    assert -SPIN <= delays.min() < delays.max() < 0
    first, quarter = directions[0], directions[RINGS * (FIRINGS // 4)]
    assert first[0] < -0.8  # x is to the right in the LiDAR's frame
    assert quarter[1] > 0.8  # and y ahead
    ahead = lidar_rotation() @ np.array([0.0, 1.0, 0.0])
    assert ahead[0] > 0.999
