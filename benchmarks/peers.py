"""Other libraries on the same voxels, where they can be imported."""

from __future__ import annotations

import functools
import importlib.util
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """What is measured of another library; every function returns calls without arguments."""

    name: str
    # (coords, x, w [27, C, C], dy) -> forward, forward + backward, with the map built before.
    layer: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[Call, Call]]
    # Builds the 3x3x3 map of the coords.
    first_map: Callable[[np.ndarray], Any]
    # (coords, features, labels, classes) -> forward in evaluation mode, training step, of
    # Res16UNet34C; maps are built anew in every call.
    network: Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[Call, Call]]
    scatter: Callable[[np.ndarray, np.ndarray, int], Call] | None = None


@functools.cache
def available() -> tuple[Peer, ...]:
    """The peers that can be imported here."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("spconv") is None:
        return ()
    return (_spconv(),)


def _spconv() -> Peer:
    """The CPU half of spconv 2.3, in as many threads as it takes by itself.

    With more than one its scatter adds rows without locks, and sums can come out wrong: what is
    timed here is faster than a correct one would be. OMP_NUM_THREADS=1 makes it right, and slows
    numpy's and torch's products down too.
    """
    import torch

    if not torch.cuda.is_available():
        # It asks for the current CUDA stream on the CPU too.
        no_stream: Any = types.SimpleNamespace(cuda_stream=0)
        torch.cuda.current_stream = lambda *_: no_stream
    import spconv.pytorch as spconv
    from spconv.core import ConvAlgo
    from torch import nn

    native = {"bias": False, "algo": ConvAlgo.Native}

    def tensor(coords: np.ndarray, features: torch.Tensor) -> Any:
        low = coords[:, 1:].min(0)
        shifted = coords - np.concatenate([[0], low // 16 * 16])
        shape = [int(n) + 17 for n in shifted[:, 1:].max(0)]
        indices = torch.from_numpy(np.ascontiguousarray(shifted, np.int32))
        return spconv.SparseConvTensor(features, indices, shape, int(coords[:, 0].max()) + 1)

    def layer(
        coords: np.ndarray, x: np.ndarray, w: np.ndarray, dy: np.ndarray
    ) -> tuple[Call, Call]:
        width = x.shape[1]
        convolution = spconv.SubMConv3d(width, width, 3, indice_key="same", **native)
        with torch.no_grad():
            weights = torch.from_numpy(w).reshape(3, 3, 3, width, width)
            convolution.weight.copy_(weights.permute(4, 0, 1, 2, 3))
        features = torch.from_numpy(x).requires_grad_()
        slope = torch.from_numpy(dy)
        known = tensor(coords, features)
        convolution(known)  # builds the map, kept under its key

        def forward() -> Any:
            with torch.no_grad():
                convolution(known)

        def both() -> None:
            features.grad = convolution.weight.grad = None
            convolution(known).features.backward(slope)

        return forward, both

    def first_map(coords: np.ndarray) -> None:
        indices = tensor(coords, torch.zeros(len(coords), 1))
        spconv.ops.get_indice_pairs(
            indices.indices,
            indices.batch_size,
            indices.spatial_shape,
            ConvAlgo.Native,
            [3, 3, 3],
            [1, 1, 1],
            [1, 1, 1],
            [1, 1, 1],
            [0, 0, 0],
            True,
        )

    class Block(nn.Module):
        def __init__(self, width_in: int, width: int, key: str) -> None:
            super().__init__()
            convolution = functools.partial(spconv.SubMConv3d, indice_key=key, **native)
            self.conv1, self.norm1 = convolution(width_in, width, 3), nn.BatchNorm1d(width)
            self.conv2, self.norm2 = convolution(width, width, 3), nn.BatchNorm1d(width)
            self.project = width_in != width
            if self.project:
                self.conv3 = nn.Linear(width_in, width, bias=False)
                self.norm3 = nn.BatchNorm1d(width)

        def forward(self, x: Any) -> Any:
            y = self.conv1(x)
            y = self.conv2(y.replace_feature(torch.relu(self.norm1(y.features))))
            short = self.norm3(self.conv3(x.features)) if self.project else x.features
            return y.replace_feature(torch.relu(self.norm2(y.features) + short))

    class Network(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            planes, depths = (32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2)
            self.stem = spconv.SubMConv3d(1, 32, 3, indice_key="s0", **native)
            self.steps, self.norms = nn.ModuleList(), nn.ModuleList([nn.BatchNorm1d(32)])
            self.blocks = nn.ModuleList()
            width, skips = 32, [32]
            for stage in range(8):
                if stage < 4:
                    down = spconv.SparseConv3d
                    step = down(width, width, 2, 2, indice_key=f"d{stage}", **native)
                    joined, level, normed = width, stage + 1, width
                else:
                    level, normed = 7 - stage, planes[stage]
                    up = spconv.SparseInverseConv3d
                    step = up(width, normed, 2, indice_key=f"d{level}", **native)
                    joined = normed + skips[level]
                self.steps.append(step)
                self.norms.append(nn.BatchNorm1d(normed))
                widths = [joined] + [planes[stage]] * (depths[stage] - 1)
                blocks = [Block(w, planes[stage], f"s{level}") for w in widths]
                self.blocks.append(nn.Sequential(*blocks))
                width = planes[stage]
                skips.append(width)
            self.final = nn.Linear(width, classes)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            x = x.replace_feature(torch.relu(self.norms[0](x.features)))
            skips = [x]
            for stage in range(8):
                x = self.steps[stage](x)
                y = torch.relu(self.norms[stage + 1](x.features))
                if stage >= 4:
                    y = torch.cat([y, skips[7 - stage].features], dim=1)
                x = self.blocks[stage](x.replace_feature(y))
                skips.append(x)
            return self.final(x.features)

    def network(
        coords: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int
    ) -> tuple[Call, Call]:
        model = Network(classes)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
        x, target = torch.from_numpy(features), torch.from_numpy(labels).long()

        def forward() -> None:
            model.eval()
            with torch.no_grad():
                model(tensor(coords, x))

        def step() -> None:
            model.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(tensor(coords, x)), target).backward()
            optimizer.step()

        return forward, step

    def scatter(x: np.ndarray, index: np.ndarray, rows: int) -> Call:
        source, where = torch.from_numpy(x), torch.from_numpy(index).long()
        return lambda: torch.zeros(rows, x.shape[1]).index_add_(0, where, source)

    return Peer("spconv", layer, first_map, network, scatter)
