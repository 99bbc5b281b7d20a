"""Frames: colours and depth as they are stored, intrinsics of images that were made smaller."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import pose_at, write_image
from uov_jax.datasets.frames import (
    Frame,
    adapted_intrinsics,
    check_intrinsics,
    check_pose,
    read_color,
    read_depth,
    resized_nearest,
)
from uov_jax.errors import InputError, MissingFileError


def frame(folder: Path, color: np.ndarray, depth: np.ndarray | None, **facts: float) -> Frame:
    color_path = write_image(folder / "0.png", color)
    depth_path = None if depth is None else write_image(folder / "depth" / "0.png", depth)
    return Frame("0", color_path, depth_path, np.eye(4), np.eye(3), **facts)  # type: ignore[arg-type]


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_colours_and_depth_come_back(tmp_path: Path) -> None:
    depth = np.array([[0, 1, 999], [1000, 2500, 65535]], np.uint16)
    made = frame(tmp_path, picture(2, 3), depth)
    np.testing.assert_array_equal(read_color(made), picture(2, 3))
    found = read_depth(made)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, depth.astype(np.float32) / np.float32(1000))


def test_other_units_and_what_is_missing(tmp_path: Path) -> None:
    depth = np.array([[0, 512, 65535, 65534]], np.uint16)
    found = read_depth(
        frame(tmp_path, picture(1, 4), depth, depth_units=512.0, depth_missing=65535)
    )
    np.testing.assert_allclose(found, [[0, 1, 0, 127.99609375]], rtol=0, atol=0)


def test_depth_of_another_size_is_taken_at_the_nearest_pixel(tmp_path: Path) -> None:
    depth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 100
    half = read_depth(frame(tmp_path / "a", picture(6, 8), depth))
    np.testing.assert_array_equal(half, np.kron(depth, np.ones((2, 2))).astype(np.float32) / 1000)
    # As ScanNet's own sizes, whose shapes differ by half a percent.
    wide = np.zeros((48, 64), np.uint16)
    wide[0, 0], wide[-1, -1] = 700, 900
    found = read_depth(frame(tmp_path / "b", picture(97, 130), wide))
    assert found.shape == (97, 130)
    assert (found[0, 0], found[-1, -1]) == (np.float32(0.7), np.float32(0.9))
    # Smaller than the depth: no distance that was not measured comes up.
    found = read_depth(frame(tmp_path / "c", picture(2, 3), np.tile(depth[:, :3], (2, 3))))
    assert set(np.unique(found * 1000).round()) <= set(depth.ravel())


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (4, 3)])
def test_depth_of_another_shape_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    made = frame(tmp_path, picture(6, 8), np.zeros(size, np.uint16))
    expected = rf"depth/0\.png: depth of {size[1]} x {size[0]} pixels beside colours of 8 x 6"
    with pytest.raises(InputError, match=expected):
        read_depth(made)


@pytest.mark.parametrize("kind", ["8 bits", "colours", "text", "cut", "none"])
def test_what_is_no_depth_image_is_named(tmp_path: Path, kind: str) -> None:
    made = frame(tmp_path, picture(20, 20), np.arange(400, dtype=np.uint16).reshape(20, 20))
    assert made.depth is not None
    if kind == "8 bits":
        write_image(made.depth, np.zeros((20, 20), np.uint8))
    elif kind == "colours":
        write_image(made.depth, picture(20, 20))
    elif kind == "none":
        made.depth.unlink()
    else:
        content = made.depth.read_bytes()
        made.depth.write_bytes(b"no image" if kind == "text" else content[: len(content) // 2])
    expected = {
        "8 bits": "expected a depth image of 16 bits, found Pillow's mode 'L'",
        "colours": "expected a depth image of 16 bits, found Pillow's mode 'RGB'",
        "none": "no such image",
    }.get(kind, "corrupt or truncated image")
    error = MissingFileError if kind == "none" else InputError
    with pytest.raises(error, match=rf"depth/0\.png: {expected}"):
        read_depth(made)


def test_a_missing_or_damaged_image_is_named(tmp_path: Path) -> None:
    made = frame(tmp_path, picture(4, 4), None)
    with pytest.raises(InputError, match="the frame has no depth"):
        read_depth(made)
    made.color.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: corrupt or truncated image"):
        read_color(made)
    made.color.unlink()
    with pytest.raises(MissingFileError, match=r"0\.png: no such image"):
        read_color(dataclasses.replace(made))


def test_scannets_intrinsics_are_adapted_as_openscene_does() -> None:
    """640 x 480 to 320 x 240, from the published description of the reference."""
    intrinsics = np.array([[577.870605, 0, 319.5], [0, 577.870605, 239.5], [0, 0, 1]])
    found = adapted_intrinsics(intrinsics, (480, 640), (240, 320))
    expected = [
        [577.870605 * 320 / 640, 0, 319.5 * 319 / 639],
        [0, 577.870605 * 240 / 480, 239.5 * 239 / 479],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert (found[0, 2], found[1, 2]) == (159.5, 119.5)
    # The width that goes with a height is cut to a whole number: 100 * 640 / 480 is 133.3.
    cut = adapted_intrinsics(intrinsics, (480, 640), (100, 200))
    np.testing.assert_allclose(cut[0, 0], 577.870605 * 133 / 640, rtol=1e-15)
    np.testing.assert_allclose(cut[0, 2], 319.5 * 199 / 639, rtol=1e-15)
    assert intrinsics[0, 0] == 577.870605


def test_intrinsics_of_the_same_size_stay() -> None:
    intrinsics = np.array([[500.0, 0, 300], [0, 501, 200], [0, 0, 1]])
    np.testing.assert_array_equal(
        adapted_intrinsics(intrinsics, (480, 640), (480, 640)), intrinsics
    )


def test_nearest_pixels() -> None:
    image = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(resized_nearest(image, (2, 2)), [[5, 7], [13, 15]])
    np.testing.assert_array_equal(resized_nearest(image, (4, 4)), image)
    np.testing.assert_array_equal(resized_nearest(image, (8, 8)), np.kron(image, np.ones((2, 2))))


@pytest.mark.parametrize(
    "pose",
    [
        2 * np.eye(4),
        np.diag([1.0, 1, -1, 1]),
        np.diag([1.0, 1, 1, 2]),
        np.full((4, 4), np.nan),
        np.zeros((4, 4)),
    ],
)
def test_what_is_no_pose_is_refused(pose: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"0\.txt: not a pose: expected a rotation") as caught:
        check_pose(pose, "0.txt")
    assert "\n" not in str(caught.value)


def test_poses_of_rounded_texts_are_poses() -> None:
    check_pose(pose_at(1, 2, 3, 33).round(3), "0.txt")


@pytest.mark.parametrize(
    ("place", "value"),
    [((0, 0), 0.0), ((1, 1), -500.0), ((0, 2), 639.5), ((1, 2), 10.0), ((0, 0), np.nan)],
)
def test_intrinsics_of_other_images_are_refused(place: tuple[int, int], value: float) -> None:
    intrinsics = np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])
    check_intrinsics(intrinsics, (480, 640), "a")
    intrinsics[place] = value
    with pytest.raises(InputError, match="are not of images of 640 x 480: adapt them"):
        check_intrinsics(intrinsics, (480, 640), "a")
    with pytest.raises(InputError, match="are not of images of 320 x 240"):
        check_intrinsics(np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), (240, 320), "a")
