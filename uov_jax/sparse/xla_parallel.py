"""The convolutions' two products for GPUs and TPUs, in `lax` without a loop.

`uov_jax.sparse.xla` walks through the existing neighbours in a loop that ends when they are done:
right for a CPU, but on an accelerator some thousand dependent steps for one training step. Here all
work has static shapes, in two forms:

- *Dense*, the default: the neighbours of some rows at all offsets side by side, zeros for those
  that are missing (a panel [rows, K * C_in]), times the weights as one matrix [K * C_in, C_out]. It
  multiplies all K * N pairs of a map, of which 12 to 37 % exist. Every row of the result is written
  once.
- *Pairs*: the existing pairs in the order of their offsets (`PairLists`), multiplied by
  `lax.ragged_dot`, and their products added to the output rows, on a GPU in any order. XLA has a
  kernel for that on TPUs, but none for the gradient of the weights there, and on GPUs it writes
  every pair K times.

docs/performance.md counts both, and says what compilers made of them. Sums are float32 in both, but
in another order than the loop's: results agree within the rounding of float32, not bit by bit.

What a product of many rows needs beside its result is cut to `PANEL_BYTES`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from uov_jax.sparse.xla import take_rows

# Of a panel, or of the rows and products of a round of pairs: large enough that the products fill
# an accelerator, small beside its memory.
PANEL_BYTES = 512 * 2**20
# Rows of panels and rounds are multiples of it, where there are more. XLA's kernel for ragged
# products on TPUs takes no others.
ALIGNMENT = 128
# Channels of a register of a TPU.
LANES = 128
# Pairs are multiplied in at least so many rounds where each has this many: a round without pairs
# is skipped, and a list that has room for all K * N pairs is filled to a third.
LEAST_ROUNDS = 4
LEAST_ROUND_PAIRS = 4096

# The formats of numbers in products, as the attribute `precision` of the compiled ops has them.
FLOAT32, TF32, BFLOAT16 = range(3)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["source", "target", "sizes"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class PairLists:
    """The existing neighbours of a map as pairs of rows, those of the first offset first.

    Where there are more pairs than room, `gather_gemm` and `gather_gemm_dw` return NaN throughout,
    so that no neighbour is lost in silence.
    """

    source: jax.Array
    """int32 [P]: the input row of every pair; -1 past the last pair."""
    target: jax.Array
    """int32 [P]: the output row of every pair; -1 past the last pair."""
    sizes: jax.Array
    """int32 [K]: how many pairs each offset has."""

    @property
    def fits(self) -> jax.Array:
        """Bool []: there is room for all pairs."""
        return jnp.sum(self.sizes) <= self.source.shape[0]


def pair_lists(forward: jax.Array, bound: int | None = None) -> PairLists:
    """The pairs of a map int32 [K, N_out], for all products along it.

    Args:
        forward: int32 [K, N_out], the input row or -1.
        bound: the least room for pairs, static; None: for all K * N_out. Strided maps have at most
            as many pairs as the finer level has rows.

    Raises:
        ValueError: a negative bound.

    """
    forward = jnp.asarray(forward)
    if bound is not None and bound < 0:
        raise ValueError(f"pair_lists: a bound of {bound} pairs")
    room = forward.size if bound is None else min(bound, forward.size)
    room = -(-room // ALIGNMENT) * ALIGNMENT
    exists = (forward >= 0).reshape(-1)
    number = jnp.cumsum(exists, dtype=jnp.int32)
    # Those without a place, all different, are dropped.
    entry = jnp.arange(forward.size, dtype=jnp.int32)
    place = jnp.where(exists & (number <= room), number - 1, room + entry)
    row = jnp.broadcast_to(jnp.arange(forward.shape[1], dtype=jnp.int32), forward.shape)

    def listed(values: jax.Array) -> jax.Array:
        empty = jnp.full((room,), -1, jnp.int32)
        return empty.at[place].set(values.reshape(-1), mode="drop", unique_indices=True)

    sizes = jnp.sum(forward >= 0, axis=1, dtype=jnp.int32)
    return PairLists(listed(forward), listed(row), sizes)


def gather_gemm(
    x: jax.Array,
    w: jax.Array,
    forward: jax.Array,
    *,
    precision: int = FLOAT32,
    pairs: PairLists | None = None,
) -> jax.Array:
    """`y[n] = sum_k x[forward[k, n]] @ w[k]`, [N_out, C_out] in the dtype of `x`, float32 sums.

    Args:
        x: float32 or bfloat16 [N_in, C_in].
        w: [K, C_in, C_out], the dtype of `x`.
        forward: int32 [K, N_out], the input row or -1.
        precision: of the factors: 0 float32; 1 TF32 or better (`lax.Precision.HIGH`: TF32 on a
            GPU, three bfloat16 products on a TPU, float32 elsewhere); 2 bfloat16. Rows of bfloat16
            are multiplied as such.
        pairs: `pair_lists(forward)` for the form of pairs; None for the dense one.

    """
    forward = jnp.asarray(forward)
    shape = forward.shape[1], w.shape[2]
    if 0 in (*forward.shape, *w.shape, x.shape[0]):
        return jnp.zeros(shape, x.dtype)
    dtype = x.dtype
    x, w = _factors(x, w, precision)
    if pairs is not None:
        return _pairs_times_weights(x, w, pairs, shape, precision).astype(dtype)
    weights = w.reshape(-1, w.shape[2])
    padded = _with_zero_row(x)
    rows: list[jax.Array] = []
    for part in _parts(forward, x):
        panel = _panel(padded, _after(part, rows[-1:]))
        rows.append(_product(panel, weights, 1, 0, precision).astype(dtype))
    return jnp.concatenate(rows)


def gather_gemm_dw(
    x: jax.Array,
    dy: jax.Array,
    forward: jax.Array,
    *,
    precision: int = FLOAT32,
    pairs: PairLists | None = None,
) -> jax.Array:
    """`dw[k] = sum_n x[forward[k, n]]^T dy[n]`, float32 [K, C_in, C_out].

    Args:
        x: float32 or bfloat16 [N_in, C_in].
        dy: [N_out, C_out], the dtype of `x`; rows without a neighbour may hold anything.
        forward: int32 [K, N_out], the input row or -1.
        precision: as in `gather_gemm`.
        pairs: as in `gather_gemm`.

    """
    forward = jnp.asarray(forward)
    shape = forward.shape[0], x.shape[1], dy.shape[1]
    if 0 in (*forward.shape, *shape, x.shape[0]):
        return jnp.zeros(shape, jnp.float32)
    x, dy = _factors(x, dy, precision)
    if pairs is not None:
        return _pairs_times_rows(x, dy, pairs, shape, precision)
    # A panel has zeros for padding rows, but zero times what is not a number is none.
    dy = jnp.where(jnp.any(forward >= 0, axis=0)[:, None], dy, jnp.zeros((), dy.dtype))
    padded = _with_zero_row(x)
    dw = jnp.zeros((shape[0] * shape[1], shape[2]), jnp.float32)
    begin = 0
    for part in _parts(forward, x):
        rows = dy[begin : begin + part.shape[1]]
        panel = _panel(padded, _after(part, [dw] if begin else []))
        dw = dw + _product(panel, rows, 0, 0, precision)
        begin += part.shape[1]
    return dw.reshape(shape)


def _factors(x: jax.Array, other: jax.Array, precision: int) -> tuple[jax.Array, jax.Array]:
    """Both as they are multiplied; rounded before they are gathered, which halves the panels."""
    if precision != BFLOAT16:
        return x, other
    return x.astype(jnp.bfloat16), other.astype(jnp.bfloat16)


def _precision(precision: int, dtype: jnp.dtype) -> lax.Precision:
    if dtype == jnp.bfloat16:
        # Exact in any; XLA's kernel for ragged products on TPUs takes them with this alone.
        return lax.Precision.DEFAULT
    return lax.Precision.HIGH if precision == TF32 else lax.Precision.HIGHEST


def _product(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int, precision: int) -> jax.Array:
    """The matrices' float32 product over one axis of each."""
    return lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((), ())),
        precision=_precision(precision, a.dtype),
        preferred_element_type=jnp.float32,
    )


