"""The ops that carry all sparse convolutions and row moves, with their gradients.

Each gradient is again one of these ops, but for that of `unit_rows`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values

from uov_jax.sparse import dispatch
from uov_jax.sparse.backends import current_precision
from uov_jax.sparse.gradients import with_gradient
from uov_jax.sparse.norm import affine_rows, check_rows
from uov_jax.sparse.plan import NeighbourMap
from uov_jax.sparse.rows import identity_rows


def _no_gradient(index: Any) -> Any:
    return np.zeros(np.shape(index), jax.dtypes.float0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Which gradients of a product somebody asks for."""

    dx: bool
    dw: bool

    @classmethod
    def of(cls, x: Any, w: Any) -> _Wanted:
        """Of factors as `symbolic_zeros` gives them."""
        return cls(bool(x.perturbed), bool(w.perturbed))


def _multiply(x: jax.Array, w: jax.Array, neighbours: NeighbourMap) -> jax.Array:
    how = {"transposed": False, "mirrored": False, "precision": current_precision()}
    operands = (x, w, neighbours.forward, neighbours.schedule)
    return dispatch.run("gather_gemm", *operands, **how)


@with_gradient()
def gather_gemm(x: jax.Array, w: jax.Array, neighbours: NeighbourMap) -> jax.Array:
    """Sparse convolution: `y[n] = sum_k x[neighbours.forward[k, n]] @ w[k]`.

    Submanifold, dilated, strided and transposed convolutions are this op with another map
    (arXiv 1904.08755, equation 3). Sums are float32, in a fixed order of k.

    Args:
        x: float32 or bfloat16 [N_in, C_in].
        w: [K, C_in, C_out], the dtype of `x`; or float32 beside a bfloat16 `x`, to which it is
            rounded, and then its gradient is the float32 sum, not rounded.
        neighbours: forward int32 [K, N_out]; -1 contributes nothing. Gradients of `x` need its
            transpose, or a mirrored map.

    Returns:
        [N_out, C_out] in the dtype of `x`; rows without any neighbour are zero. Weights that are
        not finite make rows with their neighbour so. Of other rows the `cpu` backend does not look
        at them; others may multiply zeros by them there, which makes these rows NaN too.

    Raises:
        ValueError: arguments do not fit together, or the map has no way back for the gradient.

    """
    _check_factors(x, w, neighbours)
    w = w.astype(x.dtype)
    return _multiply(x, w, neighbours)


def _check_factors(x: jax.Array, w: jax.Array, neighbours: NeighbourMap | None) -> None:
    fits = x.ndim == 2 and w.ndim == 3 and w.shape[1] == x.shape[1]
    if not fits or w.dtype not in (x.dtype, jnp.float32):
        raise ValueError(
            f"gather_gemm: x {x.dtype}{list(x.shape)} and w {w.dtype}{list(w.shape)} do not fit; "
            "expected [N_in, C_in] and [K, C_in, C_out] of one dtype, or w float32"
        )
    if neighbours is not None and neighbours.forward.shape[0] != w.shape[0]:
        raise ValueError(
            f"gather_gemm: the map has {neighbours.forward.shape[0]} kernel offsets, "
            f"the weights {w.shape[0]}"
        )


def _gather_gemm_forward(x: Any, w: Any, neighbours: Any) -> tuple[Any, Any]:
    wanted = _Wanted.of(x, w)
    x, w, neighbours = custom_vjp_primal_tree_values((x, w, neighbours))
    return gather_gemm(x, w, neighbours), (x, w, neighbours, wanted)


