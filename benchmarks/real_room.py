"""What one scan of a room costs: `python -m benchmarks.real_room scene0000_00.bin`.

The file holds float32 rows of x, y, z in metres and red, green, blue from 0 to 255. Every part
runs in a process of its own, whose peak of memory is printed beside the time: voxels of 2 cm and
their plan, a training step of ESG and a prediction (MinkUNet18A), and a picture of four panels.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.report import table
from uov_jax.checkpoints import state
from uov_jax.config import load_config
from uov_jax.datasets.rooms import RoomWriter
from uov_jax.fusion.features import FeatureManifest, FeatureWriter
from uov_jax.input.whole_room import room_input
from uov_jax.pictures.room import room_picture
from uov_jax.tasks.build import build_task
from uov_jax.training import step
from uov_jax.training.optimizer import sgd
from uov_jax.training.parallel import Parallel
from uov_jax.vocabulary import load_vocabulary

ROOM, TWIN = "scene0000_00", "scene0000_01"  # a room is not judged on that was trained on
# Of 40,684 points, which the scan at hand was thinned to: 40,348 voxels.
VOXELS = 48_000
REPEATS = 5
RECIPE = Path(__file__).parents[1] / "configs" / "esg_scannet.py"
SIZE = 768


def write_room(file: Path, folder: Path) -> None:
    """A store with the room, and features made up of where its points are, for two in three."""
    rows = np.fromfile(file, np.float32).reshape(-1, 6)
    vocabulary = load_vocabulary("scannet")
    coords = np.ascontiguousarray(rows[:, :3])
    # No labels come with it; a class by height lets the prediction be judged.
    labels = np.clip(coords[:, 2] * 6, 1, 20).astype(np.uint8)
    writer = RoomWriter(folder / "store", "scannet", vocabulary)
    splits = {"train": ROOM, "val": TWIN}
    for split, name in splits.items():
        writer.write(name, coords, rows[:, 3:].astype(np.uint8), labels)
        writer.write_split(split, [name])
    rng = np.random.default_rng(0)
    text = rng.standard_normal((len(vocabulary), SIZE)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    manifest = FeatureManifest("made up", "", SIZE, "scannet", "scannet", vocabulary.hash)
    views = (rng.random(len(coords)) < 2 / 3).astype(np.uint16)
    features = FeatureWriter(folder / "features", manifest, text)
    for name in splits.values():
        features.write(name, views, (10 * text[labels[views > 0] - 1]).astype(np.float16))


def room_config(folder: Path, cache: Path) -> ConfigDict:
    """The recipe of ESG for that one room."""
    config = load_config(str(RECIPE))
    with config.unlocked():
        config.batch_size = config.total_steps = 1
        config.data.update(
            root=str(folder / "store"),
            features=str(folder / "features"),
            voxels=(VOXELS, VOXELS),
            workers=0,
        )
        config.run.update(tensorboard=False, compilation_cache=str(cache))
    return config


def seconds_of(call: Callable[[], Any]) -> float:
    """The median of a few calls after one that may compile."""
    jax.block_until_ready(call())
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return sorted(found)[REPEATS // 2]


class RoomRun:
    """The recipe's network on the room, fresh from its seed."""

    def __init__(self, folder: Path) -> None:
        """Open the room and put the weights on one device."""
        self.config = room_config(folder, folder / "cache")
        self.task: Any = build_task(self.config)
        self.parallel = Parallel(jax.devices()[:1])
        self.skeleton, parameters, statistics = state.split(step.initial_model(self.task, 0))
        self._rate = functools.partial(jnp.full, (), 1e-3)
        self.optimizer = sgd(lambda _: self._rate(), momentum=0.9)
        first = state.create(parameters, statistics, self.optimizer)
        self.state = self.parallel.replicate(jax.device_get(first))

    def training(self) -> Callable[[], Any]:
        """A step further with one batch."""
        own = step.training_step(self.task, self.skeleton, self.optimizer, lambda _: self._rate())
        train = self.parallel.spread(own)
        batch = next(iter(self.task.train_batches(1).starting_at(0)))

        def call() -> Any:
            self.state, metrics = train(self.state, self.parallel.shard(batch))
            return metrics

        return call

    def prediction(self) -> Callable[[], Any]:
        """The room's output, its plan at hand."""
        predict = self.parallel.in_turn(state.prediction(self.skeleton))
        inputs = self.task._evaluation_sample(TWIN)["inputs"]
        return lambda: predict(self.state, inputs)

    def plan(self) -> Callable[[], Any]:
        """Voxels and their plan."""
        room, side = self.task.data.store.room(TWIN), self.task.voxel_size
        return lambda: room_input(room, self.task.plans, side)["inputs"]

    def picture(self) -> Callable[[], Any]:
        """The room's colours, two labellings and the errors of one of them."""
        room, vocabulary = self.task.data.store.room(TWIN), load_vocabulary("scannet")
        truth = np.asarray(room.labels)
        panels = {"prediction": np.roll(truth, 1), "truth": truth}

        def call() -> None:
            with tempfile.TemporaryDirectory() as folder:
                room_picture(
                    np.asarray(room.coords),
                    panels,
                    vocabulary.colors,
                    Path(folder) / "room.png",
                    point_colors=np.asarray(room.colors),
                )

        return call


PARTS: dict[str, tuple[str, Callable[[RoomRun], Callable[[], Any]]]] = {
    "plan": ("voxels and their plan", RoomRun.plan),
    "step": ("training step", RoomRun.training),
    "prediction": ("prediction", RoomRun.prediction),
    "picture": ("picture", RoomRun.picture),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_room", description=__doc__)
    parser.add_argument("file", type=Path, help="of the scan, or the folder of --only")
    parser.add_argument("--only", choices=PARTS, help="that part, in this process")
    options = parser.parse_args()
    if options.only:
        seconds = seconds_of(PARTS[options.only][1](RoomRun(options.file)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([seconds, peak]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_room(options.file, folder)
        for name, (title, _) in PARTS.items():
            command = [sys.executable, "-m", "benchmarks.real_room", str(folder), "--only", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds, peak = json.loads(done.stdout.splitlines()[-1])
            rows.append([title, f"{seconds:.2f}", f"{peak / 1e9:.1f}"])
    print(table(["part", "seconds", "peak of its process, GB"], rows))


if __name__ == "__main__":
    main()
