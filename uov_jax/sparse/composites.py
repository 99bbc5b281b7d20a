"""Ops that a backend composes of its others, unless it has something faster.

`own(op)` is the backend's function of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax.sparse.xla import COORDINATE_LIMIT

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
    own: Own, x: Any, w: Any, forward: Any, schedule: Any, *norm: Any, relu: bool, precision: str
) -> Any:
    """The convolution, then the norm."""
    y = own("gather_gemm")(
        x, w, forward, schedule, transposed=False, mirrored=False, precision=precision
    )
    return own("affine_rows")(y, *norm, relu=relu)


def multiply_rows_gradients(
    own: Own, x: Any, w: Any, dy: Any, count: Any, *, precision: str
) -> Any:
    """One gradient after the other."""
    dx = own("multiply_rows")(dy, w, count, transposed=True, precision=precision)
    return dx, own("multiply_rows_dw")(x, dy, count, precision=precision)


def voxelize(
    own: Own,
    points: Any,
    count: Any,
    *,
    voxel_size: tuple[float, float, float],
    cylindrical: bool,
) -> Any:
    """By a stable sort of the points by their voxels."""
    del own
    n = points.shape[0]
    x, y, z = points.T
    if cylindrical:
        x, y = jnp.sqrt(x * x + y * y), jnp.arctan2(y, x) * np.float32(180) / np.float32(np.pi)
    cells = jnp.floor(jnp.stack([x, y, z]) / jnp.asarray(voxel_size, jnp.float32)[:, None])
    row = jnp.arange(n, dtype=jnp.int32)
    valid = row < count
    legal = jnp.all(jnp.abs(cells) <= COORDINATE_LIMIT, axis=0)  # of a NaN nothing is
    refused = jnp.any(valid & ~legal) | (count < 0) | (count > n)
    cells = jnp.where(legal & valid, cells, 0).astype(jnp.int32)
    order = jnp.lexsort((*cells[::-1], ~valid)).astype(jnp.int32)
    sorted_cells = cells[:, order]
    begins = jnp.any(sorted_cells != jnp.roll(sorted_cells, 1, axis=1), axis=0) | (row == 0)
    # Of every point the first in its voxel, which has the lowest row of the stretch.
    first_of = jnp.zeros(n, jnp.int32)
    first_of = first_of.at[order].set(order[jax.lax.cummax(jnp.where(begins, row, 0))])
    is_first = valid & (first_of == row)
    numbers = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    kept = valid & ~refused
    inverse = jnp.where(kept, numbers[first_of], -1)
    place = jnp.where(is_first & kept, numbers, n)  # beyond: left out
    first = jnp.full(n, -1, jnp.int32).at[place].set(row, mode="drop")
    rows = jnp.pad(cells, ((1, 0), (0, 0))).T[first]
    coords = jnp.where((first >= 0)[:, None], rows, -1)
    voxels = jnp.sum(is_first, dtype=jnp.int32)
    return [coords, first, inverse, jnp.where(refused, np.int32(np.iinfo(np.int32).max), voxels)]


def moving_average(
    own: Own, old: Any, sample: Any, decay: Any, weight: Any, *, squares: bool
) -> Any:
    """As XLA fuses it."""
    del own
    return decay * old + weight * (sample * sample if squares else sample)
