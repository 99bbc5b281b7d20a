"""The `cpu` backend: C++ through `jax.ffi` (`csrc/ffi`), on XLA's own threads.

Bad entries of maps and indices, and bad coordinates, end the program with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from uov_jax.sparse import signatures
from uov_jax.sparse.engine import engine
from uov_jax.sparse.rows import identity_rows


def call(op: str, results: Any, *operands: Any, **attributes: bool | int) -> Any:
    """The result or results of a compiled op: one of those in `csrc/ffi/handlers.h`.

    Args:
        op: its name there.
        results: shapes and dtypes, as `jax.ffi.ffi_call` takes them.
        operands: what the handler binds as arguments.
        attributes: what it binds as attributes.

    Raises:
        EngineMissingError: the extension is not built.

    """
    engine()  # registers the handlers
    return jax.ffi.ffi_call(f"uov_{op}", results)(*operands, **attributes)


def pool_threads() -> int:
    """How many threads the compiled ops of one device share.

    Raises:
        EngineMissingError: the extension is not built.

    """
    return int(call("pool_threads", jax.ShapeDtypeStruct((), jnp.int32)))


def gather_gemm(
    x: Any, w: Any, forward: Any, schedule: Any, *, transposed: bool, mirrored: bool, precision: str
) -> Any:
    """See `signatures`; and so of all that follow. Factors are rounded for no precision."""
    of = {"transposed": transposed, "mirrored": mirrored}
    results = signatures.gather_gemm(x, w, forward, schedule, **of, precision=precision)
    return call("gather_gemm", results, x, w, forward, **of)


def gather_gemm_dw(x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str) -> Any:
    """See `signatures`."""
    results = signatures.gather_gemm_dw(x, dy, forward, schedule, precision=precision)
    return call("gather_gemm_dw", results, x, dy, forward)


def gather_gemm_gradients(
    x: Any,
    w: Any,
    dy: Any,
    forward: Any,
    schedule: Any,
    back: Any,
    back_schedule: Any,
    *,
    mirrored: bool,
    precision: str,
) -> Any:
    """In one pass over the pairs of a mirrored map."""
    del schedule, back_schedule, precision
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(w.shape, jnp.float32)]
    return call("gather_gemm_gradients", results, x, w, dy, forward, back, mirrored=mirrored)


def gather_gemm_moments(
    x: Any, w: Any, forward: Any, schedule: Any, count: Any, *, precision: str
) -> Any:
    """While the result's rows are in cache."""
    results = signatures.gather_gemm_moments(x, w, forward, schedule, count, precision=precision)
    return call("gather_gemm_moments", results, x, w, forward, count)


def gather_gemm_affine(
    x: Any,
    w: Any,
    forward: Any,
    schedule: Any,
    mean: Any,
    scale: Any,
    bias: Any,
    shortcut: Any,
    count: Any,
    *,
    relu: bool,
    precision: str,
) -> Any:
    """While the sums are in cache; they are rounded once."""
    del schedule, precision
    result = jax.ShapeDtypeStruct((forward.shape[1], w.shape[2]), x.dtype)
    operands = (x, w, forward, mean, scale, bias, x if shortcut is None else shortcut, count)
    attributes = {"has_shortcut": shortcut is not None, "relu": relu}
    return call("gather_gemm_affine", result, *operands, **attributes)


def multiply_rows(x: Any, w: Any, count: Any, *, transposed: bool, precision: str) -> Any:
    """A convolution of size 1."""
    rows = identity_rows(x.shape[0], count)
    return gather_gemm(
        x, w[None], rows, None, transposed=transposed, mirrored=False, precision=precision
    )


def multiply_rows_dw(x: Any, dy: Any, count: Any, *, precision: str) -> Any:
    """A convolution of size 1."""
    return gather_gemm_dw(x, dy, identity_rows(x.shape[0], count), None, precision=precision)[0]


def multiply_rows_gradients(x: Any, w: Any, dy: Any, count: Any, *, precision: str) -> Any:
    """A convolution of size 1."""
    rows = identity_rows(x.shape[0], count)
    dx, dw = gather_gemm_gradients(
        x, w[None], dy, rows, None, rows, None, mirrored=True, precision=precision
    )
    return dx, dw[0]


