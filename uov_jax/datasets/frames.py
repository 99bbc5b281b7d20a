"""Posed images of a room, with or without depth: what multi-view fusion looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from uov_jax.datasets.image_file import image_size, read_depth_image, read_image
from uov_jax.errors import InputError

SAME_SHAPE = 0.01  # of width to height, that depth and colours may differ by
NEAR = 0.3  # of a size: the centre of a camera is no farther from either side
RIGID = 0.02  # that a rotation's products may differ from the unit matrix, from rounded texts


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One posed image. Files are read when they are asked for.

    Attributes:
        name: of the frame within its room.
        color: the image.
        depth: uint16 PNG of the same view, None for a recording without depth.
        camera_to_world: float64[4, 4]; the camera looks along +z, x right, y down.
        intrinsics: float64[3, 3], of the image in its size as it is stored.
        depth_units: of the depth image per metre: 1000 for ScanNet, 512 for 2D-3D-S.
        depth_missing: value of the depth image where nothing was measured, beside 0.

    """

    name: str
    color: Path
    depth: Path | None
    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    depth_units: float = 1000.0
    depth_missing: int = 0


class FrameSource(Protocol):
    """The frames of many rooms."""

    def frames(self, room: str) -> Sequence[Frame]:
        """The frames of one room in order of time.

        Frames without a valid pose (ScanNet has poses of infinities) are left out.

        Raises:
            MissingFileError: there are none, or a file of one is missing; names it.
            InputError: a pose, intrinsics or an image cannot be used; names the file.

        """
        ...


def read_color(frame: Frame) -> np.ndarray:
    """uint8[H, W, 3]: a frame's image as RGB.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be decoded; names the file.

    """
    return read_image(frame.color)


def read_depth(frame: Frame) -> np.ndarray:
    """float32[H, W]: metres along the camera's axis, 0 where nothing was measured.

    Size and errors are those of `stored_depth`.
    """
    stored = stored_depth(frame)
    metres = stored.astype(np.float32) / np.float32(frame.depth_units)
    metres[stored == frame.depth_missing] = 0
    return metres


def stored_depth(frame: Frame) -> np.ndarray:
    """uint16[H, W]: the numbers of a frame's depth image, in the frame's units.

    Of the size of the frame's image, whose pixels the intrinsics are of. Depth of another size but
    the same shape, as ScanNet's 640 x 480 beside colours of 1296 x 968, is taken at the nearest of
    its pixels: between two distances there need not be a surface.

    Raises:
        MissingFileError: the frame has no depth, or a file is not there.
        InputError: an image cannot be decoded, or depth and colours are of other shapes; names it.

    """
    if frame.depth is None:
        raise InputError(f"{frame.color}: the frame has no depth, and it was asked for")
    stored = read_depth_image(frame.depth)
    height, width = image_size(frame.color)
    if stored.shape == (height, width):
        return stored
    stretch = (width / height) / (stored.shape[1] / stored.shape[0])
    if abs(stretch - 1) > SAME_SHAPE:
        raise InputError(
            f"{frame.depth}: depth of {stored.shape[1]} x {stored.shape[0]} pixels beside "
            f"colours of {width} x {height} in {frame.color}: expected the same view, so the "
            "same shape"
        )
    return resized_nearest(stored, (height, width))


def resized_nearest(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, ...] of an image: the pixel at the middle of each new one; size is (H, W)."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
        for new, old in zip(size, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]


def adapted_intrinsics(
    intrinsics: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]
) -> np.ndarray:
    """Intrinsics of an image that was made larger or smaller, as OpenScene adapts ScanNet's.

    Where the shapes differ the focal lengths follow the height, the width being cut to a whole
    number of pixels; the centre goes with the first and last pixels' middles.

    Args:
        intrinsics: float[3 or 4, 3 or 4], of the image as it was.
        size: its (height, width).
        new_size: (height, width) afterwards.

    Returns:
        float64, of the same shape.

    """
    (height, width), (new_height, new_width) = size, new_size
    adapted = np.array(intrinsics, np.float64)
    adapted[0, 0] *= (new_height * width // height) / width
    adapted[1, 1] *= new_height / height
    adapted[0, 2] *= (new_width - 1) / (width - 1)
    adapted[1, 2] *= (new_height - 1) / (height - 1)
    return adapted


def check_pose(pose: np.ndarray, where: str) -> None:
    """InputError unless float[4, 4] is a rotation and a translation of finite numbers."""
    turn = pose[:3, :3]
    off = np.abs(turn @ turn.T - np.eye(3)).max()
    if not off <= RIGID or np.linalg.det(turn) < 0 or np.abs(pose[3] - [0, 0, 0, 1]).max() > RIGID:
        raise InputError(
            f"{where}: not a pose: expected a rotation and a translation, and 0 0 0 1 as the last "
            f"row, found {np.array2string(pose, precision=3, separator=', ')}".replace("\n", "")
        )


def check_intrinsics(intrinsics: np.ndarray, size: tuple[int, int], where: str) -> None:
    """InputError unless float[3, 3] can be a camera of images of (height, width)."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    height, width = size
    near = all(NEAR < c / size < 1 - NEAR for c, size in ((cx, width), (cy, height)))
    if not np.isfinite(intrinsics).all() or min(fx, fy) <= 0 or not near:
        raise InputError(
            f"{where}: intrinsics with focal lengths {fx:g}, {fy:g} and the centre {cx:g}, {cy:g} "
            f"are not of images of {width} x {height}: adapt them to the size as it is stored"
        )
