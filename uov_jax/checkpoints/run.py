"""Checkpoints of a run: all that is needed to go on to the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from uov_jax import sparse
from uov_jax.checkpoints.files import CARD, require_finite
from uov_jax.checkpoints.folder import (
    FORMAT,
    CheckpointError,
    DamagedCheckpointError,
    NotSavedError,
    is_checkpoint,
    is_unfinished,
    read_arrays,
    read_record,
    write_folder,
)
from uov_jax.datasets.keyframe import CAMERAS, LIDAR
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS
from uov_jax.errors import MissingFileError
from uov_jax.files import ABSENT, UnreadableFileError, tried_again, write_text

# Sections and fields of a config that a resumed run may change; all but the last change no number.
FREE_FIELDS = (
    "run",
    "data.root",
    "data.val_split",
    "data.dumps",
    "data.features",
    "data.labels",
    # Of judging alone.
    "data.text",
    "data.label_table",
    # Sizes of padded arrays: padding influences nothing.
    "data.voxels",
    "data.pairs",
    "data.superpoints",
    "data.workers",
    "data.worker_processes",
    "data.worker_timeout",
    # A run that met none has nothing to go back on.
    "data.skip_damaged",
    # Where equal maps are built.
    "data.plans",
    # Which device computes a term.
    "gather_shards",
    # For less memory. It changes results a little, which a run that goes on says.
    "accumulate_steps",
)
# Fields that recipes got later, with what runs without them were made with.
LATER_FIELDS = {
    "data.lidar": LIDAR,
    "data.cameras": list(CAMERAS),
    "data.columns": NUSCENES_COLUMNS.text,
    "model.precision": "float32",
    "accumulate_steps": 1,
}
FAILURES_TO_BEAR = 3  # checkpoints in a row that could not be written end a run
_REMOVED = ".removed"  # at the end of the name of a folder that is being deleted


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint gives back: the step, host arrays, and the kernels they came from.

    kernels: see `uov_jax.checkpoints.kernels`; None in checkpoints that do not say.
    micro_batches: of a step, by the recipe it was written with.
    """

    step: int
    state: Any
    kernels: str | None
    micro_batches: int = 1


