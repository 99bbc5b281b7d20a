"""The `xla` backend: the sparse ops in `jax.numpy` and `lax` alone, for any platform.

Nothing can be raised here: plans of illegal coordinates fit no capacity, and other bad numbers are
clipped or left out. `xla_parallel.py` has the convolutions of platforms that are no CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Rows of features that are shorter than this have no direction.
SHORTEST_ROW = 1e-12
# Legal coordinates, as in csrc/core/coordinates.h: every backend refuses the same ones.
COORDINATE_LIMIT = 65_000
BATCH_LIMIT = 4096


def take_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """`x[index]` [M, C], a zero row where the index is -1."""
    rows = jnp.take(x, jnp.maximum(index, 0), axis=0, mode="clip")
    return jnp.where((index >= 0)[:, None], rows, jnp.zeros((), x.dtype))


# Pairs of one offset that are multiplied together. More of them keep a wide machine busy; fewer
# leave less of each offset's last chunk empty.
CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """The existing neighbours of a map in chunks of one offset each, as many as there are.

    A map has room for 27 neighbours a voxel, of which 3 to 10 exist. Their number is not static,
    but a loop may end when they are done, so that the others cost nothing but a place in an index.
    """

    rows: jax.Array
    """int32 [K, N_out]: of every offset the output rows with a neighbour, in order, then -1s."""
    number: jax.Array
    """int32 [K]: chunks of every offset."""
    end: jax.Array
    """int32 [K]: chunks of all offsets up to this one."""
    size: int

    @classmethod
    def of(cls, forward: jax.Array) -> _Chunks:
        """The chunks of a map int32 [K, N_out]."""
        exists = forward >= 0
        size = max(1, min(CHUNK, forward.shape[1]))
        offsets, num_rows = forward.shape
        position = jnp.cumsum(exists, axis=1, dtype=jnp.int32)
        offset = jnp.arange(offsets, dtype=jnp.int32)[:, None]
        place = jnp.where(exists, position - 1, num_rows)
        row = jnp.broadcast_to(jnp.arange(num_rows, dtype=jnp.int32), forward.shape)
        rows = jnp.full(forward.shape, -1, jnp.int32).at[offset, place].set(row, mode="drop")
        number = (position[:, -1] + size - 1) // size
        return cls(rows, number, jnp.cumsum(number, dtype=jnp.int32), size)

    def fold(
        self,
        body: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
        start: jax.Array,
    ) -> jax.Array:
        """`body(total, k, rows)` over all chunks; `rows` int32 [size] ends with -1s."""
        here = jnp.arange(self.size, dtype=jnp.int32)
        num_rows = self.rows.shape[1]

        def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            i, total = state
            k = jnp.searchsorted(self.end, i, side="right").astype(jnp.int32)
            place = (i - self.end[k] + self.number[k]) * self.size + here
            rows = self.rows[k, jnp.minimum(place, num_rows - 1)]
            return i + 1, body(total, k, jnp.where(place < num_rows, rows, -1))

        last = self.end[-1]
        return lax.while_loop(lambda state: state[0] < last, step, (jnp.int32(0), start))[1]


def gather_gemm(
    x: jax.Array,
    w: jax.Array,
    forward: jax.Array,
    schedule: Any,
    *,
    transposed: bool,
    mirrored: bool,
    precision: str,
) -> jax.Array:
    """One offset after the other, float32 sums of exact products; see `signatures`."""
    del schedule, precision
    return multiply_pairs(x, read_weights(w, transposed, mirrored), forward)


def read_weights(w: jax.Array, transposed: bool, mirrored: bool) -> jax.Array:
    """Weights [K, C_in, C_out] as `gather_gemm` reads them."""
    w = w[::-1] if mirrored else w
    return w.swapaxes(1, 2) if transposed else w


def multiply_pairs(x: jax.Array, w: jax.Array, forward: jax.Array) -> jax.Array:
    """`y[n] = sum_k x[forward[k, n]] @ w[k]` in a loop over chunks of pairs."""
    num_rows = forward.shape[1]
    start = jnp.zeros((num_rows, w.shape[2]), jnp.float32)
    if 0 in (*forward.shape, *w.shape, x.shape[0]):
        return start.astype(x.dtype)

    def add(y: jax.Array, k: jax.Array, rows: jax.Array) -> jax.Array:
        source = jnp.where(rows >= 0, forward[k, jnp.maximum(rows, 0)], -1)
        part = jnp.matmul(
            take_rows(x, source),
            w[k],
            preferred_element_type=jnp.float32,
            precision=lax.Precision.HIGHEST,
        )
        # Each row is in a chunk once; the places past the last are all different too.
        past = num_rows + jnp.arange(rows.shape[0], dtype=jnp.int32)
        target = jnp.where(rows >= 0, rows, past)
        return y.at[target].add(part, mode="drop", unique_indices=True)

    return _Chunks.of(forward).fold(add, start).astype(x.dtype)


def gather_gemm_dw(
    x: jax.Array, dy: jax.Array, forward: jax.Array, schedule: Any, *, precision: str
) -> jax.Array:
    """See `signatures`."""
    del schedule, precision
    start = jnp.zeros((forward.shape[0], x.shape[1], dy.shape[1]), jnp.float32)
    if 0 in (*forward.shape, *start.shape, x.shape[0]):
        return start

    def add(dw: jax.Array, k: jax.Array, rows: jax.Array) -> jax.Array:
        source = jnp.where(rows >= 0, forward[k, jnp.maximum(rows, 0)], -1)
        part = jnp.matmul(
            take_rows(x, source).T,
            take_rows(dy, rows),
            preferred_element_type=jnp.float32,
            precision=lax.Precision.HIGHEST,
        )
        return dw.at[k].add(part)

    return _Chunks.of(forward).fold(add, start)


def multiply_rows(
    x: jax.Array, w: jax.Array, count: jax.Array, *, transposed: bool, precision: str
) -> jax.Array:
    """A dense product; see `signatures`."""
    del precision
    return product(clean(x, count), w, 1, 1 if transposed else 0).astype(x.dtype)


def multiply_rows_dw(x: jax.Array, dy: jax.Array, count: jax.Array, *, precision: str) -> jax.Array:
    """A dense product; see `signatures`."""
    del precision
    return product(clean(x, count), clean(dy, count), 0, 0)


def clean(x: jax.Array, count: jax.Array) -> jax.Array:
    """Zeros past the first `count` rows."""
    return jnp.where(_valid_rows(x, count), x, jnp.zeros((), x.dtype))


def product(
    a: jax.Array,
    b: jax.Array,
    a_axis: int,
    b_axis: int,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> jax.Array:
    """The matrices' float32 product over one axis of each."""
    return lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((), ())),
        preferred_element_type=jnp.float32,
        precision=precision,
    )


