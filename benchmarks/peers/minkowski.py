"""The CPU half of MinkowskiEngine 0.5, on the threads that OpenMP gives it."""

from __future__ import annotations

from typing import Any

import MinkowskiEngine
import numpy as np
import torch
from torch import nn

from benchmarks.peers.library import Library, peer
from benchmarks.peers.peer import Peer


def peers() -> tuple[Peer, ...]:
    """The library as it is built here."""
    library = Library(
        tensor=_tensor,
        features=lambda x: x.F,
        replaced=_replaced,
        same=lambda kernel, _: _convolution(MinkowskiEngine.MinkowskiConvolution, kernel),
        down=lambda kernel, _: _convolution(MinkowskiEngine.MinkowskiConvolution, kernel, stride=2),
        up=lambda kernel, _: _convolution(
            MinkowskiEngine.MinkowskiConvolutionTranspose, kernel, stride=2
        ),
        kernel_gradient=_kernel_gradient,
        first_map=_first_map,
    )
    return (peer("MinkowskiEngine", library),)


def _tensor(coords: np.ndarray, features: torch.Tensor) -> Any:
    return MinkowskiEngine.SparseTensor(features, torch.from_numpy(coords))


def _replaced(x: Any, features: torch.Tensor) -> Any:
    return MinkowskiEngine.SparseTensor(
        features,
        coordinate_map_key=x.coordinate_map_key,
        coordinate_manager=x.coordinate_manager,
    )


def _convolution(kind: type[nn.Module], kernel: np.ndarray, **settings: Any) -> nn.Module:
    volume, width_in, width_out = kernel.shape
    size = round(volume ** (1 / 3))
    convolution: Any = kind(width_in, width_out, size, dimension=3, **settings)
    with torch.no_grad():
        convolution.kernel.copy_(torch.tensor(kernel))
    return convolution


def _kernel_gradient(convolution: Any) -> torch.Tensor:
    return convolution.kernel.grad


def _first_map(coords: np.ndarray) -> None:
    tensor = _tensor(coords, torch.zeros(len(coords), 1))
    key = tensor.coordinate_map_key
    tensor.coordinate_manager.kernel_map(key, key, stride=1, kernel_size=3)
