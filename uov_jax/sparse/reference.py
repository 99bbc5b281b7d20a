"""The sparse ops as their formulas say, in numpy and float64: what tests hold every backend to.

Slow and plain; it imports nothing of the package, so that no error can be shared.
"""

from __future__ import annotations

import itertools

import numpy as np


def submanifold_map(
    coords: np.ndarray, kernel: int, tensor_stride: int = 1, dilation: int = 1
) -> np.ndarray:
    """int32 [K, N]: the row at each offset of int32 [N, 4] coordinates, x the fastest axis of K."""
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


def strided_maps(
    coords: np.ndarray, tensor_stride: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coarser coordinates [M, 4] in order, the map [8, M] to them and its transpose [8, N]."""
    step = 2 * tensor_stride
    cell = coords.astype(np.int64)
    cell[:, 1:] = cell[:, 1:] // step * step
    coarse, parent = np.unique(cell, axis=0, return_inverse=True)
    parent = parent.reshape(-1)
    inside = (coords[:, 1:] - cell[:, 1:]) // tensor_stride
    slot = inside @ [1, 2, 4]
    forward = np.full((8, len(coarse)), -1, np.int32)
    back = np.full((8, len(coords)), -1, np.int32)
    rows = np.arange(len(coords))
    forward[slot, parent] = rows
    back[slot, rows] = parent
    return coarse.astype(np.int32), forward, back


def gather_gemm(x: np.ndarray, w: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """`y[n] = sum_k x[forward[k, n]] @ w[k]`."""
    y = np.zeros((forward.shape[1], w.shape[2]))
    for index, weight in zip(forward, w.astype(np.float64), strict=True):
        found = index >= 0
        y[found] += x[index[found]].astype(np.float64) @ weight
    return y


def gather_gemm_dx(w: np.ndarray, dy: np.ndarray, forward: np.ndarray, num_rows: int) -> np.ndarray:
    """`dx[m] = sum_k w[k] @ dy[n]` over the n with `forward[k, n] = m`."""
    dx = np.zeros((num_rows, w.shape[1]))
    for index, weight in zip(forward, w.astype(np.float64), strict=True):
        found = index >= 0
        np.add.at(dx, index[found], dy[found].astype(np.float64) @ weight.T)
    return dx


def gather_gemm_dw(x: np.ndarray, dy: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """`dw[k] = sum_n x[forward[k, n]]^T dy[n]`."""
    dw = np.zeros((len(forward), x.shape[1], dy.shape[1]))
    for k, index in enumerate(forward):
        found = index >= 0
        dw[k] = x[index[found]].astype(np.float64).T @ dy[found].astype(np.float64)
    return dw


def gather_scatter_rows(
    x: np.ndarray, source: np.ndarray, target: np.ndarray, num_rows: int
) -> np.ndarray:
    """`y[target[m]] += x[source[m]]`, pairs with a -1 left out."""
    y = np.zeros((num_rows, x.shape[1]))
    found = (source >= 0) & (target >= 0)
    np.add.at(y, target[found], x[source[found]].astype(np.float64))
    return y


def column_moments(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the first `count` rows and sum of the squared deviations from it."""
    valid = x[:count].astype(np.float64)
    if not len(valid):
        return np.zeros(x.shape[1]), np.zeros(x.shape[1])
    mean = valid.mean(axis=0)
    return mean, ((valid - mean) ** 2).sum(axis=0)
