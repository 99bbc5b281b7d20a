"""The row operations of batch norm: column moments, the affine map after them, and its gradient.

Rows are [N, C] of which the first `count` are valid. Rows past `count` are padding and are zero in
every result. The `cpu` backend never reads them and goes over memory once per op; the `xla` backend
needs them to be zero in x, as convolutions leave them, where sums are taken.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from uov_jax.sparse import dispatch
from uov_jax.sparse.gradients import with_gradient


def column_moments(x: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of every column over the valid rows, and sum of the squared deviations from it.

    Moments of several devices pool without another look at the rows: the total mean is the mean of
    the means, weighted by rows, and the total sum is that of `m2 + count * (mean - total mean)^2`.

    Args:
        x: float32 or bfloat16 [N, C].
        count: int32 [], valid rows.

    Returns:
        mean and m2, float32 [C]; both zero without a valid row. Bit-identical from run to run.

    Raises:
        ValueError: an argument has another shape or dtype.

    """
    check_rows("column_moments", {"x": x}, {}, count)
    return dispatch.run("column_moments", x, count)


@with_gradient(nondiff_argnums=(6,))
def affine_rows(
    x: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    count: jax.Array,
    relu: bool,
) -> jax.Array:
    """`[relu]((x - mean) * scale + bias [+ shortcut])` in float32, rounded once at the end.

    Args:
        x: float32 or bfloat16 [N, C].
        mean: float32 [C], as `scale` and `bias`.
        scale: float32 [C].
        bias: float32 [C].
        shortcut: [N, C] in the dtype of `x`, or None. Its padding rows may hold anything.
        count: int32 [], valid rows.
        relu: whether negative results become zero.

    Returns:
        [N, C] in the dtype of `x`; its gradient is the two ops below.

    Raises:
        ValueError: an argument has another shape or dtype.

    """
    check_rows(
        "affine_rows",
        {"x": x, "shortcut": shortcut},
        {"mean": mean, "scale": scale, "bias": bias},
        count,
    )
    return dispatch.run("affine_rows", x, mean, scale, bias, shortcut, count, relu=relu)


def affine_gradient_sums(
    dy: jax.Array, y: jax.Array | None, x: jax.Array, mean: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `bias` and `scale` in `affine_rows`: sums of `g` and of `g * (x - mean)`.

    `g` is what the ReLU lets through: dy where y > 0, else zero; all of dy without a ReLU.

    Args:
        dy: float32 or bfloat16 [N, C], the gradient of the result.
        y: the result, [N, C] in the dtype of `dy`, or None without a ReLU.
        x: [N, C] in the dtype of `dy`.
        mean: float32 [C].
        count: int32 [], valid rows.

    Returns:
        Two float32 [C], summed over the valid rows. Bit-identical from run to run.

    Raises:
        ValueError: an argument has another shape or dtype.

    """
    check_rows("affine_gradient_sums", {"x": x, "dy": dy, "y": y}, {"mean": mean}, count)
    return dispatch.run("affine_gradient_sums", dy, y, x, mean, count)


def affine_gradient_rows(
    dy: jax.Array,
    y: jax.Array | None,
    x: jax.Array,
    mean: jax.Array,
    offset: jax.Array,
    slope: jax.Array,
    scale: jax.Array,
    count: jax.Array,
    has_shortcut: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """`dx = (g - offset - (x - mean) * slope) * scale` and, with a shortcut, `dshortcut = g`.

    `offset` and `slope` stand for what x does through the statistics; they are zero where those are
    constants. `g` as in `affine_gradient_sums`.

    Args:
        dy: float32 or bfloat16 [N, C], the gradient of the result.
        y: the result, [N, C] in the dtype of `dy`, or None without a ReLU.
        x: [N, C] in the dtype of `dy`.
        mean: float32 [C], as `offset`, `slope` and `scale`.
        offset: float32 [C].
        slope: float32 [C].
        scale: float32 [C].
        count: int32 [], valid rows.
        has_shortcut: whether `dshortcut` is wanted.

    Returns:
        dx [N, C] in the dtype of `x`, and dshortcut alike or None.

    Raises:
        ValueError: an argument has another shape or dtype.

    """
    check_rows(
        "affine_gradient_rows",
        {"x": x, "dy": dy, "y": y},
        {"mean": mean, "offset": offset, "slope": slope, "scale": scale},
        count,
    )
    operands = (dy, y, x, mean, offset, slope, scale, count)
    found = dispatch.run("affine_gradient_rows", *operands, has_shortcut=has_shortcut)
    return found if has_shortcut else (found, None)


def _affine_rows_forward(
    x: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    count: jax.Array,
    relu: bool,
) -> tuple[jax.Array, Any]:
    y = affine_rows(x, mean, scale, bias, shortcut, count, relu)
    return y, (x, y if relu else None, mean, scale, shortcut, count)


def _affine_rows_backward(relu: bool, saved: Any, dy: jax.Array) -> tuple[jax.Array | None, ...]:
    x, y, mean, scale, shortcut, count = saved
    dbias, dscale = affine_gradient_sums(dy, y, x, mean, count)
    zero = jnp.zeros_like(mean)
    dx, dshortcut = affine_gradient_rows(
        dy, y, x, mean, zero, zero, scale, count, shortcut is not None
    )
    return dx, -dbias * scale, dscale, dbias, dshortcut, None


affine_rows.defvjp(_affine_rows_forward, _affine_rows_backward)


def check_rows(
    op: str,
    rows: dict[str, jax.Array | jax.ShapeDtypeStruct | None],
    vectors: dict[str, jax.Array],
    count: jax.Array,
) -> None:
    """Refuse rows unlike `x`, the first of them, and other arguments that do not fit it.

    Raises:
        ValueError: names the op, the argument, what it is and what was expected.

    """
    x = rows["x"]
    assert x is not None
    if x.ndim != 2 or x.dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"{op}: x is {_named(x)}, expected float32 or bfloat16 [N, C]")
    expected: list[tuple[str, Any, tuple[int, ...], Any]] = [
        *((name, value, x.shape, x.dtype) for name, value in rows.items()),
        *((name, value, x.shape[1:], jnp.dtype(jnp.float32)) for name, value in vectors.items()),
        ("count", count, (), jnp.dtype(jnp.int32)),
    ]
    for name, value, shape, dtype in expected:
        if value is not None and (value.shape != shape or value.dtype != dtype):
            raise ValueError(
                f"{op}: {name} is {_named(value)}, expected {dtype}{list(shape)} "
                f"to fit x {_named(x)}"
            )


def _named(value: jax.Array | jax.ShapeDtypeStruct) -> str:
    return f"{value.dtype}{list(value.shape)}"
