"""One of the processes of a tiny run, with a fault at some step: a program of its own."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax

from tests.training.tiny_task import TinyBatches, TinyTask, tiny_config
from uov_jax.errors import InputError
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.training import hosts, loop, parallel

FAULTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "hang": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}
LATE = 3.0  # seconds; several beats with --patience 5


class FaultyBatches(TinyBatches):
    """Whose batch of a step does something, before it is agreed on."""

    fault, at, late_at = "", -1, -1

    def __next__(self) -> dict[str, Any]:
        if self._number == self.at:
            if self.fault == "data":
                raise InputError("sweep.bin: truncated")
            if self.fault == "nan":
                self._poison = self._number + 1
            if self.fault in FAULTS:
                FAULTS[self.fault]()
                time.sleep(0.1)
        batch = super().__next__()
        if self._number == self.late_at:
            time.sleep(LATE)  # after what processes agree on before a step
        return batch

    def fingerprint(self) -> str:
        return "other" if self.fault == "files" else super().fingerprint()


class FaultyTask(TinyTask):
    """Adds up what hosts judge, and may fail at it."""

    def __init__(self, fault: str, at: int, pause: float) -> None:
        super().__init__(pause=pause)
        self.fault, self.at, self.late_at = fault, at, -1

    def train_batches(self, num_devices: int) -> FaultyBatches:
        batches = super().train_batches(num_devices)
        batches.__class__ = FaultyBatches
        batches.fault, batches.at = self.fault, self.at  # type: ignore[attr-defined]
        batches.late_at = self.late_at  # type: ignore[attr-defined]
        return batches  # type: ignore[return-value]

    def evaluate(
        self, predict: Any, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        found = super().evaluate(predict, directory, step)
        if self.fault == "validation" and step == self.at:
            raise InputError("sweep 7: truncated")
        judged = share.of(list(range(10)))
        sums = share.sums({"judged": [1.0] * len(judged), "sum": [float(n) for n in judged]})
        return found | sums


def main() -> None:
    """Train with the others; a status of 0 where the run is finished."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("address")
    parser.add_argument("process", type=int)
    parser.add_argument("--fault", default="")
    parser.add_argument("--at", type=int, default=-1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--late-at", type=int, default=-1, help="step whose batch comes late")
    parser.add_argument("--steps-between", type=int, default=3)
    parser.add_argument("--patience", type=float, default=60.0)
    options = parser.parse_args()
    config = tiny_config(options.directory.parent / "cache")
    config.run.checkpoint_every_steps = options.steps_between
    if options.fault == "seed":
        config.seed = 1
    parallel.start_hosts(options.address, 2, options.process, host_timeout=options.patience)
    with hosts.ending_together():
        task = FaultyTask(options.fault, options.at, options.pause)
        task.late_at = options.late_at
        result = loop.train(task, config, options.directory)
        print("metrics", result.metrics, flush=True)
    jax.distributed.shutdown()
    raise SystemExit(0 if result.finished else 128 + (result.signal or 0))


if __name__ == "__main__":
    main()
