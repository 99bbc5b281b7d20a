"""The moving averages of an optimiser's state, in the memory of the old ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from uov_jax.sparse import current_backend


def moving_average(
    old: jax.Array,
    sample: jax.Array,
    decay: ArrayLike,
    weight: ArrayLike,
    *,
    squares: bool = False,
) -> jax.Array:
    """`decay * old + weight * sample`, or of the squares of the samples.

    On the `cpu` backend it is one op: XLA would work the average out anew for each of its uses, and
    to do so would copy an old state whose memory the new one takes.

    Args:
        old: float32.
        sample: float32 of the same shape.
        decay: number.
        weight: number.
        squares: whether the samples are squared first.

    """
    if current_backend() == "cpu":
        call = jax.ffi.ffi_call(
            "uov_moving_average",
            jax.ShapeDtypeStruct(old.shape, old.dtype),
            vmap_method="sequential",
            input_output_aliases={0: 0},
        )
        numbers = (jnp.asarray(number, jnp.float32) for number in (decay, weight))
        return call(old, sample, *numbers, squares=squares)
    value = sample * sample if squares else sample
    return jnp.asarray(decay * old + weight * value)
