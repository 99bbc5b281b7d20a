"""What kernels cost on this processor: it fills the rows of `uov_jax.sparse.kernels.TABLE`.

AVX512-BF16 is fast where its layers take less time than bfloat16 ones by all other kernels, which
widen the numbers, and than float32 ones.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.ops import Layers
from benchmarks.peers import Call
from benchmarks.report import OURS, Row, compared
from benchmarks.sweeps import VoxelSweep
from benchmarks.timing import interleaved
from uov_jax import sparse
from uov_jax.sparse.engine import engine

WIDTHS = (32, 96, 256)


def kernels(sweep: VoxelSweep, repeats: int, widths: Sequence[int] = WIDTHS) -> Iterator[Row]:
    """3x3x3 layers in bfloat16 by each of the kernels that can run, beside float32 ones.

    The measure is float32 by the kernels that were chosen.
    """
    chosen = sparse.current_kernels()
    layers = Layers(sweep)
    try:
        for width in widths:
            wide, narrow = layers.calls(width), layers.calls(width, jnp.bfloat16)
            for part, (what, passes) in enumerate((("forward", 1), ("forward + backward", 3))):
                calls = {"float32": functools.partial(_run, chosen, wide[part])}
                for name in engine().runnable_kernels():
                    calls[name] = functools.partial(_run, name, narrow[part])
                timings = interleaved(calls, repeats)
                measure = timings.pop("float32")
                for name, timing in timings.items():
                    yield compared(
                        f"layer {width}, {what}, bfloat16 by {name}",
                        {OURS: timing, f"float32, {chosen}": measure},
                        passes * layers.gigaflop(width),
                        "GFLOP/s",
                    )
    finally:
        sparse.use_kernels(chosen)


def _run(name: str, call: Call) -> Any:
    sparse.use_kernels(name)
    return jax.block_until_ready(call())
