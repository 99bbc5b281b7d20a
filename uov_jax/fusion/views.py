"""Which points of a room a posed image sees, and at which pixels."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError
from uov_jax.sparse import views


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """When a point counts as seen; the defaults are OpenScene's.

    Attributes:
        cut: pixels along the image's border that see nothing.
        depth_tolerance: a point is seen where the depth image and its own depth differ by this
            share of the former or less.

    """

    cut: int = 10
    depth_tolerance: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what no setting is."""
        if self.cut < 0 or not 0 <= self.depth_tolerance < 1:
            raise InputError(
                f"a cut of {self.cut} pixels and a depth tolerance of {self.depth_tolerance}: "
                "expected 0 or more, and a share from 0 to below 1"
            )


OPENSCENE_VIEWS = ViewSettings()


class SeenPoints(NamedTuple):
    """The n points that an image sees, in their order.

    point: int32[n], row of the point. row, column: int32[n], of its pixel.
    """

    point: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __len__(self) -> int:
        """Number of points."""
        return len(self.point)

    def select(self, which: np.ndarray) -> SeenPoints:
        """The points at a boolean mask or index array."""
        return SeenPoints(self.point[which], self.row[which], self.column[which])


def seen_points(
    points: np.ndarray,
    frame: Frame,
    size: tuple[int, int],
    depth: np.ndarray | None,
    settings: ViewSettings,
    threads: int = 0,
) -> SeenPoints:
    """Project points into an image and keep those that it sees, as OpenScene does.

    Float64; pixels are rounded half to even. With a depth image, one that differs too much from a
    point's depth hides it, and a hole hides everything; without, points in front of the camera
    (z > 0) are seen.

    Args:
        points: float32[N, 3], metres, in the room's coordinates.
        frame: pose, intrinsics, units of the depth.
        size: height and width of the image.
        depth: uint16[height, width] as stored, or None; metres as float32 will do too.
        settings: border and tolerance.
        threads: at most; 0 takes all processors.

    Raises:
        InputError: depth of another size, or no pinhole camera; names the frame.

    """
    if depth is not None and depth.shape != tuple(size):
        raise InputError(
            f"{frame.depth}: {list(depth.shape)} pixels (height, width), but the image "
            f"{frame.color} has {list(size)}: both must be of one size, resize one of them"
        )
    intrinsics = np.asarray(frame.intrinsics, np.float64)
    if intrinsics[0, 1] or intrinsics[1, 0] or not intrinsics[0, 0] * intrinsics[1, 1]:
        raise InputError(f"{frame.color}: no pinhole camera without skew: {intrinsics.tolist()}")
    stored = depth is not None and depth.dtype == np.uint16
    found = views.seen_points(
        points,
        _world_to_camera(frame),
        (intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]),
        size,
        settings.cut,
        depth,
        frame.depth_units if stored else 1.0,
        frame.depth_missing if stored else 0.0,
        settings.depth_tolerance,
        threads,
    )
    return SeenPoints(*found)


def _world_to_camera(frame: Frame) -> np.ndarray:
    pose = np.asarray(frame.camera_to_world, np.float64)
    try:
        if pose.shape == (4, 4) and np.isfinite(pose).all():
            return np.linalg.inv(pose)
    except np.linalg.LinAlgError:
        pass
    raise InputError(f"{frame.color}: its pose is none: {pose.tolist()}")
