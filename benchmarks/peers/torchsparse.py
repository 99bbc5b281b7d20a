"""The CPU half of torchsparse 2.0, on PyTorch's threads; later versions build maps on a GPU alone.

As shipped it is right, but divides the channels of every single row among the threads, which takes
several times as long as all the rest. Its best is a build in which the two loops over rows of
torchsparse/backend/convolution/convolution_cpu.cpp carry the `omp parallel for` of the loops over
channels inside them. At one offset no row is written twice, so that threads do not meet. Such a
build cannot be told from the shipped one here: its version should say so (2.0.0b0+rows).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchsparse
import torchsparse.backend
from torch import nn
from torchsparse import nn as spnn
from torchsparse.nn import functional

from benchmarks.peers.library import Library, peer
from benchmarks.peers.peer import Peer

if not hasattr(torchsparse.backend, "build_mask_from_kmap"):
    # Every map asks for the masks that its CUDA kernels alone read. Without this, none is built.
    torchsparse.backend.build_mask_from_kmap = lambda *_: (None, None)

# Tensor stride of the coarsest level. Coordinates start at a multiple of it: where they are halved,
# they are rounded towards zero, which is the cell only where they are not negative.
COARSEST = 16


def peers() -> tuple[Peer, ...]:
    """The library as it is built here."""
    library = Library(
        tensor=_tensor,
        features=lambda x: x.feats,
        replaced=_replaced,
        same=lambda kernel, _: _convolution(kernel),
        down=lambda kernel, _: _convolution(kernel, stride=2),
        up=lambda kernel, _: _convolution(kernel, stride=2, transposed=True),
        kernel_gradient=_kernel_gradient,
        first_map=_first_map,
    )
    return (peer("torchsparse", library),)


def _coordinates(coords: np.ndarray) -> torch.Tensor:
    """Int32 [N, 4] (x, y, z, batch), none of them negative."""
    shifted = coords[:, 1:] - coords[:, 1:].min(0) // COARSEST * COARSEST
    return torch.from_numpy(np.concatenate([shifted, coords[:, :1]], 1, dtype=np.int32))


def _tensor(coords: np.ndarray, features: torch.Tensor) -> Any:
    return torchsparse.SparseTensor(features, _coordinates(coords))


def _replaced(x: Any, features: torch.Tensor) -> Any:
    tensor = torchsparse.SparseTensor(features, x.coords, x.stride)
    tensor.cmaps, tensor.kmaps = x.cmaps, x.kmaps
    return tensor


def _convolution(kernel: np.ndarray, **settings: Any) -> nn.Module:
    volume, width_in, width_out = kernel.shape
    size = round(volume ** (1 / 3))
    convolution: Any = spnn.Conv3d(width_in, width_out, size, **settings)
    with torch.no_grad():
        convolution.kernel.copy_(torch.tensor(_reordered(kernel, size)))
    return convolution


def _reordered(kernel: np.ndarray, size: int) -> np.ndarray:
    """The kernel in its order of offsets: x is the fastest axis of odd sizes, z of even ones."""
    if size % 2:
        return kernel
    cube = kernel.reshape(size, size, size, *kernel.shape[1:])
    return cube.transpose(2, 1, 0, 3, 4).reshape(kernel.shape)


def _kernel_gradient(convolution: Any) -> torch.Tensor:
    gradient = convolution.kernel.grad
    if convolution.kernel_volume % 2:
        return gradient
    return gradient.unflatten(0, convolution.kernel_size).permute(2, 1, 0, 3, 4)


def _first_map(coords: np.ndarray) -> None:
    functional.build_kernel_map(_coordinates(coords), kernel_size=3, stride=1)
