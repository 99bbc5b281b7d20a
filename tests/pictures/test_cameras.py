"""Labels over images: the right pixel, the nearest point on top, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_dataset import HEIGHT, WIDTH, write_dataset
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import project
from uov_jax.pictures.cameras import AROUND, camera, camera_picture, overlay

COLORS = np.array([[0, 0, 0], [250, 10, 10], [10, 20, 250], [10, 200, 30]], np.uint8)
GAP = 4


@pytest.fixture(scope="module")
def keyframe(tmp_path_factory: pytest.TempPathFactory) -> Keyframe:
    root = write_dataset(tmp_path_factory.mktemp("dataset"), scenes=("scene-0061",))
    return NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])[0]


def test_points_are_where_the_projection_puts_them(keyframe: Keyframe) -> None:
    points = keyframe.points()
    view = camera(keyframe, "CAM_FRONT_RIGHT")
    projection = project(points, keyframe, view)
    chosen = np.flatnonzero(projection.visible)[:1]
    shades = np.full((len(points), 3), [255, 0, 255], np.uint8)
    image = overlay(points[chosen], shades[chosen], keyframe, view, 2 * WIDTH)
    assert image.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    painted = np.argwhere((image == [255, 0, 255]).all(axis=-1))
    expected = 2 * projection.uv[chosen[0]][::-1]
    assert np.abs(painted - expected).max() <= 3
    nothing = overlay(points[:0], shades[:0], keyframe, view, WIDTH)
    assert not (nothing == [255, 0, 255]).all(axis=-1).any()


def test_the_nearer_of_two_points_on_one_pixel_is_seen(keyframe: Keyframe) -> None:
    points = keyframe.points()
    view = camera(keyframe, "CAM_FRONT")
    projection = project(points, keyframe, view)
    near = points[np.flatnonzero(projection.visible)[:1]].copy()
    place = camera_place(keyframe, view)
    far = near.copy()
    far[:, :3] = place + 1.8 * (near[:, :3] - place)
    pair = np.concatenate([near, far])
    assert np.ptp(project(pair, keyframe, view).uv, axis=0).max() < 0.01
    shades = np.array([[255, 0, 255], [0, 255, 255]], np.uint8)
    for order in ([0, 1], [1, 0]):
        image = overlay(pair[order], shades[order], keyframe, view, WIDTH)
        u, v = np.round(project(near, keyframe, view).uv[0]).astype(int)
        assert image[v, u].tolist() == [255, 0, 255]


def camera_place(keyframe: Keyframe, view: object) -> np.ndarray:
    """Where the camera is in the LiDAR's frame, by solving for the point of no depth."""
    from uov_jax.datasets.projection import lidar_to_cameras

    (rotation,), (translation,) = lidar_to_cameras(keyframe, [view])  # type: ignore[arg-type,list-item]
    return np.linalg.solve(rotation, -translation)


def test_there_is_a_row_for_each_labelling_and_the_errors(
    tmp_path: Path, keyframe: Keyframe
) -> None:
    points = keyframe.points()
    one, two = np.full(len(points), 1), np.full(len(points), 2)
    names = ("ignore", "car", "bus", "tree")
    sizes = []
    for file, panels in (
        ("a.png", {"truth": one}),
        ("b.png", {"truth": one, "teacher": 0 * one, "prediction": two}),
    ):
        camera_picture(points, panels, keyframe, COLORS, tmp_path / file, names=names, width=160)
        with Image.open(tmp_path / file) as image:
            sizes.append(image.size)
            pixels = np.asarray(image).astype(int)
    (width, single), (_, all_four) = sizes
    assert width == 6 * 160 + 5 * GAP
    assert all_four - single == 3 * (90 + GAP)
    rows = [pixels[36 + GAP + i * (90 + GAP) :][:90] for i in range(4)]
    shades = [COLORS[1], COLORS[2], np.round([0.84 * 255, 0.1 * 255, 0.11 * 255])]
    found = [[bool((np.abs(row - c).max(-1) <= 2).sum() > 30) for c in shades] for row in rows]
    assert found == [[True, False, False], [False] * 3, [False, True, False], [False, False, True]]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_refusals(tmp_path: Path, keyframe: Keyframe) -> None:
    points = keyframe.points()
    one = {"truth": np.ones(len(points), int)}
    with pytest.raises(ValueError, match="no camera 'CAM_TOP', the keyframe has CAM_FRONT"):
        camera_picture(points, one, keyframe, COLORS, tmp_path / "a.png", channels=["CAM_TOP"])
    with pytest.raises(ValueError, match="at least one labelling"):
        camera_picture(points, {}, keyframe, COLORS, tmp_path / "a.png")
    view = camera(keyframe, AROUND[0])
    content = view.path.read_bytes()
    view.path.unlink()
    try:
        with pytest.raises(FileNotFoundError, match=r"CAM_FRONT_LEFT.jpg: no such image"):
            camera_picture(points, one, keyframe, COLORS, tmp_path / "a.png")
        view.path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"CAM_FRONT_LEFT.jpg: corrupt or truncated image"):
            camera_picture(points, one, keyframe, COLORS, tmp_path / "a.png")
    finally:
        view.path.write_bytes(content)
    assert not list(tmp_path.iterdir())
