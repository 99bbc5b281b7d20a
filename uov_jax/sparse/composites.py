"""Ops that a backend composes of its others, unless it has something faster.

`own(op)` is the backend's function of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

Own = Callable[[str], Callable[..., Any]]


def schedule(own: Own, forward: Any, *, backend: str, shapes: Sequence[Sequence[int]]) -> Any:
    """Nothing: another backend asked for it."""
    del own, forward, backend
    return [jnp.zeros(shape, jnp.int32) for shape in shapes]


def gather_gemm_gradients(
    own: Own,
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
    """One gradient after the other."""
    dx = own("gather_gemm")(
        dy, w, back, back_schedule, transposed=True, mirrored=mirrored, precision=precision
    )
    return dx, own("gather_gemm_dw")(x, dy, forward, schedule, precision=precision)


def gather_gemm_moments(
    own: Own, x: Any, w: Any, forward: Any, schedule: Any, count: Any, *, precision: str
) -> Any:
    """The convolution, then another look at its result."""
    y = own("gather_gemm")(
        x, w, forward, schedule, transposed=False, mirrored=False, precision=precision
    )
    return y, *own("column_moments")(y, count)


def gather_gemm_affine(
    own: Own,
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
    """The convolution, then the norm."""
    y = own("gather_gemm")(
        x, w, forward, schedule, transposed=False, mirrored=False, precision=precision
    )
    return own("affine_rows")(y, mean, scale, bias, shortcut, count, relu=relu)


def multiply_rows_gradients(
    own: Own, x: Any, w: Any, dy: Any, count: Any, *, precision: str
) -> Any:
    """One gradient after the other."""
    dx = own("multiply_rows")(dy, w, count, transposed=True, precision=precision)
    return dx, own("multiply_rows_dw")(x, dy, count, precision=precision)


def moving_average(
    own: Own, old: Any, sample: Any, decay: Any, weight: Any, *, squares: bool
) -> Any:
    """As XLA fuses it."""
    del own
    return decay * old + weight * (sample * sample if squares else sample)
