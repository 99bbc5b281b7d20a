"""The sparse ops of a GPU against float64, at the size of a batch: values, gradients, equal bits.

A sum of products of random numbers, of which `deviation` is the root of their squares' sum, is off
by what its roundings add up to. They are independent: those of the factors by about their unit
times `deviation`, those of n additions by about theirs times sqrt(n) `deviation`. Eight times that
is the bound, which no correct product of millions exceeds. A wrong row or a lost one is off by the
size of products themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.command_line.gpu_report import Row
from uov_jax.command_line.gpu_sweeps import cloud_of, fitting_spec

BOUND = 8.0
# Multiplications in float64 of one comparison; of larger products a random choice is compared.
MOST = 4e9


class Arithmetic(NamedTuple):
    """How rows are kept and multiplied; roundings relative to what is rounded.

    Attributes:
        name: for the report.
        dtype: of the rows.
        precision: as `sparse.use_precision` takes it.
        kernel: the precision that the kernel has, by its number in csrc/cuda/tiles.h.
        factor: rounding of a factor before it is multiplied.
        sum: of an addition; tensor cores cut off what others round.
        result: of the sum in the end.

    """

    name: str
    dtype: Any
    precision: str
    kernel: int
    factor: float
    sum: float
    result: float


ARITHMETICS = (
    Arithmetic("float32", jnp.float32, "float32", 0, 0.0, 2.0**-24, 2.0**-24),
    Arithmetic("TF32", jnp.float32, "tf32", 1, 2.0**-11, 2.0**-23, 2.0**-24),
    Arithmetic("float32 rows, bfloat16", jnp.float32, "bfloat16", 2, 2.0**-8, 2.0**-23, 2.0**-24),
    Arithmetic("bfloat16 rows", jnp.bfloat16, "float32", 2, 0.0, 2.0**-23, 2.0**-8),
)


class Product(NamedTuple):
    """Sums of products in float64, the root of the sum of their squares, and their number."""

    value: np.ndarray
    deviation: np.ndarray
    terms: np.ndarray

    def error(self, found: np.ndarray, arithmetic: Arithmetic, result: float) -> float:
        """The largest error as a share of its bound: more than 1 is wrong.

        Args:
            found: what was computed, float32.
            arithmetic: how.
            result: rounding of the sums in the end.

        """
        rounding = 2 * arithmetic.factor + arithmetic.sum * np.sqrt(self.terms)
        bound = BOUND * rounding * self.deviation + result * np.abs(self.value)
        error = np.abs(found.astype(np.float64) - self.value)
        if not np.isfinite(error).all():
            return np.inf
        # Where nothing is added, zero is exact.
        share = np.where(error > 0, np.inf, 0.0)
        np.divide(error, bound, out=share, where=bound > 0)
        return float(np.max(share, initial=0.0))


def product_rows(x: np.ndarray, w: np.ndarray, index: np.ndarray) -> Product:
    """`sum_k x[index[k]] @ w[k]` for int32 [K, R]; -1 contributes nothing."""
    shape = (index.shape[1], w.shape[2])
    value, squares, terms = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 1))
    for slot, weight in zip(index, w.astype(np.float64), strict=True):
        there = slot >= 0
        rows = x[slot[there]].astype(np.float64)
        value[there] += rows @ weight
        squares[there] += rows**2 @ weight**2
        terms[there] += w.shape[1]
    return Product(value, np.sqrt(squares), terms)


def product_weights(x: np.ndarray, dy: np.ndarray, slot: np.ndarray) -> Product:
    """`x[slot]^T @ dy` for int32 [N]: the gradient of one slot's weights."""
    there = slot >= 0
    rows, slopes = x[slot[there]].astype(np.float64), dy[there].astype(np.float64)
    return Product(rows.T @ slopes, np.sqrt((rows**2).T @ slopes**2), np.array([[len(rows)]]))