def _gather_gemm_backward(saved: Any, dy: Any) -> tuple[Any, Any, Any]:
    x, w, neighbours, wanted = saved
    dx = dw = None
    if not isinstance(dy, SymbolicZero):
        if wanted.dx and wanted.dw:
            dx, dw = gather_gemm_gradients(x, w, dy, neighbours)
        elif wanted.dx:
            back, schedule, mirrored = _back(x, neighbours)
            read = {"transposed": True, "mirrored": mirrored, "precision": current_precision()}
            dx = dispatch.run("gather_gemm", dy, w.astype(x.dtype), back, schedule, **read)
        elif wanted.dw:
            dw = gather_gemm_dw(x, dy, neighbours)
    return dx, None if dw is None else dw.astype(w.dtype), None


def _back(x: jax.Array, neighbours: NeighbourMap) -> tuple[jax.Array, Any, bool]:
    """The map of the gradient of x, its schedule, and whether the weights are read mirrored."""
    if neighbours.transpose is not None:
        return neighbours.transpose, neighbours.back_schedule, False
    if not neighbours.mirrored:
        raise ValueError(
            "gather_gemm: the gradient of x needs NeighbourMap.transpose, or a map that "
            "NeighbourMap.submanifold made"
        )
    if x.shape[0] != neighbours.forward.shape[1]:
        raise ValueError(
            f"gather_gemm: a map from {x.shape[0]} to {neighbours.forward.shape[1]} rows is no "
            "submanifold map"
        )
    return neighbours.forward, neighbours.schedule, True


gather_gemm.defvjp(_gather_gemm_forward, _gather_gemm_backward, symbolic_zeros=True)


