"""Posed images of a room, with or without depth: what multi-view fusion looks at."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from uov_jax.datasets.image_file import read_image
from uov_jax.errors import InputError
from uov_jax.files import read_bytes


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
    """uint8[H, W, 3]: a frame's image; errors as `read_image`."""
    return read_image(frame.color)


def read_depth(frame: Frame) -> np.ndarray | None:
    """uint16[H, W]: a frame's depth as it is stored, None for a recording without.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no 16-bit image; names the file.

    """
    if frame.depth is None:
        return None
    try:
        with Image.open(io.BytesIO(read_bytes(frame.depth))) as image:
            depth = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{frame.depth}: corrupt or truncated depth: {error}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "iu":
        raise InputError(f"{frame.depth}: expected 16-bit depth, found {depth.dtype}")
    return depth.astype(np.uint16)
