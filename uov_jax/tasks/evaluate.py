"""Evaluation of trained networks, side by side: scores, tables, pictures, predicted labels."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm
from ml_collections import ConfigDict

from uov_jax.afi import FlatInteraction
from uov_jax.data.label_files import expected_bytes, pack_submission, write_labels
from uov_jax.evaluation import pictures
from uov_jax.evaluation.camera_pictures import camera_picture
from uov_jax.evaluation.clock import SweepClock
from uov_jax.evaluation.score_files import file_name, write_scores
from uov_jax.evaluation.subsets import SubsetScores
from uov_jax.evaluation.tables import format_table
from uov_jax.readable import duration, readable_bytes
from uov_jax.tasks.evaluation import Evaluation
from uov_jax.tasks.evaluation_progress import EvaluationProgress, evaluation_identity
from uov_jax.tasks.trained_network import load_trained
from uov_jax.tasks.validation import evenly_spaced, prefetched
from uov_jax.training import compilation
from uov_jax.training.progress import STEPS_BEFORE_ESTIMATE
from uov_jax.training.signals import StopRequest
from uov_jax.training.step import prediction

TEACHER = "teacher, seen"
SECONDS_BETWEEN_SAVES = 60.0


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation does beside scoring.

    Attributes:
      keyframes: evenly spaced sweeps of the split that are judged; None for all.
      afi: judge each network's labels also as AFI smooths them, once for each of these numbers of
        sampled points (`FlatInteraction.points`); None for the dataset's own.
      predictions: write the predicted labels of every sweep.
      submission: pack them for the benchmark's server; needs the whole split.
      pictures: sweeps that are drawn.
      workers: threads that build sweeps ahead.
      compilation_cache: as `config.run.compilation_cache`.

    """

    keyframes: int | None = None
    afi: tuple[int | None, ...] = ()
    predictions: bool = False
    submission: bool = False
    pictures: int = 4
    workers: int = 2
    compilation_cache: str = ""


