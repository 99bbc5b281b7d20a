"""The CPU half of spconv 2.3: repaired on all threads, and as shipped on one.

As shipped, the threads of its `scatter_add_cpu` share two row pointers (declared outside of the
lambda in spconv/csrc/sparse/gather.py), so that with more than one thread rows are added in the
wrong place or not at all. One thread makes it right. So does moving the rows by PyTorch's own
`index_select` and `index_add_`, at the same place and as often, which is faster from 64 channels
on.
"""

from __future__ import annotations

import contextlib
import ctypes
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers.library import Library, peer
from benchmarks.peers.peer import Peer

if not torch.cuda.is_available():
    # spconv asks for the current CUDA stream on the CPU too.
    _NO_STREAM: Any = types.SimpleNamespace(cuda_stream=0)
    torch.cuda.current_stream = lambda *_: _NO_STREAM

import spconv.pytorch as spconv  # noqa: E402
from spconv import core_cc  # noqa: E402
from spconv.core import ConvAlgo  # noqa: E402
from spconv.pytorch import ops  # noqa: E402

# Tensor stride of the coarsest level. Coordinates start at a multiple of it, and end with room for
# one more: cells that are cut off by the end are lost.
COARSEST = 16


def peers() -> tuple[Peer, ...]:
    """The library with a scatter that adds correctly, and as shipped on one thread."""
    library = Library(
        tensor=_tensor,
        features=lambda x: x.features,
        replaced=lambda x, features: x.replace_feature(features),
        same=lambda kernel, level: _convolution(spconv.SubMConv3d, kernel, f"same{level}"),
        down=lambda kernel, level: _convolution(
            spconv.SparseConv3d, kernel, f"down{level}", stride=2
        ),
        up=lambda kernel, level: _convolution(spconv.SparseInverseConv3d, kernel, f"down{level}"),
        kernel_gradient=_kernel_gradient,
        first_map=_first_map,
    )
    return (
        peer("spconv (repaired)", library, _repaired),
        peer("spconv, 1 thread", library, _one_thread),
    )


class _RowsByTorch(ops.SpconvOps):
    """spconv's compiled functions, but rows are moved by PyTorch."""

    @staticmethod
    def gather_cpu(buffer: Any, rows: Any, index: Any) -> None:
        where = _view(index)
        torch.index_select(_view(rows), 0, where, out=_view(buffer)[: len(where)])

    @staticmethod
    def scatter_add_cpu(rows: Any, buffer: Any, index: Any) -> None:
        # 64 bits: PyTorch's path for 32 is several times slower.
        where = _view(index).long()
        _view(rows).index_add_(0, where, _view(buffer)[: len(where)])


def _view(tensor: Any) -> torch.Tensor:
    return torch.from_numpy(tensor.numpy_view())


@contextlib.contextmanager
def _repaired() -> Iterator[None]:
    shipped, ops.SpconvOps = ops.SpconvOps, _RowsByTorch
    try:
        yield
    finally:
        ops.SpconvOps = shipped


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    # Its wheel carries an OpenMP library of its own, beside PyTorch's.
    openmp = ctypes.CDLL(core_cc.__file__)
    threads, own_threads = torch.get_num_threads(), openmp.omp_get_max_threads()
    torch.set_num_threads(1)
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        openmp.omp_set_num_threads(own_threads)


def _tensor(coords: np.ndarray, features: torch.Tensor) -> Any:
    low = coords[:, 1:].min(0)
    shifted = coords - np.concatenate([[0], low // COARSEST * COARSEST])
    shape = [int(n) + COARSEST + 1 for n in shifted[:, 1:].max(0)]
    indices = torch.from_numpy(np.ascontiguousarray(shifted, np.int32))
    return spconv.SparseConvTensor(features, indices, shape, int(coords[:, 0].max()) + 1)


def _convolution(kind: type[nn.Module], kernel: np.ndarray, key: str, **settings: Any) -> nn.Module:
    volume, width_in, width_out = kernel.shape
    size = round(volume ** (1 / 3))
    settings |= {"bias": False, "algo": ConvAlgo.Native, "indice_key": key}
    convolution: Any = kind(width_in, width_out, size, **settings)
    # [z, y, x, C_in, C_out] here, [C_out, x, y, z, C_in] there.
    weight = kernel.reshape(size, size, size, width_in, width_out).transpose(4, 2, 1, 0, 3)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor(weight))
    return convolution


def _kernel_gradient(convolution: Any) -> torch.Tensor:
    return convolution.weight.grad.permute(3, 2, 1, 4, 0)


def _first_map(coords: np.ndarray) -> None:
    tensor = _tensor(coords, torch.zeros(len(coords), 1))
    ops.get_indice_pairs(
        tensor.indices,
        tensor.batch_size,
        tensor.spatial_shape,
        ConvAlgo.Native,
        ksize=[3] * 3,
        stride=[1] * 3,
        padding=[1] * 3,
        dilation=[1] * 3,
        out_padding=[0] * 3,
        subm=True,
    )