@with_gradient()
def gather_gemm_moments(
    x: jax.Array, w: jax.Array, neighbours: NeighbourMap, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`gather_gemm` and the `column_moments` of its result, taken while its rows are in cache.

    Args:
        x: as in `gather_gemm`, and so `w` and `neighbours`.
        w: see above.
        neighbours: see above; rows of the result past `count` must have none.
        count: int32 [], valid rows of the result.

    Returns:
        The result of `gather_gemm` and the two float32 [C_out] of `column_moments`.

    """
    _check_factors(x, w, neighbours)
    w = w.astype(x.dtype)
    rows = jax.ShapeDtypeStruct((neighbours.forward.shape[1], w.shape[2]), x.dtype)
    check_rows("gather_gemm_moments", {"x": rows}, {}, count)
    operands = (x, w, neighbours.forward, neighbours.schedule, count)
    return dispatch.run("gather_gemm_moments", *operands, precision=current_precision())


def _gather_gemm_moments_forward(x: Any, w: Any, neighbours: Any, count: Any) -> tuple[Any, Any]:
    wanted = _Wanted.of(x, w)
    x, w, neighbours, count = custom_vjp_primal_tree_values((x, w, neighbours, count))
    y, mean, m2 = gather_gemm_moments(x, w, neighbours, count)
    return (y, mean, m2), ((x, w, neighbours, wanted), (y, mean, count))


def _gather_gemm_moments_backward(saved: Any, cotangents: Any) -> tuple[Any, ...]:
    product, (y, mean, count) = saved
    dy, dmean, dm2 = cotangents
    # Batch norm accounts for the moments in its own derivative: then these are symbolic zeros.
    if not (isinstance(dmean, SymbolicZero) and isinstance(dm2, SymbolicZero)):
        dy, dmean, dm2 = (_instantiated(d) for d in cotangents)
        valid = jnp.clip(count, 0, y.shape[0])
        share = dmean / jnp.maximum(valid, 1).astype(jnp.float32)
        through = share[None] + 2.0 * (y.astype(jnp.float32) - mean[None]) * dm2[None]
        row = jnp.arange(y.shape[0], dtype=jnp.int32)[:, None]
        dy = (dy.astype(jnp.float32) + jnp.where(row < valid, through, 0.0)).astype(y.dtype)
    return *_gather_gemm_backward(product, dy), None


def _instantiated(cotangent: Any) -> jax.Array:
    if isinstance(cotangent, SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


gather_gemm_moments.defvjp(
    _gather_gemm_moments_forward, _gather_gemm_moments_backward, symbolic_zeros=True
)


@with_gradient(nondiff_argnums=(8,))
def gather_gemm_affine(
    x: jax.Array,
    w: jax.Array,
    neighbours: NeighbourMap,
    mean: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    count: jax.Array,
    relu: bool,
) -> jax.Array:
    """`affine_rows(gather_gemm(x, w, neighbours), mean, scale, bias, shortcut, count, relu)`.

    A convolution with the batch norm of inference, in one op: the sums of a block of rows are
    finished while they are in cache, and are rounded once. Where a gradient is asked for, the two
    ops run one after the other.

    Args:
        x: as in `gather_gemm`, and so `w` and `neighbours`.
        w: see above.
        neighbours: see above.
        mean: as in `affine_rows`, and so all that follow.
        scale: see above.
        bias: see above.
        shortcut: see above.
        count: see above.
        relu: see above.

    Returns:
        [N_out, C_out] in the dtype of `x`, zero past `count`.

    """
    _check_factors(x, w, neighbours)
    w = w.astype(x.dtype)
    result = jax.ShapeDtypeStruct((neighbours.forward.shape[1], w.shape[2]), x.dtype)
    vectors = {"mean": mean, "scale": scale, "bias": bias}
    check_rows("gather_gemm_affine", {"x": result, "shortcut": shortcut}, vectors, count)
    operands = (x, w, neighbours.forward, neighbours.schedule, mean, scale, bias, shortcut, count)
    how = {"relu": relu, "precision": current_precision()}
    return dispatch.run("gather_gemm_affine", *operands, **how)


def _gather_gemm_affine_forward(*arguments: Any) -> tuple[jax.Array, Any]:
    x, w, neighbours, mean, scale, bias, shortcut, count, relu = arguments

    def one_after_the_other(
        x: Any, w: Any, mean: Any, scale: Any, bias: Any, shortcut: Any
    ) -> jax.Array:
        y = gather_gemm(x, w, neighbours)
        return affine_rows(y, mean, scale, bias, shortcut, count, relu)

    y, pull = jax.vjp(one_after_the_other, x, w, mean, scale, bias, shortcut)
    return y, (pull, neighbours, count)


def _gather_gemm_affine_backward(_: bool, saved: Any, dy: jax.Array) -> tuple[Any, ...]:
    pull, neighbours, count = saved
    dx, dw, *rest = pull(dy)
    no_gradient = jax.tree.map(_no_gradient, neighbours)
    return dx, dw, no_gradient, *rest, _no_gradient(count)


gather_gemm_affine.defvjp(_gather_gemm_affine_forward, _gather_gemm_affine_backward)


def gather_gemm_dw(x: jax.Array, dy: jax.Array, neighbours: NeighbourMap) -> jax.Array:
    """Weight gradient of `gather_gemm`: `dw[k] = sum_n x[neighbours.forward[k, n]]^T dy[n]`.

    Args:
        x: [N_in, C_in].
        dy: [N_out, C_out], the dtype of `x`.
        neighbours: forward int32 [K, N_out].

    Returns:
        float32 [K, C_in, C_out].

    """
    operands = (x, dy, neighbours.forward, neighbours.schedule)
    return dispatch.run("gather_gemm_dw", *operands, precision=current_precision())


def gather_gemm_gradients(
    x: jax.Array, w: jax.Array, dy: jax.Array, neighbours: NeighbourMap
) -> tuple[jax.Array, jax.Array]:
    """Both gradients of `gather_gemm`.

    Args:
        x: [N_in, C_in].
        w: [K, C_in, C_out], the dtype of `x` or float32.
        dy: [N_out, C_out], the dtype of `x`.
        neighbours: forward int32 [K, N_out], with its transpose or mirrored.

    Returns:
        dx [N_in, C_in] in the dtype of `x`, and dw float32 [K, C_in, C_out].

    Raises:
        ValueError: a map that is neither mirrored nor has its transpose.

    """
    back, back_schedule, mirrored = _back(x, neighbours)
    operands = (x, w.astype(x.dtype), dy, neighbours.forward, neighbours.schedule)
    how = {"mirrored": mirrored, "precision": current_precision()}
    return dispatch.run("gather_gemm_gradients", *operands, back, back_schedule, **how)


@with_gradient()
def multiply_rows(x: jax.Array, w: jax.Array, count: jax.Array) -> jax.Array:
    """`y[n] = x[n] @ w` for the first `count` rows, zero past them: a convolution of size 1.

    Args:
        x: float32 or bfloat16 [N, C_in]; rows past `count` are not looked at.
        w: [C_in, C_out], the dtype of `x`; or float32, as in `gather_gemm`.
        count: int32 scalar.

    Returns:
        [N, C_out] in the dtype of `x`, summed in float32. Of weights that are not finite, see
        `gather_gemm`: rows past `count` may be NaN then.

    Raises:
        ValueError: `x` and `w` do not fit together.

    """
    if w.ndim != 2:
        raise ValueError(f"multiply_rows: w is {w.dtype}{list(w.shape)}, expected [C_in, C_out]")
    _check_factors(x, w[None], None)
    how = {"transposed": False, "precision": current_precision()}
    return dispatch.run("multiply_rows", x, w.astype(x.dtype), count, **how)


def _multiply_rows_forward(x: Any, w: Any, count: Any) -> tuple[jax.Array, Any]:
    wanted = _Wanted.of(x, w)
    x, w, count = custom_vjp_primal_tree_values((x, w, count))
    return multiply_rows(x, w, count), (x, w, count, wanted)


def _multiply_rows_backward(saved: Any, dy: Any) -> tuple[Any, Any, None]:
    x, w, count, wanted = saved
    dx = dw = None
    if not isinstance(dy, SymbolicZero):
        read, precision = w.astype(x.dtype), {"precision": current_precision()}
        if wanted.dx and wanted.dw:
            dx, dw = dispatch.run("multiply_rows_gradients", x, read, dy, count, **precision)
        elif wanted.dx:
            dx = dispatch.run("multiply_rows", dy, read, count, transposed=True, **precision)
        elif wanted.dw:
            dw = dispatch.run("multiply_rows_dw", x, dy, count, **precision)
    return dx, None if dw is None else dw.astype(w.dtype), None


multiply_rows.defvjp(_multiply_rows_forward, _multiply_rows_backward, symbolic_zeros=True)


@with_gradient(nondiff_argnums=(1,))
def rounded_weights(w: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`w` rounded to what `dtype` can hold, with the gradient of `w` unrounded.

    For products of bfloat16 numbers that are wanted in float32: automatic differentiation would
    round the gradient as well.

    Args:
        w: float32, any shape.
        dtype: float32 or bfloat16.

    Returns:
        float32, the shape of `w`.

    """
    if jnp.dtype(dtype) == w.dtype:
        return w
    finfo = jnp.finfo(dtype)
    # Not a cast there and back, which XLA may leave out.
    return jax.lax.reduce_precision(w, finfo.nexp, finfo.nmant)


rounded_weights.defvjp(
    lambda w, dtype: (rounded_weights(w, dtype), None), lambda dtype, _, dw: (dw,)
)


def identity_map(rows: int, count: jax.Array) -> NeighbourMap:
    """The map of a convolution of size 1: each of the first `count` of `rows` rows sees itself."""
    return NeighbourMap(identity_rows(rows, count), mirrored=True)


@with_gradient()
def unit_rows(x: jax.Array, count: jax.Array) -> jax.Array:
    """Divide the first `count` rows by their L2 norm.

    Args:
        x: float32 [N, C].
        count: int32 scalar.

    Returns:
        float32 [N, C]. Rows shorter than 1e-12 and rows past `count` are zero, and so is their
        gradient. Rows whose length is no finite float32 (an element is infinite or not a number, or
        the sum of squares overflows) have no direction: they and their gradient are NaN, so that a
        run that diverges is noticed.

    Raises:
        ValueError: `x` has another shape or dtype.

    """
    if x.ndim != 2 or x.dtype != jnp.float32:
        raise ValueError(f"unit_rows: x is {x.dtype}{list(x.shape)}, expected float32 [N, C]")
    return dispatch.run("unit_rows", x, count)[0]


def _unit_rows_forward(x: jax.Array, count: jax.Array) -> tuple[jax.Array, Any]:
    y, inverse = dispatch.run("unit_rows", x, count)
    return y, (y, inverse, count)


def _unit_rows_backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, Any]:
    y, inverse, count = saved
    return dispatch.run("unit_rows_gradient", dy, y, inverse, count), _no_gradient(count)


