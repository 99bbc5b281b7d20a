"""The batch-norm ops of the CUDA backend against float64: values, padding rows, bits."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import call, same_bits_in_any_order
from tests.sparse.clouds import relative_error

CHANNELS = [1, 3, 17, 96, 130, 768]
DTYPES = [jnp.float32, jnp.bfloat16]
# float32 sums of a few hundred numbers of one size, relative to the largest.
TIGHT = 2e-6


def exact(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)


def tolerance(dtype: Any) -> float:
    """Sums and products in float32, then one rounding to the 8 bits of a bfloat16."""
    return TIGHT if dtype == jnp.float32 else 2.0**-8


def counts(rows: int) -> list[int]:
    """None, one, some, all, and what a plan that did not fit may say."""
    return sorted({0, min(rows, 1), rows // 3, rows, rows + 5, -3})


def rows_like(
    rng: np.random.Generator, shape: tuple[int, int], count: int, dtype: Any
) -> jax.Array:
    """Normal numbers, NaN past `count`: whatever reads those shows it."""
    x = rng.standard_normal(shape).astype(np.float32)
    x[max(count, 0) :] = np.nan
    return jnp.asarray(x, dtype)


def vectors(rng: np.random.Generator, channels: int, number: int) -> list[jax.Array]:
    return [jnp.asarray(v, jnp.float32) for v in rng.standard_normal((number, channels))]


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def two_sums(x: jax.Array) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(x.shape[1:], jnp.float32)] * 2


def moments(emulated: Any, x: jax.Array, count: int) -> list[jax.Array]:
    return call(
        emulated, "column_moments", two_sums(x), x, jnp.int32(count), workspace=list(x.shape)
    )


def affine(emulated: Any, x: Any, parameters: Any, shortcut: Any, count: int, relu: bool) -> Any:
    added = x if shortcut is None else shortcut
    operands = (x, *parameters, added, jnp.int32(count))
    has_shortcut = shortcut is not None
    return call(emulated, "affine_rows", like(x), *operands, has_shortcut=has_shortcut, relu=relu)


def gradient_sums(emulated: Any, dy: Any, y: Any, x: Any, mean: Any, count: int) -> Any:
    operands = (dy, dy if y is None else y, x, mean, jnp.int32(count))
    return call(
        emulated,
        "affine_gradient_sums",
        two_sums(x),
        *operands,
        workspace=list(x.shape),
        relu=y is not None,
    )


def gradient_rows(
    emulated: Any, dy: Any, y: Any, x: Any, parameters: Any, count: int, has_shortcut: bool
) -> Any:
    unwanted = jax.ShapeDtypeStruct((0, x.shape[1]), x.dtype)
    results = [like(x), like(x) if has_shortcut else unwanted]
    operands = (dy, dy if y is None else y, x, *parameters, jnp.int32(count))
    relu = y is not None
    return call(
        emulated, "affine_gradient_rows", results, *operands, relu=relu, has_shortcut=has_shortcut
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_moments_match_float64(emulated, channels, dtype):
    rng = np.random.default_rng(channels)
    for rows in (0, 1, 63, 300):
        for count in counts(rows):
            x = rows_like(rng, (rows, channels), count, dtype)
            mean, m2 = moments(emulated, x, count)
            valid = exact(x)[: max(count, 0)]
            expected = valid.mean(0) if len(valid) else np.zeros(channels)
            deviation = ((valid - expected) ** 2).sum(0)
            np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(m2, deviation, rtol=1e-5, atol=1e-6 * max(count, 1))


@pytest.mark.parametrize("channels", [5, 8])
def test_moments_survive_a_mean_that_dwarfs_the_deviation(emulated, channels):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, channels)).astype(np.float32) + np.float32(1e4)
    mean, m2 = moments(emulated, jnp.asarray(x), len(x))
    assert relative_error(mean, exact(x).mean(0)) < 1e-6
    assert relative_error(m2, exact(x).var(0) * len(x)) < 1e-4


def test_equal_rows_do_not_deviate(emulated):
    x = jnp.full((1000, 3), 0.1, jnp.float32)
    mean, m2 = moments(emulated, x, 997)
    np.testing.assert_array_equal(mean, np.full(3, np.float32(0.1)))
    np.testing.assert_array_equal(m2, np.zeros(3))


def test_moments_of_more_tiles_than_are_joined_one_by_one(emulated):
    """The longest sums have tiles of more rows, not more tiles."""
    rng = np.random.default_rng(3)
    rows = 64 * 1024 + 777
    x = jnp.asarray(rng.standard_normal((rows, 1)), jnp.float32)
    for count in (rows, 40_000):
        mean, m2 = moments(emulated, x, count)
        valid = exact(x)[:count]
        np.testing.assert_allclose(mean, valid.mean(0), atol=1e-6)
        np.testing.assert_allclose(m2, valid.var(0) * count, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_affine_rows_match_float64(emulated, channels, dtype):
    rng = np.random.default_rng(channels)
    for rows, relu, has_shortcut in itertools.product((0, 1, 83), (True, False), (True, False)):
        for count in counts(rows):
            x, shortcut = (rows_like(rng, (rows, channels), count, dtype) for _ in "xs")
            parameters = vectors(rng, channels, 3)
            added = shortcut if has_shortcut else None
            y = affine(emulated, x, parameters, added, count, relu)
            stop = min(max(count, 0), rows)
            mean, scale, bias = map(exact, parameters)
            expected = (exact(x)[:stop] - mean) * scale + bias
            if has_shortcut:
                expected += exact(shortcut)[:stop]
            expected = np.maximum(expected, 0.0) if relu else expected
            assert y.dtype == dtype
            assert relative_error(y[:stop], expected) < tolerance(dtype)
            assert not exact(y)[stop:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_gradients_match_float64(emulated, channels, dtype):
    rng = np.random.default_rng(channels)
    for rows, relu, has_shortcut in itertools.product((0, 1, 83), (True, False), (True, False)):
        for count in counts(rows):
            x, dy, y = (rows_like(rng, (rows, channels), count, dtype) for _ in "xdy")
            y = jnp.maximum(y, jnp.zeros((), dtype)) if relu else None
            mean, offset, slope, scale = parameters = vectors(rng, channels, 4)
            stop = min(max(count, 0), rows)
            g = exact(dy)[:stop]
            g = np.where(exact(y)[:stop] > 0, g, 0.0) if relu else g
            deviation = exact(x)[:stop] - exact(mean)
            sums = gradient_sums(emulated, dy, y, x, mean, count)
            for value, summand in zip(sums, (g, g * deviation), strict=True):
                # What a float32 sum of so many numbers may lose.
                bound = 2.0**-24 * (stop + 3) * np.abs(summand).sum(0)
                assert (np.abs(exact(value) - summand.sum(0)) <= bound).all()
            dx, dshortcut = gradient_rows(emulated, dy, y, x, parameters, count, has_shortcut)
            expected = (g - exact(offset) - deviation * exact(slope)) * exact(scale)
            assert relative_error(dx[:stop], expected) < tolerance(dtype)
            assert not exact(dx)[stop:].any()
            if has_shortcut:
                np.testing.assert_array_equal(exact(dshortcut)[:stop], g)
                assert not exact(dshortcut)[stop:].any()


def test_a_nan_of_a_valid_row_is_not_hidden_by_the_relu(emulated):
    ones = [jnp.ones(2)] * 3
    x = jnp.asarray([[jnp.nan, -5.0], [1.0, 2.0]])
    y = affine(emulated, x, ones, None, 2, True)
    np.testing.assert_array_equal(y, [[np.nan, 0.0], [1.0, 2.0]])
    mean, m2 = moments(emulated, x, 2)
    assert np.isnan(mean[0])
    assert np.isnan(m2[0])
    assert mean[1] == -1.5


def test_the_same_bits_in_any_order_of_blocks(emulated):
    rng = np.random.default_rng(4)
    x, dy = (rows_like(rng, (700, 20), 650, jnp.float32) for _ in "xd")
    y = jnp.maximum(x, 0.0)
    parameters = vectors(rng, 20, 4)
    same_bits_in_any_order(emulated, lambda: moments(emulated, x, 650))
    same_bits_in_any_order(emulated, lambda: gradient_sums(emulated, dy, y, x, parameters[0], 650))
    same_bits_in_any_order(
        emulated, lambda: gradient_rows(emulated, dy, y, x, parameters, 650, True)
    )


def test_handlers_refuse_what_does_not_fit(emulated):
    x, v = jnp.ones((4, 3)), jnp.ones(3)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"must be \[C\] for rows \[N, C\]"):
        affine(emulated, x, [v, v, v[:2]], None, 4, True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="one shape and one dtype"):
        affine(emulated, x, [v, v, v], x[:3], 4, True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="rows must be float32 or bfloat16"):
        moments(emulated, x.astype(jnp.float16), 4)
