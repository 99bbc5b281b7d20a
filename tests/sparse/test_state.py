"""The op of an optimiser's moving averages against its formula, and what it is there for."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.sparse import moving_average
from uov_jax.training import optimizer, parallel


@pytest.mark.parametrize("backend", ["cpu", "xla"])
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (27, 96, 97)])
def test_it_is_its_formula(backend: str, shape: tuple[int, ...], squares: bool) -> None:
    rng = np.random.default_rng(0)
    old, sample = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    with sparse.use_backend(backend):
        found = jax.jit(lambda a, b, decay: moving_average(a, b, decay, 0.25, squares=squares))(
            old, sample, 0.9
        )
    expected = 0.9 * old.astype(np.float64) + 0.25 * sample.astype(np.float64) ** (1 + squares)
    # Two products and a sum in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    call = jax.ffi.ffi_call("uov_moving_average", jax.ShapeDtypeStruct((2,), jnp.float32))
    one = jnp.float32(1)
    with pytest.raises(Exception, match="old, sample and next must be float32 of one shape"):
        jax.block_until_ready(call(jnp.ones(2), jnp.ones(3), one, one, squares=False))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_donated_states_are_not_copied(name: str) -> None:
    make = {
        "sgd": lambda: optimizer.sgd(jnp.ones_like, 0.9),
        "adam": lambda: optimizer.adam(jnp.ones_like),
    }
    transform = make[name]()
    shape = (70, 80)

    def step(state: tuple[jax.Array, object], batch: jax.Array) -> tuple[object, jax.Array]:
        weights, moments = state
        gradient = jax.grad(lambda w: jnp.sum(jnp.tanh(batch @ w)))(weights)

        def update(gradient: jax.Array, moments: object, weights: jax.Array) -> object:
            updates, moments = transform.update(gradient, moments, weights)
            return weights + updates, moments

        return parallel.in_place(update, gradient, moments, weights), jnp.sum(gradient)

    weights = jnp.ones(shape)
    one = parallel.Parallel(jax.local_devices()[:1])
    state = one.replicate(jax.device_get((weights, transform.init(weights))))
    run = one.spread(step)
    batch = one.shard(np.ones((1, 60, 70), np.float32))
    program = run.lower(state, batch).compile().as_text()
    copies = re.findall(r"f32\[(?:1,)?70,80\]\S* (?:copy\(|fusion\(.*copy)", program)
    assert not copies
