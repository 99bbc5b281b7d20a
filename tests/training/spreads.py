"""One step of eight sweeps in every spread over shards, devices and micro-batches; prints errors.

The networks have no neighbours and no norms, so that all spreads are the same step but for the
rounding of sums, micro-batches too.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses, sparse
from uov_jax.checkpoints import state
from uov_jax.input.segmentation import SegmentationSample
from uov_jax.input.tri_modal import TriModalSample
from uov_jax.tasks.segmentation import Segmentation
from uov_jax.tasks.tri_modal import TriModalPretraining
from uov_jax.training import parallel, step
from uov_jax.training.optimizer import build_optimizer

SWEEPS, SIZE, CLASSES, RATE = 8, 12, 5, 0.5
# Devices and micro-batches, by the size of shards: whole ones, and such as 4 devices hold together.
SPREADS = {1: ((2, 1), (2, 2), (8, 1)), 4: ((2, 1), (8, 1), (4, 2))}
TEXT = np.random.default_rng(7).standard_normal((6, SIZE)).astype(np.float32) + 1.0


class Pointwise(nnx.Module):
    """Waves of the intensity; unit rows for pre-training."""

    def __init__(self, rngs: nnx.Rngs, channels: int, unit: bool) -> None:
        self.kernel = nnx.Param(3 * jax.random.normal(rngs.params(), (1, channels)))
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (1, channels)))
        self.unit = unit

    def __call__(self, features: jax.Array, plan: Any) -> jax.Array:
        wave = jnp.sin(features * self.kernel[...] + self.bias[...])
        return sparse.unit_rows(wave, plan.counts[0]) if self.unit else 2 * wave


class Sweeps:
    """Eight sweeps of different sizes, as samples of both tasks."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return SWEEPS

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        del rng
        own = np.random.default_rng(index)
        voxels = int(own.integers(20, 60))
        cells = own.permutation(10**3)[:voxels]
        coords = np.stack(np.unravel_index(cells, (10, 10, 10)), axis=1).astype(np.int32)
        features = own.random((voxels, 1)).astype(np.float32)
        return self.make(own, token=str(index), coords=coords, features=features)


def masks(rng: np.random.Generator, coords: np.ndarray, **facts: Any) -> TriModalSample:
    """A sweep with some masks, each of which has a pair."""
    superpoints, pairs = int(rng.integers(2, 9)), 40
    owner = rng.integers(0, superpoints, pairs)
    owner[:superpoints] = np.arange(superpoints)
    return TriModalSample(
        coords=coords,
        pair_voxel=rng.integers(0, len(coords), pairs).astype(np.int32),
        pair_superpoint=owner.astype(np.int32),
        superpoint_word=rng.integers(-1, len(TEXT), superpoints).astype(np.int32),
        superpoint_embedding=rng.standard_normal((superpoints, SIZE)).astype(np.float16),
        **facts,
    )


def labels(rng: np.random.Generator, coords: np.ndarray, **facts: Any) -> SegmentationSample:
    """A sweep with labels of some classes."""
    classes = rng.choice(CLASSES, 3, replace=False)
    return SegmentationSample(
        coords=coords, labels=rng.choice(classes, len(coords)).astype(np.uint8), **facts
    )


class Masks(TriModalPretraining):
    """Pre-training of that network."""

    def __init__(self, config: ConfigDict) -> None:
        self.config, self.source = config, Sweeps(masks)
        self.text = TEXT
        self.text_targets = losses.soft_text_targets(TEXT, np.array([0, 0, 1, 1, 2, 2]))

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return Pointwise(rngs, SIZE, unit=True)


class Labels(Segmentation):
    """Segmentation by that network."""

    def __init__(self, config: ConfigDict) -> None:
        self.config, self.source = config, Sweeps(labels)
        self.frozen_trunk = False

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return Pointwise(rngs, CLASSES, unit=False)


def one_step(make: Any, devices: int, **fields: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and parameters after a step."""
    config = ConfigDict(
        {
            "task": "tri_modal or segmentation",
            "seed": 0,
            "batch_size": SWEEPS,
            **fields,
            "data": {
                "voxels": (160, 160),
                "pairs": (64, 64),
                "superpoints": (8, 8),
                "workers": 0,
                "worker_processes": False,
                "plans": "host",
            },
            "model": {"variant": "res16unet34c"},
            "loss": {"temperature": 0.07, "image_weight": 0.5, "text_weight": 0.5},
        }
    )
    task = make(config)
    spread = parallel.Parallel(jax.local_devices()[:devices])
    batch = next(task.train_batches(devices).starting_at(0))
    skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
    rates = {"name": "sgd", "learning_rate": RATE, "momentum": 0.0, "weight_decay": 0.0}
    groups = dict.fromkeys(parameters, "trunk")
    optimizer, rate = build_optimizer(rates, {"name": "constant"}, groups, 10, 10, SWEEPS)
    micro_batches = fields.get("accumulate_steps", 1)
    run = step.spread_step(task, skeleton, optimizer, rate, spread, parameters, micro_batches)
    begin = spread.replicate(jax.device_get(state.create(parameters, statistics, optimizer)))
    for _ in range(2):  # The second one finds the sums of micro-batches empty again.
        begin, metrics = run(begin, spread.shard(batch))
    found = {name: float(value) for name, value in spread.first(metrics).items()}
    return found, spread.first(begin).parameters


def compare(make: Any, size: int) -> dict[str, dict[str, float]]:
    """Errors of spreads of shards of a size against one device with all of them."""
    expected, others = one_step(make, 1, sweeps_per_shard=size)
    found = {"one device": expected}
    for devices, micro_batches in SPREADS[size]:
        fields = {"accumulate_steps": micro_batches, "gather_shards": size > 1}
        metrics, parameters = one_step(make, devices, sweeps_per_shard=size, **fields)
        assert metrics.keys() == expected.keys()
        errors = {name: abs(metrics[name] - expected[name]) for name in expected}
        errors["parameters"] = max(
            float(np.max(np.abs(parameters[name] - others[name]))) for name in others
        )
        found[f"{devices} devices, {micro_batches} micro-batches"] = errors
    return found


def main() -> None:
    """Print everything as one JSON line: errors by task, size of shards, and spread."""
    found = {
        f"{make.__name__}, {size} to a shard": compare(make, size)
        for make in (Masks, Labels)
        for size in SPREADS
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
