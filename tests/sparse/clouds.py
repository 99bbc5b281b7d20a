"""Random voxel clouds and conditions shared by the engine's tests."""

from __future__ import annotations

import os

import numpy as np
import pytest

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"),
    reason="this system cannot keep a process from some of its processors",
)


def random_coords(
    rng: np.random.Generator, count: int, extent: int = 12, batches: int = 2, stride: int = 1
) -> np.ndarray:
    """int32 [count, 4] distinct coordinates around the origin, negative ones included."""
    side = 2 * extent
    flat = rng.choice(batches * side**3, count, replace=False)
    batch, cell = np.divmod(flat, side**3)
    x, rest = np.divmod(cell, side**2)
    y, z = np.divmod(rest, side)
    coords = np.stack([batch, *(stride * (c - extent) for c in (x, y, z))], axis=1)
    return coords.astype(np.int32)


def relative_error(value: object, expected: np.ndarray) -> float:
    """Largest deviation, relative to the largest expected magnitude."""
    difference = np.abs(np.asarray(value, np.float64) - expected)
    return float(difference.max() / max(np.abs(expected).max(), 1e-30)) if expected.size else 0.0
