"""One side of `benchmarks/loader.py`: builds batches when it is told to, and says how long it took.

It is a process of its own, for the package of this checkout or of another: so it uses only what
both have.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.datasets.nuscenes import NuScenesSweeps
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.reference import open_dumps
from uov_jax.input.batching import Capacities
from uov_jax.input.loader import train_batches
from uov_jax.input.segmentation import SegmentationSource, collate_segmentation
from uov_jax.input.tri_modal import TriModalSource, collate_tri_modal
from uov_jax.vocabulary import load_vocabulary

# What the time of a batch is counted to, by functions of modules of `uov_jax`, without the time of
# others among them. Names are those of any of the versions: what a side lacks, it does not have.
STAGES = {
    "records": [
        "datasets.nuscenes_tables:Keyframes.__getitem__",
        "datasets.nuscenes_tables:_Cameras.__getitem__",
    ],
    "read": ["datasets.keyframe:read_points", "datasets.nuscenes:true_classes"],
    "dump": ["dumps.folder:DumpFolder.read"],
    "project": ["input.tri_modal:pair_points"],
    "augment": [
        "input.augment:move",
        "input.augment:rotate_about_z",
        "input.augment:flip_axes",
        "input.augment:drop_cuboid",
        "input.augment:crop_images",
    ],
    "group": ["input.tri_modal:group_pairs"],
    "voxels": ["input.tri_modal:voxels_of", "input.segmentation:voxels_of"],
    "merge": ["input.tri_modal:merge_sweeps", "input.segmentation:merge_sweeps"],
    "counts": ["sparse:level_counts", "sparse:smallest_spec"],
    "plan": ["sparse:fill_plan", "sparse:build_plan", "sparse:defer_plan"],
    "collate": ["input.tri_modal:collate_tri_modal", "input.segmentation:collate_segmentation"],
}
REST = "rest"
Times = dict[str, float]


class RandomLabels:
    """Labels by chance, for sweeps that have none."""

    def labels(self, keyframe: Any, num_points: int) -> np.ndarray:
        """uint8[num_points]."""
        del keyframe
        return np.random.default_rng(0).integers(0, 17, num_points).astype(np.uint8)

    def check(self, keyframes: Any) -> None:
        """All sweeps have some."""


class Stopwatch:
    """Where a thread's processor time goes: to the innermost of the stages that it is in."""

    def __init__(self) -> None:
        self.times: Times = {}
        self._stages: list[str] = []
        self._since = time.thread_time()

    def _charge(self) -> None:
        now = time.thread_time()
        stage = self._stages[-1] if self._stages else REST
        self.times[stage] = self.times.get(stage, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Count what is done in it to a stage."""
        self._charge()
        self._stages.append(stage)
        try:
            yield
        finally:
            self._charge()
            self._stages.pop()


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """All functions of the stages report to the watch."""
    replaced = []
    for stage, places in STAGES.items():
        for place in places:
            module, _, name = place.partition(":")
            owner: Any = importlib.import_module(f"uov_jax.{module}")
            *path, name = name.split(".")
            owner = functools.reduce(lambda at, part: getattr(at, part, None), path, owner)
            if owner is None or name not in vars(owner):
                continue
            original = vars(owner)[name]
            replaced.append((owner, name, original))
            setattr(owner, name, timed(watch, stage, original))
    try:
        yield
    finally:
        for owner, name, original in reversed(replaced):
            setattr(owner, name, original)


def timed(watch: Stopwatch, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its time counted to a stage."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with watch.running(stage):
            return function(*arguments, **named)

    return call


class Side:
    """The pipelines of one task on one dataset."""

    def __init__(self, settings: dict[str, Any]) -> None:
        vocabulary = load_vocabulary()
        tables = NuScenesTables(settings["root"], settings["version"])
        keyframes = tables.keyframes(settings["split"])
        self.batch = settings["batch"]
        if settings["task"] == "tri_modal":
            self.source: Any = TriModalSource(keyframes, open_dumps(settings["dumps"], vocabulary))
            self.collate: Any = collate_tri_modal
        else:
            labels = None if keyframes[0].lidarseg_path else RandomLabels()
            self.source = SegmentationSource(NuScenesSweeps(keyframes, vocabulary, labels))
            self.collate = collate_segmentation
        capacities = Capacities.for_sweeps(self.batch)
        self.capacities = capacities.deferred() if settings["deferred"] else capacities
        self.memory = reused_memory()

    def build(self, repeats: int, stages: bool) -> dict[str, Any]:
        """Processor seconds of some batches, and of their stages where asked."""
        watch = Stopwatch()
        if stages:
            with watched(watch), watch.running(REST):
                self._build(repeats)
            return {"seconds": sum(watch.times.values()), "stages": watch.times}
        began = time.thread_time()
        self._build(repeats)
        return {"seconds": time.thread_time() - began}

    def _build(self, repeats: int) -> None:
        # Under its name in the module, where the watch may have replaced it.
        module = importlib.import_module(self.collate.__module__)
        steps = train_batches(
            Repeated(self.source, self.batch),
            collate=getattr(module, self.collate.__name__),
            batch_size_per_device=self.batch,
            num_devices=1,
            capacities=self.capacities,
            seed=0,
            workers=0,
        ).steps
        for step in range(repeats):
            if self.memory is None:
                steps.batch(step)
            else:
                self.memory.begin()
                self.memory.placed(steps.build(step, self.memory.empty).batch)


@dataclasses.dataclass
class Repeated:
    """A source with at least a batch of samples."""

    source: Any
    least: int

    def __len__(self) -> int:
        return max(len(self.source), self.least)

    def name(self, index: int) -> str:
        """Of no use here."""
        return str(index)

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """A sample of the source, several times where it has few."""
        return self.source.sample(index % len(self.source), rng)


def reused_memory() -> Any:
    """What worker processes write into; None where they hand new arrays over."""
    try:
        from uov_jax.input.handover import Memory, anonymous_file
    except ImportError:
        return None
    return Memory(anonymous_file())


def main() -> None:
    """Answer lines of JSON with lines of JSON."""
    sparse.keep_freed_memory()
    sides: dict[str, Side] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        settings = asked["settings"]
        key = json.dumps(settings)
        if key not in sides:
            sides[key] = Side(settings)
        print(json.dumps(sides[key].build(asked["repeats"], asked["stages"])), flush=True)


if __name__ == "__main__":
    main()
