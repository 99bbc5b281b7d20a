"""Few points that cover a cloud."""

from __future__ import annotations

import numpy as np

from uov_jax.sparse.engine import engine


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Farthest-point sampling (host function): each next point is farthest from all before it.

    Equal to PointNet++'s operator (Qi et al. 2017, section 3.2) on every point: it starts at point
    0, compares float32 distances, takes the lowest row of equally far points, and never chooses
    another point within sqrt(1e-3) m of the origin, where sensors put missing returns.

    Args:
        points: float32 [N, 3], metres.
        count: M, 1..N. Rows repeat where there are fewer different places.

    Returns:
        int32 [M], rows of points, in the order in which they were chosen.

    Raises:
        ValueError: `count` is out of range, points are of another type or shape, or one is not
            finite.

    """
    points = np.asarray(points)
    if points.dtype != np.float32:
        raise ValueError(f"points must be float32, not {points.dtype}")
    return engine().farthest_points(points, count)
