"""The op of an optimiser's state, in the memory of the old one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from uov_jax.sparse import dispatch


def moving_average(
    old: jax.Array,
    sample: jax.Array,
    decay: ArrayLike,
    weight: ArrayLike,
    *,
    squares: bool = False,
) -> jax.Array:
    """`decay * old + weight * sample`, or of the squares of the samples.

    Args:
        old: float32; the `cpu` backend writes the result into its memory where it may.
        sample: float32 of the same shape.
        decay: number.
        weight: number.
        squares: whether the samples are squared first.

    """
    numbers = (jnp.asarray(number, jnp.float32) for number in (decay, weight))
    result: jax.Array = dispatch.run("moving_average", old, sample, *numbers, squares=squares)
    return result
