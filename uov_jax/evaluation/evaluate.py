"""Evaluation of trained networks, side by side: scores, tables, pictures, predicted labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict

from uov_jax import compilation
from uov_jax.afi.parameters import FlatInteraction
from uov_jax.bar import Bar
from uov_jax.checkpoints.load import TrainedNetwork, load_network
from uov_jax.daemon_threads import TIMEOUT
from uov_jax.datasets.submission import expected_bytes, pack_submission, write_labels
from uov_jax.datasets.sweeps import labelled_indices
from uov_jax.errors import InputError, decoration
from uov_jax.evaluation.clock import SWEEPS_BEFORE_ESTIMATE, SweepClock
from uov_jax.evaluation.judged_split import JudgedSplit
from uov_jax.evaluation.judging import ClassesOfRows, JudgedSweep, Smoothing, evenly_spaced, judge
from uov_jax.evaluation.progress import EvaluationProgress, evaluation_identity
from uov_jax.evaluation.score_files import file_name, write_scores
from uov_jax.evaluation.scores import TEACHER, Scores, SubsetScores
from uov_jax.evaluation.tables import format_table
from uov_jax.readable import duration, readable_bytes
from uov_jax.signals import StopRequest

SECONDS_BETWEEN_SAVES = 60.0


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation does beside scoring.

    Attributes:
        keyframes: evenly spaced sweeps of the split that are judged; None for all. Where only some
          have true labels it is these, unless labels are predicted.
        afi: judge each network's labels also as AFI smooths them, once for each of these numbers of
          sampled points (`FlatInteraction.points`); None for the dataset's own.
        afi_weighed: once more for each of them with the network's probabilities, see
          `smooth_labels`; they are not the published method.
        predictions: write the predicted labels of every sweep.
        submission: pack them for the benchmark's server; needs the whole split.
        pictures: sweeps that are drawn.
        workers: threads that build sweeps ahead.
        timeout: seconds after which a thread that builds one sweep counts as hanging.
        compilation_cache: as `config.run.compilation_cache`.

    """

    keyframes: int | None = None
    afi: tuple[int | None, ...] = ()
    afi_weighed: bool = False
    predictions: bool = False
    submission: bool = False
    pictures: int = 4
    workers: int = 2
    timeout: float = TIMEOUT
    compilation_cache: str = ""


class Pictures(Protocol):
    """What draws an evaluation (`uov_jax.pictures.judged.JudgedPictures`)."""

    def sweep(self, split: JudgedSplit, index: int, sweep: JudgedSweep, folder: Path) -> None:
        """Draw one sweep with all its columns into a folder."""
        ...

    def scores(self, scores: Mapping[str, SubsetScores], folder: Path) -> list[Path]:
        """Draw the confusion matrix of every column; returns the files."""
        ...


