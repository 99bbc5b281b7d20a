"""Products of the emulated handlers: calls, what they multiply, and float64 beside them."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import call
from uov_jax.sparse import reference

FLOAT32, TF32, BFLOAT16 = 0, 1, 2
# kGatherTiles and kGradientTiles of csrc/cuda/tiles.h: those that float32 products have, and all.
GATHER_TILES = {FLOAT32: [0, 1, 2], TF32: [0, 1, 2, 3, 4], BFLOAT16: [0, 1, 2, 3, 4]}
GRADIENT_TILES = {FLOAT32: [0], TF32: [0, 1, 2], BFLOAT16: [0, 1, 2]}


class Kind(NamedTuple):
    """The dtype of rows and how they are multiplied."""

    dtype: Any
    precision: int


KINDS = [
    Kind(jnp.float32, FLOAT32),
    Kind(jnp.float32, TF32),
    Kind(jnp.float32, BFLOAT16),
    Kind(jnp.bfloat16, BFLOAT16),
]
KIND_NAMES = ["float32", "tf32", "float32-as-bfloat16", "bfloat16"]
kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
gather_cases = pytest.mark.parametrize(
    ("kind", "tile"),
    [
        pytest.param(kind, tile, id=f"{name}-tile{tile}")
        for kind, name in zip(KINDS, KIND_NAMES, strict=True)
        for tile in GATHER_TILES[kind.precision]
    ],
)
gradient_cases = pytest.mark.parametrize(
    ("kind", "tile"),
    [
        pytest.param(kind, tile, id=f"{name}-tile{tile}")
        for kind, name in zip(KINDS, KIND_NAMES, strict=True)
        for tile in GRADIENT_TILES[kind.precision]
    ],
)


class Schedule(NamedTuple):
    """What the op `schedule` says of a map."""

    order: jax.Array
    masks: jax.Array
    pair_rows: jax.Array
    pair_counts: jax.Array


NO_SCHEDULE = Schedule(
    jnp.zeros(0, jnp.int32),
    jnp.zeros((0, 0), jnp.int32),
    jnp.zeros((0, 0), jnp.int32),
    jnp.zeros(0, jnp.int32),
)


def schedule(engine: ModuleType, forward: np.ndarray) -> Schedule:
    kernel, rows = forward.shape
    shapes = [(rows,), (-(-rows // 32), -(-kernel // 32)), (kernel, rows), (kernel,)]
    results = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    sizes = [kernel, rows]
    return Schedule(*call(engine, "schedule", results, jnp.asarray(forward), workspace=sizes))


def gather_gemm(
    engine: ModuleType,
    kind: Kind,
    x: jax.Array,
    w: jax.Array,
    forward: np.ndarray,
    plan: Schedule,
    *,
    transposed: bool = False,
    mirrored: bool = False,
) -> np.ndarray:
    channels = w.shape[1 if transposed else 2]
    sizes = [len(w), x.shape[1], channels, forward.shape[1], x.dtype.itemsize, kind.precision]
    result = jax.ShapeDtypeStruct((forward.shape[1], channels), x.dtype)
    arguments = (x, w, jnp.asarray(forward), plan.order, plan.masks)
    how = {"transposed": transposed, "mirrored": mirrored, "precision": kind.precision}
    return np.asarray(call(engine, "gather_gemm", result, *arguments, workspace=sizes, **how))


def gather_gemm_dw(
    engine: ModuleType,
    kind: Kind,
    x: jax.Array,
    dy: jax.Array,
    forward: np.ndarray,
    plan: Schedule,
) -> np.ndarray:
    kernel, rows = forward.shape
    sizes = [kernel, x.shape[1], dy.shape[1], rows, x.dtype.itemsize, kind.precision]
    result = jax.ShapeDtypeStruct((kernel, x.shape[1], dy.shape[1]), jnp.float32)
    arguments = (x, dy, jnp.asarray(forward), plan.pair_rows, plan.pair_counts)
    how = {"precision": kind.precision}
    return np.asarray(call(engine, "gather_gemm_dw", result, *arguments, workspace=sizes, **how))


def random_map(
    rng: np.random.Generator, kernel: int, rows_out: int, rows_in: int, found: float = 0.3
) -> np.ndarray:
    """A map whose middle offset most rows have, others few, and the last tenth of rows none."""
    share = np.full(kernel, found)
    share[kernel // 2] = 0.95
    forward = rng.integers(0, max(rows_in, 1), (kernel, rows_out))
    missing = rng.random((kernel, rows_out)) >= share[:, None]
    missing[:, rows_out - rows_out // 10 :] = True
    return np.where(missing | (rows_in == 0), -1, forward).astype(np.int32)


def normal(rng: np.random.Generator, kind: Kind, *shape: int) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), kind.dtype)


def exact(values: jax.Array | np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.float64)


def multiplied(kind: Kind, values: jax.Array) -> np.ndarray:
    """The numbers that are multiplied, in float64."""
    if kind.precision == BFLOAT16:
        return exact(values.astype(jnp.bfloat16))
    if kind.precision == TF32:
        # To nearest, halves away from zero, of 13 bits of the fraction that are dropped.
        bits = np.asarray(values, np.float32).view(np.uint32) + np.uint32(1 << 12)
        return exact((bits & np.uint32(0xFFFFFFFF << 13 & 0xFFFFFFFF)).view(np.float32))
    return exact(values)


# How far a number can be from the one that is multiplied: half of the last of its 11 or 8 bits.
ROUNDING = {FLOAT32: 0.0, TF32: 2.0**-11, BFLOAT16: 2.0**-8}
# Of sums in float32, relative to the largest: 27 * 256 terms at most, whose errors of 2**-24 add up
# like their square root, to 80 of them, and with hardly a chance to twice that.
SUMS = 1e-5


def check(
    kind: Kind,
    y: np.ndarray,
    of_multiplied: np.ndarray,
    of_given: np.ndarray,
    of_magnitudes: np.ndarray,
) -> None:
    """A result against float64 products of what is multiplied, and of what was given.

    `of_magnitudes` is the product of the factors' absolute values.
    """
    assert y.shape == of_given.shape
    if not y.size:
        return
    sums = SUMS * np.abs(of_multiplied).max()
    # A result in bfloat16 is the sum rounded.
    own = 2.0**-8 * np.abs(of_multiplied) if y.dtype.itemsize == 2 else 0.0
    assert np.all(np.abs(exact(y) - of_multiplied) <= sums + own)
    # Of a product of two rounded numbers, to first and second order. bfloat16 rows are as given.
    u = 0.0 if kind.dtype == jnp.bfloat16 else ROUNDING[kind.precision]
    rounding = (2 * u + u * u) * of_magnitudes
    assert np.all(np.abs(exact(y) - of_given) <= rounding + sums + own)


def check_gather_gemm(
    kind: Kind,
    y: np.ndarray,
    x: jax.Array,
    w: jax.Array,
    forward: np.ndarray,
    transposed: bool = False,
    mirrored: bool = False,
) -> None:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        b = b[::-1] if mirrored else b
        return reference.gather_gemm(a, b.swapaxes(1, 2) if transposed else b, forward)

    check(
        kind,
        y,
        product(multiplied(kind, x), multiplied(kind, w)),
        product(exact(x), exact(w)),
        product(np.abs(exact(x)), np.abs(exact(w))),
    )


def check_dw(kind: Kind, dw: np.ndarray, x: jax.Array, dy: jax.Array, forward: np.ndarray) -> None:
    check(
        kind,
        dw,
        reference.gather_gemm_dw(multiplied(kind, x), multiplied(kind, dy), forward),
        reference.gather_gemm_dw(exact(x), exact(dy), forward),
        reference.gather_gemm_dw(np.abs(exact(x)), np.abs(exact(dy)), forward),
    )
