"""The MinkUNet family in float64 PyTorch, written from its definition: no line of the package.

Kernel offsets follow MinkowskiEngine: x is the fastest axis; an odd kernel is centred, an even one
begins at its voxel; a coarse voxel has the coordinates of its corner.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

Places = list[tuple[int, ...]]
Pairs = list[tuple[torch.Tensor, torch.Tensor]]


class Oracle:
    """One cloud and one set of tensors; `forward` is in training mode, by batch statistics.

    Within rounding of a ReLU's kink the network of float32 may be on its other side, and has
    another gradient there. Both are right. So the oracle takes the side of `gates` for values
    nearer to the kink than `margin`, and counts them in `near`; on others both must agree.
    """

    def __init__(
        self,
        levels: Sequence[np.ndarray],
        tensors: Mapping[str, np.ndarray],
        gates: Sequence[np.ndarray],
        margin: float,
    ) -> None:
        """Take tensors by their names, and the voxels of every level, which only order them.

        `gates` are, in the order of the network's ReLUs, whether each value passed.
        """
        self.tensors = {
            name: torch.tensor(np.asarray(value, np.float64), requires_grad=True)
            for name, value in tensors.items()
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        }
        self.levels: list[Places] = [[tuple(map(int, row)) for row in level] for level in levels]
        for number, level in enumerate(self.levels):
            stride = 2**number
            expected = {
                (batch, *(value // stride * stride for value in place))
                for batch, *place in self.levels[0]
            }
            assert len(level) == len(expected)
            assert set(level) == expected
        self.gates, self.margin = iter(gates), margin
        self.near = self.values = 0
        self.joined: dict[tuple[int, int, int], Pairs] = {}

    def forward(self, features: np.ndarray) -> torch.Tensor:
        """float64[N, D] of the voxels in their given order."""
        tensor = self.tensors["conv0p1s1.kernel"]
        size = round(len(tensor) ** (1 / 3))
        x = self._convolve(torch.tensor(features, dtype=torch.float64), tensor, 0, 0, size)
        x = self._relu(self._norm(x, "bn0"))
        skips = [x]
        for stage in range(1, 5):
            kernel = self.tensors[f"conv{stage}p{2 ** (stage - 1)}s2.kernel"]
            x = self._convolve(x, kernel, stage - 1, stage, 2)
            x = self._relu(self._norm(x, f"bn{stage}"))
            x = self._blocks(x, stage, stage)
            skips.append(x)
        skips.pop()
        for stage in range(4, 8):
            level = 7 - stage
            kernel = self.tensors[f"convtr{stage}p{2 ** (8 - stage)}s2.kernel"]
            x = self._convolve(x, kernel, level + 1, level, 2)
            x = self._relu(self._norm(x, f"bntr{stage}"))
            x = self._blocks(torch.cat([x, skips.pop()], dim=1), stage + 1, level)
        return x @ self.tensors["final.kernel"]

    def _blocks(self, x: torch.Tensor, stage: int, level: int) -> torch.Tensor:
        number = 0
        while f"block{stage}.{number}.conv1.kernel" in self.tensors:
            name = f"block{stage}.{number}"
            y = self._convolve(x, self.tensors[f"{name}.conv1.kernel"], level, level, 3)
            y = self._relu(self._norm(y, f"{name}.norm1"))
            y = self._convolve(y, self.tensors[f"{name}.conv2.kernel"], level, level, 3)
            y = self._norm(y, f"{name}.norm2")
            if f"{name}.downsample.0.kernel" in self.tensors:
                x = self._norm(x @ self.tensors[f"{name}.downsample.0.kernel"],
                               f"{name}.downsample.1")  # fmt: skip
            x = self._relu(x + y)
            number += 1
        return x

    def _relu(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.tensor(next(self.gates))
        near = x.detach().abs() < self.margin
        self.near += int(near.sum())
        self.values += near.numel()
        own = x.detach() > 0
        assert bool((own == gate)[~near].all()), "a value is on the wrong side of a ReLU"
        return x * torch.where(near, gate, own)

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(dim=0)
        scaled = centred / torch.sqrt((centred**2).mean(dim=0) + 1e-5)
        return scaled * self.tensors[f"{name}.bn.weight"] + self.tensors[f"{name}.bn.bias"]

    def _convolve(
        self, x: torch.Tensor, kernel: torch.Tensor, before: int, after: int, size: int
    ) -> torch.Tensor:
        pairs = self._pairs(before, after, size)
        y = torch.zeros(len(self.levels[after]), kernel.shape[-1], dtype=torch.float64)
        for (rows, targets), weight in zip(pairs, kernel, strict=True):
            if len(rows):
                y = y.index_add(0, targets, x[rows] @ weight)
        return y

    def _pairs(self, before: int, after: int, size: int) -> Pairs:
        """For every offset the rows of the input and of the output that it joins."""
        if (before, after, size) in self.joined:
            return self.joined[before, after, size]
        # From fine to coarse an offset leads from the coarse voxel to the fine one; upward too.
        fine, coarse = min(before, after), max(before, after)
        stride, first = 2**fine, 0 if size % 2 == 0 else -(size // 2)
        row = {place: number for number, place in enumerate(self.levels[fine])}
        found = []
        for z, y, x in itertools.product(range(first, first + size), repeat=3):
            fine_rows, coarse_rows = [], []
            for number, (batch, *place) in enumerate(self.levels[coarse]):
                there = (batch, *(p + stride * o for p, o in zip(place, (x, y, z), strict=True)))
                if there in row:
                    fine_rows.append(row[there])
                    coarse_rows.append(number)
            joined = torch.tensor(fine_rows), torch.tensor(coarse_rows)
            found.append(joined if before <= after else joined[::-1])
        self.joined[before, after, size] = found  # type: ignore[assignment]
        return self.joined[before, after, size]
