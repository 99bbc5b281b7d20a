"""The products of the `xla` backend where it is lowered for a GPU or TPU: without a loop.

`xla.py` walks through the neighbours that exist, in a loop that ends when they are done: right for
a CPU, but on an accelerator some thousand steps of a training step that wait for each other. Here
the neighbours of some rows lie side by side at all offsets, zeros for those that are missing (a
*panel* [rows, K * C_in]), and are multiplied by the weights as one matrix [K * C_in, C_out]. That
multiplies all K * N pairs of a map, of which 12 to 37 % exist, in shapes that are all static, and
writes every row of the result once: the same bits in every run.

`lax.ragged_dot` over lists of the pairs that exist multiplies less, but XLA has a kernel for it on
TPUs alone, and there none for the gradient of the weights: docs/performance.md counts both forms.

Sums are float32, in another order than the loop's: results agree within the rounding of float32.
Entries of a map that are no row count as absent.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from uov_jax.sparse import xla

# Of a panel: large enough that its product fills an accelerator, small beside its memory. What a
# product takes beside arguments and result is one panel on a GPU, and up to two and a half on a
# TPU, which lays it out anew.
PANEL_BYTES = 512 * 2**20
# Rows of a panel are a multiple of it where there are several.
ALIGNMENT = 128
# TPUs pad rows to so many channels: so do we when we count bytes.
LANES = 128


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
    """Panels times weights; see `signatures`."""
    del schedule
    w = xla.read_weights(w, transposed, mirrored)
    shape = forward.shape[1], w.shape[2]
    if 0 in (*forward.shape, *w.shape, x.shape[0]):
        return jnp.zeros(shape, x.dtype)
    dtype = x.dtype
    x, w = factors(x, w, precision)
    weights, padded = w.reshape(-1, shape[1]), _with_zero_row(x)
    rows: list[jax.Array] = []
    for part in _parts(forward, x):
        panel = _panel(padded, _after(part, rows[-1:]))
        rows.append(_product(panel, weights, 1, 0, precision).astype(dtype))
    return jnp.concatenate(rows)


def gather_gemm_dw(
    x: jax.Array, dy: jax.Array, forward: jax.Array, schedule: Any, *, precision: str
) -> jax.Array:
    """Panels, transposed, times rows; see `signatures`."""
    del schedule
    shape = forward.shape[0], x.shape[1], dy.shape[1]
    if 0 in (*forward.shape, *shape, x.shape[0]):
        return jnp.zeros(shape, jnp.float32)
    x, dy = factors(x, dy, precision)
    # A panel has zeros for padding rows, but zero times what is not a number is not zero.
    dy = jnp.where(jnp.any(forward >= 0, axis=0)[:, None], dy, jnp.zeros((), dy.dtype))
    padded, dw = _with_zero_row(x), jnp.zeros((shape[0] * shape[1], shape[2]), jnp.float32)
    begin = 0
    for part in _parts(forward, x):
        rows = dy[begin : begin + part.shape[1]]
        panel = _panel(padded, _after(part, [dw] if begin else []))
        dw = dw + _product(panel, rows, 0, 0, precision)
        begin += part.shape[1]
    return dw.reshape(shape)


def multiply_rows(
    x: jax.Array, w: jax.Array, count: jax.Array, *, transposed: bool, precision: str
) -> jax.Array:
    """A dense product; see `signatures`."""
    dtype = x.dtype
    x, w = factors(xla.clean(x, count), w, precision)
    return _product(x, w, 1, 1 if transposed else 0, precision).astype(dtype)


def multiply_rows_dw(x: jax.Array, dy: jax.Array, count: jax.Array, *, precision: str) -> jax.Array:
    """A dense product; see `signatures`."""
    x, dy = factors(xla.clean(x, count), xla.clean(dy, count), precision)
    return _product(x, dy, 0, 0, precision)


def factors(x: jax.Array, other: jax.Array, precision: str) -> tuple[jax.Array, jax.Array]:
    """Both as they are multiplied; rounded before they are gathered, which halves the panels."""
    if precision != "bfloat16":
        return x, other
    return x.astype(jnp.bfloat16), other.astype(jnp.bfloat16)


def lax_precision(precision: str, dtype: jnp.dtype) -> lax.Precision:
    """What tells XLA of a precision, for factors of a dtype.

    `HIGH` is TF32 on GPUs, and three products of bfloat16 parts on TPUs, which is more.
    """
    if dtype == jnp.bfloat16:
        # Exact in any. XLA's ragged products on TPUs take bfloat16 with this alone.
        return lax.Precision.DEFAULT
    return lax.Precision.HIGH if precision == "tf32" else lax.Precision.HIGHEST


def _product(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int, precision: str) -> jax.Array:
    """The matrices' float32 product over one axis of each."""
    return xla.product(a, b, a_axis, b_axis, lax_precision(precision, a.dtype))


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
    size = cut(rows, offsets * padded_channels(x.shape[1]) * x.dtype.itemsize)
    return [forward[:, begin : begin + size] for begin in range(0, rows, size)]


def padded_channels(channels: int) -> int:
    """As how many channels a row counts."""
    return -(-channels // LANES) * LANES


def cut(rows: int, row_bytes: int) -> int:
    """How many of `rows`, of `row_bytes` each, make a part of at most `PANEL_BYTES`."""
    most = max(1, PANEL_BYTES // row_bytes)
    if rows <= most:
        return rows
    unit = ALIGNMENT if most >= ALIGNMENT else 1
    parts = -(-rows // (most // unit * unit))
    return -(-rows // (parts * unit)) * unit


def _after(part: jax.Array, results: list[jax.Array]) -> jax.Array:
    """The part, not to be looked at before the results are there.

    Else XLA makes all panels at once, on a GPU in one kernel.
    """
    return lax.optimization_barrier((part, results))[0] if results else part
