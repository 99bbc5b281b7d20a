"""One step of rooms' stages on two devices against one that has all rows; prints the errors.

The devices have different numbers of rows that take part, in one case none at all.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from flax import nnx

from tests.tasks.room_recipe import Pointwise
from uov_jax.checkpoints import state
from uov_jax.models.adapter import FeatureAdapter
from uov_jax.tasks.esg import Distillation
from uov_jax.tasks.ess import Specialisation
from uov_jax.training import parallel, step
from uov_jax.training.optimizer import build_optimizer

ROWS, SIZE, RATE = 60, 16, 0.5
CASES = {"some": (0.9, 0.1), "none": (0.5, 0.0)}  # shares of rows that take part, by device


class Guidance(Distillation):
    """The loss of ESG with a network that has no neighbours."""

    def __init__(self) -> None:
        pass

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return Pointwise(rngs, SIZE)

    @staticmethod
    def shard(rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
        return {
            "features": rng.standard_normal((ROWS, 3)).astype(np.float32),
            "plan": np.zeros(0, np.int32),
            "target": rng.standard_normal((ROWS, SIZE)).astype(np.float16),
            "seen": rng.random(ROWS) < share,
        }


class Words(Specialisation):
    """The loss of ESS with five words of four classes."""

    def __init__(self) -> None:
        text = np.random.default_rng(3).standard_normal((5, SIZE)).astype(np.float32)
        self.text = text / np.linalg.norm(text, axis=1, keepdims=True)
        self.word_class = np.array([1, 1, 2, 3, 4], np.int32)

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return FeatureAdapter(SIZE, rngs=rngs)

    @staticmethod
    def shard(rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
        labels = rng.integers(1, 5, ROWS).astype(np.uint8)
        labels[rng.random(ROWS) >= share] = 0
        return {
            "features": (3 * rng.standard_normal((ROWS, SIZE))).astype(np.float16),
            "labels": labels,
        }


def one_step(task: Any, batch: dict[str, np.ndarray]) -> tuple[dict[str, float], Any]:
    """Metrics and parameters after a step on as many devices as the batch has shards."""
    devices = parallel.Parallel(jax.local_devices()[: len(next(iter(batch.values())))])
    skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
    groups = dict.fromkeys(parameters, "trunk")
    config = {"name": "sgd", "learning_rate": RATE, "momentum": 0.0, "weight_decay": 0.0}
    optimizer, rate = build_optimizer(config, {"name": "constant"}, groups, 10, 10, 2)
    run = devices.spread(step.training_step(task, skeleton, optimizer, rate))
    begin = devices.replicate(jax.device_get(state.create(parameters, statistics, optimizer)))
    end, metrics = run(begin, devices.shard(batch))
    found = {name: float(value) for name, value in devices.first(metrics).items()}
    return found, devices.first(end).parameters


def compare(task: Any, shares: tuple[float, ...]) -> dict[str, float]:
    """Differences of everything, and how many rows took part."""
    rng = np.random.default_rng(5)
    shards = [task.shard(rng, share) for share in shares]
    apart = {name: np.stack([shard[name] for shard in shards]) for name in shards[0]}
    together = {name: np.concatenate([shard[name] for shard in shards])[None] for name in shards[0]}
    (found, parameters), (expected, others) = (one_step(task, b) for b in (apart, together))
    assert found.keys() == expected.keys()
    errors = {name: abs(found[name] - expected[name]) for name in expected}
    errors["parameters"] = max(
        float(np.max(np.abs(parameters[name] - others[name]))) for name in others
    )
    takes_part = apart["seen"] if "seen" in apart else apart["labels"] > 0
    counted = expected["seen_voxels" if "seen" in apart else "labelled_points"]
    errors["miscounted"] = abs(counted - np.count_nonzero(takes_part))
    return errors | {"loss_value": expected["loss"], "gradient_value": expected["gradient_norm"]}


def main() -> None:
    """Print the errors as one JSON line."""
    tasks: dict[str, Any] = {"esg": Guidance(), "ess": Words()}
    found = {
        f"{name}, {case}": compare(task, shares)
        for name, task in tasks.items()
        for case, shares in CASES.items()
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
