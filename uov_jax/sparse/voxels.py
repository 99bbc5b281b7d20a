"""Points to voxels inside `jit`: on a GPU a sweep goes from points to labels without the host."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax.sparse import dispatch


class VoxelRows(NamedTuple):
    """Voxels of one cloud of at most N points, in order of first occurrence."""

    coords: jax.Array
    """int32 [N, 4]: (0, x, y, z), floor of position / voxel size; -1 past the last voxel."""
    first: jax.Array
    """int32 [N]: the first point in the voxel, -1 past the last voxel."""
    inverse: jax.Array
    """int32 [N]: the voxel of every point, -1 for those that are none."""
    number: jax.Array
    """int32 []: how many voxels; the largest int32 where a point has none, and all else is -1."""


def require_voxel_size(voxel_size: tuple[float, float, float]) -> None:
    """ValueError unless it is three positive numbers of float32."""
    if len(voxel_size) != 3 or not all(
        math.isfinite(size) and np.float32(size) > 0 for size in voxel_size
    ):
        raise ValueError(f"voxel_size must be three positive numbers, not {voxel_size}")


def voxelize_in_jit(
    points: jax.Array,
    count: jax.Array,
    voxel_size: tuple[float, float, float],
    cylindrical: bool,
) -> VoxelRows:
    """Quantise one cloud inside `jit`: what `voxelize` finds on the host.

    `plan_in_jit` takes `coords` and `number`, cut to the rows of its spec; features of voxels are
    `gather_rows(features, first)`, and what is said of voxels is that of points by `inverse`.

    A GPU has a kernel for it, other platforms sort in jax.numpy. A point within rounding of a
    face between two azimuths, and elsewhere than on a GPU between any two voxels, may lie on the
    other side of it than on the host.

    Args:
        points: float32 [N, 3], metres.
        count: int32 []; points from there on are not looked at.
        voxel_size: as `voxelize` takes it; static.
        cylindrical: as there; static.

    Returns:
        The voxels. Nothing can be raised here: where a point is not finite or outside +-65,000
        voxels, or the count is none, there are as many as fit no plan. A GPU tells which by
        `raise_fault`.

    Raises:
        ValueError: an argument has another shape or dtype, or sizes are not positive.

    """
    require_voxel_size(voxel_size)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype != jnp.float32:
        raise ValueError(f"points must be float32 [N, 3], not {points.dtype}{list(points.shape)}")
    if jnp.shape(count) != () or jnp.asarray(count).dtype != jnp.int32:
        raise ValueError(f"count must be int32 [], not {jnp.asarray(count).dtype}")
    how = {"voxel_size": tuple(map(float, voxel_size)), "cylindrical": cylindrical}
    return VoxelRows(*dispatch.run("voxelize", points, count, **how))
