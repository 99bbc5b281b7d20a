"""Rows of several devices in one term: means over all, and terms that need them in one place."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Tree = TypeVar("Tree")


def num_devices(axis_name: str | None) -> int:
    """How many devices the axis has; 1 for None."""
    return 1 if axis_name is None else int(lax.axis_size(axis_name))


def over_devices(value: jax.Array, axis_name: str | None) -> jax.Array:
    """The sum of a device's value over the devices of `axis_name`; the value itself for None."""
    return value if num_devices(axis_name) == 1 else lax.psum(value, axis_name)


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
    return total * num_devices(axis_name) / jnp.maximum(rows, 1.0), rows


def gather_rows(tree: Tree, axis_name: str | None, devices: int, axis: int = 0) -> Tree:
    """The rows of arrays on `devices` devices next to each other, one device's after another's.

    Each of them gets all. They then compute the same term, and the gradient of a device's own rows
    is the sum of what all of them say of these: a mean over all devices is the mean over the terms.

    Args:
        tree: arrays [..., N, ...] of equal shapes on all devices.
        axis_name: of the devices, whose number `devices` divides; None for one alone.
        devices: how many share a term; 1 changes nothing.
        axis: of the rows.

    Returns:
        [..., devices * N, ...] each.

    """
    if devices == 1:
        return tree
    total = num_devices(axis_name)
    groups = [list(range(first, first + devices)) for first in range(0, total, devices)]

    def gather(array: jax.Array) -> jax.Array:
        return lax.all_gather(array, axis_name, axis=axis, tiled=True, axis_index_groups=groups)

    return jax.tree.map(gather, tree)
