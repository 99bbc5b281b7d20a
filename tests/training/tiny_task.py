"""A task small enough to train in a second, in this process or as a program of its own."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.training.loop import train


class TinyModel(nnx.Module):
    """Linear, batch norm over all devices, linear."""

    def __init__(self, axis_name: str | None, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, axis_name=axis_name, rngs=rngs)
        self.final = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, features: jax.Array, plan: Any = None) -> jax.Array:
        return self.final(jnp.tanh(self.norm(self.first(features))))


class TinyBatches:
    """Batches that depend on their number alone."""

    def __init__(self, num_devices: int, first_device: int, poison: int, pause: float) -> None:
        self.steps_per_epoch = 5
        self._shape = (num_devices, 8, 4)
        self._first_device = first_device
        self._poison = poison
        self._pause = pause
        self._number = 0
        self._agree: Any = None
        self.wait_seconds = 0.0

    def __iter__(self) -> TinyBatches:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        time.sleep(self._pause)
        self._number += 1
        devices = range(self._first_device, self._first_device + self._shape[0])
        rows = [np.random.default_rng([self._number, device]) for device in devices]
        features = np.stack([rng.standard_normal(self._shape[1:]) for rng in rows])
        if self._number == self._poison:
            features[:] = np.nan
        self.wait_seconds = time.perf_counter() - began
        if self._agree is not None:
            self._agree(self._number - 1, 0)
        return {"features": features.astype(np.float32)}

    def starting_at(self, step: int, agree: Any = None) -> TinyBatches:
        self._number = step
        self._agree = agree
        return self

    def fingerprint(self) -> str:
        return "tiny"


class TinyTask:
    """Regression onto a fixed function of the features."""

    title = "Tiny task"
    unit = "sweeps"

    def __init__(self, poison: int = -1, pause: float = 0.0) -> None:
        self.poison = poison
        self.pause = pause
        self.evaluated: list[int] = []

    def card(self) -> None:
        """None: it is of no clouds."""

    def identity(self) -> dict[str, str]:
        return {"teacher": "none"}

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return TinyModel(axis_name, rngs)

    def initialize(self, model: nnx.Module) -> None:
        pass

    def train_batches(self, num_devices: int) -> TinyBatches:
        first = num_devices * jax.process_index()
        return TinyBatches(num_devices, first, self.poison, self.pause)

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        features = batch["features"]
        error = model(features) - jnp.sin(3.0 * features[:, :2])
        loss = jnp.mean(jnp.square(error))
        return loss, {"largest_error": jnp.max(jnp.abs(error))}

    def evaluate(
        self, predict: Any, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        self.evaluated.append(step)
        features = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
        output = np.asarray(predict({"features": features}))
        return {"score": float(np.mean(output)), "validation_loss": float(np.std(output))}

    def score(self, metrics: dict[str, float]) -> float | None:
        return metrics["score"]

    def parameter_group(self, path: str) -> str:
        return "head" if path.startswith("final.") else "trunk"


def tiny_config(cache: Path) -> ConfigDict:
    return ConfigDict(
        {
            "task": "tiny",
            "seed": 0,
            "batch_size": 4,
            "total_epochs": 4,
            "total_steps": None,
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.1,
                "head_learning_rate": 0.2,
                "momentum": 0.9,
                "dampening": 0.1,
                "weight_decay": 1e-3,
            },
            "schedule": {"name": "cosine", "per": "epoch"},
            "run": {
                "log_every_steps": 1,
                "checkpoint_every_steps": 3,
                "checkpoint_every_minutes": 0.0,
                "keep_checkpoints": 1,
                "evaluate_every_epochs": 2,
                "tensorboard": False,
                "wandb_project": "",
                "profile_steps": 0,
                "compilation_cache": str(cache),
            },
        }
    )


def main() -> None:
    """Train in a process of its own; it may be killed, or be one of several."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--address")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    if options.address:
        from uov_jax.training import parallel

        parallel.start_hosts(options.address, options.processes, options.process)
    config = tiny_config(options.directory.parent / "cache")
    train(TinyTask(pause=options.pause), config, options.directory)


if __name__ == "__main__":
    main()