def smoothed(afi_points: int | None, weighed: bool = False) -> str:
    """The end of the name of a column of smoothed labels."""
    name = " + AFI" if afi_points is None else f" + AFI {afi_points}"
    return name + " weighed" * weighed


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """How a call of `evaluate` ended.

    Attributes:
        scores: of the networks, with " + AFI" and the like where smoothed, and of the teacher.
        sweeps: judged so far, of `total_sweeps`.
        total_sweeps: that were asked for.
        signal: the signal that stopped it, None if it came to its end.
        clock: what the sweeps of this call cost.
        written: tables, confusion matrices and submissions, in the order of their writing.

    """

    scores: Scores
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
    split: JudgedSplit,
    networks: Mapping[str, str | Path],
    directory: str | Path,
    settings: EvaluationSettings,
    config: ConfigDict,
    pictures: Pictures,
) -> EvaluationResult:
    """Judge networks on the sweeps of a split, one sweep after the other.

    Memory does not grow with the number of sweeps. After Ctrl-C or SIGTERM the same call goes on
    from the last save in the directory.

    Args:
        split: the sweeps and the kind of network.
        networks: run directory, checkpoint folder or file of each by the name of its column.
        directory: takes tables, confusion matrices, pictures and predictions.
        settings: what else to do.
        config: the recipe, which an evaluation that is gone on with must share.
        pictures: draws what is asked for.

    Raises:
        NetworkMismatchError: a checkpoint does not hold the network of the recipe.
        CheckpointMismatchError: it was trained on other voxels.
        EvaluationProgressError: the directory holds an evaluation of another identity.
        InputError: a submission of a part of the split.

    """
    if settings.afi_weighed and not settings.afi:
        raise InputError("AFI is to be weighed, but not asked for: give --afi or --afi-points")
    for number in settings.afi:
        if settings.afi.count(number) > 1:
            raise InputError(f"AFI of {number or 'its own number of'} points is asked for twice")
        if number is not None:
            FlatInteraction(points=number)  # refuses too few
    if settings.afi and not split.smooths:
        raise InputError(f"AFI is of sweeps, not of {split.unit}: leave --afi out")
    if settings.keyframes is not None and settings.keyframes < 1:
        raise InputError(f"keyframes: at least 1, found {settings.keyframes}")
    if settings.submission and not split.label_format.benchmark:
        raise InputError(
            "no benchmark takes labels that are numbers of these classes: name ScanNet's table of "
            "labels with config.data.label_table, or leave --submission out"
        )
    official = split.label_format.official_classes
    if settings.submission and tuple(split.classes[1:]) != official[1:]:
        raise InputError(
            f"a submission has the {len(official) - 1} classes of {split.label_format.benchmark}, "
            f"{', '.join(official[1:])}; these networks give {len(split.classes) - 1}, "
            f"{', '.join(split.classes[1:])}"
        )
    if settings.submission and ":" in split.split:
        raise InputError(f"a submission needs the whole split, not the share {split.split!r} of it")
    compilation.use_cache(settings.compilation_cache)
    labelled = labelled_indices(split)
    predicts = settings.predictions or settings.submission
    chosen = range(len(split)) if predicts or not labelled else labelled
    indices = evenly_spaced(chosen, settings.keyframes)
    columns = _columns(split, networks, settings)
    if not columns:
        raise InputError("there is nothing to judge: give a checkpoint with --checkpoint")
    if len({file_name(name) for name in columns}) < len(columns):
        raise InputError(f"columns {columns} would share files: rename a checkpoint's folder")
    if settings.submission and len(indices) < len(split):
        raise InputError(
            f"a submission needs all {len(split):,} {split.unit} of the split, not {len(indices):,}"
        )
    run = _Run(split, networks, Path(directory), settings, indices, pictures)
    identity = evaluation_identity(
        config,
        networks,
        split=split.split,
        keyframes=settings.keyframes,
        afi=list(settings.afi),
        **({"afi_weighed": True} if settings.afi_weighed else {}),
        predictions=predicts,
        **split.identity(),
        # Labels that appear in between would be judged on the rest of the sweeps alone.
        labels=_labels_there(split, len(labelled), split.sample(indices[0])),
    )
    with StopRequest() as stop:
        return run.go(EvaluationProgress(Path(directory), identity), stop)


def _columns(
    split: JudgedSplit, networks: Mapping[str, str | Path], settings: EvaluationSettings
) -> list[str]:
    """Names of all columns but the teacher's."""
    endings = [*split.endings, *_smoothings(settings)]
    return [*(name + end for name in networks for end in endings), *split.given]


def _labels_there(split: JudgedSplit, labelled: int, sample: Mapping[str, Any]) -> list[str]:
    there = [] if sample["teacher_label"] is None else ["teacher_label"]
    if labelled:
        there.insert(0, "truth" if labelled == len(split) else f"truth of {labelled} sweeps")
    return there


