"""Means over the rows of all devices, of which each sees its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def over_devices(value: jax.Array, axis_name: str | None) -> jax.Array:
    """The sum of a device's value over the devices of `axis_name`; the value itself for None."""
    alone = axis_name is None or lax.axis_size(axis_name) == 1
    return value if alone else lax.psum(value, axis_name)


def share_of_mean(
    total: jax.Array, count: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """What one device adds to the mean over the rows of all devices.

    Rows count alike on whichever device they are: a device with few of them has little weight, one
    without any has none.

    Args:
        total: float32, the sum over the device's rows.
        count: float32, how many rows that is; it has no gradient.
        axis_name: of the devices; None for one alone.

    Returns:
        A number whose mean over the devices is the mean over all rows, gradient included, 0 where
        there is no row; and the number of all rows.

    """
    rows = over_devices(count, axis_name)
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    return total * devices / jnp.maximum(rows, 1.0), rows
