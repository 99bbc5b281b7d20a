"""Taking models apart and putting them together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from uov_jax.checkpoints import state
from uov_jax.models import build_model


class Model(nnx.Module):
    """Layers in a list, and a norm."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def test_split_and_model_are_inverse() -> None:
    model = Model(nnx.Rngs(0))
    skeleton, parameters, statistics = state.split(model)
    assert sorted(statistics) == ["norm.mean", "norm.var"]
    assert "layers.1.kernel" in parameters
    x = jnp.arange(12.0).reshape(4, 3)
    again: Any = skeleton.model(parameters, statistics)
    model.eval()
    again.eval()
    np.testing.assert_array_equal(model(x), again(x))


def test_statistics_follow_the_forward_pass_under_jit() -> None:
    skeleton, parameters, statistics = state.split(Model(nnx.Rngs(0)))

    @jax.jit
    def run(statistics: Any) -> Any:
        model: Any = skeleton.model(parameters, statistics)
        model.train()
        model(jnp.arange(12.0).reshape(4, 3))
        return state.statistics_of(model)

    after = run(statistics)
    assert after.keys() == statistics.keys()
    assert np.any(np.asarray(after["norm.mean"]) != np.asarray(statistics["norm.mean"]))


def test_published_network_has_the_published_number_of_parameters() -> None:
    abstract = nnx.eval_shape(lambda: build_model("res16unet34c", 1, 17, rngs=nnx.Rngs(0)))
    _, parameters, statistics = state.split(abstract)
    # The published number counts the running statistics too.
    assert state.count(parameters) + state.count(statistics) == 37_862_287


def test_other_variables_are_refused() -> None:
    class Cached(nnx.Module):
        def __init__(self) -> None:
            self.memory = nnx.Cache(jnp.zeros(2))

    with pytest.raises(ValueError, match="memory is an Cache"):
        state.split(Cached())
