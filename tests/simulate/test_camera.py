"""Images and their labels, and their agreement with the LiDAR through the written calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uov_jax.datasets.nuscenes import read_lidarseg
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import project
from uov_jax.simulate import DriveSettings
from uov_jax.simulate.camera import RAY_STEP, View, encode_pixels, look
from uov_jax.simulate.casting import World
from uov_jax.simulate.keyframe import keyframe_time
from uov_jax.simulate.kinds import KIND, RAW_OF_KIND
from uov_jax.simulate.lidar import sweep
from uov_jax.simulate.sensors import CAMERA_MODELS


@pytest.fixture(scope="module")
def views(world: World) -> list[View]:
    """The first keyframe's views at a quarter of the full size, four times the drive's area."""
    end = keyframe_time(0)
    return [look(world, model, 640, 360, end + model.trigger()) for model in CAMERA_MODELS]


def test_view_has_one_value_a_block(views: list[View]) -> None:
    view = views[0]
    assert view.color.shape == (360 // RAY_STEP, 640 // RAY_STEP, 3)
    assert view.kind.shape == view.instance.shape == view.depth.shape == view.color.shape[:2]
    sky = view.kind == KIND["sky"]
    assert np.isinf(view.depth[sky]).all()
    assert np.isfinite(view.depth[~sky]).all()
    assert view.depth.min() > 0.3
    assert sky[:10].mean() > sky[-10:].mean() == 0


def test_picture_is_neither_black_nor_blown_out(views: list[View]) -> None:
    for view in views:
        assert 60 < view.color.mean() < 210
        assert (view.color > 250).mean() < 0.2
    assert np.std([view.color for view in views]) > 30


def test_encoded_image_is_full_size_and_has_grain(views: list[View]) -> None:
    image = encode_pixels(views[0].color, np.random.default_rng(0))
    assert image.size == (640, 360)
    assert image.mode == "RGB"
    plain = Image.fromarray(views[0].color).resize((640, 360), Image.Resampling.BILINEAR)
    grain = np.asarray(image).astype(int) - np.asarray(plain)
    assert 1.0 < grain.std() < 4.0


def away_from_borders(labels: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours, two in each direction, all have the same label."""
    inner = np.ones(labels.shape, bool)
    for down in range(-2, 3):
        for across in range(-2, 3):
            inner &= np.roll(labels, (down, across), axis=(0, 1)) == labels
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    return inner


def test_projected_points_agree_with_the_label_images(
    drive: Path, settings: DriveSettings, world: World, views: list[View]
) -> None:
    """Through the tables, the sweep and the calibration on disk, for things that stand still."""
    tables = NuScenesTables(drive, "v1.0-sim")
    keyframe = tables.keyframes([settings.scene_name(0)])[0]
    points = keyframe.points()
    raw = read_lidarseg(keyframe.lidarseg_path, len(points))
    lidar = sweep(world, keyframe_time(0), settings.generator(0, 1, 0))
    np.testing.assert_array_equal(lidar.points[:, :4], points)
    np.testing.assert_array_equal(lidar.raw, raw)
    moving = {item.instance for item in world.scene.objects if item.moving}
    standing = ~np.isin(lidar.instance, list(moving)) & (raw != 31)
    agree, seen = 0, 0
    by_channel = {camera.channel: camera for camera in keyframe.cameras}
    for model, view in zip(CAMERA_MODELS, views, strict=True):
        camera = by_channel[model.channel]
        projection = project(points, keyframe, camera)
        chosen = np.flatnonzero(projection.visible & standing)
        # From the drive's 320 x 180 pixels to the values of the view.
        scale = view.kind.shape[1] / camera.width
        u = ((projection.uv[chosen, 0] + 0.5) * scale).astype(int)
        v = ((projection.uv[chosen, 1] + 0.5) * scale).astype(int)
        labels = RAW_OF_KIND[view.kind]
        still = ~np.isin(view.instance, list(moving))
        depth = projection.depth[chosen]
        same_depth = np.abs(view.depth[v, u] - depth) < 0.3 + 0.03 * depth
        used = away_from_borders(labels)[v, u] & still[v, u] & same_depth
        agree += int((labels[v, u] == raw[chosen])[used].sum())
        seen += int(used.sum())
    assert seen > 4000
    assert agree / seen > 0.97
