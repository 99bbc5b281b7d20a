"""Samples a second and core of the input pipeline: `python -m benchmarks.loader --root DATASET`.

Batches of pre-training and of segmentation are built by one thread, which is kept on one core, as a
worker process builds them. What counts is the thread's own processor time: what else the machine
does disturbs it little. `--against CHECKOUT` takes turns with another checkout of this repository
whose engine is built, and gives the ratio of each pair of turns. A table says where the time goes.

The dataset has nuScenes' format, `scripts/simulate.py` makes one; without labels (a lone keyframe)
labels are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report

HERE = Path(__file__).parents[1]
TASKS = {"tri_modal": "pre-training", "segmentation": "segmentation"}


class Process:
    """A process that builds batches with the package of one checkout."""

    def __init__(self, checkout: Path, core: int) -> None:
        """Start it on a core."""
        environment = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "benchmarks" / "loader_side.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {core})

    def build(self, settings: dict[str, Any], repeats: int, stages: bool = False) -> dict[str, Any]:
        """What it takes to build some batches; see `loader_side.Side.build`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"settings": settings, "repeats": repeats, "stages": stages}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def measure(
    settings: dict[str, Any], sides: list[Process], rounds: int, batches: int
) -> tuple[list[str], dict[str, float]]:
    """The cells of a table's row, and milliseconds a sample by stage of the first side."""
    samples = batches * settings["batch"]
    times: list[list[float]] = [[] for _ in sides]
    for number in range(-1, rounds):
        for side, taken in zip(sides, times, strict=True):
            seconds = side.build(settings, batches)["seconds"]
            if number >= 0:  # the first round reads files into the system's cache
                taken.append(seconds)
    own = median(times[0]) / samples
    cells = [f"{1e3 * own:.2f}", f"{1 / own:.0f}"]
    for other in times[1:]:
        ratios = [theirs / ours for ours, theirs in zip(times[0], other, strict=True)]
        cells += [f"{1 / (median(other) / samples):.0f}", f"{median(ratios):.2f}"]
    stages = sides[0].build(settings, batches * rounds, stages=True)["stages"]
    return cells, {name: 1e3 * t / (samples * rounds) for name, t in stages.items()}


def main() -> None:
    """Print two tables: rates, and milliseconds of a sample by stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="a dataset in nuScenes' format")
    parser.add_argument("--version", default="v1.0-sim")
    parser.add_argument("--split", default="sim_train")
    parser.add_argument(
        "--dumps", type=Path, help="of its teacher; ROOT/dumps/simulated by default"
    )
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    sides = [Process(HERE, options.core)]
    header = ["", "ms", "a second"]
    if options.against is not None:
        sides.append(Process(options.against, options.core))
        header += ["a second, there", "ratio"]
    rows, stages = [], {}
    for task, title in TASKS.items():
        for deferred in (True, False):
            settings = {
                "task": task,
                "root": str(options.root),
                "version": options.version,
                "split": options.split,
                "dumps": str(options.dumps or options.root / "dumps" / "simulated"),
                "batch": options.batch,
                "deferred": deferred,
            }
            name = f"{title}, plans on the {'device' if deferred else 'host'}"
            cells, stages[name] = measure(settings, sides, options.rounds, options.batches)
            rows.append([name, *cells])
    for side in sides:
        side.close()
    print(", ".join(f"{key} {value}" for key, value in report.machine().items()))
    print(f"{options.root}, batches of {options.batch}, medians of {options.rounds} turns\n")
    _print_table(header, rows)
    names = list(dict.fromkeys(stage for times in stages.values() for stage in times))
    _print_table(
        ["ms a sample", *names],
        [
            [name, *(f"{times.get(each, 0):.2f}" for each in names)]
            for name, times in stages.items()
        ],
    )


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    main()