class Problem:
    """A convolution on a cloud of voxels, its input and the gradient of its output."""

    def __init__(
        self,
        plan: sparse.Plan,
        channels: tuple[int, int],
        neighbours: sparse.NeighbourMap | None = None,
        multiply: Callable[[Any, Any, Any], Any] = sparse.gather_gemm,
    ) -> None:
        """Draw random numbers.

        Args:
            plan: of the cloud.
            channels: of the input and of the output.
            neighbours: the convolution's map; the 3x3x3 of level 0 by default.
            multiply: the op, of x, w and the map.

        """
        generator = np.random.default_rng(channels)
        self.neighbours = neighbours or plan.same[0]
        self.multiply = multiply
        self.forward = np.asarray(self.neighbours.forward)
        back = self.neighbours.transpose
        self.back = self.forward[::-1] if back is None else np.asarray(back)
        (offsets, rows), (inner, outer) = self.forward.shape, channels
        self.x = generator.standard_normal((self.back.shape[1], inner), np.float32)
        self.w = generator.standard_normal((offsets, inner, outer), np.float32)
        self.dy = generator.standard_normal((rows, outer), np.float32)
        pairs = int(np.sum(self.forward >= 0))
        share = min(1.0, MOST / (pairs * inner * outer))

        def some(number: int, least: int) -> np.ndarray:
            return generator.permutation(number)[: max(least, int(number * share))]

        self.chosen, self.chosen_in = some(rows, 64), some(self.back.shape[1], 64)
        self.slots = some(offsets, 3)
        self.expected = functools.cache(self._expected)

    def run(self, arithmetic: Arithmetic) -> tuple[Any, Any]:
        """y, dx and dw, and once more."""

        @jax.jit
        def passes(x: jax.Array, w: jax.Array, dy: jax.Array, neighbours: Any) -> Any:
            scheduled = neighbours.scheduled()
            y, pull = jax.vjp(lambda x, w: self.multiply(x, w, scheduled), x, w)
            return y, *pull(dy)

        rows, slopes = (jnp.asarray(each, arithmetic.dtype) for each in (self.x, self.dy))
        operands = rows, jnp.asarray(self.w), slopes, self.neighbours
        with sparse.use_precision(arithmetic.precision):
            return jax.device_get((passes(*operands), passes(*operands)))

    def errors(self, arithmetic: Arithmetic, found: Any) -> dict[str, float]:
        """The error of each pass, as `Product.error` gives it."""
        y, dx, dw = (np.asarray(each, np.float32) for each in found)
        of_y, of_dx, of_dw = self.expected(arithmetic.dtype)
        return {
            "y": of_y.error(y[self.chosen], arithmetic, arithmetic.result),
            "dx": of_dx.error(dx[self.chosen_in], arithmetic, arithmetic.result),
            "dw": max(
                product.error(dw[slot], arithmetic, 2.0**-24)
                for slot, product in zip(self.slots, of_dw, strict=True)
            ),
        }

    def _expected(self, dtype: Any) -> tuple[Product, Product, list[Product]]:
        """Of the chosen rows and slots, from numbers as `dtype` has them."""
        x, w, dy = (
            np.asarray(jnp.asarray(each, dtype), np.float32) for each in (self.x, self.w, self.dy)
        )
        weights = [product_weights(x, dy, self.forward[slot]) for slot in self.slots]
        of_x = product_rows(x, w, self.forward[:, self.chosen])
        of_dy = product_rows(dy, w.swapaxes(1, 2), self.back[:, self.chosen_in])
        return of_x, of_dy, weights


def products(voxels: int, channels: tuple[tuple[int, int], ...]) -> Iterator[Row]:
    """Each width in each arithmetic, with the tiles that the kernels' table chooses."""
    yield from _products(voxels, channels, lambda _: [""])


def tiles(voxels: int, channels: tuple[tuple[int, int], ...], module: ModuleType) -> Iterator[Row]:
    """Each width in each arithmetic with each tile (csrc/cuda/tiles.h) of a module of kernels."""

    def of(arithmetic: Arithmetic) -> Iterator[str]:
        both = module.gather_tiles(arithmetic.kernel), module.gradient_tiles(arithmetic.kernel)
        for gather, gradient in itertools.zip_longest(*both, fillvalue=-1):
            module.use_gather_tile(gather)
            module.use_gradient_tile(gradient)
            yield f", tiles {gather} and {gradient}"

    try:
        yield from _products(voxels, channels, of)
    finally:
        module.use_gather_tile(-1)
        module.use_gradient_tile(-1)


