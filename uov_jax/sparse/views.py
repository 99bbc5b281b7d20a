"""What posed images give to a cloud's points: which see them, and sums of what they see (host)."""

from __future__ import annotations

import numpy as np

from uov_jax import processors
from uov_jax.sparse.engine import engine


def seen_points(
    points: np.ndarray,
    world_to_camera: np.ndarray,
    pinhole: tuple[float, float, float, float],
    size: tuple[int, int],
    cut: int,
    depth: np.ndarray | None,
    depth_units: float,
    depth_missing: float,
    depth_tolerance: float,
    threads: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, and pixels as row and column, of the points that a pinhole camera sees.

    Args:
        points: float32 [N, 3].
        world_to_camera: float64 [3 or 4, 4]; the camera looks along +z, x to the right, y down.
        pinhole: fx, fy, cx, cy, pixels.
        size: height and width.
        cut: pixels along the border that see nothing.
        depth: uint16 or float32 [height, width], or None: then all with z > 0 are seen.
        depth_units: of its values per metre.
        depth_missing: its value, beside 0, where nothing was measured.
        depth_tolerance: share of the depth by which a seen point's own may differ.
        threads: at most; 0 takes all processors.

    Returns:
        int32 [n] each, in the order of the points.

    """
    found: tuple[np.ndarray, np.ndarray, np.ndarray] = engine().seen_points(
        np.ascontiguousarray(points),
        world_to_camera,
        pinhole,
        tuple(size),
        cut,
        depth,
        depth_units,
        depth_missing,
        depth_tolerance,
        threads or processors.available(),
    )
    return found


def add_planes(
    sums: np.ndarray,
    target: np.ndarray,
    planes: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    size: tuple[int, int],
    bilinear: bool,
    threads: int = 0,
) -> None:
    """`sums[target[i]] += planes` at the pixel (row[i], column[i]) of an image, i < n.

    Args:
        sums: float32 [N, C], changed.
        target: int32 [n], different ones.
        planes: float16 or float32 [C, h, w] of the image, or coarser.
        row: int32 [n].
        column: int32 [n].
        size: height and width of the image.
        bilinear: mix the cells around the pixel, half-pixel centres; else take that under it.
        threads: at most; 0 takes all processors.

    Raises:
        ValueError: features are not finite, or arrays do not fit.

    """
    planes = np.ascontiguousarray(planes)
    threads = threads or processors.available()
    engine().add_planes(sums, target, planes, row, column, tuple(size), bilinear, threads)


def add_rows(
    sums: np.ndarray, target: np.ndarray, table: np.ndarray, index: np.ndarray, threads: int = 0
) -> None:
    """`sums[target[i]] += table[index[i]]`, i < n.

    Args:
        sums: float32 [N, C], changed.
        target: int32 [n], different ones.
        table: float16 or float32 [M, C].
        index: int32 [n].
        threads: at most; 0 takes all processors.

    Raises:
        ValueError: features are not finite, or arrays do not fit.

    """
    table = np.ascontiguousarray(table)
    engine().add_rows(sums, target, table, index, threads or processors.available())
