"""Samples a second and core of the input pipeline: `python -m benchmarks.loader --root DATASET`.

Batches of pre-training and of segmentation are built by one thread, which is kept on one core, as a
worker process builds them. What counts is the thread's own processor time: what else the machine
does disturbs it little. `--against CHECKOUT` takes turns with another checkout of this repository
whose engine is built, and gives the ratio of each pair of turns. A table says where the time goes.

The dataset has nuScenes' format, `scripts/simulate.py` makes one; without labels or dumps (a lone
keyframe) they are drawn at random, masks as the cells of points in the images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from benchmarks import report
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.dumps.folder import DumpFolder, DumpManifest, image_sizes
from uov_jax.vocabulary import load_vocabulary

HERE = Path(__file__).parents[1]
TASKS = {"tri_modal": "pre-training", "segmentation": "segmentation"}
# Of drawn dumps: what a teacher finds in a street, and the size of CLIP's embeddings.
MASKS, EMBEDDING = 60, 512


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


def draw_dumps(options: argparse.Namespace, folder: Path) -> Path:
    """Write dumps of all keyframes that a teacher may have written; returns the folder."""
    rng, vocabulary = np.random.default_rng(0), load_vocabulary()
    keyframes = NuScenesTables(options.root, options.version).keyframes(options.split)
    manifest = DumpManifest(
        teacher="drawn",
        weights_hash="0" * 64,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        embedding_size=EMBEDDING,
        image_sizes=image_sizes(keyframes),
    )
    dumps = DumpFolder.create(folder, manifest, rng.normal(size=(len(vocabulary), EMBEDDING)))
    for keyframe in keyframes:
        cameras = []
        for view in keyframe.cameras:
            size = (view.height, view.width)
            cells = cKDTree(rng.random((MASKS, 2)) * size)
            _, mask = cells.query(np.indices(size).reshape(2, -1).T)
            cameras.append(
                CameraMasks(
                    view.channel,
                    view.token,
                    1 + mask.reshape(size).astype(np.uint16),
                    rng.integers(0, len(vocabulary), MASKS),
                    rng.normal(size=(MASKS, EMBEDDING)),
                )
            )
        dump = TeacherDump("drawn", "0" * 64, vocabulary.hash, keyframe.token, tuple(cameras))
        dumps.write(dump)
    return folder


def main() -> None:
    """Print two tables: rates, and milliseconds of a sample by stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="a dataset in nuScenes' format")
    parser.add_argument("--version", default="v1.0-sim")
    parser.add_argument("--split", default="sim_train")
    parser.add_argument(
        "--dumps", type=Path, help="of its teacher; ROOT/dumps/simulated by default, if it is there"
    )
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.dumps is None:
            options.dumps = options.root / "dumps" / "simulated"
            if not options.dumps.is_dir():
                options.dumps = draw_dumps(options, Path(scratch))
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure what the options say, and print it."""
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
                "dumps": str(options.dumps),
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