def _products(
    voxels: int,
    channels: tuple[tuple[int, int], ...],
    ways: Callable[[Arithmetic], Iterable[str]],
) -> Iterator[Row]:
    """Errors of y, dx and dw as shares of their bounds; everything runs twice."""
    coords = cloud_of(voxels)
    plan = sparse.build_plan(coords, fitting_spec(coords))
    for widths in channels:
        problem = Problem(plan, widths)
        for arithmetic in ARITHMETICS:
            for way in ways(arithmetic):
                what = f"{voxels:,} voxels, {widths[0]} to {widths[1]}, {arithmetic.name}{way}"
                yield _compared(problem, arithmetic, what)


def _compared(problem: Problem, arithmetic: Arithmetic, what: str) -> Row:
    found, again = problem.run(arithmetic)
    errors = problem.errors(arithmetic, found)
    same = equal_bits(found, again)
    figures = {**errors, "equal bits": "yes" if same else "no"}
    return Row(what, figures, same and max(errors.values()) <= 1)


def other_maps(voxels: int, channels: tuple[int, int]) -> Iterator[Row]:
    """Convolutions that are strided, transposed, of 125 offsets and of one, without a schedule."""
    coords = cloud_of(voxels)
    spec = dataclasses.replace(fitting_spec(coords), first_kernel=5)
    plan = sparse.build_plan(coords, spec)
    assert plan.first is not None
    count = len(coords) - len(coords) // 7
    maps = {
        "strided, 8 offsets": plan.down[0],
        "transposed, 8 offsets": plan.down[0].swapped(),
        "125 offsets": plan.first,
    }
    problems = {name: Problem(plan, channels, each) for name, each in maps.items()}
    one = sparse.identity_map(len(plan.coords[0]), jnp.int32(count))
    problems["one offset"] = Problem(
        plan, channels, one, lambda x, w, _: sparse.multiply_rows(x, w[0], jnp.int32(count))
    )
    for name, problem in problems.items():
        for arithmetic in ARITHMETICS:
            what = f"{name}, {voxels:,} voxels, {channels[0]} to {channels[1]}, {arithmetic.name}"
            yield _compared(problem, arithmetic, what)


def dilated_maps(voxels: int) -> Iterator[Row]:
    """Submanifold maps as the CPU builds them, of every tensor stride and dilation."""
    coords = cloud_of(voxels)
    for kernel, stride, dilation in ((3, 1, 2), (5, 1, 2), (3, 4, 1), (3, 16, 2), (1, 2, 1)):
        strided = coords * np.array([1, stride, stride, stride], np.int32)
        of = {"kernel": kernel, "tensor_stride": stride, "dilation": dilation}
        legal = np.abs(strided[:, 1:]).max(axis=1) < 60_000
        rows = np.ascontiguousarray(strided[legal])
        expected = sparse.submanifold_map(rows, len(rows), **of)
        build = jax.jit(functools.partial(sparse.submanifold_map, **of))
        found, again = (build(jnp.asarray(rows), jnp.int32(len(rows))) for _ in range(2))
        same = equal_bits(expected, found)
        yield Row(
            f"map of kernel {kernel}, tensor stride {stride}, dilation {dilation}",
            {"as the CPU's": "yes" if same else "no"},
            same and equal_bits(found, again),
        )