def column_names(paths: Sequence[str]) -> dict[str, str]:
    """Checkpoints by the shortest names that tell them apart: the last parts of their paths.

    Raises:
        InputError: one is given twice.

    """
    parts = [Path(path).resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise InputError(f"a checkpoint is given twice: {', '.join(paths)}")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return {"/".join(part[-depth:]): path for part, path in zip(parts, paths, strict=True)}


def _smoothings(settings: EvaluationSettings) -> dict[str, tuple[int | None, bool]]:
    """The sampled points, and whether weighed, by the ends of the columns' names."""
    ways = (False, True) if settings.afi_weighed else (False,)
    return {smoothed(n, weighed): (n, weighed) for n in settings.afi for weighed in ways}


def _classes_of_rows(
    network: TrainedNetwork, split: JudgedSplit, weighed: bool
) -> Callable[..., Any]:
    predict = network.predict()

    def classes_of_rows(state: Any, inputs: Mapping[str, Any]) -> Any:
        output = predict(state, inputs)
        classes = split.classify(output)
        return (classes, split.probabilities(output)) if weighed else classes

    return classes_of_rows


def _on_device(
    classify: Callable[..., Any], network: TrainedNetwork, split: JudgedSplit
) -> ClassesOfRows:
    ask = functools.partial(classify, jax.device_put(network.state))
    return lambda sample: split.judge(ask, sample)


class _Run:
    """One call of `evaluate`."""

    def __init__(
        self,
        split: JudgedSplit,
        networks: Mapping[str, str | Path],
        directory: Path,
        settings: EvaluationSettings,
        indices: Sequence[int],
        pictures: Pictures,
    ) -> None:
        self.split, self.settings, self.pictures = split, settings, pictures
        self.directory, self.indices = directory, indices
        self.networks: dict[str, ClassesOfRows] = {}
        classify: Callable[..., Any] | None = None
        for name, path in networks.items():
            split.require_network(path)
            network = load_network(split.build_model, path, split.voxels)
            for setting in network.weights.unstated:
                print(
                    f"{network.weights.path} does not state {setting}: taken as the recipe's.",
                    flush=True,
                )
            if classify is None:
                # One program for all: networks of one recipe differ in their arrays alone.
                classify = jax.jit(_classes_of_rows(network, split, settings.afi_weighed))
            self.networks[name] = _on_device(classify, network, split)
        self.drawn = set(evenly_spaced(indices, settings.pictures))
        self.scores = Scores(split.classes, split.scoring)
        self.clock = SweepClock(split.unit)
        self.num_columns = len(_columns(split, networks, settings))

    def go(self, progress: EvaluationProgress, stop: StopRequest) -> EvaluationResult:
        """Judge the sweeps that are left, and write everything."""
        done = progress.restore(self.scores)
        self._greet(done)
        sweeps = judge(
            self.split.sample,
            self.indices[done:],
            self.networks,
            workers=self.settings.workers,
            timeout=self.settings.timeout,
            name_of=self.split.token,
            smoothings={
                end: self._smoothing(*setting)
                for end, setting in _smoothings(self.settings).items()
            },
            clock=self.clock,
        )
        with Bar(
            total=len(self.indices),
            initial=done,
            unit=self.split.unit.removesuffix("s"),
            dynamic_ncols=True,
        ) as bar:
            try:
                for sweep in sweeps:
                    self._keep(self.indices[done], sweep)
                    done += 1
                    bar.update()
                    self._estimate(sweep, len(self.indices) - done)
                    progress.save_now_and_then(done, self.scores, SECONDS_BETWEEN_SAVES)
                    if stop:
                        break
            finally:
                # Before an error ends it too: a sweep is counted after everything else of it.
                progress.save(done, self.scores)
        written = self._write(done == len(self.indices))
        total, clock = len(self.indices), self.clock
        result = EvaluationResult(self.scores, done, total, stop.signal, clock, tuple(written))
        self._farewell(result)
        return result

    def _estimate(self, sweep: JudgedSweep, left: int) -> None:
        shapes = compilation.shapes(sweep.sample["inputs"])
        if self.clock.sweep(shapes) == SWEEPS_BEFORE_ESTIMATE and left:
            seconds = left * self.clock.seconds_per_sweep
            Bar.write(f"About {duration(seconds)} to go.")

    def _smoothing(self, afi_points: int | None, weighed: bool) -> Smoothing:
        return lambda points, classes, probabilities: self.split.smooth(
            points, classes, afi_points, probabilities if weighed else None
        )

    def _keep(self, index: int, sweep: JudgedSweep) -> None:
        """Write and draw what is asked for, and count a judged sweep once that is done."""
        if self.settings.predictions or self.settings.submission:
            for name, classes in sweep.columns.items():
                folder = self.directory / "predictions" / file_name(name)
                write_labels(self.split.label_format, folder, index, classes)
        self.clock.note("files")
        if index in self.drawn:
            with decoration(f"The picture of {sweep.sample['token']}", Bar.write):
                self.pictures.sweep(self.split, index, sweep, self.directory / "pictures")
            self.clock.note("pictures")
        self.scores.add(sweep.sample, sweep.columns)
        self.clock.note("scores")

    def _greet(self, done: int) -> None:
        number = len(self.indices)
        print(
            f"{self.split.title}: {len(self.networks)} network(s) on {number:,} of "
            f"{len(self.split):,} {self.split.unit}, into {self.directory}",
            flush=True,
        )
        self._say_what_is_unlabelled()
        if self.settings.predictions or self.settings.submission:
            size = self.num_columns * expected_bytes(self.split.label_format, number)
            print(f"Predicted labels take about {readable_bytes(size)}.", flush=True)
        if done == number:
            print("All of them are judged already; the tables are written again.", flush=True)
        elif done:
            print(f"Going on after {done:,} {self.split.unit}.", flush=True)
        earlier = len(self.drawn.intersection(self.indices[:done]))
        drawn = len(list((self.directory / "pictures").glob("[!.]*.png")))
        if drawn < earlier * self.num_columns:
            print(
                f"Of {earlier} {self.split.unit} that were judged before there are no pictures, or "
                "not all, and they are not drawn now: delete "
                f"{self.directory / 'progress.npz'} for that.",
                flush=True,
            )

    def _say_what_is_unlabelled(self) -> None:
        total, labelled = len(self.split), len(labelled_indices(self.split))
        if not 0 < labelled < total:
            return
        if self.settings.predictions or self.settings.submission:
            what = "their labels are predicted, the scores are of the others"
        else:
            what = "left out"
        print(
            f"{total - labelled:,} of {total:,} {self.split.unit} have no true labels: {what}.",
            flush=True,
        )

    def _farewell(self, result: EvaluationResult) -> None:
        judged = self.scores.judged
        if judged:
            columns = {name: subsets.everywhere for name, subsets in judged.items()}
            print(format_table(columns, scoring=self.split.scoring))
        else:
            print("There are no true labels, so there is no score.")
        print(self.clock)
        form = self.split.label_format
        if self.clock.sweeps and form.benchmark:
            seconds = self.clock.seconds_per_sweep * form.benchmark_sweeps
            print(
                f"At this pace the {form.benchmark_sweeps:,} {self.split.unit} of "
                f"{form.benchmark}'s validation split take {duration(seconds)}."
            )
        if not result.finished:
            print(
                f"Stopped after {result.sweeps:,} of {result.total_sweeps:,} {self.split.unit}; "
                "the table is of these. Type the same command again to go on."
            )
            return
        shown = [path for path in result.written if path.suffix in (".txt", ".png", ".zip")]
        folders = (self.directory / name for name in ("predictions", "pictures"))
        print("\n  ".join(["Wrote", *map(str, [*shown, *filter(Path.is_dir, folders)])]))
        print(f"Next: look at {self.directory}", flush=True)

    def _write(self, finished: bool) -> list[Path]:
        written = []
        judged = self.scores.judged
        if judged:
            written += write_scores(judged, self.directory, self.split.scoring)
            with decoration("The picture of the confusion matrices", print):
                written += self.pictures.scores(judged, self.directory / "confusion")
        if self.settings.submission and finished:
            for name in self.scores.columns:
                if name != TEACHER:
                    folder = self.directory / "predictions" / file_name(name)
                    form = self.split.label_format
                    written.append(pack_submission(form, folder, len(self.split)))
        return written
