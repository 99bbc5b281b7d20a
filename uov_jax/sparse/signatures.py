"""What every backend offers: a function of each of these names, with these arguments and results.

The functions here say the shapes of the results; what they mean, `ops.py`, `norm.py` and `plan.py`
say. Arguments have been checked by those. A backend may leave out those of `composites.py`, which
are then composed of its others.

Rows are float32 or bfloat16 [N, C]; maps int32 [K, N_out] with -1 for no neighbour; `schedule` is
what the op `schedule` of the same backend made of the map, or None. `precision` is "float32",
"tf32" or "bfloat16": what a GPU or TPU may round factors to in products of float32 rows; sums are
float32 always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Shape = jax.ShapeDtypeStruct


def schedule(forward: Any, *, backend: str, shapes: Sequence[Sequence[int]]) -> list[Shape]:
    """What `backend` wants to know of a map; other backends never see it.

    One that wants something has, beside this function, `schedule_shapes(shape of the map)`.
    """
    del forward, backend
    return [Shape(tuple(shape), jnp.int32) for shape in shapes]


def gather_gemm(
    x: Any, w: Any, forward: Any, schedule: Any, *, transposed: bool, mirrored: bool, precision: str
) -> Shape:
    """`y[n] = sum_k x[forward[k, n]] @ w[k]`.

    With `transposed`, w is [K, C_out, C_in] and its matrices are read transposed; with `mirrored`,
    slot k takes the matrix K - 1 - k.
    """
    del schedule, mirrored, precision
    return _rows(forward.shape[1], w.shape[1 if transposed else 2], x.dtype)


def gather_gemm_dw(x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str) -> Shape:
    """`dw[k] = sum_n x[forward[k, n]]^T dy[n]`, float32 [K, C_in, C_out]."""
    del schedule, precision
    return Shape((forward.shape[0], x.shape[1], dy.shape[1]), jnp.float32)


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
) -> list[Shape]:
    """Both gradients of `gather_gemm`; with `mirrored`, `back` is `forward`."""
    del dy, forward, schedule, back, back_schedule, mirrored, precision
    return [Shape(x.shape, x.dtype), Shape(w.shape, jnp.float32)]


def gather_gemm_moments(
    x: Any, w: Any, forward: Any, schedule: Any, count: Any, *, precision: str
) -> list[Shape]:
    """`gather_gemm` and the `column_moments` of its result."""
    del schedule, count, precision
    channels = Shape(w.shape[2:], jnp.float32)
    return [_rows(forward.shape[1], w.shape[2], x.dtype), channels, channels]


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
) -> Shape:
    """`affine_rows` of `gather_gemm`."""
    del schedule, mean, scale, bias, shortcut, count, relu, precision
    return _rows(forward.shape[1], w.shape[2], x.dtype)


def multiply_rows(x: Any, w: Any, count: Any, *, transposed: bool, precision: str) -> Shape:
    """`x[n] @ w`, or `x[n] @ w^T`, of the first `count` rows; zero past them."""
    del count, precision
    return _rows(x.shape[0], w.shape[0 if transposed else 1], x.dtype)


def multiply_rows_dw(x: Any, dy: Any, count: Any, *, precision: str) -> Shape:
    """`sum_n x[n]^T dy[n]` over the first `count` rows, float32 [C_in, C_out]."""
    del count, precision
    return Shape((x.shape[1], dy.shape[1]), jnp.float32)


def multiply_rows_gradients(x: Any, w: Any, dy: Any, count: Any, *, precision: str) -> list[Shape]:
    """Both gradients of `multiply_rows` with `w` as stored."""
    del dy, count, precision
    return [Shape(x.shape, x.dtype), Shape(w.shape, jnp.float32)]


def gather_rows(x: Any, index: Any) -> Shape:
    """`x[index]`, a zero row where the index is -1."""
    return _rows(index.shape[0], x.shape[1], x.dtype)


def gather_scatter_rows(x: Any, source: Any, target: Any, *, num_rows: int) -> Shape:
    """`y[target[m]] += x[source[m]]`; `source` None: `x[m]`. Pairs with a -1 are left out."""
    del source, target
    return _rows(num_rows, x.shape[1], x.dtype)


def unit_rows(x: Any, count: Any) -> list[Shape]:
    """Rows divided by their length, and the inverse lengths float32 [N]."""
    del count
    return [Shape(x.shape, jnp.float32), Shape(x.shape[:1], jnp.float32)]


def unit_rows_gradient(dy: Any, y: Any, inverse: Any, count: Any) -> Shape:
    """`(dy - y (y . dy)) * inverse`."""
    del dy, inverse, count
    return Shape(y.shape, jnp.float32)


def column_moments(x: Any, count: Any) -> list[Shape]:
    """Mean, and sum of squared deviations from it, float32 [C]."""
    del count
    return [Shape(x.shape[1:], jnp.float32)] * 2


def affine_rows(
    x: Any, mean: Any, scale: Any, bias: Any, shortcut: Any, count: Any, *, relu: bool
) -> Shape:
    """`[relu]((x - mean) * scale + bias [+ shortcut])`."""
    del mean, scale, bias, shortcut, count, relu
    return Shape(x.shape, x.dtype)


def affine_gradient_sums(dy: Any, y: Any, x: Any, mean: Any, count: Any) -> list[Shape]:
    """Sums of g and of `g * (x - mean)`, float32 [C]; `y` None: there was no ReLU."""
    del dy, y, mean, count
    return [Shape(x.shape[1:], jnp.float32)] * 2


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
) -> list[Shape]:
    """`(g - offset - (x - mean) * slope) * scale`, and with `has_shortcut` g."""
    del dy, y, mean, offset, slope, scale, count
    return [Shape(x.shape, x.dtype)] * (2 if has_shortcut else 1)


def submanifold_map(
    coords: Any, count: Any, *, kernel: int, tensor_stride: int, dilation: int
) -> Shape:
    """int32 [kernel^3, N]: the row at each offset, or -1."""
    del count, tensor_stride, dilation
    return Shape((kernel**3, coords.shape[0]), jnp.int32)


def plan(
    coords: Any, count: Any, *, capacities: Sequence[int], first_kernel_5: bool
) -> list[Shape]:
    """All maps and levels: the 3x3x3 maps of every level, the 5x5x5 map of level 0 if asked for.

    Then, for each step to a coarser level, its map, the transpose and the coarser coordinates; at
    last the counts int32 [levels].
    """
    del coords, count
    shapes = [(27, rows) for rows in capacities]
    shapes += [(125, capacities[0])] if first_kernel_5 else []
    for fine, coarse in zip(capacities, capacities[1:], strict=False):
        shapes += [(8, coarse), (8, fine), (coarse, 4)]
    return [Shape(shape, jnp.int32) for shape in [*shapes, (len(capacities),)]]


def voxelize(
    points: Any, count: Any, *, voxel_size: tuple[float, float, float], cylindrical: bool
) -> list[Shape]:
    """Coordinates int32 [N, 4] and first points [N] of the voxels, -1 past the last of them.

    Then the voxel of every point [N], -1 from `count` on, and how many voxels there are []. Where a
    point has no voxel, all are -1 and there are INT32_MAX.
    """
    del count, voxel_size, cylindrical
    rows = points.shape[0]
    return [Shape(shape, jnp.int32) for shape in ((rows, 4), (rows,), (rows,), ())]


def moving_average(old: Any, sample: Any, decay: Any, weight: Any, *, squares: bool) -> Shape:
    """`decay * old + weight * sample`, or of the squares of the samples; any shape, float32."""
    del sample, decay, weight, squares
    return Shape(old.shape, old.dtype)


def _rows(rows: int, channels: int, dtype: Any) -> Shape:
    return Shape((rows, channels), dtype)