def equal_bits(one: Any, other: Any) -> bool:
    """Whether all arrays of two trees are the same, not a number and signs of zero included."""
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def plans(voxels: int) -> Iterator[Row]:
    """Plans as the CPU builds them, of sweeps and of voxels with other neighbourhoods."""
    dense = np.stack(np.meshgrid([0], *[np.arange(-12, 12)] * 3, indexing="ij"), -1).reshape(-1, 4)
    clouds = {"sweeps": cloud_of(voxels), "a full cube": dense[: max(1, voxels)].astype(np.int32)}
    for what, coords in clouds.items():
        spec = fitting_spec(coords)
        for kernel in (3, 5):
            shape = dataclasses.replace(spec, first_kernel=kernel)
            expected = sparse.build_plan(coords, shape)
            build = jax.jit(functools.partial(sparse.plan_in_jit, spec=shape))
            count = jnp.int32(len(coords))
            found, again = build(expected.coords[0], count), build(expected.coords[0], count)
            same = equal_bits(expected, found)
            yield Row(
                f"plan of {what}, {len(coords):,} voxels, first kernel {kernel}",
                {"as the CPU's": "yes" if same else "no"},
                same and equal_bits(found, again),
            )


def epilogues(voxels: int, channels: int) -> Iterator[Row]:
    """Norms and moments of a product beside those of what the product alone gives."""
    coords = cloud_of(voxels)
    problem = Problem(sparse.build_plan(coords, fitting_spec(coords)), (channels, channels))
    generator = np.random.default_rng(3)
    mean, scale, bias = generator.standard_normal((3, channels), np.float32)
    count, every = len(coords) - len(coords) // 7, len(coords)

    @jax.jit
    def passes(x: jax.Array, w: jax.Array, shortcut: jax.Array, neighbours: Any) -> Any:
        scheduled = neighbours.scheduled()
        affine = (mean, scale, bias, shortcut, jnp.int32(count), True)
        return (
            sparse.gather_gemm(x, w, scheduled),
            sparse.gather_gemm_affine(x, w, scheduled, *affine),
            *sparse.gather_gemm_moments(x, w, scheduled, jnp.int32(every)),
        )

    for arithmetic in ARITHMETICS:
        rows, shortcut = (jnp.asarray(each, arithmetic.dtype) for each in (problem.x, problem.dy))
        operands = rows, jnp.asarray(problem.w), shortcut, problem.neighbours
        with sparse.use_precision(arithmetic.precision):
            found, again = jax.device_get((passes(*operands), passes(*operands)))
        product, normed, with_moments, *moments = found
        y, added = (np.asarray(each, np.float64)[:every] for each in (product, shortcut))
        expected = (y - mean) * scale + bias + added
        # The product is rounded here, as it is not within; and the result.
        rounding = 2 * arithmetic.result * max(1.0, np.abs(scale).max())
        error = relative_error(normed[:count], np.maximum(expected[:count], 0.0))
        of_moments = (y.mean(0), ((y - y.mean(0)) ** 2).sum(0))
        errors = [relative_error(a, b) for a, b in zip(moments, of_moments, strict=True)]
        same = equal_bits(found, again)
        yield Row(
            f"product with norm, with moments, {voxels:,} rows of {channels}, {arithmetic.name}",
            {
                "norm": error,
                "moments": max(errors),
                "equal bits": "yes" if same else "no",
            },
            same
            and equal_bits(product, with_moments)
            and not np.any(normed[count:])
            and error < rounding + 2e-6
            and max(errors) < 2e-6,
        )


