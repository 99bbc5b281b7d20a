"""The other form of the `xla` backend's convolutions: lists of pairs and `lax.ragged_dot`.

`register` makes it a backend, for whoever has the machine to time it on. It multiplies the pairs
that exist alone, where the platform has a kernel for ragged products; docs/performance.md says
where it has.

Pairs are taken in rounds of equal size; those without pairs are skipped. In a round they are
multiplied in the order of their offsets, and their products added to the rows of the result, on a
GPU in any order: not the same bits in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from uov_jax.sparse import xla, xla_parallel
from uov_jax.sparse.backends import Backend, register_backend
from uov_jax.sparse.engine import AVAILABLE
from uov_jax.sparse.xla_parallel import ALIGNMENT, factors, lax_precision, padded_channels

# A list has room for all K * N pairs of a map and is filled to a third: so many rounds, where each
# has at least so many pairs, leave most of the rest undone.
LEAST_ROUNDS = 4
LEAST_ROUND_PAIRS = 4096


def room(shape: tuple[int, ...]) -> int:
    """For how many pairs lists have places: all of a map [K, N], in whole tiles of a TPU."""
    return -(-shape[0] * shape[1] // ALIGNMENT) * ALIGNMENT


def schedule_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Of the pairs' input rows, their output rows and their number at every offset."""
    return (room(shape),), (room(shape),), (shape[0],)


def schedule(forward: jax.Array, *, backend: str, shapes: Any) -> list[jax.Array]:
    """The pairs of a map by offset: input rows and output rows, -1 behind; pairs of each offset."""
    del backend, shapes
    places = room(forward.shape)
    exists = (forward >= 0).reshape(-1)
    number = jnp.cumsum(exists, dtype=jnp.int32)
    # What does not exist has a place of its own behind the last, where it is dropped.
    entry = jnp.arange(forward.size, dtype=jnp.int32)
    place = jnp.where(exists, number - 1, places + entry)
    row = jnp.broadcast_to(jnp.arange(forward.shape[1], dtype=jnp.int32), forward.shape)

    def listed(values: jax.Array) -> jax.Array:
        empty = jnp.full((places,), -1, jnp.int32)
        return empty.at[place].set(values.reshape(-1), mode="drop", unique_indices=True)

    return [listed(forward), listed(row), jnp.sum(forward >= 0, axis=1, dtype=jnp.int32)]


def _pairs(forward: jax.Array, known: Any) -> Any:
    return schedule(forward, backend="", shapes=None) if known is None else known


def gather_gemm(
    x: jax.Array,
    w: jax.Array,
    forward: jax.Array,
    schedule: Any,
    *,
    transposed: bool,
    mirrored: bool,
    precision: str,
) -> jax.Array:
    """Ragged products, scattered; see `signatures`."""
    w = xla.read_weights(w, transposed, mirrored)
    shape = forward.shape[1], w.shape[2]
    if 0 in (*forward.shape, *w.shape, x.shape[0]):
        return jnp.zeros(shape, x.dtype)
    dtype = x.dtype
    x, w = factors(x, w, precision)

    def add(y: jax.Array, source: jax.Array, target: jax.Array, sizes: jax.Array) -> jax.Array:
        part = lax.ragged_dot(
            xla.take_rows(x, source),
            w,
            sizes,
            precision=lax_precision(precision, x.dtype),
            preferred_element_type=jnp.float32,
        )
        # What is behind the last pair is in no group and may hold anything: it is dropped.
        return y.at[jnp.where(target >= 0, target, shape[0])].add(part, mode="drop")

    pairs = _pairs(forward, schedule)
    return _fold(pairs, x.shape[1], shape[1], add, jnp.zeros(shape, jnp.float32)).astype(dtype)


BY_OFFSET = lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())),
    lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[],
)


def gather_gemm_dw(
    x: jax.Array, dy: jax.Array, forward: jax.Array, schedule: Any, *, precision: str
) -> jax.Array:
    """Products by groups of pairs; see `signatures`."""
    shape = forward.shape[0], x.shape[1], dy.shape[1]
    if 0 in (*forward.shape, *shape, x.shape[0]):
        return jnp.zeros(shape, jnp.float32)
    x, dy = factors(x, dy, precision)

    def add(dw: jax.Array, source: jax.Array, target: jax.Array, sizes: jax.Array) -> jax.Array:
        return dw + lax.ragged_dot_general(
            xla.take_rows(x, source),
            xla.take_rows(dy, target),
            sizes,
            BY_OFFSET,
            precision=lax_precision(precision, x.dtype),
            preferred_element_type=jnp.float32,
        )

    return _fold(_pairs(forward, schedule), *shape[1:], add, jnp.zeros(shape, jnp.float32))


def round_size(places: int, c_in: int, c_out: int) -> int:
    """How many pairs a round has, of lists with so many places."""
    most = max(LEAST_ROUND_PAIRS, -(-places // LEAST_ROUNDS))
    # Rows of either side and their products, which are float32.
    row_bytes = 4 * (padded_channels(c_in) + padded_channels(c_out))
    return min(-(-most // ALIGNMENT) * ALIGNMENT, xla_parallel.cut(places, row_bytes))


def _fold(
    pairs: Any, c_in: int, c_out: int, add: Callable[..., jax.Array], start: jax.Array
) -> jax.Array:
    """`add(total, source, target, sizes)` over rounds of pairs."""
    sources, targets, sizes = pairs
    places = sources.shape[0]
    size = round_size(places, c_in, c_out)
    end = jnp.cumsum(sizes, dtype=jnp.int32)
    total = start
    for begin in range(0, places, size):
        source, target = (a[begin : begin + size] for a in (sources, targets))
        length = source.shape[0]
        first, last = (jnp.clip(a - begin, 0, length) for a in (end - sizes, end))
        arguments = total, source, target, last - first
        if begin == 0:
            total = add(*arguments)
        else:
            total = lax.cond(end[-1] > begin, add, lambda total, *_: total, *arguments)
    return total


def register() -> None:
    """Make it a backend, "xla-pairs"."""
    own = sys.modules[__name__]
    backend = Backend(lambda _: (own, xla_parallel, xla), lambda: f"{AVAILABLE} (lists of pairs)")
    register_backend("xla-pairs", backend)