class RunCheckpoints:
    """The `checkpoints` folder of a run directory: the newest states and the best one.

    Writing goes on beside the training; a checkpoint appears under its name when it is whole. Of
    the processes of a run one alone writes.
    """

    def __init__(
        self,
        directory: str | Path,
        config: Mapping[str, Any],
        identity: Mapping[str, Any],
        *,
        keep: int = 1,
        total_steps: int | None = None,
        writes: bool = True,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """Open or create the folder.

        Args:
            directory: of the run.
            config: the run's config as nested plain values.
            identity: what else must be the same for a checkpoint to fit, by name: the teacher's
              weights, the vocabulary.
            keep: how many of the newest checkpoints stay, beside the best one.
            total_steps: of the whole run, where it has an end.
            writes: this process saves, and sets damaged checkpoints aside.
            card: `NetworkCard.as_json` of the network; no part of what must be the same.

        """
        self._card = None if card is None else dict(card)
        self.directory = Path(directory).absolute() / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.best_step: int | None = None
        """Step of the best evaluation, None before the first one with a score."""
        self._config = json.loads(json.dumps(dict(config), default=_plain))
        self._identity = json.loads(json.dumps(dict(identity), default=_plain))
        self._keep, self._total_steps, self._writes = keep, total_steps, writes
        self._best_file = self.directory / "best.json"
        self._evaluations = self._read_evaluations()
        self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._saving: tuple[int, Future[None]] | None = None
        self._failures = 0

    @property
    def last_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return max(_steps(self.directory), default=None)

    def path(self, step: int) -> Path:
        """Folder of one checkpoint."""
        return self.directory / str(step)

    def what_is_left(self) -> str:
        """A sentence on what a run can go on from, once what is being written is written."""
        with contextlib.suppress(NotSavedError):
            self.wait()
        return self._what_is_whole()

    def _what_is_whole(self) -> str:
        try:
            last = self.last_step
        except UnreadableFileError as error:
            return f"Which checkpoints are whole could not be looked at: {error}"
        if last is None:
            return "No checkpoint had been written yet"
        return f"The checkpoint of step {last} in {self.path(last)} is whole"

    def save(self, step: int, state: Any, may_write: Callable[[], None] = lambda: None) -> None:
        """Start writing a checkpoint, once the one before is written.

        Args:
            step: steps done; a checkpoint that exists already is left as it is.
            state: tree of host arrays, which must not be changed any more.
            may_write: is asked before; what it raises is raised, but for an UnreadableFileError,
              which counts as a checkpoint that could not be written.

        Raises:
            NotSavedError: several in a row could not be written; a single one is said on stderr.

        """
        if self._saving is not None and self._saving[0] == step and not self._saving[1].done():
            return
        try:
            self.wait()
        except NotSavedError:
            if self._failures >= FAILURES_TO_BEAR:
                raise
        try:
            may_write()
            if step in _steps(self.directory):
                return
        except UnreadableFileError as error:
            failed: Future[None] = Future()
            failed.set_exception(self._failed(step, error))
            self._saving = (step, failed)
            return
        self._saving = (step, self._pool.submit(self._write, step, *self._content(step, state)))

    def save_beside(self, folder: Path, step: int, state: Any) -> None:
        """Write a checkpoint that is none of those to go on from; over one that was there.

        Raises:
            NotSavedError: it could not be written.

        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        write_folder(folder.absolute(), *self._content(step, state))

    def restore(self, like: Any, step: int | None = None) -> Restored:
        """Read a checkpoint back, by default the newest one that is not damaged.

        Damaged ones that are newer are renamed, so that they are not taken again, and named on
        stderr.

        Args:
            like: tree of arrays with the shapes and types to expect.
            step: of the checkpoint.

        Raises:
            CheckpointError: it was written under another config or data, or holds other arrays;
              the message names the field.
            DamagedCheckpointError: there is none that is not damaged.
            UnreadableFileError: it cannot be read, though nothing says that it is damaged.
            InputError: it holds a number that is not finite.
            MissingFileError: there is none.

        """
        steps = sorted(_steps(self.directory), reverse=True) if step is None else [step]
        if not steps or not tried_again(self.path(steps[0]), self.path(steps[0]).is_dir):
            raise MissingFileError(f"{self.directory}: no checkpoint of step {step}")
        for newest, next_one in itertools.zip_longest(steps, steps[1:]):
            try:
                return self._read(newest, like)
            except DamagedCheckpointError as error:
                if next_one is None:
                    raise DamagedCheckpointError(
                        f"{error}. There is no older one to go on from: move {self.path(newest)} "
                        "away to begin anew, or give another --workdir"
                    ) from error
                self._set_aside(newest, next_one, error)
            except UnreadableFileError as error:
                raise self._with_a_way_out(newest, error) from error
        raise AssertionError("the last one returns or raises")

    def record_evaluation(self, step: int, score: float | None) -> bool:
        """Remember that a step was evaluated; says whether it is the best so far.

        Args:
            step: the evaluated one.
            score: higher is better; None: the task has none.

        """
        before = self._evaluations.get(str(self.best_step))
        self._evaluations[str(step)] = score
        better = score is not None and np.isfinite(score) and (before is None or score > before)
        if better:
            self.best_step = step
        if self._writes:
            content = {"best_step": self.best_step, "scores": self._evaluations}
            try:
                write_text(self._best_file, json.dumps(content))
            except OSError as error:
                print(
                    f"{self._best_file}: not written ({error.strerror}): a run that is started "
                    f"again evaluates step {step:,} again",
                    file=sys.stderr,
                    flush=True,
                )
        return bool(better)

    def is_evaluated(self, step: int) -> bool:
        """Whether `record_evaluation` was called for a step, in this run or before it stopped."""
        return str(step) in self._evaluations

    def forget_evaluations_after(self, step: int) -> None:
        """Drop scores of steps that will be taken again."""
        self._evaluations = {key: s for key, s in self._evaluations.items() if int(key) <= step}
        if self.best_step is not None and self.best_step > step:
            scored = {int(key): s for key, s in self._evaluations.items() if s is not None}
            self.best_step = max(scored, key=lambda key: scored[key], default=None)

    def wait(self) -> None:
        """Return when everything is on the disk; NotSavedError if it could not be written."""
        if self._saving is None:
            return
        saving, self._saving = self._saving[1], None
        saving.result()
        self._remove_old()

    def close(self) -> None:
        """Finish writing; what could not be written has been said."""
        with contextlib.suppress(NotSavedError):
            self.wait()
        self._pool.shutdown()

    def _content(self, step: int, state: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and record of a checkpoint."""
        record = {
            "format": FORMAT,
            "config": self._config,
            "identity": self._identity,
            "versions": code_versions(),
            "kernels": sparse.current_kernels(),
            "steps": {"done": step, "total": self._total_steps},
        }
        if self._card is not None:
            record[CARD] = self._card
        return {name: np.asarray(leaf) for name, leaf in named_arrays(state).items()}, record

    def _write(self, step: int, arrays: Mapping[str, np.ndarray], record: dict[str, Any]) -> None:
        """Write a checkpoint, in the thread beside the training."""
        try:
            self._remove_unfinished()
            write_folder(self.path(step), arrays, record)
        except (NotSavedError, UnreadableFileError) as error:
            raise self._failed(step, error) from error
        self._failures = 0
        self._remove_old()

    def _failed(self, step: int, error: NotSavedError | UnreadableFileError) -> NotSavedError:
        """Count a checkpoint that could not be written, say so, and give what to raise."""
        self._failures += 1
        why = str(error)
        if isinstance(error, UnreadableFileError):
            why = f"{self.path(step)}: this checkpoint could not be written: {error}"
        found = NotSavedError(f"{why}. {self._what_is_whole()}")
        print(f"{found}.", file=sys.stderr, flush=True)
        return found

    def _remove_unfinished(self) -> None:
        """Remove what a killed process left: half written, half removed."""
        for path in tried_again(self.directory, lambda: list(self.directory.iterdir())):
            if is_unfinished(path.name) or path.name.endswith(_REMOVED):
                shutil.rmtree(path, ignore_errors=True)

    def _remove_old(self) -> None:
        try:
            steps = _steps(self.directory)
        except UnreadableFileError:
            return  # What was written is whole; the next save removes the others.
        newest = sorted(steps)[-self._keep :]
        for step in steps:
            if step in newest or step == self.best_step:
                continue
            # Half removed, it shall not pass for a checkpoint.
            doomed = self.directory / f"{step}{_REMOVED}"
            with contextlib.suppress(OSError):
                self.path(step).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def _with_a_way_out(self, step: int, error: UnreadableFileError) -> UnreadableFileError:
        """An error of a checkpoint, with what to do where there are older ones.

        None of these is taken by itself: what cannot be read now may be whole.
        """
        older = max((other for other in _steps(self.directory) if other < step), default=None)
        if older is None:
            return error
        return UnreadableFileError(
            f"{error}. Type the same command again when it can be read, or move {self.path(step)} "
            f"away to go on from step {older:,}"
        )

    def _set_aside(self, step: int, next_step: int, error: DamagedCheckpointError) -> None:
        path = aside = self.path(step)
        if self._writes:
            taken = (
                self.directory / f"{step}.damaged{end}" for end in ("", *map(str, range(2, 99)))
            )
            aside = next(name for name in taken if not name.exists())
            path.rename(aside)
        print(
            f"{error}. The checkpoint of step {step:,} is damaged and was left in {aside}: the one "
            f"before is taken, of step {next_step:,}",
            file=sys.stderr,
            flush=True,
        )

    def _read_evaluations(self) -> dict[str, float | None]:
        if not self._best_file.exists():
            return {}
        try:
            content = json.loads(self._best_file.read_text())
            self.best_step = content["best_step"]
            return dict(content["scores"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._best_file}: expected the scores of past evaluations, found {error!r}; "
                "delete the file to go on without them"
            ) from error

    def _read(self, step: int, like: Any) -> Restored:
        record = read_record(self.path(step))
        self._check(step, record)
        arrays, expected = read_arrays(self.path(step)), named_arrays(like)
        self._check_arrays(step, arrays, expected)
        found = {n: np.asarray(arrays[n], leaf.dtype) for n, leaf in expected.items()}
        require_finite(found, self.path(step))
        state = jax.tree.unflatten(jax.tree.structure(like), list(found.values()))
        micro_batches = record["config"].get("accumulate_steps", LATER_FIELDS["accumulate_steps"])
        return Restored(step, state, record.get("kernels"), micro_batches)

    def _check(self, step: int, record: Mapping[str, Any]) -> None:
        written, identity = _with_shards(record["config"], record["identity"])
        config, _ = _with_shards(self._config, self._identity)
        if "sweeps_per_shard" not in config:
            written.pop("sweeps_per_shard", None)
        for kind, old, new in (
            ("config", written, config),
            ("identity", identity, self._identity),
        ):
            differences = _differences(old, new)
            if differences:
                name, before, after = differences[0]
                field = f"config.{name}" if kind == "config" else name
                more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
                raise CheckpointError(
                    f"{self.path(step)}: this checkpoint was written with {field} = {before}, the "
                    f"run has {after}{more}. Set it back to go on with that run, or start another "
                    "one with a new --workdir"
                )

    def _check_arrays(
        self, step: int, stored: Mapping[str, np.ndarray], expected: Mapping[str, Any]
    ) -> None:
        for name in {**stored, **expected}:
            old = stored[name].shape if name in stored else None
            new = np.shape(expected[name]) if name in expected else None
            if old is None or new is None or tuple(old) != tuple(new):
                raise CheckpointError(
                    f"{self.path(step)}: {name} has shape {old or 'nothing'} in the checkpoint "
                    f"and {new or 'nothing'} in this run"
                )


def named_arrays(tree: Any) -> dict[str, Any]:
    """Leaves of a tree by path, such as `parameters/block1.0.conv1.kernel`, in tree order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def code_versions() -> dict[str, str]:
    """Versions of this package and of those that decide about its numbers."""
    names = ("uov-jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(_flatten(value, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def _differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """(field, old value, new value) of all fields that must agree and do not."""
    before, after = _flatten(old), _flatten(new)
    before = {name: value for name, value in LATER_FIELDS.items() if name in after} | before
    names = [name for name in {**before, **after} if not is_free(name)]
    absent = "nothing"
    return [
        (name, before.get(name, absent), after.get(name, absent))
        for name in names
        if before.get(name, absent) != after.get(name, absent)
    ]


def _with_shards(
    config: Mapping[str, Any], identity: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record with `sweeps_per_shard` as a number, and without devices.

    Runs before there was that field were bound to their number of devices, because the sweeps of
    one formed a shard. None means all sweeps of a step.
    """
    config, identity = dict(config), dict(identity)
    devices = identity.pop("devices", None)
    if devices is not None and "batch_size" in config:
        config.setdefault("sweeps_per_shard", config["batch_size"] // devices)
    if config.get("sweeps_per_shard", 0) is None:
        config["sweeps_per_shard"] = config["batch_size"]
    return config, identity


def is_free(name: str) -> bool:
    """Whether a field of a recipe may change when a run is gone on with."""
    return any(name == field or name.startswith(f"{field}.") for field in FREE_FIELDS)


def _plain(value: Any) -> Any:
    """A JSON value for numpy scalars, arrays, tuples' relatives and paths."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be stored in a checkpoint")


def has_checkpoint(directory: str | Path) -> bool:
    """Whether a run directory holds a whole checkpoint to go on from."""
    return bool(_steps(Path(directory) / "checkpoints"))


def find_checkpoint(path: str | Path) -> Path:
    """The folder of one checkpoint: `path` itself, or the last one of a run directory.

    Raises:
        CheckpointError: there is none; the message says what is there.

    """
    path = Path(path)
    if is_checkpoint(path):
        return path
    for folder in (path / "checkpoints", path):
        if steps := _steps(folder):
            return folder / str(max(steps))
    what = "a folder without a checkpoint" if path.is_dir() else "no such folder"
    raise CheckpointError(
        f"{path}: {what}; expected a run directory (with `checkpoints` in it) or the folder of one "
        "checkpoint (with `arrays` in it)"
    )


def say_if_unfinished(path: str | Path) -> None:
    """Say on stderr that a run directory, which weights are taken of, is of a run in its middle."""
    if is_checkpoint(Path(path)):
        return
    last = find_checkpoint(path)
    steps = read_record(last).get("steps", {})  # older checkpoints do not say
    done, total = steps.get("done"), steps.get("total")
    if done is not None and total is not None and done < total:
        print(
            f"{path}: this run is not finished: its last checkpoint is of step {done:,} of "
            f"{total:,}. Its weights are taken as they are",
            file=sys.stderr,
            flush=True,
        )


def find_best_checkpoint(path: str | Path) -> Path:
    """The folder of a run's checkpoint with the best score, else what `find_checkpoint` gives.

    That is: the last one of a run without a score, `path` itself where it is one checkpoint. Where
    the best one is gone the last one is taken too, which is said on stderr.

    Raises:
        CheckpointError: there is none, or the scores cannot be read.

    """
    folder = find_checkpoint(path)
    scores = folder.parent / "best.json"
    if folder == Path(path) or not scores.is_file():
        return folder
    try:
        step = json.loads(scores.read_text("utf-8"))["best_step"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{scores}: expected the scores of past evaluations, found {error!r}; name the folder "
            "of one checkpoint instead"
        ) from error
    if step is None:
        return folder
    best = folder.parent / str(step)
    if is_checkpoint(best):
        return best
    print(
        f"{best}: this checkpoint, the best one by {scores.name}, is not there any more: the last "
        f"one is taken, of step {folder.name}",
        file=sys.stderr,
    )
    return folder


def _steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a folder; unfinished ones have other names."""
    try:
        paths = tried_again(folder, lambda: list(folder.iterdir()))
    except ABSENT:
        return []
    return [int(path.name) for path in paths if path.name.isdigit() and _is_there(path)]


def _is_there(folder: Path) -> bool:
    """Whether a folder is that of a checkpoint, or cannot be looked at, as reading it will say."""
    try:
        return tried_again(folder, lambda: is_checkpoint(folder))
    except UnreadableFileError:
        return True