def _with_zero_row(x: jax.Array) -> jax.Array:
    """A row of zeros behind the others, for neighbours that are missing.

    Reading it costs less than to set zeros in a panel, which TPUs do in another pass over it.
    """
    return jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)])


def _panel(padded: jax.Array, part: jax.Array) -> jax.Array:
    """The neighbours of some rows side by side, [rows, K * C_in], for a part [K, rows] of a map."""
    offsets, rows = part.shape
    index = jnp.where(part >= 0, part, padded.shape[0] - 1).T.reshape(-1)
    taken = jnp.take(padded, index, axis=0, mode="clip")
    return taken.reshape(rows, offsets * padded.shape[1])


def _parts(forward: jax.Array, x: jax.Array) -> list[jax.Array]:
    """A map cut into parts of equal numbers of rows, whose panels are at most `PANEL_BYTES`."""
    offsets, rows = forward.shape
    size = cut(rows, offsets * _room(x.shape[1]) * x.dtype.itemsize)
    return [forward[:, begin : begin + size] for begin in range(0, rows, size)]


def _after(part: jax.Array, results: list[jax.Array]) -> jax.Array:
    """The part, not to be looked at before the results are there.

    Else XLA makes all panels at once, in one kernel on a GPU.
    """
    return lax.optimization_barrier((part, results))[0] if results else part