def row_ops(voxels: int, channels: int, dtype: Any = jnp.float32) -> Iterator[Row]:
    """Moves of rows, norms and moments, of rows of float32 or bfloat16."""
    generator = np.random.default_rng(7)
    rows, valid = voxels, voxels - voxels // 7

    def drawn(*shape: int) -> np.ndarray:
        rounded = jnp.asarray(generator.standard_normal(shape, np.float32), dtype)
        return np.asarray(rounded, np.float32)

    x, dy = drawn(rows, channels), drawn(rows, channels)
    target = generator.integers(-1, rows // 4, rows).astype(np.int32)
    source = generator.integers(-1, rows, rows).astype(np.int32)
    count = jnp.int32(valid)
    wide, seen = x.astype(np.float64), x[:valid].astype(np.float64)

    def gathered() -> np.ndarray:
        return np.where(source[:, None] >= 0, x[source], 0)

    def scattered() -> np.ndarray:
        sums = np.zeros((rows // 4, channels))
        both = (source >= 0) & (target >= 0)
        np.add.at(sums, target[both], wide[source[both]])
        return sums

    def moments() -> tuple[np.ndarray, np.ndarray]:
        return seen.mean(0), ((seen - seen.mean(0)) ** 2).sum(0)

    def units() -> np.ndarray:
        lengths = np.linalg.norm(seen, axis=1, keepdims=True)
        return np.concatenate([seen / lengths, np.zeros((rows - valid, channels))])

    def unit_gradient() -> np.ndarray:
        lengths = np.linalg.norm(seen, axis=1, keepdims=True)
        y, slope = seen / lengths, dy[:valid].astype(np.float64)
        dx = (slope - y * (slope * y).sum(1, keepdims=True)) / lengths
        return np.concatenate([dx, np.zeros((rows - valid, channels))])

    def unit_pull(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: sparse.unit_rows(x, count), x)[1](dy)[0]

    mean, scale, bias, offset, slope = generator.standard_normal((5, channels), np.float32)
    affine = np.zeros((rows, channels))
    affine[:valid] = (seen - mean) * scale + bias + dy[:valid]
    y = np.asarray(jnp.asarray(np.maximum(affine, 0), dtype), np.float32)
    let_through = np.where(y > 0, dy, 0)[:valid].astype(np.float64)

    def sums() -> tuple[np.ndarray, np.ndarray]:
        return let_through.sum(0), (let_through * (seen - mean)).sum(0)

    def gradients() -> tuple[np.ndarray, np.ndarray]:
        dx = (let_through - offset - (seen - mean) * slope) * scale
        padding = np.zeros((rows - valid, channels))
        return np.concatenate([dx, padding]), np.concatenate([let_through, padding])

    few = rows // 4
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Callable[[], Any]]] = {
        "gather_rows": (sparse.gather_rows, (x, source), gathered),
        "gather_scatter_rows": (
            lambda x, source, target: sparse.gather_scatter_rows(x, source, target, few),
            (x, source, target),
            scattered,
        ),
        "column_moments": (lambda x: sparse.column_moments(x, count), (x,), moments),
        "affine_rows": (
            lambda x, dy: sparse.affine_rows(x, mean, scale, bias, dy, count, True),
            (x, dy),
            lambda: np.maximum(affine, 0),
        ),
        "affine_gradient_sums": (
            lambda dy, y, x: sparse.affine_gradient_sums(dy, y, x, mean, count),
            (dy, y, x),
            sums,
        ),
        "affine_gradient_rows": (
            lambda dy, y, x: sparse.affine_gradient_rows(
                dy, y, x, mean, offset, slope, scale, count, True
            ),
            (dy, y, x),
            gradients,
        ),
    }
    if dtype == jnp.float32:
        calls["unit_rows"] = (lambda x: sparse.unit_rows(x, count), (x,), units)
        calls["unit_rows, gradient"] = (unit_pull, (x, dy), unit_gradient)
    for name, (call, operands, expected) in calls.items():
        compiled = jax.jit(call)
        arrays = tuple(
            jnp.asarray(each, dtype if each.dtype == np.float32 else None) for each in operands
        )
        found, again = compiled(*arrays), compiled(*arrays)
        of_result = jax.tree.leaves(found)
        pairs = zip(of_result, jax.tree.leaves(expected()), strict=True)
        error = max(relative_error(a, b) for a, b in pairs)
        # Some units in the last place of float32, of numbers of size 1 and of their sums; of sums
        # that cancel, of the sums' parts. Half a unit of bfloat16 where the result is rounded.
        bound = 2e-5 if name == "affine_gradient_sums" else 2e-6
        if of_result[0].dtype == jnp.bfloat16:
            bound += 2.0**-8
        same = equal_bits(found, again)
        yield Row(
            f"{name}, {rows:,} rows of {channels}, {jnp.dtype(dtype).name}",
            {"error": error, "equal bits": "yes" if same else "no"},
            same and error < bound,
        )


def relative_error(found: Any, expected: np.ndarray) -> float:
    """The largest error, as a share of the largest magnitude where that is more than 1."""
    error = np.abs(np.asarray(found, np.float64) - expected)
    return float(error.max() / max(np.abs(expected).max(), 1.0)) if error.size else 0.0
