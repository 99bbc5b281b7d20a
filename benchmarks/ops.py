"""The engine's ops: convolutions by width, row moves, plans, voxelisation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from benchmarks import dense, installed, peers
from benchmarks.peers import Call
from benchmarks.report import OURS, Row, compared
from benchmarks.sweeps import VoxelSweep, fitting_spec
from benchmarks.timing import Timing, interleaved
from uov_jax import sparse

WIDTHS = (32, 64, 96, 128, 256)


class Layers:
    """3x3x3 layers on a sweep, with as many output as input channels.

    pairs: of neighbours that exist.
    """

    def __init__(self, sweep: VoxelSweep) -> None:
        self._rows = len(sweep.coords)
        found = sparse.submanifold_map(sweep.coords, self._rows, 3)
        self.pairs = int(np.sum(found.forward >= 0))
        neighbours = jax.tree.map(jnp.asarray, found)

        def forward(x: jax.Array, w: jax.Array) -> jax.Array:
            return sparse.gather_gemm(x, w, neighbours)

        def both(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
            y, pull = jax.vjp(forward, x, w)
            return y, *pull(dy)

        self._forward, self._both = jax.jit(forward), jax.jit(both)

    def gigaflop(self, width: int) -> float:
        """Multiplications and additions of one forward pass."""
        return 2e-9 * self.pairs * width * width

    def arrays(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Float32 x [N, C], w [27, C, C], dy [N, C]."""
        generator = np.random.default_rng(0)
        x, dy = generator.standard_normal((2, self._rows, width), np.float32)
        return x, generator.standard_normal((27, width, width), np.float32), dy

    def calls(self, width: int, dtype: DTypeLike = jnp.float32) -> tuple[Call, Call]:
        """Forward, and forward + backward."""
        x, w, dy = (jnp.asarray(array, dtype) for array in self.arrays(width))
        return functools.partial(self._forward, x, w), functools.partial(self._both, x, w, dy)


def layers(sweep: VoxelSweep, repeats: int, widths: Sequence[int] = WIDTHS) -> Iterator[Row]:
    """3x3x3 layers, forward and with both gradients.

    The measure is the dense product of as many rows as the map has pairs.
    """
    ours = Layers(sweep)
    for width in widths:
        forward, both = ours.calls(width)
        calls = {OURS: forward, f"{OURS} both": both}
        for name, multiply in dense.libraries().items():
            product = dense.Layers([(ours.pairs, width, width)], multiply)
            calls |= {name: product.forward, f"{name} both": product.both}
        for peer in peers.available():
            one, two = peer.layer(sweep.coords, *ours.arrays(width))
            calls |= {peer.name: one, f"{peer.name} both": two}
        timings = interleaved(calls, repeats)
        gigaflop = ours.gigaflop(width)
        yield compared(
            f"layer {width}, forward",
            {k: t for k, t in timings.items() if not k.endswith("both")},
            gigaflop,
            "GFLOP/s",
        )
        yield compared(
            f"layer {width}, forward + backward",
            {k.removesuffix(" both"): t for k, t in timings.items() if k.endswith("both")},
            3 * gigaflop,
            "GFLOP/s",
        )


def moves(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """`scatter_add_rows` of 30,000 x 768 rows into a quarter as many, against copying them."""
    del sweep
    generator = np.random.default_rng(0)
    rows, channels, targets = 30_000, 768, 7_500
    x = generator.standard_normal((rows, channels), np.float32)
    index = generator.integers(0, targets, rows).astype(np.int32)
    scatter = jax.jit(lambda x, index: sparse.scatter_add_rows(x, index, targets))
    # On all cores, which numpy's copy does not use. Not 1.0: XLA would leave that out.
    copy = jax.jit(lambda x: x * 2.0)
    on_device, index_on_device = jnp.asarray(x), jnp.asarray(index)
    calls = {
        OURS: lambda: scatter(on_device, index_on_device),
        "copy": lambda: copy(on_device),
    }
    if installed.usable("torch"):
        calls["torch index_add_"] = _torch_scatter(x, index, targets)
    timings = interleaved(calls, repeats)
    moved = (rows + targets) * channels * 4 * 1e-9
    # By bytes: a copy writes as much as it reads.
    scale = (rows + targets) / (2 * rows)
    timings["copy"] = Timing(tuple(s * scale for s in timings["copy"].seconds))
    yield compared("scatter_add_rows 30,000 x 768", timings, moved, "GB/s")


def _torch_scatter(x: np.ndarray, index: np.ndarray, targets: int) -> Callable[[], Any]:
    import torch

    rows, where = torch.from_numpy(x), torch.from_numpy(index).long()
    return lambda: torch.zeros(targets, x.shape[1]).index_add_(0, where, rows)


def plans(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """Voxelisation, and the whole plan of a UNet against a peer's first kernel map alone."""
    points, size = sweep.points, sweep.voxel_size
    calls = {OURS: lambda: sparse.voxelize(points, size, cylindrical=True)}
    voxelize = interleaved(calls, repeats)
    yield compared("voxelise one sweep", voxelize, len(points) * 1e-6, "Mpoint/s")
    coords, spec = sweep.coords, fitting_spec(sweep.coords)
    on_device, count = jnp.asarray(coords), jnp.int32(len(coords))
    in_jit = jax.jit(functools.partial(sparse.plan_in_jit, spec=spec))
    maps = {
        f"{peer.name}'s first map": functools.partial(peer.first_map, coords)
        for peer in peers.available()
    }
    host = interleaved({OURS: lambda: sparse.build_plan(coords, spec), **maps}, repeats)
    yield compared("plan of 5 levels, host", host, len(coords) * 1e-6, "Mvoxel/s")
    device = interleaved({OURS: lambda: in_jit(on_device, count), **maps}, repeats)
    yield compared("plan of 5 levels, in jit", device, len(coords) * 1e-6, "Mvoxel/s")
