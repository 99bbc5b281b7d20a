"""Means over the rows of several devices, against one device that has all rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax.losses import cosine_distance, mean_in_chunks, over_devices, share_of_mean

SHARES = [(0.9, 0.1, 0.5), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)]


@pytest.mark.parametrize("shares", SHARES)
def test_the_devices_mean_is_the_mean_over_all_rows(shares: tuple[float, ...]) -> None:
    """Value and gradient of the mean of the devices' losses: float32 sums in another order."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((3, 40, 5)), jnp.float32)
    target = jnp.asarray(rng.standard_normal((3, 40, 5)), jnp.float16)
    seen = jnp.asarray(rng.random((3, 40)) < np.array(shares)[:, None])

    def apart(weight: jax.Array) -> jax.Array:
        def device(x: jax.Array, target: jax.Array, seen: jax.Array) -> jax.Array:
            return cosine_distance(x @ weight, target, seen, "data")

        return jnp.mean(jax.vmap(device, axis_name="data")(x, target, seen))

    def together(weight: jax.Array) -> jax.Array:
        rows = x.reshape(-1, 5) @ weight
        return cosine_distance(rows, target.reshape(-1, 5), seen.reshape(-1))

    weight = jnp.asarray(rng.standard_normal((5, 5)), jnp.float32)
    value, gradient = jax.value_and_grad(apart)(weight)
    expected, expected_gradient = jax.value_and_grad(together)(weight)
    assert (float(expected) > 0) == any(shares)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_a_mean_in_chunks_counts_the_rows_of_all_devices() -> None:
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((2, 23)), jnp.float32)
    chosen = jnp.stack([jnp.arange(23) < 20, jnp.arange(23) < 1])

    def terms(part: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(jnp.where(mask, part, 0)), jnp.sum(mask.astype(jnp.float32))

    def device(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        return mean_in_chunks(terms, 7, x, mask, axis_name="data")

    losses, counts = jax.vmap(device, axis_name="data")(x, chosen)
    np.testing.assert_array_equal(counts, [21, 21])
    expected = np.asarray(x, np.float64)[np.asarray(chosen)].mean()
    np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-5, atol=1e-6)


def test_one_device_alone_has_the_mean_and_no_axis() -> None:
    value, rows = share_of_mean(jnp.float32(6), jnp.float32(4), None)
    assert (float(value), float(rows)) == (1.5, 4.0)
    assert float(over_devices(jnp.float32(6), None)) == 6.0
    one = jax.vmap(lambda t: share_of_mean(t, t, "data")[0], axis_name="data")
    np.testing.assert_array_equal(one(jnp.ones(1)), [1.0])
