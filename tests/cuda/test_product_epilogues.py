"""Norms behind products, against float64 and against the two one after the other."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import call, faults
from tests.cuda.products import (
    FLOAT32,
    GATHER_TILES,
    KINDS,
    NO_SCHEDULE,
    SUMS,
    Kind,
    Schedule,
    exact,
    gather_cases,
    gather_gemm,
    kinds,
    multiplied,
    normal,
    random_map,
    schedule,
)
from tests.sparse.clouds import relative_error
from uov_jax.sparse import reference

ROWS = 150
# Offsets, channels in and out. Of the last, offsets are shared out among blocks.
SHAPES = [(3, 20, 17), (3, 24, 130), (27, 72, 40)]


def sizes(x: jax.Array, w: jax.Array, forward: np.ndarray, kind: Kind) -> list[int]:
    return [*w.shape, forward.shape[1], x.dtype.itemsize, kind.precision]


def affine(
    engine: ModuleType,
    kind: Kind,
    product: tuple[jax.Array, jax.Array, np.ndarray, Schedule],
    parameters: list[jax.Array],
    shortcut: jax.Array | None,
    count: int,
    relu: bool,
) -> np.ndarray:
    x, w, forward, plan = product
    result = jax.ShapeDtypeStruct((forward.shape[1], w.shape[2]), x.dtype)
    operands = (x, w, jnp.asarray(forward), plan.order, plan.masks, *parameters)
    found = call(
        engine,
        "gather_gemm_affine",
        result,
        *(*operands, x if shortcut is None else shortcut, jnp.int32(count)),
        workspace=sizes(x, w, forward, kind),
        has_shortcut=shortcut is not None,
        relu=relu,
        precision=kind.precision,
    )
    return np.asarray(found)


def moments(
    engine: ModuleType,
    kind: Kind,
    product: tuple[jax.Array, jax.Array, np.ndarray, Schedule],
    count: int,
) -> list[np.ndarray]:
    x, w, forward, plan = product
    channels = jax.ShapeDtypeStruct(w.shape[2:], jnp.float32)
    results = [jax.ShapeDtypeStruct((forward.shape[1], w.shape[2]), x.dtype), channels, channels]
    found = call(
        engine,
        "gather_gemm_moments",
        results,
        *(x, w, jnp.asarray(forward), plan.order, plan.masks, jnp.int32(count)),
        workspace=sizes(x, w, forward, kind),
        precision=kind.precision,
    )
    return [np.asarray(each) for each in found]


def problem(
    engine: ModuleType, kind: Kind, shape: tuple[int, int, int], rows: int = ROWS
) -> tuple[jax.Array, jax.Array, np.ndarray, Schedule]:
    kernel, channels_in, channels_out = shape
    rng = np.random.default_rng(shape)
    forward = random_map(rng, kernel, rows, 70)
    x = normal(rng, kind, 70, channels_in)
    w = normal(rng, kind, kernel, channels_in, channels_out)
    return x, w, forward, schedule(engine, forward)


def vectors(rng: np.random.Generator, channels: int) -> list[jax.Array]:
    return [jnp.asarray(v, jnp.float32) for v in rng.standard_normal((3, channels))]


def shortcut_like(
    rng: np.random.Generator, kind: Kind, channels: int, count: int, rows: int = ROWS
) -> jax.Array:
    """NaN past `count`: whatever reads those shows it."""
    return normal(rng, kind, rows, channels).at[max(count, 0) :].set(jnp.nan)


def check_moments(y: np.ndarray, mean: np.ndarray, m2: np.ndarray, count: int) -> None:
    """Of the rows as they were written; sums of some thousand float32 numbers of one size."""
    rows = exact(y)[: max(count, 0)]
    expected = rows.mean(0) if len(rows) else np.zeros(y.shape[1])
    size = max(1.0, np.abs(rows).max(initial=0.0))
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6 * size)
    deviation = ((rows - expected) ** 2).sum(0)
    np.testing.assert_allclose(m2, deviation, rtol=1e-5, atol=1e-6 * size**2 * max(count, 1))


@gather_cases
@pytest.mark.parametrize("shape", SHAPES)
def test_a_norm_behind_a_product(engine, kind, tile, shape):
    """Float32 rows have the bits of one after the other, bfloat16 ones are rounded once."""
    engine.use_gather_tile(tile)
    rng = np.random.default_rng(tile)
    x, w, forward, _ = product = problem(engine, kind, shape)
    channels = shape[2]
    sums = reference.gather_gemm(multiplied(kind, x), multiplied(kind, w), forward)
    y = jnp.asarray(gather_gemm(engine, kind, *product))
    # All rows, some, none, more than there are.
    for count, relu, has_shortcut in (
        (ROWS, False, False),
        (ROWS - 37, True, True),
        (0, False, True),
        (ROWS + 5, True, False),
        (-3, True, False),
    ):
        parameters = vectors(rng, channels)
        shortcut = shortcut_like(rng, kind, channels, count) if has_shortcut else None
        found = affine(engine, kind, product, parameters, shortcut, count, relu)
        stop = min(max(count, 0), ROWS)
        assert not exact(found)[stop:].any()
        mean, scale, bias = map(exact, parameters)
        expected = (sums - mean) * scale + bias
        expected += exact(shortcut) if has_shortcut else 0.0
        expected = np.maximum(expected, 0.0) if relu else expected
        rounding = 2.0**-8 * np.abs(expected[:stop]) if kind.dtype == jnp.bfloat16 else 0.0
        bound = SUMS * np.abs(sums).max() * np.abs(scale).max() + rounding
        assert np.all(np.abs(exact(found)[:stop] - expected[:stop]) <= bound)
        if kind.dtype == jnp.float32:
            operands = (y, *parameters, y if shortcut is None else shortcut, jnp.int32(count))
            like = jax.ShapeDtypeStruct(y.shape, y.dtype)
            how: dict[str, Any] = {"has_shortcut": has_shortcut, "relu": relu}
            apart = call(engine, "affine_rows", like, *operands, **how)
            np.testing.assert_array_equal(found, apart)
    assert faults(engine) is None


@gather_cases
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_of_a_product(engine, kind, tile, shape):
    engine.use_gather_tile(tile)
    product = problem(engine, kind, shape)
    y = gather_gemm(engine, kind, *product)
    for count in (ROWS, ROWS - 37, 1, 0, ROWS + 5, -3):
        found, mean, m2 = moments(engine, kind, product, count)
        np.testing.assert_array_equal(found, y)
        check_moments(y, mean, m2, count)
    assert faults(engine) is None


@pytest.mark.parametrize("rows", [0, 1, 31, 33, 64 * 32, 64 * 32 + 1, 5000])
def test_moments_of_any_number_of_rows(engine, rows):
    """Groups of 32 rows, of which 64 are joined by a block."""
    for kind in (KINDS[0], KINDS[-1]):
        product = problem(engine, kind, (2, 4, 35), rows)
        for plan in (product[-1], NO_SCHEDULE):
            for count in (rows, rows // 2):
                y, mean, m2 = moments(engine, kind, (*product[:-1], plan), count)
                check_moments(y, mean, m2, count)


def test_moments_survive_a_mean_that_dwarfs_the_deviation(engine):
    rng = np.random.default_rng(0)
    kind = Kind(jnp.float32, FLOAT32)
    x = normal(rng, kind, 5000, 8) + jnp.float32(1e4)
    rows = np.arange(5000, dtype=np.int32)[None]
    y, mean, m2 = moments(engine, kind, (x, jnp.eye(8)[None], rows, NO_SCHEDULE), 5000)
    np.testing.assert_array_equal(y, x)
    assert relative_error(mean, exact(x).mean(0)) < 1e-6
    assert relative_error(m2, exact(x).var(0) * len(x)) < 1e-4


@kinds
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_equal_bits_for_any_order_of_blocks_and_any_tile(engine, kind, shape):
    rng = np.random.default_rng(3)
    product = problem(engine, kind, shape, 260)
    parameters = vectors(rng, shape[2])
    shortcut = shortcut_like(rng, kind, shape[2], 240, 260)
    results: dict[str, set[bytes]] = {"affine": set(), "moments": set()}
    for seed, tile in enumerate([-1, *GATHER_TILES[kind.precision]]):
        engine.use_order(seed)
        engine.use_gather_tile(tile)
        y = affine(engine, kind, product, parameters, shortcut, 240, True)
        results["affine"].add(y.tobytes())
        found = moments(engine, kind, product, 240)
        results["moments"].add(b"".join(each.tobytes() for each in found))
    assert {name: len(bits) for name, bits in results.items()} == dict.fromkeys(results, 1)


def test_a_nan_is_not_hidden_by_the_relu(engine):
    kind = Kind(jnp.float32, FLOAT32)
    x = jnp.asarray([[jnp.nan, 1.0], [1.0, 2.0]])
    rows = np.arange(2, dtype=np.int32)[None]
    product = (x, -jnp.eye(2)[None], rows, NO_SCHEDULE)
    ones = [jnp.ones(2)] * 3
    y = affine(engine, kind, product, ones, None, 2, True)
    np.testing.assert_array_equal(y, [[np.nan, np.nan], [0.0, 0.0]])
    _, mean, m2 = moments(engine, kind, product, 2)
    assert np.isnan(mean).all()
    assert np.isnan(m2).all()


def test_wrong_arguments_are_refused(engine):
    kind = Kind(jnp.float32, FLOAT32)
    rows = np.zeros((1, 4), np.int32)
    product = (jnp.zeros((4, 2)), jnp.zeros((1, 2, 2)), rows, NO_SCHEDULE)
    ones = [jnp.ones(2)] * 3
    with pytest.raises(Exception, match=r"mean, scale and bias must be \[C_out\]"):
        affine(engine, kind, product, [*ones[:2], jnp.ones(3)], None, 4, True)
    with pytest.raises(Exception, match="the shortcut must be like the result"):
        affine(engine, kind, product, ones, jnp.ones((3, 2)), 4, True)
    with pytest.raises(Exception, match="precision must be 0"):
        moments(engine, Kind(jnp.float32, 3), product, 4)
