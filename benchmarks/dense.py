"""Dense products by the BLAS libraries at hand: what a sparse convolution is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import installed

Multiply = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]
"""Writes the product of the first two matrices to the third."""

# At most, of one product: of many more the libraries are slower.
ROWS = 30_000


def libraries() -> dict[str, Multiply]:
    """The product of numpy (OpenBLAS) and, where it imports, of PyTorch (MKL), by name."""
    found: dict[str, Multiply] = {"dense, numpy": _by_numpy}
    if installed.usable("torch"):
        found["dense, torch"] = _by_torch
    return found


def _by_numpy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    if a.shape[1] == 1:
        np.multiply(a, b, out=out)  # matmul, which has no BLAS for it, takes twice as long
    else:
        np.matmul(a, b, out=out)


def _by_torch(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    import torch

    torch.mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))


class Layers:
    """Layers as dense products and nothing else.

    A layer is `y = x w` with a row for every pair of neighbours. It is spared what a convolution
    has to do: no row is looked for or moved, one matrix stands for 27, and all layers use the same
    memory. But it writes a row of y for every pair, where a convolution adds to one for every
    voxel.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], multiply: Multiply) -> None:
        """Take rows, input and output channels of every layer, and what multiplies."""
        self._shapes, self._multiply = shapes, multiply
        widest = max(max(inner, outer) for _, inner, outer in shapes)
        rows = min(ROWS, max(rows for rows, _, _ in shapes))
        generator = np.random.default_rng(0)
        x, w = (
            generator.standard_normal(size, np.float32) for size in (rows * widest, widest * widest)
        )
        self._x, self._y, self._dx = x, np.empty_like(x), np.empty_like(x)
        self._w, self._dw = w, np.empty_like(w)

    def forward(self) -> None:
        """`y = x w` of every layer."""
        self._run(backward=False)

    def both(self) -> None:
        """The same and the products of both gradients, with `y` in the place of `dy`."""
        self._run(backward=True)

    def _run(self, backward: bool) -> None:
        for total, inner, outer in self._shapes:
            w, dw = (a[: inner * outer].reshape(inner, outer) for a in (self._w, self._dw))
            for begin in range(0, total, ROWS):
                rows = min(ROWS, total - begin)
                x, dx = (a[: rows * inner].reshape(rows, inner) for a in (self._x, self._dx))
                y = self._y[: rows * outer].reshape(rows, outer)
                self._multiply(x, w, y)
                if backward:
                    self._multiply(x.T, y, dw)
                    self._multiply(y, w.T, dx)