unit_rows.defvjp(_unit_rows_forward, _unit_rows_backward)


def _gather(x: jax.Array, index: jax.Array) -> jax.Array:
    return dispatch.run("gather_rows", x, index)


def _gather_scatter(
    x: jax.Array, source: jax.Array | None, target: jax.Array, num_rows: int
) -> jax.Array:
    return dispatch.run("gather_scatter_rows", x, source, target, num_rows=num_rows)


@with_gradient()
def gather_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """`y[m] = x[index[m]]`, a zero row where the index is -1.

    Args:
        x: float32 or bfloat16 [N, C].
        index: int32 [M]. The `cpu` backend raises on other negative or too large values.

    Returns:
        [M, C]; its gradient is `scatter_add_rows`.

    """
    return _gather(x, index)


def _gather_rows_backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, Any]:
    index, num_rows = saved
    return _gather_scatter(dy, None, index, num_rows), _no_gradient(index)


gather_rows.defvjp(
    lambda x, index: (gather_rows(x, index), (index, x.shape[0])), _gather_rows_backward
)


@with_gradient(nondiff_argnums=(2,))
def scatter_add_rows(x: jax.Array, index: jax.Array, num_rows: int) -> jax.Array:
    """`y[index[m]] += x[m]`, rows with index -1 dropped.

    Each output row is summed in float32 in the order of m: bit-identical from run to run.

    Args:
        x: float32 or bfloat16 [M, C].
        index: int32 [M], -1 or below `num_rows`.
        num_rows: static number of output rows.

    Returns:
        [num_rows, C]; its gradient is `gather_rows`.

    """
    return _gather_scatter(x, None, index, num_rows)


