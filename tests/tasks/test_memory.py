"""Memory of long runs: of the training process and of its workers, over steps and evaluations."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from uov_jax import sparse
from uov_jax.tasks.build import build_task
from uov_jax.training.loop import train

PROCESSES = Path("/proc")
EVALUATIONS, STEPS_BETWEEN = 300, 10
# Every allocator's pools are full by the first of these windows. Where a step is in flight, a
# twelfth more is resident: the lower quartiles are of where none is.
EARLY, LATE = slice(60, 180), slice(180, 300)
GROWTH = 1.02


def resident(pid: int | str) -> int:
    """Bytes of a process that are in memory."""
    pages = (PROCESSES / str(pid) / "statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def quartile(values: Sequence[int]) -> float:
    """The lower one."""
    return float(np.quantile(values, 0.25))


def workers() -> list[int]:
    """Process ids of this process's children that have the package loaded, in their order."""
    found = []
    for folder in PROCESSES.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and "_engine" in (folder / "maps").read_text():
                found.append(int(folder.name))
        except OSError:  # it is gone
            continue
    return sorted(found)


def watched_training(config: ConfigDict, directory: Path) -> list[list[int]]:
    """Train as scripts/train.py does; bytes of this process and its workers, by evaluation."""
    sparse.keep_freed_memory()
    task = build_task(config)
    config.run.evaluate_every_epochs = STEPS_BETWEEN / task.train_batches(1).steps_per_epoch
    seen: list[list[int]] = []
    judge = task.evaluate

    def evaluate(*arguments: Any) -> Any:
        found = judge(*arguments)
        gc.collect()
        sparse.give_freed_memory_back()  # as the loop does now
        seen.append([resident("self"), *map(resident, workers())])
        return found

    task.evaluate = evaluate
    assert train(task, config, directory).finished
    return seen


@pytest.mark.slow
@pytest.mark.skipif(not PROCESSES.is_dir(), reason="memory of processes is read in /proc")
def test_memory_stays_flat(tmp_path: Path, dataset: Path, configure: Any) -> None:
    config = configure(
        "tmp_san",
        dumps=str(dataset / "dumps"),
        pairs=(1024, 1024),
        superpoints=(64, 64),
        workers=2,
        worker_processes=True,
    )
    config.total_steps = EVALUATIONS * STEPS_BETWEEN
    config.run.picture_keyframes = 1
    config.run.checkpoint_every_steps = 100
    # A process of its own: what it allocates is not mixed with what other tests left.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        seen = process.submit(watched_training, config, tmp_path / "run").result()
    assert len(seen) == EVALUATIONS
    early, late = zip(*seen[EARLY], strict=True), zip(*seen[LATE], strict=True)
    of_process = list(zip(map(quartile, early), map(quartile, late), strict=True))
    assert len(of_process) == 1 + 2, "this process and its workers"
    print("lower quartiles, MB:", [[round(b / 1e6, 1) for b in pair] for pair in of_process])
    for before, after in of_process:
        assert after <= GROWTH * before, of_process
