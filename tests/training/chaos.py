"""A short real pre-training that is killed again and again, as a program and from outside.

The recipe is `configs/tmp_san.py` on the tiny dataset: its own loader, augmentation, plans, norms,
loss, optimiser, evaluation and checkpoints, with the family's smallest network: on one device, or
on two, of one process or one each of two.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from tests.tasks.test_tri_modal import tiny_config
from tests.tiny_dataset import write_dataset, write_dumps
from tests.training.test_parallel import free_port, start
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.tasks.build import build_task
from uov_jax.training import hosts, loop, parallel
from uov_jax.vocabulary import load_vocabulary

KEYFRAMES = 12  # of the training split, two a step
HOST_TIMEOUT = 4.0  # seconds
WAIT = 300.0  # seconds, for anything at all


def write_data(root: Path, keyframes: int = KEYFRAMES) -> Path:
    """Dataset and dumps of the run, of so many keyframes a split."""
    write_dataset(root, keyframes=keyframes)
    tables = NuScenesTables(root, "v1.0-mini")
    every = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", every, load_vocabulary())
    return root


def main() -> None:
    """Train, as the command does; the status is 0 for a finished run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker-processes", action="store_true")
    parser.add_argument("--address")
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    config = tiny_config(options.data, options.data.parent / "compiled")
    config.batch_size, config.total_steps = options.devices, options.steps
    config.data.update(workers=options.workers, worker_processes=options.worker_processes)
    config.run.checkpoint_every_steps = 2
    config.run.evaluate_every_epochs = options.devices - 1.0  # compiling it takes long
    config.run.update(validation_keyframes=2, picture_keyframes=0)
    if options.address:
        parallel.start_hosts(options.address, 2, options.process, host_timeout=HOST_TIMEOUT)
    with hosts.ending_together():
        result = loop.train(build_task(config), config, options.directory)
    jax.distributed.shutdown()
    raise SystemExit(0 if result.finished else 128 + (result.signal or 0))


@dataclasses.dataclass
class Chaos:
    """Somebody who kills a run.

    Attributes:
        directory: of the run.
        data: of `write_data`.
        total: steps of the run.
        devices: of it, each with a sweep a step.
        dice: all chance.
        log: what was done, a line a kill.
        in_saves: kills that left a half written checkpoint.

    """

    directory: Path
    data: Path
    total: int
    devices: int
    dice: random.Random
    log: list[str] = dataclasses.field(default_factory=list)
    in_saves: int = 0
    rests_before: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    def launch(self, hosts: int, worker_processes: int = 0) -> list[subprocess.Popen[str]]:
        """Start the run on one process, or on two of one device each.

        The workers are so many processes, or whatever chance says.
        """
        workers = worker_processes or self.dice.randrange(4)
        options = ["--workers", str(workers)]
        if worker_processes or (workers and self.dice.random() < 0.25):
            options.append("--worker-processes")
        self.log.append(f"{hosts} process(es), {' '.join(options)}: ")
        self.rests_before = self.rests()
        common = [str(self.directory), str(self.data), "--steps", str(self.total), *options]
        common += ["--devices", str(self.devices)]
        if hosts == 1:
            return [start("chaos.py", *common, devices=self.devices)]
        address = f"localhost:{free_port()}"
        return [
            start("chaos.py", *common, "--address", address, "--process", str(n), devices=1)
            for n in range(2)
        ]

    def steps(self) -> int:
        """Steps that the log has."""
        path = self.directory / "metrics.csv"
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        numbers = [line.partition(",")[0] for line in lines]
        return max((int(number) for number in numbers if number.isdigit()), default=0)

    def rests(self) -> set[tuple[str, int]]:
        """Names and numbers of folders of checkpoints that are, or were, being written."""
        folder = self.directory / "checkpoints"
        if not folder.is_dir():
            return set()
        with os.scandir(folder) as entries:
            return {(e.name, e.inode()) for e in entries if ".orbax-checkpoint-tmp" in e.name}

    def half_written(self) -> bool:
        """Whether the processes launched last are writing a checkpoint, or were when killed."""
        return bool(self.rests() - self.rests_before)

    def kill_at_any_moment(self) -> None:
        """While it starts, or some steps later."""
        (process,) = self.launch(1)
        if self.dice.random() < 0.2:
            time.sleep(self.dice.uniform(0.0, 4.0))
        else:
            more = self.steps() + self.dice.randint(1, 4)
            self.wait(lambda: self.steps() >= more, process)
            time.sleep(self.dice.uniform(0.0, 0.3))
        self.end(process)

    def kill_while_it_saves(self) -> None:
        """Half a checkpoint is there afterwards, surely."""
        before = self.in_saves
        while self.in_saves == before:
            (process,) = self.launch(1)
            self.wait(self.half_written, process)
            self.end(process)

    def kill_one_of_two(self) -> None:
        """The other one ends by itself."""
        both = self.launch(2)
        more = self.steps() + self.dice.randint(1, 3)
        self.wait(lambda: self.steps() >= more, both[0])
        chosen = self.dice.randrange(2)
        both[chosen].send_signal(signal.SIGKILL)
        other = both[1 - chosen]
        output, _ = other.communicate(timeout=WAIT)
        both[chosen].communicate()
        self.log[-1] += f"killed process {chosen} at step {self.steps()}"
        assert other.returncode != 0, output
        said = "leader task was preempted" if chosen == 0 else "is lost: it has shown no sign"
        assert said in output, output

    def end(self, process: subprocess.Popen[str]) -> None:
        """Kill it, and note where."""
        process.kill()
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        self.in_saves += self.half_written()
        where = " in a save" if self.half_written() else ""
        self.log[-1] += f"killed at step {self.steps()}{where}"

    def wait(self, for_what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """Wait until something is so, or the process has ended."""
        deadline = time.monotonic() + WAIT
        while not for_what() and process.poll() is None:
            assert time.monotonic() < deadline, "\n".join(self.log)
            time.sleep(0.002)

    def finish(self) -> dict[str, np.ndarray]:
        """Let it come to its end."""
        (process,) = self.launch(1)
        output, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0, output
        return read_arrays(self.directory / "checkpoints" / str(self.total))


if __name__ == "__main__":
    sys.exit(main())
