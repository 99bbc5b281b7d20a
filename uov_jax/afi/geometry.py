"""Vectors between points, directions on a sphere, nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from uov_jax import processors

TINY = np.float32(1e-8)


def lengths(vectors: np.ndarray) -> np.ndarray:
    """float32 [...]: norms of vectors float32 [..., 3], summed in the order x, y, z."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.sqrt(x * x + y * y + z * z)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32 [..., 3]: directions of vectors; zero where a vector is zero."""
    return vectors / (lengths(vectors)[..., None] + TINY)


def unit_sum(values: np.ndarray) -> np.ndarray:
    """float32 [..., C]: rows that are not negative, with sum 1; zero rows stay zero."""
    return values / (values.sum(axis=-1, keepdims=True) + np.float32(1e-9))


def sphere_directions(count: int) -> np.ndarray:
    """float32 [count, 3]: unit vectors spread evenly by a Fibonacci spiral about y, from +y on."""
    step = np.arange(count)
    y = 1 - step / (count - 1) * 2
    radius, angle = np.sqrt(1 - y * y), step * (np.pi * (3 - np.sqrt(5)))
    return np.stack([np.cos(angle) * radius, y, np.sin(angle) * radius], axis=1).astype(np.float32)


def nearest(points: np.ndarray, queries: np.ndarray, count: int, workers: int) -> np.ndarray:
    """Rows of the nearest points of each query, nearest first.

    The distances are exact. The reference expands |a - b|^2 in float32, which is off by up to
    5e-4 m^2 at 50 m and then picks other neighbours.

    Args:
        points: float32 [N, 3].
        queries: float32 [M, 3].
        count: k, at most N.
        workers: threads, -1: one for each processor that this process may use; the result does
            not depend on it.

    Returns:
        int64 [M, k].

    """
    # Clouds are asked once: a tree that is built twice as fast pays.
    workers = processors.available() if workers == -1 else workers
    tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
    _, rows = tree.query(queries, k=count, workers=workers)
    return rows.reshape(len(queries), count)