scatter_add_rows.defvjp(
    lambda x, index, num_rows: (scatter_add_rows(x, index, num_rows), index),
    lambda _, index, dy: (_gather(dy, index), _no_gradient(index)),
)


@with_gradient(nondiff_argnums=(3,))
def gather_scatter_rows(
    x: jax.Array, source: jax.Array, target: jax.Array, num_rows: int
) -> jax.Array:
    """`y[target[m]] += x[source[m]]`: gather and scatter-add without the [M, C] rows between.

    Args:
        x: float32 or bfloat16 [N, C].
        source: int32 [M], -1 or below N.
        target: int32 [M], -1 or below `num_rows`; a pair with either -1 is left out.
        num_rows: static number of output rows.

    Returns:
        [num_rows, C]; its gradient is the same op with source and target exchanged.

    """
    return _gather_scatter(x, source, target, num_rows)


def _gather_scatter_backward(_: int, saved: Any, dy: jax.Array) -> tuple[jax.Array, Any, Any]:
    source, target, rows_in = saved
    dx = _gather_scatter(dy, target, source, rows_in)
    return dx, _no_gradient(source), _no_gradient(target)


gather_scatter_rows.defvjp(
    lambda x, source, target, num_rows: (
        gather_scatter_rows(x, source, target, num_rows),
        (source, target, x.shape[0]),
    ),
    _gather_scatter_backward,
)
