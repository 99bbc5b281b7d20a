"""Masked batch norm against float64, against the reference's measured step, and across devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.reference import relative_error
from uov_jax import sparse
from uov_jax.models.batch_norm import (
    EPSILON,
    MaskedBatchNorm,
    batch_norm,
    pooled_moments,
)
from uov_jax.sparse import column_moments

FIXTURE = Path(__file__).parents[1] / "fixtures" / "minkowski_ops.npz"


def oracle(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    shortcut: np.ndarray | None,
    dy: np.ndarray,
    relu: bool,
) -> dict[str, np.ndarray]:
    """Value and gradients in float64; the derivative of x by the chain rule through the moments."""
    x, weight, bias, dy = (a.astype(np.float64) for a in (x, weight, bias, dy))
    rows = len(x)
    mean, variance = x.mean(0), x.var(0)
    deviation = np.sqrt(variance + EPSILON)
    normalized = (x - mean) / deviation
    y = normalized * weight + bias + (0.0 if shortcut is None else shortcut.astype(np.float64))
    if relu:
        dy = np.where(y > 0, dy, 0.0)
        y = np.maximum(y, 0.0)
    dnormalized = dy * weight
    dvariance = -0.5 * (dnormalized * (x - mean)).sum(0) / deviation**3
    dmean = -dnormalized.sum(0) / deviation
    dx = dnormalized / deviation + dvariance * 2 * (x - mean) / rows + dmean / rows
    return {
        "y": y,
        "x": dx,
        "weight": (dy * normalized).sum(0),
        "bias": dy.sum(0),
        "shortcut": dy,
    }


def sample(rows: int, channels: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    draw = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {
        "x": draw(rows, channels) * 3 + 5,
        "weight": 1 + 0.3 * draw(channels),
        "bias": draw(channels),
        "shortcut": draw(rows, channels),
        "dy": draw(rows, channels),
    }


def padded(rows: np.ndarray, capacity: int, fill: float) -> jax.Array:
    out = np.full((capacity, rows.shape[1]), fill, np.float32)
    out[: len(rows)] = rows
    return jnp.asarray(out)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_shortcut", [True, False])
@pytest.mark.parametrize(("rows", "capacity"), [(37, 50), (64, 64), (1, 8), (2, 2)])
def test_value_and_gradients_match_float64_whatever_the_padding_holds(
    relu: bool, with_shortcut: bool, rows: int, capacity: int
) -> None:
    data = sample(rows, 6)
    shortcut = data["shortcut"] if with_shortcut else None
    expected = oracle(data["x"], data["weight"], data["bias"], shortcut, data["dy"], relu)

    def run(x: Any, weight: Any, bias: Any, shortcut: Any) -> Any:
        count = jnp.int32(rows)
        own = column_moments(jax.lax.stop_gradient(x), count)
        return batch_norm(x, own, weight, bias, shortcut, count, relu, None)[0]

    y, pull = jax.vjp(
        run,
        padded(data["x"], capacity, 0.0),
        jnp.asarray(data["weight"]),
        jnp.asarray(data["bias"]),
        None if shortcut is None else padded(shortcut, capacity, np.nan),
    )
    found = dict(
        zip(
            ("x", "weight", "bias", "shortcut"),
            pull(padded(data["dy"], capacity, 1e9)),
            strict=True,
        )
    )
    np.testing.assert_allclose(y[:rows], expected["y"], rtol=2e-5, atol=1e-5)
    assert not np.asarray(y)[rows:].any()
    for name in ("weight", "bias"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
    for name in ("x", "shortcut") if with_shortcut else ("x",):
        np.testing.assert_allclose(found[name][:rows], expected[name], rtol=1e-4, atol=1e-4)
        assert not np.asarray(found[name])[rows:].any()


def test_moments_survive_a_mean_that_dwarfs_the_deviation() -> None:
    """E[x^2] - E[x]^2 in float32 would give noise here: the mean is 1e4 deviations off."""
    valid = np.random.default_rng(0).standard_normal((40_000, 3)).astype(np.float32) + 1e4
    count = jnp.int32(40_000)
    own = column_moments(padded(valid, 50_000, 0.0), count)
    moments = pooled_moments(own, count, 50_000)
    valid = valid.astype(np.float64)
    assert relative_error(moments.mean, valid.mean(0)) < 1e-6
    assert relative_error(moments.variance, valid.var(0)) < 1e-4


def test_one_training_step_equals_the_references() -> None:
    """MinkowskiBatchNorm at momentum 0.05: output, running mean, unbiased running variance."""
    with np.load(FIXTURE) as file:
        x, weight, bias, out, mean, variance = (
            file[name] for name in ("x", "bn_w", "bn_b", "bn_out", "bn_mean", "bn_var")
        )
    norm = MaskedBatchNorm(4, momentum=0.05)
    norm.bn.weight.set_value(jnp.asarray(weight))
    norm.bn.bias.set_value(jnp.asarray(bias))
    y = norm(padded(x, 500, 0.0), jnp.int32(len(x)))
    assert relative_error(y[: len(x)], out) < 1e-5
    assert relative_error(norm.bn.running_mean[...], mean) < 1e-5
    assert relative_error(norm.bn.running_var[...], variance) < 1e-6


def test_an_average_over_many_batches_uses_the_unbiased_variance() -> None:
    norm = MaskedBatchNorm(4, momentum=0.25)
    mean, variance = np.zeros(4), np.ones(4)
    for seed in range(5):
        rows = 3 + seed
        x = sample(rows, 4, seed)["x"]
        norm(padded(x, 12, 0.0), jnp.int32(rows))
        mean = 0.75 * mean + 0.25 * x.astype(np.float64).mean(0)
        variance = 0.75 * variance + 0.25 * x.astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(norm.bn.running_mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(norm.bn.running_var[...], variance, rtol=1e-5)
    assert norm.bn.num_batches_tracked[...] == 5


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_no_or_one_row_stay_finite(rows: int) -> None:
    norm = MaskedBatchNorm(2, momentum=0.5)
    y = norm(padded(np.full((rows, 2), 7.0), 4, 0.0), jnp.int32(rows), relu=True)
    assert not np.asarray(y).any()
    np.testing.assert_allclose(norm.bn.running_mean[...], [3.5 * rows] * 2)
    np.testing.assert_allclose(norm.bn.running_var[...], [0.5 if rows else 1.0] * 2)


def test_eval_mode_uses_and_keeps_the_running_statistics() -> None:
    norm = MaskedBatchNorm(3, momentum=0.1)
    norm.bn.running_mean.set_value(jnp.asarray([1.0, 2.0, 3.0]))
    norm.bn.running_var.set_value(jnp.asarray([4.0, 9.0, 16.0]))
    norm.eval()
    data = sample(5, 3)
    y = norm(padded(data["x"], 8, np.nan), jnp.int32(5), shortcut=padded(data["shortcut"], 8, 1.0))
    expected = (data["x"] - [1.0, 2.0, 3.0]) / np.sqrt(np.array([4.0, 9.0, 16.0]) + EPSILON)
    np.testing.assert_allclose(y[:5], expected + data["shortcut"], rtol=1e-5)
    assert not np.asarray(y)[5:].any()
    np.testing.assert_array_equal(norm.bn.running_mean[...], [1.0, 2.0, 3.0])
    assert norm.bn.num_batches_tracked[...] == 0


def test_bfloat16_rows_have_float32_statistics() -> None:
    data = sample(200, 4)
    x = padded(data["x"], 256, 0.0).astype(jnp.bfloat16)
    norm = MaskedBatchNorm(4, momentum=1.0)
    y = norm(x, jnp.int32(200), relu=True)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x[:200].astype(jnp.float32), np.float64)
    np.testing.assert_allclose(norm.bn.running_mean[...], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.bn.running_var[...], exact.var(0, ddof=1), rtol=1e-5)


def test_devices_pool_their_rows_and_keep_their_own_parameter_gradients() -> None:
    """Four devices of 0 to 20 rows equal one batch norm over all rows (vmap stands for devices)."""
    counts, capacity, channels = [20, 7, 0, 13], 24, 5
    data = sample(sum(counts), channels)
    expected = oracle(data["x"], data["weight"], data["bias"], data["shortcut"], data["dy"], True)
    splits = np.cumsum(counts)[:-1]
    shards = {
        name: jnp.stack([padded(part, capacity, fill) for part in np.split(data[name], splits)])
        for name, fill in (("x", 0.0), ("shortcut", 3.0), ("dy", 3.0))
    }

    def device(x: Any, shortcut: Any, dy: Any, count: Any) -> Any:
        def run(x: Any, weight: Any, bias: Any, shortcut: Any) -> Any:
            own = column_moments(jax.lax.stop_gradient(x), count)
            return batch_norm(x, own, weight, bias, shortcut, count, True, "data")

        weight, bias = jnp.asarray(data["weight"]), jnp.asarray(data["bias"])
        y, pull, moments = jax.vjp(run, x, weight, bias, shortcut, has_aux=True)
        return y, pull(dy), moments

    y, (dx, dweight, dbias, dshortcut), moments = jax.vmap(device, axis_name="data")(
        shards["x"], shards["shortcut"], shards["dy"], jnp.asarray(counts, jnp.int32)
    )

    def joined(parts: jax.Array) -> np.ndarray:
        return np.concatenate([np.asarray(part)[:n] for part, n in zip(parts, counts, strict=True)])

    assert relative_error(joined(y), expected["y"]) < 1e-5
    assert relative_error(joined(dx), expected["x"]) < 1e-4
    assert relative_error(joined(dshortcut), expected["shortcut"]) < 1e-6
    assert relative_error(np.asarray(dweight).sum(0), expected["weight"]) < 1e-4
    assert relative_error(np.asarray(dbias).sum(0), expected["bias"]) < 1e-5
    assert not np.asarray(dweight)[2].any()
    np.testing.assert_allclose(moments.rows, 40.0)
    np.testing.assert_allclose(
        moments.variance, np.tile(data["x"].astype(np.float64).var(0), (4, 1)), rtol=1e-5
    )


@pytest.mark.parametrize("transform", [jax.jit, jax.checkpoint])
def test_the_backend_of_a_norm_is_that_of_its_gradient(transform: Any) -> None:
    """Whose rules are traced when the block has ended."""
    x, one, count = jnp.ones((4, 2)), jnp.ones(2), jnp.int32(3)

    @transform
    def forced(x: jax.Array) -> jax.Array:
        with sparse.use_backend("xla"):
            own = column_moments(jax.lax.stop_gradient(x), count)
            return batch_norm(x, own, one, one, x, count, True, None)[0]

    text = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(forced(x))))(x))
    assert text.count("forced=xla") >= 3
    assert "forced=None" not in text
