"""The measured networks: key lists, weights, inputs and outputs of the reference."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.recipe import tensor_for
from uov_jax.checkpoints.state_dict import state_dict_to_model
from uov_jax.models import MinkUNet, build_model, layers, minkunet
from uov_jax.sparse import Plan, PlanSpec, build_plan

TESTS = Path(__file__).parents[1]


def recipe_weights(variant: str, out_channels: int | None = None) -> dict[str, np.ndarray]:
    """The state_dict of a fixture: a function of each tensor's name and shape alone."""
    shapes = reference_shapes(variant)
    if out_channels is not None:
        shapes = {
            name: (*shape[:-1], out_channels) if name.startswith("final.") else shape
            for name, shape in shapes.items()
        }
    return {name: tensor_for(name, shape) for name, shape in shapes.items()}


def reference_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the official checkpoint's state_dict."""
    lines = (TESTS / "fixtures" / f"{variant}_keys.txt").read_text().splitlines()
    return {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}


def recipe_model(variant: str, in_channels: int, out_channels: int, **settings: Any) -> MinkUNet:
    """The network of a fixture. Built abstract, because drawing first weights takes seconds."""
    model = nnx.eval_shape(
        lambda: build_model(variant, in_channels, out_channels, rngs=nnx.Rngs(0), **settings)
    )
    report = state_dict_to_model(model, recipe_weights(variant, out_channels))
    assert not report.missing
    assert not report.refused
    return model


def watch_relus(
    patch: pytest.MonkeyPatch, seen: list[jax.Array], gates: Sequence[np.ndarray] = ()
) -> None:
    """Add to `seen` what passes each ReLU of networks; what may, `gates` say if there are any."""
    plain = layers.convolve_and_normalize

    def watched(*arguments: Any, relu: bool = False, **more: Any) -> jax.Array:
        result = plain(*arguments, relu=relu and not gates, **more)
        if relu:
            seen.append(jnp.where(gates[len(seen)], result, 0.0) if gates else result)
            return seen[-1]
        return result

    for module in (layers, minkunet):
        patch.setattr(module, "convolve_and_normalize", watched)


def padded(rows: np.ndarray, capacity: int, fill: float = 0.0) -> np.ndarray:
    """Rows [n, C] with padding rows up to `capacity`."""
    out = np.full((capacity, rows.shape[1]), fill, rows.dtype)
    out[: len(rows)] = rows
    return out


def relative_error(found: Any, expected: np.ndarray) -> float:
    """Largest deviation against the largest expected value."""
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def fixture_plan(fixture: dict[str, np.ndarray], capacity: int, first_kernel: int = 3) -> Plan:
    """The plan of a fixture's coordinates, as jax arrays."""
    spec = PlanSpec(capacity=capacity, first_kernel=first_kernel, fractions=(1.0,) * 5)
    return jax.tree.map(jnp.asarray, build_plan(fixture["coords"], spec))


def read_fixture(variant: str) -> dict[str, np.ndarray]:
    """The measured inputs and outputs of a network."""
    with np.load(TESTS / "fixtures" / f"{variant}_small.npz") as file:
        return {name: file[name] for name in file.files}
