"""Farthest-point sampling equals its definition, point for point."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, read_points


def by_definition(points: np.ndarray, count: int) -> np.ndarray:
    """Visits every point in every step, in float32 and in the operator's order of operations."""
    x, y, z = points.T
    allowed = x * x + y * y + z * z > np.float64(1e-3)
    nearest = np.where(allowed, np.float32(np.inf), np.float32(-1))
    chosen = [0]
    while len(chosen) < count:
        dx, dy, dz = points.T - points[chosen[-1], :, None]
        nearest = np.where(allowed, np.minimum(nearest, dx * dx + dy * dy + dz * dz), nearest)
        chosen.append(int(np.argmax(nearest)))  # the first of equals
    return np.array(chosen)


@pytest.mark.parametrize("count", [1, 2, 300, 2000])
def test_scattered_points(count):
    points = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32) * np.float32(20)
    rows = sparse.farthest_points(points, count)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, by_definition(points, count))
    assert len(set(rows.tolist())) == count


def test_equally_far_points_are_taken_by_row():
    # A grid with every place several times: most steps have ties, the last ones at distance 0.
    points = np.random.default_rng(1).integers(-4, 5, (3000, 3)).astype(np.float32)
    rows = sparse.farthest_points(points, 1200)
    np.testing.assert_array_equal(rows, by_definition(points, 1200))


def test_missing_returns_are_never_chosen_but_first():
    points = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    points[::2] = 0
    points[4] = [0.0316, 0, 0]  # a little less than sqrt(1e-3)
    points[6] = [0.0317, 0, 0]  # a little more
    rows = sparse.farthest_points(points, 27)
    assert sorted(rows.tolist()) == [0, *sorted([*range(1, 50, 2), 6])]
    np.testing.assert_array_equal(sparse.farthest_points(np.zeros((3, 3), np.float32), 3), 0)


def test_each_point_is_at_least_as_near_as_the_last_chosen_one():
    # The invariant that makes it a cover: the last one's distance bounds everybody's.
    points = np.random.default_rng(3).normal(size=(5000, 3)).astype(np.float32)
    rows = sparse.farthest_points(points, 200)
    square = np.sum((points[:, None].astype(np.float64) - points[rows]) ** 2, axis=2)
    last = square[rows[-1], :-1].min()
    assert square[:, :-1].min(axis=1).max() <= last * (1 + 1e-6)


def test_real_sweep(real_nuscenes):
    (path,) = (real_nuscenes / "samples" / "LIDAR_TOP").iterdir()
    points = np.ascontiguousarray(read_points(path, NUSCENES_COLUMNS)[:, :3])
    np.testing.assert_array_equal(sparse.farthest_points(points, 1365), by_definition(points, 1365))


@pytest.mark.parametrize(
    ("points", "count", "message"),
    [
        (np.zeros((5, 3), np.float32), 0, "cannot choose 0 of 5 points: expected 1 up to"),
        (np.zeros((5, 3), np.float32), 6, "cannot choose 6 of 5 points"),
        (np.zeros((0, 3), np.float32), 1, "cannot choose 1 of 0 points"),
        (np.zeros((5, 3)), 1, "points must be float32, not float64"),
        (np.zeros((5, 2), np.float32), 1, r"points must have shape \[N, 3\]"),
        (np.array([[1, 2, 3], [0, np.nan, 0]], np.float32), 1, "point 1 .* is not finite"),
        (np.array([[1e30, 2, 3]], np.float32), 1, "point 0 .* too far for float32"),
    ],
)
def test_bad_input_is_refused(points, count, message):
    with pytest.raises(ValueError, match=message):
        sparse.farthest_points(points, count)
