"""The adapter of ESS against numpy in float64, and against its fixture's names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.conftest import DATA
from uov_jax.checkpoints.state_dict import model_to_state_dict, state_dict_to_model
from uov_jax.models.adapter import FeatureAdapter


def oracle(tensors: dict[str, np.ndarray], x: np.ndarray, kept: float) -> np.ndarray:
    inner, outer, bias = (
        tensors[name].astype(np.float64) for name in ("fc.0.weight", "fc.1.weight", "fc.1.bias")
    )
    x = x.astype(np.float64)
    return (1 - kept) * (x @ inner.T @ outer.T + bias) + kept * x


def test_names_and_shapes_are_those_of_the_published_adapter() -> None:
    tensors = model_to_state_dict(FeatureAdapter(768, rngs=nnx.Rngs(0)))
    assert {name: value.shape for name, value in tensors.items()} == {
        "fc.0.weight": (192, 768),
        "fc.1.weight": (768, 192),
        "fc.1.bias": (768,),
    }
    # PyTorch's first weights: uniform within 1 / sqrt(inputs).
    for name, inputs in (("fc.0.weight", 768), ("fc.1.weight", 192), ("fc.1.bias", 192)):
        assert 0.95 < np.abs(tensors[name]).max() * np.sqrt(inputs) <= 1


@pytest.mark.parametrize("kept", [0.05, 0.3])
def test_output_and_logits_against_numpy(kept: float) -> None:
    rng = np.random.default_rng(0)
    model = FeatureAdapter(24, share_kept=kept, rngs=nnx.Rngs(1))
    x = rng.standard_normal((50, 24)).astype(np.float16)
    text = rng.standard_normal((7, 24)).astype(np.float32)
    expected = oracle(model_to_state_dict(model), x, kept)
    np.testing.assert_allclose(model(jnp.asarray(x)), expected, atol=1e-6)
    logits = model.logits(jnp.asarray(x), jnp.asarray(text))
    np.testing.assert_allclose(logits, expected @ text.T.astype(np.float64), atol=1e-5)


def test_the_short_way_to_logits_has_the_gradients_of_the_long_one() -> None:
    rng = np.random.default_rng(1)
    model = FeatureAdapter(16, rngs=nnx.Rngs(2))
    x = jnp.asarray(rng.standard_normal((30, 16)), jnp.float16)
    text = jnp.asarray(rng.standard_normal((5, 16)), jnp.float32)
    pull = jnp.asarray(rng.standard_normal((30, 5)), jnp.float32)
    short = nnx.grad(lambda m: jnp.sum(m.logits(x, text) * pull))(model)
    long = nnx.grad(lambda m: jnp.sum((m(x) @ text.T) * pull))(model)
    for one, other in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_fixtures_weights_fit() -> None:
    model = FeatureAdapter(768, rngs=nnx.Rngs(0))
    with np.load(DATA / "indoor_ess.npz") as file:
        names = {"fc.0.weight": "w1", "fc.1.weight": "w2", "fc.1.bias": "b2"}
        report = state_dict_to_model(model, {name: file[key] for name, key in names.items()})
    assert len(report.loaded) == 3
    assert not report.missing


def test_sizes_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="found size 2, reduction 4"):
        FeatureAdapter(2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"share 1\.5"):
        FeatureAdapter(8, share_kept=1.5, rngs=nnx.Rngs(0))
