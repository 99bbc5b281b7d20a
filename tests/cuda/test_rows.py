"""The row moves of the CUDA backend against numpy: values, order of sums, faults, bits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import call, faults, same_bits_in_any_order
from uov_jax import sparse

CHANNELS = [1, 3, 17, 96, 130, 768]
DTYPES = [jnp.float32, jnp.bfloat16]
EPSILON = 2.0**-24  # of one rounded float32 operation
# Rows that one thread adds up one after the other: kPart in csrc/cuda/rows.h.
PART = 64


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), dtype)


def exact(x: jax.Array) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def gather(emulated: Any, x: jax.Array, index: np.ndarray) -> jax.Array:
    result = jax.ShapeDtypeStruct((len(index), x.shape[1]), x.dtype)
    return call(emulated, "gather_rows", result, x, jnp.asarray(index))


def scatter(
    emulated: Any, x: jax.Array, source: np.ndarray | None, target: np.ndarray, rows: int
) -> jax.Array:
    result = jax.ShapeDtypeStruct((rows, x.shape[1]), x.dtype)
    sizes = [len(target), rows, x.shape[1]]
    operands = [jnp.asarray(target if source is None else source), jnp.asarray(target)]
    return call(
        emulated,
        "gather_scatter_rows",
        result,
        x,
        *operands,
        workspace=sizes,
        identity=source is None,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_gather_rows_takes_rows_as_they_are(emulated, channels, dtype):
    rng = np.random.default_rng(channels)
    for rows, count in ((0, 3), (1, 1), (50, 0), (50, 131)):
        x = normal(rng, (rows, channels), dtype)
        index = rng.integers(-1, rows, count).astype(np.int32)
        y = gather(emulated, x, index)
        expected = np.zeros((count, channels))
        expected[index >= 0] = exact(x)[index[index >= 0]]
        assert y.dtype == dtype
        np.testing.assert_array_equal(exact(y), expected)
        assert faults(emulated) is None


def segments(rng: np.random.Generator, lengths: list[int], unused: int) -> np.ndarray:
    """Targets of which row i has `lengths[i]`, in random order, `unused` -1s among them."""
    target = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return rng.permutation(np.concatenate([target, np.full(unused, -1, np.int32)]))


def check_sums(x: jax.Array, source: np.ndarray, target: np.ndarray, y: jax.Array) -> None:
    """Every row of y within what rounding each sum allows of the sum in float64."""
    used = (source >= 0) & (target >= 0)
    taken = exact(x)[source[used]]
    expected = np.zeros(y.shape)
    np.add.at(expected, target[used], taken)
    magnitude = np.zeros(y.shape)
    np.add.at(magnitude, target[used], np.abs(taken))
    number = np.bincount(target[used], minlength=len(expected))[:, None]
    bound = EPSILON * number * magnitude
    if y.dtype == jnp.bfloat16:
        bound = bound + 2.0**-8 * (np.abs(expected) + bound)
    assert (np.abs(exact(y) - expected) <= bound).all()


# A target of none and one; all lengths around a part and two; a superpoint among single points, at
# the start, at the end and in the middle of the sorted pairs.
LENGTHS = {
    "nothing": [],
    "empty targets": [0, 0, 0],
    "one": [1],
    "short": [0, 1, 5, 0, 2, 13, 1, 0],
    "around a part": [PART - 1, PART, PART + 1, 0, 2 * PART - 1, 2 * PART, 2 * PART + 1, 3],
    "long first": [2345, 1, 2, 0, 3],
    "long last": [3, 0, 61, 2, 1999],
    "two long ones side by side": [7, 700, 1000, 1, 1],
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("channels", [1, 3, 96, 130])
def test_scatter_sums_every_target(emulated, lengths, channels):
    rng = np.random.default_rng(len(lengths) + channels)
    for dtype in DTYPES:
        target = segments(rng, lengths, unused=9)
        x = normal(rng, (len(target), channels), dtype)
        y = scatter(emulated, x, None, target, len(lengths))
        assert y.dtype == dtype
        check_sums(x, np.arange(len(target)), target, y)
        assert faults(emulated) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_gather_scatter_leaves_out_pairs_with_a_minus_one(emulated, channels, dtype):
    rng = np.random.default_rng(channels)
    for rows_in, pairs, rows_out in ((0, 5, 3), (40, 0, 3), (40, 5, 0), (1, 1, 1), (40, 500, 21)):
        x = normal(rng, (rows_in, channels), dtype)
        source = rng.integers(-1, rows_in, pairs).astype(np.int32)
        target = rng.integers(-1, rows_out, pairs).astype(np.int32)
        y = scatter(emulated, x, source, target, rows_out)
        check_sums(x, source, target, y)
        assert faults(emulated) is None


def test_few_rows_are_summed_one_after_the_other(emulated):
    """In the order of m: the bits of a loop in float32, as on the CPU."""
    rng = np.random.default_rng(0)
    target = segments(rng, [1, 2, 7, PART, 0, 33], unused=4)
    sizes = 10.0 ** rng.integers(-3, 4, (len(target), 1))
    x = jnp.asarray(rng.standard_normal((len(target), 12)) * sizes, jnp.float32)
    expected = np.zeros((6, 12), np.float32)
    for m, row in enumerate(target):
        if row >= 0:
            expected[row] += np.asarray(x)[m]
    np.testing.assert_array_equal(scatter(emulated, x, None, target, 6), expected)
    with sparse.use_backend("cpu"):
        np.testing.assert_array_equal(sparse.scatter_add_rows(x, target, 6), expected)


def test_a_sum_does_not_depend_on_other_targets(emulated):
    """Where the parts of a long target are cut is a matter of that target alone."""
    rng = np.random.default_rng(1)
    x = normal(rng, (900, 8), jnp.float32)
    alone = scatter(emulated, x, None, np.zeros(900, np.int32), 1)
    for before in (1, 63, 64, 100):
        other = normal(rng, (before, 8), jnp.float32)
        target = np.repeat(np.int32([0, 1]), [before, 900])
        among = scatter(emulated, jnp.concatenate([other, x]), None, target, 2)
        np.testing.assert_array_equal(among[1], alone[0])


@pytest.mark.parametrize("bad", [-2, 20, 2**31 - 1, -(2**31)])
def test_bad_indices_are_reported_and_left_out(emulated, bad):
    x = normal(np.random.default_rng(0), (20, 6), jnp.float32)
    index = np.array([3, bad, 0], np.int32)
    good = np.array([3, -1, 0], np.int32)
    y = gather(emulated, x, index)
    assert faults(emulated) == ("row index", bad, 20)
    np.testing.assert_array_equal(y, gather(emulated, x, good))
    other = np.array([0, 1, 2], np.int32)
    for source, target, instead in ((index, other, (good, other)), (other, index, (other, good))):
        y = scatter(emulated, x, source, target, 20)
        assert faults(emulated) == ("row index", bad, 20)
        np.testing.assert_array_equal(y, scatter(emulated, x, *instead, 20))
        assert faults(emulated) is None


def test_the_same_bits_in_any_order_of_blocks(emulated):
    rng = np.random.default_rng(2)
    target = segments(rng, [900, 0, 65, 3, 200, 1], unused=20)
    x = normal(rng, (len(target), 20), jnp.float32)
    same_bits_in_any_order(emulated, lambda: scatter(emulated, x, None, target, 6))
    same_bits_in_any_order(emulated, lambda: unit(emulated, x, 1000))


def unit(emulated: Any, x: jax.Array, count: int) -> list[jax.Array]:
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x.shape, x.shape[:1])]
    return call(emulated, "unit_rows", results, x, jnp.int32(count))


def unit_gradient(
    emulated: Any, dy: jax.Array, y: jax.Array, inverse: jax.Array, count: int
) -> jax.Array:
    result = jax.ShapeDtypeStruct(y.shape, jnp.float32)
    return call(emulated, "unit_rows_gradient", result, dy, y, inverse, jnp.int32(count))


@pytest.mark.parametrize("channels", CHANNELS)
def test_unit_rows_and_their_gradient_match_float64(emulated, channels):
    rng = np.random.default_rng(channels)
    # Of a sum of squares, its root and two products; the gradient has a sum of its own.
    tolerance = EPSILON * (channels + 8)
    for rows in (0, 1, 37):
        for count in {0, min(rows, 5), rows, rows + 7, -3}:
            valid = min(max(count, 0), rows)
            x, dy = (
                normal(rng, (rows, channels), jnp.float32).at[valid:].set(jnp.nan) for _ in "ab"
            )
            if valid > 2:
                x = x.at[2].set(0.0)
            y, inverse = unit(emulated, x, count)
            length = np.linalg.norm(exact(x)[:valid], axis=1, keepdims=True)
            expected = np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)
            np.testing.assert_allclose(inverse[:valid], expected[:, 0], rtol=tolerance)
            direction = exact(x)[:valid] * expected
            np.testing.assert_allclose(y[:valid], direction, rtol=tolerance)
            dx = unit_gradient(emulated, dy, y, inverse, count)
            slope = exact(dy)[:valid]
            along = (direction * slope).sum(1, keepdims=True)
            size = np.abs(slope) + np.abs(direction) * (np.abs(direction * slope)).sum(
                1, keepdims=True
            )
            error = np.abs(exact(dx)[:valid] - (slope - direction * along) * expected)
            assert (error <= 4 * tolerance * size * expected).all()
            for padding in (y[valid:], inverse[valid:], dx[valid:]):
                assert not exact(padding).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("channels", [5, 96])
def test_rows_without_a_direction_are_not_hidden(emulated, bad, channels):
    x = jnp.ones((3, channels)).at[1, -1].set(bad)
    y, inverse = unit(emulated, x, 3)
    dx = unit_gradient(emulated, jnp.ones_like(x), y, inverse, 3)
    for result in (y, inverse, dx):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[0]).all()
        assert np.isfinite(result[2]).all()


def test_rows_that_are_too_short_become_zero(emulated):
    x = jnp.asarray([[1e-13, 0.0], [1e-11, 0.0]], jnp.float32)
    y, inverse = unit(emulated, x, 2)
    np.testing.assert_array_equal(inverse[0], 0.0)
    np.testing.assert_array_equal(y[0], 0.0)
    np.testing.assert_allclose(y[1], [1.0, 0.0], rtol=1e-6)
    assert not exact(unit_gradient(emulated, x, y, inverse, 2))[0].any()


def test_handlers_refuse_what_does_not_fit(emulated):
    x, index = jnp.ones((4, 3)), jnp.zeros(5, jnp.int32)
    wrong = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    with pytest.raises(jax.errors.JaxRuntimeError, match="index and result must have the same"):
        call(emulated, "gather_rows", wrong, x, index)
    with pytest.raises(jax.errors.JaxRuntimeError, match="source and target must have the same"):
        scatter(emulated, x, None, np.zeros(5, np.int32), 2)
    small = jax.ShapeDtypeStruct((8,), jnp.uint8)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the workspace has 8 bytes, expected"):
        call(
            emulated, "gather_scatter_rows", [wrong, small], x, index[:4], index[:4], identity=True
        )
