"""Random voxel clouds, float64 oracles and conditions shared by the engine's tests."""

from __future__ import annotations

import itertools
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


def brute_force_map(
    coords: np.ndarray, kernel: int, tensor_stride: int = 1, dilation: int = 1
) -> np.ndarray:
    """int32 [K, N] submanifold map by dictionary look-up, in MinkowskiEngine's kernel order."""
    row = {tuple(c): i for i, c in enumerate(coords.tolist())}
    radius = kernel // 2
    steps = [tensor_stride * dilation * s for s in range(-radius, radius + 1)]
    return np.array(
        [
            [row.get((b, x + dx, y + dy, z + dz), -1) for b, x, y, z in coords.tolist()]
            for dz, dy, dx in itertools.product(steps, steps, steps)
        ],
        np.int32,
    ).reshape(kernel**3, len(coords))


def gather_gemm_oracle(x: np.ndarray, w: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """`gather_gemm` in float64."""
    y = np.zeros((forward.shape[1], w.shape[2]))
    for index, weight in zip(forward, w.astype(np.float64), strict=True):
        found = index >= 0
        y[found] += x[index[found]].astype(np.float64) @ weight
    return y


def relative_error(value: object, expected: np.ndarray) -> float:
    """Largest deviation, relative to the largest expected magnitude."""
    difference = np.abs(np.asarray(value, np.float64) - expected)
    return float(difference.max() / max(np.abs(expected).max(), 1e-30)) if expected.size else 0.0
