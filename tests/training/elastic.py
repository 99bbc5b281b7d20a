"""A run that goes from eight devices to four and back, beside one that stays; prints what differs.

Everything but the size of network and dataset is the recipe's, `configs/tmp_san.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.tasks.test_tri_modal import tiny_config
from tests.training.chaos import write_data
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.tasks.build import build_task
from uov_jax.training import loop

KEYFRAMES, BATCH, STEPS = 24, 8, 9  # three epochs of three steps
RATE = 0.05
FIRST, SECOND = 2, 5  # steps after which the devices change
# No input of a ReLU in the steps after a change is so near to 0 that sums in another order change
# its sign.
SEED = 1


class Stopping:
    """Batches of which one lets the run stop after it."""

    def __init__(self, batches: Any, last: int) -> None:
        self.steps_per_epoch = batches.steps_per_epoch
        self._batches, self._last = batches, last

    def starting_at(self, step: int) -> Any:
        self._iterator, self._step = self._batches.starting_at(step), step
        return self

    @property
    def wait_seconds(self) -> float:
        return self._iterator.wait_seconds

    def __next__(self) -> Any:
        batch = next(self._iterator)
        self._step += 1
        if self._step == self._last:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch


def train(data: Path, directory: Path, devices: int, last: int) -> list[int]:
    """Train on so many devices up to a step; the samples that were built, in their order."""
    config = tiny_config(data, data.parent / "compiled")
    config.batch_size, config.total_steps, config.seed = BATCH, STEPS, SEED
    config.optimizer.learning_rate = RATE
    config.data.update(workers=0, val_split="")
    config.run.update(checkpoint_every_steps=1, keep_checkpoints=99, evaluate_every_epochs=0.0)
    task: Any = build_task(config)
    built: list[int] = []
    sample, batches = task.source.sample, task.train_batches

    def noted(index: int, rng: np.random.Generator) -> Any:
        built.append(index)
        return sample(index, rng)

    task.source.sample = noted
    if last < STEPS:
        task.train_batches = lambda number: Stopping(batches(number), last)
    result = loop.train(task, config, directory, jax.local_devices()[:devices])
    assert result.step == last
    return built


def difference(a: Path, b: Path, step: int) -> dict[str, float]:
    """Largest differences between two checkpoints of a step, by their parts.

    Of the parameters; of the statistics, over the largest number of their array; and of how far the
    optimizer moves parameters in the next step.
    """
    found, expected = (read_arrays(path / "checkpoints" / str(step)) for path in (a, b))
    assert found.keys() == expected.keys()
    worst: dict[str, float] = {}
    for name, array in expected.items():
        part = name.partition("/")[0]
        wrong = np.abs(np.asarray(found[name], np.float64) - np.asarray(array, np.float64)).max()
        if part == "statistics":
            wrong /= np.abs(array).max()
        elif part == "optimizer":
            wrong *= RATE
        worst[part] = max(worst.get(part, 0.0), float(wrong))
    return worst


def main() -> None:
    """Print one JSON line."""
    root = Path(sys.argv[1])
    data = write_data(root / "data", KEYFRAMES)
    steady, elastic, aside = root / "steady", root / "elastic", root / "aside"
    samples = train(data, elastic, 8, FIRST)
    shutil.copytree(elastic, steady)
    train(data, steady, 8, FIRST + 1)
    samples += train(data, elastic, 4, SECOND)
    shutil.copytree(elastic, aside)
    train(data, aside, 4, SECOND + 1)
    samples += train(data, elastic, 8, STEPS)
    moved = difference(elastic, steady, FIRST + 1), difference(elastic, aside, SECOND + 1)
    print(json.dumps({"samples": samples, "to_four": moved[0], "to_eight": moved[1]}), flush=True)


if __name__ == "__main__":
    main()
