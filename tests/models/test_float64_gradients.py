"""MinkUNet18A in training against float64, every gradient of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests.cuda import emulation
from tests.models.float64_oracle import Oracle
from tests.models.reference import (
    fixture_plan,
    padded,
    read_fixture,
    recipe_model,
    recipe_weights,
    watch_relus,
)
from uov_jax.losses import cosine_distance
from uov_jax.sparse import Plan, backends, use_backend

CAPACITY, OUTPUTS = 900, 32
# Of values of about 1, of which float32 keeps 1e-6 and better through the network.
MARGIN = 1e-4


@pytest.fixture(scope="module")
def cloud() -> dict[str, Any]:
    """A part of each of the fixture's two clouds, and a target for two voxels in three."""
    fixture = read_fixture("minkunet18a")
    rows = fixture["coords"][:, 1] < 20
    rng = np.random.default_rng(0)
    number = int(rows.sum())
    assert 500 < number < CAPACITY
    return {
        "coords": fixture["coords"][rows],
        "feats": fixture["feats"][rows],
        "target": rng.standard_normal((number, OUTPUTS)).astype(np.float16),
        "seen": rng.random(number) < 2 / 3,
    }


def step(cloud: dict[str, Any], plan: Plan, patch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """Loss, gradients by name, and which values passed each ReLU, of one training step."""
    passed: list[jax.Array] = []
    watch_relus(patch, passed)
    model = recipe_model("minkunet18a", 3, OUTPUTS)
    model.train()
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    target = jnp.asarray(padded(cloud["target"], CAPACITY))
    seen = jnp.asarray(np.pad(cloud["seen"], (0, CAPACITY - len(cloud["seen"]))))

    def loss(parameters: nnx.State, features: jax.Array, plan: Plan) -> Any:
        passed.clear()
        network = nnx.merge(graph, parameters, statistics, copy=True)
        value = cosine_distance(network(features, plan), target, seen)
        return value, tuple(jax.lax.stop_gradient(values) > 0 for values in passed)

    (value, gates), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        parameters, padded(cloud["feats"], CAPACITY), plan
    )
    named = {".".join(map(str, k)): np.asarray(v[...]) for k, v in nnx.to_flat_state(gradients)}
    return value, named, [np.asarray(gate) for gate in gates]


@pytest.mark.parametrize(
    "backend", ["cpu", "xla", pytest.param(emulation.register(), marks=pytest.mark.slow)]
)
def test_every_gradient_of_a_step_of_esg_is_that_of_float64(
    backend: str, cloud: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss within 1e-5, each gradient within 1e-4 of its norm.

    Float32 keeps 1e-7; 21 batch norms, the coarsest over a few voxels, each divide by deviations
    that have lost digits to the sums before them.
    """
    status = backends()[backend]
    if not status.startswith("available"):
        pytest.skip(status)
    plan = fixture_plan(cloud, CAPACITY, 5)
    with use_backend(backend):
        value, gradients, gates = step(cloud, plan, monkeypatch)
    counts = [int(count) for count in plan.counts]
    levels = [np.asarray(c)[:n] for c, n in zip(plan.coords, counts, strict=True)]
    at = [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]
    at += [level for level in (3, 2, 1, 0) for _ in range(5)]
    oracle = Oracle(
        levels,
        recipe_weights("minkunet18a", OUTPUTS),
        [gate[: counts[level]] for gate, level in zip(gates, at, strict=True)],
        MARGIN,
    )
    output = oracle.forward(cloud["feats"])
    assert oracle.near < 2 * MARGIN * oracle.values
    seen = torch.tensor(cloud["seen"])
    target = torch.tensor(cloud["target"].astype(np.float64))
    cosine = torch.nn.functional.cosine_similarity(output[seen], target[seen])
    loss = (1 - cosine).mean()
    loss.backward()
    np.testing.assert_allclose(value, float(loss.detach()), rtol=1e-5)
    assert gradients.keys() == oracle.tensors.keys()
    for name, tensor in oracle.tensors.items():
        wanted = tensor.grad.numpy()
        error = np.linalg.norm(gradients[name] - wanted) / np.linalg.norm(wanted)
        assert error < 1e-4, f"{name}: {error}"