def _room(channels: int) -> int:
    """As how many channels a row counts: TPUs pad them."""
    return -(-channels // LANES) * LANES


def cut(rows: int, row_bytes: int, most: int | None = None) -> int:
    """How many of `rows` are taken at a time, of `row_bytes` each: at most `most`."""
    limit = max(1, PANEL_BYTES // row_bytes)
    limit = limit if most is None else min(limit, most)
    if rows <= limit:
        return rows
    unit = ALIGNMENT if limit >= ALIGNMENT else 1
    parts = -(-rows // (limit // unit * unit))
    return -(-rows // (parts * unit)) * unit


def round_size(room: int, c_in: int, c_out: int) -> int:
    """How many pairs are taken at a time from lists with so much room."""
    most = max(LEAST_ROUND_PAIRS, -(-room // LEAST_ROUNDS))
    # Rows of either side and their products, which are float32.
    return max(1, cut(room, 4 * (_room(c_in) + _room(c_out)), most))


def _pairs_times_weights(
    x: jax.Array, w: jax.Array, pairs: PairLists, shape: tuple[int, int], precision: int
) -> jax.Array:
    """float32 [N_out, C_out]."""

    def add(y: jax.Array, source: jax.Array, target: jax.Array, sizes: jax.Array) -> jax.Array:
        part = lax.ragged_dot(
            take_rows(x, source),
            w,
            sizes,
            precision=_precision(precision, x.dtype),
            preferred_element_type=jnp.float32,
        )
        # What is past the last pair is in no group and may hold anything: it is dropped.
        return y.at[jnp.where(target >= 0, target, shape[0])].add(part, mode="drop")

    return _fold(pairs, x.shape[1], shape[-1], add, jnp.zeros(shape, jnp.float32))


_BY_OFFSET = lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())),
    lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[],
)


def _pairs_times_rows(
    x: jax.Array, dy: jax.Array, pairs: PairLists, shape: tuple[int, int, int], precision: int
) -> jax.Array:
    """float32 [K, C_in, C_out]."""

    def add(dw: jax.Array, source: jax.Array, target: jax.Array, sizes: jax.Array) -> jax.Array:
        return dw + lax.ragged_dot_general(
            take_rows(x, source),
            take_rows(dy, target),
            sizes,
            _BY_OFFSET,
            precision=_precision(precision, x.dtype),
            preferred_element_type=jnp.float32,
        )

    return _fold(pairs, x.shape[1], shape[-1], add, jnp.zeros(shape, jnp.float32))


def _fold(
    pairs: PairLists, c_in: int, c_out: int, add: Callable[..., jax.Array], start: jax.Array
) -> jax.Array:
    """`add(total, source, target, sizes)` over rounds of pairs; NaN where pairs are missing."""
    room = pairs.source.shape[0]
    size = round_size(room, c_in, c_out)
    end = jnp.cumsum(pairs.sizes, dtype=jnp.int32)
    total = start
    for begin in range(0, room, size):
        source, target = (a[begin : begin + size] for a in (pairs.source, pairs.target))
        length = source.shape[0]
        first, last = (jnp.clip(a - begin, 0, length) for a in (end - pairs.sizes, end))
        arguments = total, source, target, last - first
        if begin == 0:
            total = add(*arguments)
        else:
            total = lax.cond(end[-1] > begin, add, lambda total, *_: total, *arguments)
    return jnp.where(pairs.fits, total, jnp.nan)
