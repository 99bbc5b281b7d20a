"""One step on eight devices against one device that sees all sweeps at once; prints the errors.

The oracle knows no axis: it puts the eight shards into one plan, so that every batch norm pools
their statistics by itself, and averages the eight shards' losses.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from uov_jax import losses, sparse
from uov_jax.checkpoints import state
from uov_jax.models import build_model
from uov_jax.training import parallel, step
from uov_jax.training.optimizer import build_optimizer

DEVICES = 8
CAPACITY = 640
SIZE = 16
TEXT = np.random.default_rng(7).standard_normal((6, SIZE)).astype(np.float32) + 1.0
TARGETS = losses.soft_text_targets(TEXT, np.array([0, 0, 1, 1, 2, 2]))
RATE = 0.5


def sweep(seed: int, capacity: int = CAPACITY) -> dict[str, Any]:
    """A patch of hilly ground with as many voxels as the seed says, its masks and pairs."""
    rng = np.random.default_rng(seed)
    xy = np.stack(np.meshgrid(np.arange(24), np.arange(24)), -1).reshape(-1, 2)
    xy = xy[rng.random(len(xy)) < rng.uniform(0.5, 1.0)]
    z = np.round(2 * np.sin(xy[:, 0] / 5 + seed) + 2 * np.cos(xy[:, 1] / 4)).astype(int)
    coords = np.column_stack([np.zeros(len(xy), int), xy, z]).astype(np.int32)
    features = np.zeros((capacity, 1), np.float32)
    features[: len(coords), 0] = rng.random(len(coords)) * 4
    superpoints, pairs = 12, 500
    pair_voxel = rng.integers(0, len(coords), pairs).astype(np.int32)
    pair_voxel[rng.random(pairs) < 0.1] = -1
    word = rng.integers(-1, len(TEXT), superpoints).astype(np.int32)
    return {
        "coords": coords,
        "features": features,
        "pair_voxel": pair_voxel,
        "pair_superpoint": rng.integers(0, superpoints - 1, pairs).astype(np.int32),
        "superpoint_word": word,
        "superpoint_embedding": rng.standard_normal((superpoints, SIZE)).astype(np.float16),
    }


class MiniTask:
    """The smallest network of the family with the true loss."""

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        settings = {"normalize_features": True, "first_kernel": 3, "batch_norm_momentum": 0.05}
        return build_model("minkunet14a", 1, SIZE, axis_name=axis_name, rngs=rngs, **settings)

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return pair_loss(model(batch["features"], batch["plan"]), batch), {}

    def parameter_group(self, path: str) -> str:
        return "trunk"


def pair_loss(output: jax.Array, shard: Any) -> jax.Array:
    names = ("pair_voxel", "pair_superpoint", "superpoint_word", "superpoint_embedding")
    voxel, superpoint, word, embedding = (jnp.asarray(shard[name]) for name in names)
    rest = voxel, superpoint, word[None], embedding[None]
    return losses.tri_modal_loss(output, *rest, jnp.asarray(TEXT), jnp.asarray(TARGETS))[0]


def on_eight_devices(shards: list[Any], steps: int) -> tuple[list[float], Any]:
    """Loss of each step, and the state after them, through the parallel step."""
    task: Any = MiniTask()
    everywhere = parallel.Parallel()
    assert everywhere.num_devices == DEVICES
    spec = sparse.PlanSpec(CAPACITY, fractions=(1.0,) * 5)
    batches = [
        {
            **{k: v for k, v in s.items() if k != "coords"},
            "plan": sparse.build_plan(s["coords"], spec),
        }
        for s in shards
    ]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
    config = {"name": "sgd", "learning_rate": RATE, "momentum": 0.9, "weight_decay": 1e-4}
    groups = {name: task.parameter_group(name) for name in parameters}
    optimizer, rate = build_optimizer(config, {"name": "constant"}, groups, 10, 10, 8)
    run = everywhere.spread(step.training_step(task, skeleton, optimizer, rate))
    current = everywhere.replicate(jax.device_get(state.create(parameters, statistics, optimizer)))
    values = []
    for _ in range(steps):
        current, metrics = run(current, everywhere.shard(batch))
        values.append(float(everywhere.first(metrics)["loss"]))
    spread = max(
        float(np.max(np.abs(np.asarray(leaf) - np.asarray(leaf)[:1])))
        for leaf in jax.tree.leaves(current)
        if np.asarray(leaf).dtype == np.float32
    )
    assert spread == 0.0, f"the devices' copies differ by {spread}"
    return values, everywhere.first(current)


def on_one_device(shards: list[Any], steps: int) -> tuple[list[float], Any, Any]:
    """The same through one plan that holds all shards."""
    coords = [s["coords"] + np.array([d, 0, 0, 0], np.int32) for d, s in enumerate(shards)]
    starts = np.cumsum([0, *map(len, coords)])
    capacity = int(starts[-1]) + 5
    plan = sparse.build_plan(
        np.concatenate(coords), sparse.PlanSpec(capacity, fractions=(1.0,) * 5)
    )
    features = np.zeros((capacity, 1), np.float32)
    for d, s in enumerate(shards):
        features[starts[d] : starts[d + 1]] = s["features"][: len(coords[d])]
    model = MiniTask().build_model(nnx.Rngs(0), None)
    skeleton, parameters, statistics = state.split(model)

    @jax.jit
    def value(parameters: Any, statistics: Any) -> Any:
        model: Any = skeleton.model(parameters, statistics)
        model.train()
        output = model(jnp.asarray(features), jax.tree.map(jnp.asarray, plan))
        terms = [pair_loss(output[starts[d] : starts[d + 1]], s) for d, s in enumerate(shards)]
        return sum(terms) / len(terms), state.statistics_of(model)

    gradient_of = jax.jit(jax.value_and_grad(value, has_aux=True))
    values, buffer = [], None
    for _ in range(steps):
        (loss, statistics), gradient = gradient_of(parameters, statistics)
        values.append(float(loss))
        decayed = jax.tree.map(lambda g, p: g + 1e-4 * p, gradient, parameters)
        buffer = (
            decayed if buffer is None else jax.tree.map(lambda b, g: 0.9 * b + g, buffer, decayed)
        )
        parameters = optax.apply_updates(parameters, jax.tree.map(lambda b: -RATE * b, buffer))
    return values, parameters, statistics


def largest(found: dict[str, Any], expected: dict[str, Any], scaled: bool) -> float:
    """Largest difference, absolute or relative to the largest entry of its array."""
    errors = []
    for name in expected:
        a, b = np.asarray(found[name], np.float64), np.asarray(expected[name], np.float64)
        scale = max(np.max(np.abs(b)), 1e-30) if scaled else 1.0
        errors.append(np.max(np.abs(a - b)) / scale)
    return float(max(errors))


def main() -> None:
    """Print the errors as one JSON line.

    One step sends some hundred thousand numbers through ReLUs. Where one of them is zero but for
    rounding, the two ways may fall on either side of the kink, and gradients differ, by 1e-3 in one
    of four draws. These sweeps have no such number: their errors are those of rounding, 5e-7.
    """
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    shards = [sweep(device) for device in range(DEVICES)]
    print(json.dumps(compare(shards, steps)), flush=True)


def compare(shards: list[Any], steps: int) -> dict[str, float]:
    """Errors of the parallel step against the pooled oracle."""
    found_loss, found = on_eight_devices(shards, steps)
    loss, parameters, statistics = on_one_device(shards, steps)
    return {
        "loss": abs(found_loss[-1] - loss[-1]),
        "parameters": largest(found.parameters, parameters, scaled=False),
        "statistics": largest(found.statistics, statistics, scaled=False),
        "parameters_relative": largest(found.parameters, parameters, scaled=True),
        "statistics_relative": largest(found.statistics, statistics, scaled=True),
        "loss_value": loss[-1],
    }


if __name__ == "__main__":
    main()
