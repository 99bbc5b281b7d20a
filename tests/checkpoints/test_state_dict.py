"""Tensors between models and state_dicts: identity, prefixes, and what is refused."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.reference import recipe_model, recipe_weights
from uov_jax.checkpoints.state_dict import (
    Refused,
    model_to_state_dict,
    named_variables,
    state_dict_to_model,
    strip_prefixes,
)
from uov_jax.models.layers import BasicBlock


def block(seed: int = 0, in_channels: int = 3) -> BasicBlock:
    return BasicBlock(in_channels, 4, momentum=0.1, shortcut_momentum=0.1, rngs=nnx.Rngs(seed))


def filled(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of the same names and shapes, every number different."""
    generator = np.random.default_rng(0)
    return {
        name: (generator.standard_normal(value.shape) * 50).astype(value.dtype)
        for name, value in state_dict.items()
    }


def test_round_trip_is_the_identity() -> None:
    weights = recipe_weights("res16unet34c")
    model = recipe_model("res16unet34c", 1, 17)
    back = model_to_state_dict(model)
    assert sorted(back) == sorted(weights)
    for name, value in weights.items():
        assert back[name].dtype == value.dtype, name
        np.testing.assert_array_equal(back[name], value)


def test_names_are_pytorchs() -> None:
    names = {name for name, _ in named_variables(block())}
    assert {"conv1.kernel", "norm1.bn.running_var", "downsample.0.kernel"} <= names
    assert "downsample.1.bn.num_batches_tracked" in names
    assert len(names) == 3 + 3 * 5


def test_all_that_matches_is_loaded_and_the_rest_reported() -> None:
    model, before = block(), model_to_state_dict(block())
    tensors = filled(before)
    kept = tensors.pop("norm2.bn.bias")
    tensors["conv1.kernel"] = np.zeros((27, 9, 4), np.float32)
    tensors["decoder.weight"] = np.zeros((2, 5), np.float32)
    report = state_dict_to_model(model, tensors)
    after = model_to_state_dict(model)
    assert report.missing == ("norm2.bn.bias",)
    assert report.refused == (
        Refused("conv1.kernel", (27, 9, 4), (27, 3, 4)),
        Refused("decoder.weight", (2, 5), None),
    )
    assert set(report.loaded) == set(before) - {"norm2.bn.bias", "conv1.kernel"}
    for name in report.loaded:
        np.testing.assert_array_equal(after[name], tensors[name])
    for name in ("norm2.bn.bias", "conv1.kernel"):
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.array_equal(kept, after["norm2.bn.bias"])
    text = str(report)
    assert "loaded 16 tensors, 1 missing in the file, 2 refused" in text
    assert "missing: norm2.bn.bias" in text
    assert "conv1.kernel: shape (27, 9, 4) in the file, the model has (27, 3, 4)" in text
    assert "decoder.weight: shape (2, 5) in the file, no such tensor in the model" in text


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "model_points.", "net3d.", "model.model_points.module."]
)
def test_prefixes_of_trainers_are_taken_off(prefix: str) -> None:
    model = block()
    tensors = filled(model_to_state_dict(model))
    report = state_dict_to_model(model, {prefix + name: v for name, v in tensors.items()})
    assert len(report.loaded) == len(tensors)
    assert not report.missing
    assert not report.refused
    for name, value in model_to_state_dict(model).items():
        np.testing.assert_array_equal(value, tensors[name])


def test_the_image_network_of_a_pretraining_checkpoint_is_left_out() -> None:
    """Lightning keeps both networks in one state_dict; names of layers may be the same."""
    model = block()
    tensors = filled(model_to_state_dict(model))
    both = {f"model_points.{name}": value for name, value in tensors.items()}
    both |= {f"model_images.{name}": value + 1 for name, value in tensors.items()}
    report = state_dict_to_model(model, both)
    assert len(report.loaded) == len(tensors)
    assert all(entry.name.startswith("model_images.") for entry in report.refused)
    np.testing.assert_array_equal(model.conv1.kernel[...], tensors["conv1.kernel"])


def test_half_precision_files_fill_float32_parameters() -> None:
    model = block()
    tensors = model_to_state_dict(model)
    state_dict_to_model(model, {k: v.astype(np.float16) for k, v in tensors.items()})
    assert model.conv1.kernel[...].dtype == jnp.float32
    np.testing.assert_allclose(model.conv1.kernel[...], tensors["conv1.kernel"], rtol=1e-3)


def test_nothing_in_common_is_an_error_that_shows_names() -> None:
    with pytest.raises(
        ValueError, match=r"not one of 1 tensors matches.*backbone\.w.*conv1\.kernel"
    ):
        state_dict_to_model(block(), {"backbone.w": np.zeros(3, np.float32)})


def test_names_that_collide_without_prefixes_are_an_error() -> None:
    one = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match=r"'module\.a' and 'model\.a' are 'a' without prefixes"):
        strip_prefixes({"module.a": one, "model.a": one})
