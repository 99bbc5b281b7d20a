"""Times of the sparse ops on a GPU, and what its memory and its products give at most."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.command_line.gpu_report import Row
from uov_jax.command_line.gpu_sweeps import cloud_of, fitting_spec

# Calls that are started one after the other before the last is waited for: what the host needs to
# start one is hidden by the one before.
TOGETHER = 10


def seconds_of(call: Callable[[], Any], repeats: int, together: int = 1) -> list[float]:
    """Seconds of a call that returns JAX arrays, over its repetitions after two more."""
    for _ in range(2):
        jax.block_until_ready(call())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(together):
            results = call()
        jax.block_until_ready(results)
        seconds.append((time.perf_counter() - start) / together)
    return seconds


def median(seconds: Sequence[float]) -> float:
    """Half of them are above it."""
    return statistics.median(seconds)


def ceilings(size: int, repeats: int) -> Iterator[Row]:
    """What a copy and dense products reach, of random numbers.

    Args:
        size: rows and columns of the factors; the copy is of some more numbers.
        repeats: of each.

    """
    key = jax.random.key(0)
    numbers = jax.random.normal(key, (4, size, size), jnp.float32)
    copy = jax.jit(lambda x: -x)
    seconds = median(seconds_of(lambda: copy(numbers), repeats, TOGETHER))
    yield Row("copy", {"ms": seconds * 1e3, "GB/s": 2e-9 * numbers.nbytes / seconds})
    for name, dtype, precision in (
        ("float32", jnp.float32, jax.lax.Precision.HIGHEST),
        ("TF32", jnp.float32, jax.lax.DotAlgorithmPreset.TF32_TF32_F32),
        ("bfloat16", jnp.bfloat16, None),
    ):
        if precision is jax.lax.DotAlgorithmPreset.TF32_TF32_F32 and jax.default_backend() != "gpu":
            continue
        factor = numbers[0].astype(dtype)
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        call = functools.partial(product, factor, factor)
        seconds = median(seconds_of(call, repeats, TOGETHER))
        rate = 2e-12 * size**3 / seconds
        yield Row(f"dense product, {name}", {"ms": seconds * 1e3, "TFLOP/s": rate})


# Precision of products and type of rows, and what they are called.
KINDS = (
    ("float32", jnp.float32, "float32"),
    ("tf32", jnp.float32, "TF32"),
    ("float32", jnp.bfloat16, "bfloat16"),
)


def op_times(
    clouds: Sequence[int], widths: Sequence[int], repeats: int, together: int
) -> Iterator[Row]:
    """3x3x3 layers and the plan, on clouds of so many voxels; useful operations alone count."""
    for number in clouds:
        coords = cloud_of(number)
        spec = fitting_spec(coords)
        yield _plan_time(coords, spec, repeats)
        plan = sparse.build_plan(coords, spec)
        pairs = int(np.sum(plan.same[0].forward >= 0))
        neighbours = jax.jit(lambda each: each.scheduled())(jax.tree.map(jnp.asarray, plan.same[0]))
        for width in widths:
            for precision, dtype, name in KINDS:
                with sparse.use_precision(precision):
                    yield from _layer_times(
                        neighbours, width, dtype, 2e-12 * pairs * width**2, repeats, together,
                        f"{number:,} voxels, {width} channels, {name}",
                    )  # fmt: skip


def _plan_time(coords: np.ndarray, spec: sparse.PlanSpec, repeats: int) -> Row:
    @jax.jit
    def build(coords: jax.Array, count: jax.Array) -> Any:
        return sparse.plan_in_jit(coords, count, spec).scheduled()

    here, count = jnp.asarray(coords), jnp.int32(len(coords))
    seconds = median(seconds_of(lambda: build(here, count), repeats))
    start = time.perf_counter()
    sparse.build_plan(coords, spec)
    host = time.perf_counter() - start
    figures = {"ms": seconds * 1e3, "on the host, ms": host * 1e3}
    return Row(f"{len(coords):,} voxels, plan of 5 levels with schedules", figures)


def _layer_times(
    neighbours: Any, width: int, dtype: Any, teraflop: float, repeats: int, together: int, what: str
) -> Iterator[Row]:
    rows = neighbours.forward.shape[1]
    keys = jax.random.split(jax.random.key(width), 3)
    x, dy = (jax.random.normal(key, (rows, width), dtype) for key in keys[:2])
    w = jax.random.normal(keys[2], (27, width, width), jnp.float32)

    @jax.jit
    def forward(x: jax.Array, w: jax.Array, neighbours: Any) -> jax.Array:
        return sparse.gather_gemm(x, w, neighbours)

    @jax.jit
    def backward(x: jax.Array, w: jax.Array, dy: jax.Array, neighbours: Any) -> Any:
        return sparse.gather_gemm_gradients(x, w, dy, neighbours)

    for name, passes, call in (
        ("forward", 1, functools.partial(forward, x, w, neighbours)),
        ("both gradients", 2, functools.partial(backward, x, w, dy, neighbours)),
    ):
        seconds = median(seconds_of(call, repeats, together))
        yield Row(f"{what}, {name}", {"ms": seconds * 1e3, "TFLOP/s": passes * teraflop / seconds})