def gather_rows(x: Any, index: Any) -> Any:
    """See `signatures`."""
    return call("gather_rows", signatures.gather_rows(x, index), x, index)


def gather_scatter_rows(x: Any, source: Any, target: Any, *, num_rows: int) -> Any:
    """See `signatures`."""
    result = signatures.gather_scatter_rows(x, source, target, num_rows=num_rows)
    rows = target if source is None else source
    return call("gather_scatter_rows", result, x, rows, target, identity=source is None)


def unit_rows(x: Any, count: Any) -> Any:
    """See `signatures`."""
    return call("unit_rows", signatures.unit_rows(x, count), x, count)


def unit_rows_gradient(dy: Any, y: Any, inverse: Any, count: Any) -> Any:
    """See `signatures`."""
    result = signatures.unit_rows_gradient(dy, y, inverse, count)
    return call("unit_rows_gradient", result, dy, y, inverse, count)


def column_moments(x: Any, count: Any) -> Any:
    """See `signatures`."""
    return call("column_moments", signatures.column_moments(x, count), x, count)


def affine_rows(
    x: Any, mean: Any, scale: Any, bias: Any, shortcut: Any, count: Any, *, relu: bool
) -> Any:
    """See `signatures`."""
    operands = (x, mean, scale, bias, x if shortcut is None else shortcut, count)
    attributes = {"has_shortcut": shortcut is not None, "relu": relu}
    return call("affine_rows", jax.ShapeDtypeStruct(x.shape, x.dtype), *operands, **attributes)


def affine_gradient_sums(dy: Any, y: Any, x: Any, mean: Any, count: Any) -> Any:
    """See `signatures`."""
    results = signatures.affine_gradient_sums(dy, y, x, mean, count)
    operands = (dy, dy if y is None else y, x, mean, count)
    return call("affine_gradient_sums", results, *operands, relu=y is not None)


def affine_gradient_rows(
    dy: Any,
    y: Any,
    x: Any,
    mean: Any,
    offset: Any,
    slope: Any,
    scale: Any,
    count: Any,
    *,
    has_shortcut: bool,
) -> Any:
    """See `signatures`."""
    rows = jax.ShapeDtypeStruct(x.shape, x.dtype)
    # A result cannot be left out of a call: one that nobody wants has no rows.
    unwanted = jax.ShapeDtypeStruct((0, x.shape[1]), x.dtype)
    operands = (dy, dy if y is None else y, x, mean, offset, slope, scale, count)
    attributes = {"relu": y is not None, "has_shortcut": has_shortcut}
    results = [rows, rows if has_shortcut else unwanted]
    found = call("affine_gradient_rows", results, *operands, **attributes)
    return found if has_shortcut else found[:1]


def submanifold_map(
    coords: Any, count: Any, *, kernel: int, tensor_stride: int, dilation: int
) -> Any:
    """See `signatures`."""
    of = {"kernel": kernel, "tensor_stride": tensor_stride, "dilation": dilation}
    return call(
        "submanifold_map", signatures.submanifold_map(coords, count, **of), coords, count, **of
    )


def plan(coords: Any, count: Any, *, capacities: Sequence[int], first_kernel_5: bool) -> Any:
    """See `signatures`."""
    of = {"first_kernel_5": first_kernel_5}
    results = signatures.plan(coords, count, capacities=capacities, **of)
    return call("plan", results, coords, count, levels=len(capacities), **of)


def moving_average(old: Any, sample: Any, decay: Any, weight: Any, *, squares: bool) -> Any:
    """In the memory of the old one.

    XLA would work the average out anew for each of its uses, and to do so would copy an old state
    whose memory the new one takes.
    """
    result = jax.ShapeDtypeStruct(old.shape, old.dtype)
    in_place = jax.ffi.ffi_call("uov_moving_average", result, input_output_aliases={0: 0})
    return in_place(old, sample, decay, weight, squares=squares)