def smoothed(afi_points: int | None) -> str:
    """The end of the name of a column of smoothed labels."""
    return " + AFI" if afi_points is None else f" + AFI {afi_points}"


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """How a call of `evaluate` ended.

    Attributes:
      scores: by column: the networks, with " + AFI" and the like where smoothed, and the teacher.
      sweeps: judged so far, of `total_sweeps`.
      total_sweeps: that were asked for.
      signal: the signal that stopped it, None if it came to its end.
      clock: what the sweeps of this call cost.
      written: tables, confusion matrices and submissions, in the order of their writing.

    """

    scores: dict[str, SubsetScores]
    sweeps: int
    total_sweeps: int
    signal: int | None
    clock: SweepClock
    written: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether every sweep was judged."""
        return self.sweeps == self.total_sweeps


def evaluate(
    evaluation: Evaluation,
    networks: Mapping[str, str | Path],
    directory: str | Path,
    settings: EvaluationSettings,
    config: ConfigDict,
) -> EvaluationResult:
    """Judge networks on the sweeps of a split, one sweep after the other.

    Memory does not grow with the number of sweeps. After Ctrl-C or SIGTERM the same call goes on
    from the last save in the directory.

    Args:
      evaluation: the split and the kind of network.
      networks: run directory, checkpoint folder or file of each by the name of its column.
      directory: takes tables, confusion matrices, pictures and predictions.
      settings: what else to do.
      config: the recipe, which an evaluation that is gone on with must share.

    Raises:
      NetworkMismatchError: a checkpoint does not hold the network of the recipe.
      CheckpointMismatchError: it was trained on other voxels.
      EvaluationProgressError: the directory holds an evaluation of another identity.
      ValueError: a submission of a part of the split.

    """
    for number in settings.afi:
        if settings.afi.count(number) > 1:
            raise ValueError(f"AFI of {number or 'its own number of'} points is asked for twice")
        if number is not None:
            FlatInteraction(points=number)  # refuses too few
    if settings.keyframes is not None and settings.keyframes < 1:
        raise ValueError(f"keyframes: at least 1, found {settings.keyframes}")
    if settings.submission and ":" in evaluation.split:
        raise ValueError(
            f"a submission needs the whole split, not the share {evaluation.split!r} of it"
        )
    compilation.use_cache(settings.compilation_cache)
    indices = evenly_spaced(range(len(evaluation)), settings.keyframes)
    columns = [name + end for name in networks for end in ["", *map(smoothed, settings.afi)]]
    if len({file_name(name) for name in columns}) < len(columns):
        raise ValueError(f"columns {columns} would share files: rename a checkpoint's folder")
    if settings.submission and len(indices) < len(evaluation):
        raise ValueError(
            f"a submission needs all {len(evaluation):,} sweeps of the split, not {len(indices):,}"
        )
    run = _Run(evaluation, networks, Path(directory), settings, indices)
    identity = evaluation_identity(
        config,
        networks,
        split=evaluation.split,
        keyframes=settings.keyframes,
        afi=list(settings.afi),
        predictions=settings.predictions or settings.submission,
        # Labels that appear in between would be judged on the rest of the sweeps alone.
        labels=_labels_there(evaluation.sample(indices[0])),
    )
    with StopRequest() as stop:
        return run.go(EvaluationProgress(Path(directory), identity), stop)


def _labels_there(sample: Mapping[str, Any]) -> list[str]:
    return [name for name in ("truth", "teacher_label") if sample[name] is not None]


def column_names(paths: Sequence[str]) -> dict[str, str]:
    """Checkpoints by the shortest names that tell them apart: the last parts of their paths.

    Raises:
      ValueError: one is given twice.

    """
    parts = [Path(path).resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"a checkpoint is given twice: {', '.join(paths)}")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return {"/".join(part[-depth:]): path for part, path in zip(parts, paths, strict=True)}


class _Run:
    """One call of `evaluate`."""

    def __init__(
        self,
        evaluation: Evaluation,
        networks: Mapping[str, str | Path],
        directory: Path,
        settings: EvaluationSettings,
        indices: Sequence[int],
    ) -> None:
        self.evaluation, self.settings = evaluation, settings
        self.directory, self.indices = directory, indices
        self.states: dict[str, Any] = {}
        for name, path in networks.items():
            skeleton, weights = load_trained(evaluation, path)
            self.states[name] = jax.device_put(weights)
        predict = prediction(skeleton)
        self.classify = jax.jit(
            lambda weights, features, plan: evaluation.classify(predict(weights, features, plan))
        )
        self.drawn = set(evenly_spaced(indices, settings.pictures))
        self.scores: dict[str, SubsetScores] = {}
        self.clock = SweepClock()

    def go(self, progress: EvaluationProgress, stop: StopRequest) -> EvaluationResult:
        """Judge the sweeps that are left, and write everything."""
        done = progress.restore(self.scores, self.evaluation.classes)
        self._greet(done)
        build = self.evaluation.sample
        samples = prefetched(build, self.indices[done:], self.settings.workers)
        with tqdm.tqdm(
            total=len(self.indices), initial=done, unit="sweep", dynamic_ncols=True
        ) as bar:
            self.clock.start()
            for sample in samples:
                self._judge(self.indices[done], sample)
                done += 1
                bar.update()
                shapes = compilation.shapes((sample["features"], sample["plan"]))
                left = len(self.indices) - done
                if self.clock.sweep(shapes) == STEPS_BEFORE_ESTIMATE and left:
                    seconds = left * self.clock.seconds_per_sweep
                    tqdm.tqdm.write(f"About {duration(seconds)} to go.")
                progress.save_now_and_then(done, self.scores, SECONDS_BETWEEN_SAVES)
                if stop:
                    break
        progress.save(done, self.scores)
        written = self._write(done == len(self.indices))
        total, clock = len(self.indices), self.clock
        result = EvaluationResult(self.scores, done, total, stop.signal, clock, tuple(written))
        self._farewell(result)
        return result

    def _judge(self, index: int, sample: dict[str, Any]) -> None:
        self.clock.note("data")
        columns = {}
        for name, weights in self.states.items():
            rows = self.classify(weights, sample["features"], sample["plan"])
            columns[name] = np.asarray(rows)[sample["inverse"]]
        self.clock.note("network")
        if self.settings.afi:
            for name, number in itertools.product(self.states, self.settings.afi):
                smooth = self.evaluation.smooth(sample["points"], columns[name], number)
                columns[name + smoothed(number)] = smooth
            self.clock.note("AFI")
        self._count(sample, columns)
        if self.settings.predictions or self.settings.submission:
            for name, classes in columns.items():
                folder = self.directory / "predictions" / file_name(name)
                write_labels(self.evaluation.label_files, folder, index, classes)
        self.clock.note("scores and files")
        if index in self.drawn:
            self._draw(index, sample, columns)
            self.clock.note("pictures")

    def _count(self, sample: dict[str, Any], columns: Mapping[str, np.ndarray]) -> None:
        truth, points, seen = sample["truth"], sample["points"], sample["seen"]
        for name, classes in columns.items():
            scores = self.scores.setdefault(name, SubsetScores(self.evaluation.classes))
            if truth is not None:
                scores.add(truth, classes, points, seen)
        if truth is not None and seen is not None and sample["teacher_label"] is not None:
            scores = self.scores.setdefault(TEACHER, SubsetScores(self.evaluation.classes))
            scores.add(truth[seen], sample["teacher_label"][seen], points[seen], seen[seen])

    def _draw(self, index: int, sample: dict[str, Any], columns: Mapping[str, np.ndarray]) -> None:
        folder = self.directory / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        classes, colors = self.evaluation.classes, self.evaluation.colors
        keyframe = self.evaluation.keyframe(index)
        given = {"truth": sample["truth"], "teacher": sample["teacher_label"]}
        given = {name: labels for name, labels in given.items() if labels is not None}
        for name, classes_of_points in columns.items():
            panels = given | {"prediction": classes_of_points}
            stem = f"{sample['token']}_{file_name(name)}"
            title = f"{sample['token']}, {name}"
            pictures.bird_eye(
                sample["points"], panels, colors, folder / f"{stem}.png", names=classes, title=title
            )
            if keyframe is not None and all(view.path.is_file() for view in keyframe.cameras):
                camera_picture(
                    sample["points"], panels, keyframe, colors, folder / f"{stem}_cameras.jpg",
                    names=classes, title=title,
                )  # fmt: skip

    def _greet(self, done: int) -> None:
        number = len(self.indices)
        print(
            f"{self.evaluation.title}: {len(self.states)} network(s) on {number:,} of "
            f"{len(self.evaluation):,} sweeps, into {self.directory}",
            flush=True,
        )
        if self.settings.predictions or self.settings.submission:
            columns = len(self.states) * (1 + len(self.settings.afi))
            size = columns * expected_bytes(self.evaluation.label_files, number)
            print(f"Predicted labels take about {readable_bytes(size)}.", flush=True)
        if done == number:
            print("All of them are judged already; the tables are written again.", flush=True)
        elif done:
            print(f"Going on after {done:,} sweeps.", flush=True)
        earlier = len(self.drawn.intersection(self.indices[:done]))
        columns = len(self.states) * (1 + len(self.settings.afi))
        drawn = len(list((self.directory / "pictures").glob("*.png")))
        if drawn < earlier * columns:
            print(
                f"Of {earlier} sweeps that were judged before there are no pictures, or not all, "
                f"and they are not drawn now: delete {self.directory / 'progress.npz'} for that.",
                flush=True,
            )

    def _farewell(self, result: EvaluationResult) -> None:
        judged = {name: s.everywhere for name, s in self.scores.items() if s.everywhere.points}
        if judged:
            print(format_table(judged))
        else:
            print("There are no true labels, so there is no score.")
        print(self.clock)
        files = self.evaluation.label_files
        if self.clock.sweeps:
            seconds = self.clock.seconds_per_sweep * files.benchmark_sweeps
            print(
                f"At this pace the {files.benchmark_sweeps:,} sweeps of {files.benchmark}'s "
                f"validation split take {duration(seconds)}."
            )
        if not result.finished:
            print(
                f"Stopped after {result.sweeps:,} of {result.total_sweeps:,} sweeps; the table is "
                "of these. Type the same command again to go on."
            )
            return
        print("Wrote")
        for path in result.written:
            if path.suffix in (".txt", ".png", ".zip"):
                print(f"  {path}")
        print(f"Next: look at {self.directory}", flush=True)

    def _write(self, finished: bool) -> list[Path]:
        written = []
        judged = {name: s for name, s in self.scores.items() if s.everywhere.points}
        if judged:
            written += write_scores(judged, self.directory)
        if self.settings.submission and finished:
            for name in self.scores:
                if name != TEACHER:
                    folder = self.directory / "predictions" / file_name(name)
                    files = self.evaluation.label_files
                    written.append(pack_submission(files, folder, len(self.evaluation)))
        return written
