"""Validation shared by two processes gives each the metrics of one that judges all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.job_array import Shard
from uov_jax.tasks.build import build_task


def shared(task: Any, predict: Any, directory: Path) -> list[dict[str, float]]:
    """What each of two processes says, which are threads here."""
    told: dict[int, Any] = {}
    barrier = Barrier(2)

    def evaluate(process: int) -> dict[str, float]:
        def gather(value: Any) -> list[Any]:
            told[process] = value
            barrier.wait(60)
            found = [told[0], told[1]]
            barrier.wait(60)
            return found

        return task.evaluate(predict, directory, 4, Share(Shard(process + 1, 2), gather))

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(evaluate, process) for process in range(2)]
    return [future.result() for future in found]


@pytest.mark.parametrize("recipe", ["tmp_san", "annotation_free_san"])
def test_two_processes_find_what_one_finds(
    tmp_path: Path, configure: Any, dataset: Path, recipe: str
) -> None:
    data: dict[str, Any] = {}
    if recipe == "tmp_san":
        data = {"dumps": str(dataset / "dumps"), "pairs": (1024, 1024), "superpoints": (64, 64)}
    task: Any = build_task(configure(recipe, **data))
    channels = 16 if recipe == "tmp_san" else len(task.classes)
    rows = jnp.asarray(np.random.default_rng(0).standard_normal((1, channels)), jnp.float32)

    def predict(inputs: Any) -> Any:
        """Any function of a voxel's feature."""
        output = jnp.sin(40.0 * jnp.asarray(inputs["features"]) * rows) + rows
        return output / jnp.linalg.norm(output, axis=1, keepdims=True)

    for name in ("alone", "shared"):
        (tmp_path / name).mkdir()
    alone = task.evaluate(predict, tmp_path / "alone", 4, WHOLE)
    assert len(alone) > 4
    first, second = shared(task, predict, tmp_path / "shared")
    assert first == second == alone
    for name in ("pictures", "tables"):
        made = [{p.name for p in (tmp_path / d / name).iterdir()} for d in ("alone", "shared")]
        assert made[0] == made[1]
    table = "tables/step_0000004.txt"
    assert (tmp_path / "alone" / table).read_text() == (tmp_path / "shared" / table).read_text()