def unit_rows(x: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Valid rows divided by their length, [N, C], and the inverse lengths, [N]."""
    length = jnp.sqrt(jnp.sum(x * x, axis=1))
    # Not `length >= SHORTEST_ROW`: what is not a number must stay so, for a run to notice it.
    used = (jnp.arange(x.shape[0]) < count) & ~(length < SHORTEST_ROW)
    inverse = jnp.where(used, 1.0 / jnp.where(used, length, 1.0), 0.0)
    # A length of infinity must not become an inverse of zero, which would hide it.
    inverse = jnp.where(used & jnp.isinf(length), jnp.nan, inverse)
    return jnp.where(used[:, None], x * inverse[:, None], 0.0), inverse


def unit_rows_gradient(
    dy: jax.Array, y: jax.Array, inverse: jax.Array, count: jax.Array
) -> jax.Array:
    """Adjoint of `unit_rows`; rows past `count` have no inverse."""
    del count
    along = jnp.sum(dy * y, axis=1, keepdims=True)
    return jnp.where((inverse != 0)[:, None], (dy - y * along) * inverse[:, None], 0.0)


def gather_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """See `signatures`."""
    return take_rows(x, index)


def gather_scatter_rows(
    x: jax.Array, source: jax.Array | None, target: jax.Array, *, num_rows: int
) -> jax.Array:
    """See `signatures`."""
    exists = target >= 0 if source is None else (source >= 0) & (target >= 0)
    rows = (x if source is None else take_rows(x, source)).astype(jnp.float32)
    # Negative indices count from the end in jax: send them past the end, where they are dropped.
    index = jnp.where(exists, target, num_rows)
    out = jnp.zeros((num_rows, x.shape[1]), jnp.float32)
    return out.at[index].add(rows, mode="drop").astype(x.dtype)


def column_moments(x: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean over the valid rows and sum of squared deviations, f32 [C]; x must be zero past them."""
    rows = jnp.clip(count, 1, max(1, x.shape[0])).astype(jnp.float32)
    mean = jnp.sum(x.astype(jnp.float32), axis=0) / rows
    # A product, not a select: on the CPU, XLA takes products into its reduction kernels but writes
    # the result of a select to memory first, which makes this 4 times slower.
    mask = _valid_rows(x, count).astype(jnp.float32)
    deviation = _scaled_deviation(x, mean, jnp.ones_like(mean), use=0) * mask
    return mean, jnp.sum(deviation * deviation, axis=0)


def affine_rows(
    x: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    count: jax.Array,
    *,
    relu: bool,
) -> jax.Array:
    """`[relu]((x - mean) * scale + bias [+ shortcut])`; one pass over memory: XLA fuses it all."""
    y = _scaled_deviation(x, mean, scale, use=1) + bias[None, :]
    if shortcut is not None:
        y = y + shortcut.astype(jnp.float32)
    if relu:
        y = jax.nn.relu(y)
    return jnp.where(_valid_rows(x, count), y, 0.0).astype(x.dtype)


def affine_gradient_sums(
    dy: jax.Array, y: jax.Array | None, x: jax.Array, mean: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sums of g and of `g * (x - mean)`, f32 [C]; x must be finite past the valid rows."""
    g = _passed(dy, y, x, count)
    deviation = _scaled_deviation(x, mean, jnp.ones_like(mean), use=2)
    return jnp.sum(g, axis=0), jnp.sum(g * deviation, axis=0)


def affine_gradient_rows(
    dy: jax.Array,
    y: jax.Array | None,
    x: jax.Array,
    mean: jax.Array,
    offset: jax.Array,
    slope: jax.Array,
    scale: jax.Array,
    count: jax.Array,
    *,
    has_shortcut: bool,
) -> tuple[jax.Array, ...]:
    """`(g - offset - (x - mean) * slope) * scale` and, with a shortcut, g, in the dtype of x."""
    g = _passed(dy, y, x, count)
    dx = g - offset[None, :] - _scaled_deviation(x, mean, slope, use=3)
    dx = jnp.where(_valid_rows(x, count), dx * scale[None, :], 0.0)
    return (dx.astype(x.dtype), g.astype(x.dtype))[: 2 if has_shortcut else 1]


def _passed(dy: jax.Array, y: jax.Array | None, x: jax.Array, count: jax.Array) -> jax.Array:
    # Where the ReLU passed nothing, padding rows included, y is exactly zero.
    passed = _valid_rows(x, count) if y is None else y > 0
    return jnp.where(passed, dy.astype(jnp.float32), 0.0)


def _scaled_deviation(x: jax.Array, mean: jax.Array, scale: jax.Array, use: int) -> jax.Array:
    """`(x - mean) * scale`, f32 [N, C], spelled in another way for every `use`.

    If all uses were alike, XLA would find one value in them and hold it in memory from the
    statistics to the backward pass: 40 % more memory for a training step of Res16UNet34C. Powers of
    two are exact, so the uses differ in nothing else.
    """
    factor = 2.0**use
    return (x.astype(jnp.float32) * factor - (mean * factor)[None, :]) * (scale / factor)[None, :]


def _valid_rows(x: jax.Array, count: jax.Array) -> jax.Array:
    return (jnp.arange(x.shape[0], dtype=jnp.int32) < count)[:, None]


class _Sorted:
    """Coordinates in lexicographic order, to be searched; padding rows sort last."""

    def __init__(self, coords: jax.Array, count: jax.Array):
        coords = jnp.asarray(coords)
        rows = jnp.arange(coords.shape[0], dtype=jnp.int32)
        big = jnp.iinfo(jnp.int32).max
        fields = [jnp.where(rows < count, coords[:, axis], big) for axis in range(4)]
        *self.fields, self.rows = lax.sort([*fields, rows], num_keys=4)
        self.count = count

    def legal(self, tensor_stride: int) -> jax.Array:
        """Bool []: the valid coordinates are distinct, in range and multiples of the stride."""
        coords = jnp.stack(self.fields, axis=1)
        batch, spatial = coords[:, 0], coords[:, 1:]
        # What legal coordinates are rounded down to is legal: see coordinates.h.
        smallest = -COORDINATE_LIMIT // tensor_stride * tensor_stride
        inside = (spatial >= smallest) & (spatial <= COORDINATE_LIMIT)
        inside &= spatial % tensor_stride == 0
        good = (batch >= 0) & (batch < BATCH_LIMIT) & jnp.all(inside, axis=1)
        valid = jnp.arange(coords.shape[0], dtype=jnp.int32) < self.count
        duplicate = jnp.all(coords[1:] == coords[:-1], axis=1) & valid[1:]
        return jnp.all(good | ~valid) & ~jnp.any(duplicate)

    def find(self, query: jax.Array) -> jax.Array:
        """Row number of each [M, 4] query coordinate, or -1: a vectorised binary search.

        64-bit keys would need JAX's global x64 switch, so fields are compared one by one.
        """
        size = self.rows.shape[0]
        low = jnp.zeros(query.shape[0], jnp.int32)
        for bit in reversed(range(size.bit_length())):
            probe = low + (1 << bit)
            at = jnp.minimum(probe, size) - 1
            low = jnp.where((probe <= size) & self._not_greater(at, query), probe, low)
        at = jnp.maximum(low - 1, 0)
        equal = functools.reduce(
            jnp.logical_and, [f[at] == query[:, axis] for axis, f in enumerate(self.fields)]
        )
        return jnp.where(equal & (low > 0) & (at < self.count), self.rows[at], -1)

    def _not_greater(self, at: jax.Array, query: jax.Array) -> jax.Array:
        result = jnp.ones(query.shape[0], bool)
        for axis in reversed(range(4)):
            value = self.fields[axis][at]
            wanted = query[:, axis]
            result = (value < wanted) | ((value == wanted) & result)
        return result


def kernel_offsets(kernel: int) -> list[tuple[int, int, int]]:
    """Offsets (dx, dy, dz) in the order of the kernel index: x is the fastest axis."""
    steps = range(-(kernel // 2), kernel // 2 + 1) if kernel % 2 else range(kernel)
    return [(dx, dy, dz) for dz, dy, dx in itertools.product(steps, steps, steps)]


def submanifold_map(
    coords: jax.Array, count: jax.Array, *, kernel: int, tensor_stride: int, dilation: int
) -> jax.Array:
    """int32 [kernel^3, N]: the row at `coords + offset * tensor_stride * dilation`, or -1.

    It is -1 throughout where a coordinate is illegal: nothing can be raised here.
    """
    table = _Sorted(coords, count)
    legal = table.legal(tensor_stride)
    valid = (jnp.arange(coords.shape[0]) < count) & legal
    step = tensor_stride * dilation
    offsets = jnp.asarray([(0, *o) for o in kernel_offsets(kernel)], jnp.int32) * step

    def one(offset: jax.Array) -> jax.Array:
        return jnp.where(valid, table.find(coords + offset[None, :]), -1)

    return lax.map(one, offsets)


def _coarsen(
    coords: jax.Array, count: jax.Array, stride: int, capacity: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Coarse coordinates [capacity, 4], their true count, and both strided maps."""
    rows = jnp.arange(coords.shape[0], dtype=jnp.int32)
    valid = rows < count
    spatial = coords[:, 1:]
    step = 2 * stride
    parents = jnp.concatenate([coords[:, :1], (spatial // step) * step], axis=1)
    bits = (spatial - parents[:, 1:]) // stride
    slot = bits[:, 0] + 2 * bits[:, 1] + 4 * bits[:, 2]
    ordered = _Sorted(parents, count)
    fields = jnp.stack(ordered.fields, axis=1)
    changed = jnp.any(fields[1:] != fields[:-1], axis=1)
    is_first = jnp.concatenate([jnp.ones(1, bool), changed]) & valid
    number = jnp.cumsum(is_first.astype(jnp.int32)) - 1
    coarse_count = jnp.sum(is_first.astype(jnp.int32))
    coarse = jnp.full((capacity, 4), -1, jnp.int32)
    coarse = coarse.at[jnp.where(is_first, number, capacity)].set(fields, mode="drop")
    parent = jnp.zeros_like(rows).at[ordered.rows].set(number)
    slots = jnp.where(valid, slot, 8)
    forward = jnp.full((8, capacity), -1, jnp.int32).at[slots, parent].set(rows, mode="drop")
    transpose = jnp.full((8, coords.shape[0]), -1, jnp.int32)
    transpose = transpose.at[slots, rows].set(parent, mode="drop")
    return coarse, coarse_count, forward, transpose


def plan(
    coords: jax.Array, count: jax.Array, *, capacities: Sequence[int], first_kernel_5: bool
) -> list[jax.Array]:
    """The flat results of the compiled plan call, in its order.

    A plan of illegal coordinates fits no capacity: nothing can be raised here.
    """
    legal = _Sorted(coords, count).legal(1)
    same, first, steps, counts = [], [], [], [count.astype(jnp.int32)]
    for level, _ in enumerate(capacities):
        stride = 2**level
        of = {"tensor_stride": stride, "dilation": 1}
        same.append(submanifold_map(coords, counts[-1], kernel=3, **of))
        if level == 0 and first_kernel_5:
            first.append(submanifold_map(coords, count, kernel=5, **of))
        if level + 1 < len(capacities):
            coords, coarse_count, forward, transpose = _coarsen(
                coords, counts[-1], stride, capacities[level + 1]
            )
            steps += [forward, transpose, coords]
            counts.append(coarse_count)
    true_counts = jnp.where(legal, jnp.stack(counts), jnp.iinfo(jnp.int32).max)
    fits = jnp.all(true_counts <= jnp.asarray(capacities, jnp.int32))
    return [jnp.where(fits, a, -1) for a in [*same, *first, *steps]] + [true_counts]
