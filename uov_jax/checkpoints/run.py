"""Checkpoints of a run: all that is needed to go on to the same bits, written by Orbax."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from uov_jax import sparse
from uov_jax.checkpoints.files import require_finite
from uov_jax.datasets.keyframe import CAMERAS, LIDAR
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import write_text

# Sections and fields of a config that change no parameter, so that a resumed run may change them.
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
    # Where equal maps are built.
    "data.plans",
)
# Fields that recipes got later, with what runs without them were made with.
LATER_FIELDS = {
    "data.lidar": LIDAR,
    "data.cameras": list(CAMERAS),
    "data.columns": NUSCENES_COLUMNS.text,
    "model.precision": "float32",
}
FORMAT = 1


class CheckpointError(InputError):
    """A checkpoint does not belong to this run, or cannot be read."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint gives back: the step, host arrays, and the kernels they came from.

    kernels: see `uov_jax.checkpoints.kernels`; None in checkpoints that do not say.
    """

    step: int
    state: Any
    kernels: str | None


class _KeepBest(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoint whose validation score is best so far."""

    def __init__(self) -> None:
        self.step: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: Any,
    ) -> Sequence[bool]:
        del context
        return [info.step == self.step for info in checkpoints]


class RunCheckpoints:
    """The `checkpoints` folder of a run directory: the last state and the best one.

    Writing goes on beside the training; a checkpoint appears under its name when it is whole.
    """

    def __init__(
        self,
        directory: str | Path,
        config: Mapping[str, Any],
        identity: Mapping[str, Any],
    ) -> None:
        """Open or create the folder.

        Args:
            directory: of the run.
            config: the run's config as nested plain values.
            identity: what else must be the same for a checkpoint to fit, by name: devices, the
              teacher's weights, the vocabulary.

        """
        self.directory = Path(directory).absolute() / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._config = json.loads(json.dumps(dict(config), default=_plain))
        self._identity = json.loads(json.dumps(dict(identity), default=_plain))
        self._best_file = self.directory / "best.json"
        self._keep_best = _KeepBest()
        self._evaluations = self._read_evaluations()
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(1), self._keep_best]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, cleanup_tmp_directories=True
        )
        handlers = {
            "arrays": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=handlers
        )

    @property
    def last_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation, None before the first one with a score."""
        return self._keep_best.step

    def path(self, step: int) -> Path:
        """Folder of one checkpoint."""
        return self.directory / str(step)

    def save(self, step: int, state: Any) -> None:
        """Start writing a checkpoint; returns when the arrays have been copied.

        Args:
            step: steps done; a checkpoint that exists already is left as it is.
            state: tree of host arrays.

        """
        if step == self.last_step:
            return
        record = {
            "format": FORMAT,
            "config": self._config,
            "identity": self._identity,
            "versions": code_versions(),
            "kernels": sparse.current_kernels(),
        }
        arrays = {name: np.asarray(leaf) for name, leaf in _named(state).items()}
        arguments = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
        )
        self._manager.save(step, args=arguments)

    def restore(self, like: Any, step: int | None = None) -> Restored:
        """Read a checkpoint back, the last one by default.

        Args:
            like: tree of arrays with the shapes and types to expect.
            step: of the checkpoint.

        Raises:
            CheckpointError: it was written under another config, data or device count, or holds
              other arrays; the message names the field.
            InputError: it holds a number that is not finite.
            MissingFileError: there is none.

        """
        step = self.last_step if step is None else step
        if step is None or not self.path(step).is_dir():
            raise MissingFileError(f"{self.directory}: no checkpoint of step {step}")
        record = self._restore_item(step, "record", ocp.args.JsonRestore())
        self._check(step, record)
        expected = _named(like)
        self._check_arrays(step, expected)
        host = {name: np.zeros(np.shape(leaf), leaf.dtype) for name, leaf in expected.items()}
        arrays = self._restore_item(step, "arrays", ocp.args.StandardRestore(host))
        leaves = [np.asarray(arrays[name]) for name in expected]
        require_finite(dict(zip(expected, leaves, strict=True)), self.path(step))
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return Restored(step, state, record.get("kernels"))

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
            self._keep_best.step = step
        if jax.process_index() == 0:
            content = {"best_step": self.best_step, "scores": self._evaluations}
            write_text(self._best_file, json.dumps(content))
        return bool(better)

    def is_evaluated(self, step: int) -> bool:
        """Whether `record_evaluation` was called for a step, in this run or before it stopped."""
        return str(step) in self._evaluations

    def forget_evaluations_after(self, step: int) -> None:
        """Drop scores of steps that will be taken again."""
        self._evaluations = {key: s for key, s in self._evaluations.items() if int(key) <= step}
        if self.best_step is not None and self.best_step > step:
            scored = {int(key): s for key, s in self._evaluations.items() if s is not None}
            self._keep_best.step = max(scored, key=lambda key: scored[key], default=None)

    def wait(self) -> None:
        """Return when everything is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the folder."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _read_evaluations(self) -> dict[str, float | None]:
        if not self._best_file.exists():
            return {}
        try:
            content = json.loads(self._best_file.read_text())
            self._keep_best.step = content["best_step"]
            return dict(content["scores"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._best_file}: expected the scores of past evaluations, found {error!r}; "
                "delete the file to go on without them"
            ) from error

    def _restore_item(self, step: int, name: str, arguments: Any) -> Any:
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**{name: arguments}))
        except Exception as error:  # Orbax raises what its storage layers raise.
            raise CheckpointError(
                f"{self.path(step)}: cannot read `{name}` of this checkpoint "
                f"({type(error).__name__}: {error}); delete the folder to go on from an older one"
            ) from error
        return restored[name]

    def _check(self, step: int, record: Mapping[str, Any]) -> None:
        if record.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path(step)}: format {record.get('format')}, this code reads {FORMAT}"
            )
        for kind, theirs, ours in (
            ("config", record["config"], self._config),
            ("identity", record["identity"], self._identity),
        ):
            differences = _differences(theirs, ours)
            if differences:
                name, old, new = differences[0]
                field = f"config.{name}" if kind == "config" else name
                more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
                raise CheckpointError(
                    f"{self.path(step)}: this checkpoint was written with {field} = {old}, the "
                    f"run has {new}{more}. Set it back to go on with that run, or start another "
                    "one with a new --workdir"
                )

    def _check_arrays(self, step: int, expected: Mapping[str, Any]) -> None:
        stored = dict(self._manager.item_metadata(step)["arrays"])
        for name in {**stored, **expected}:
            old = stored[name].shape if name in stored else None
            new = np.shape(expected[name]) if name in expected else None
            if old is None or new is None or tuple(old) != tuple(new):
                raise CheckpointError(
                    f"{self.path(step)}: {name} has shape {old or 'nothing'} in the checkpoint "
                    f"and {new or 'nothing'} in this run"
                )


def _named(tree: Any) -> dict[str, Any]:
    """Leaves of a tree by path, such as `parameters/block1.0.conv1.kernel`, in tree order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def code_versions() -> dict[str, str]:
    """Versions of this package and of those that decide about its numbers."""
    names = ("uov-jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
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
    if (path / "arrays").is_dir():
        return path
    for folder in (path / "checkpoints", path):
        if steps := _steps(folder):
            return folder / str(max(steps))
    what = "a folder without a checkpoint" if path.is_dir() else "no such folder"
    raise CheckpointError(
        f"{path}: {what}; expected a run directory (with `checkpoints` in it) or the folder of one "
        "checkpoint (with `arrays` in it)"
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
    if (best / "arrays").is_dir():
        return best
    print(
        f"{best}: this checkpoint, the best one by {scores.name}, is not there any more: the last "
        f"one is taken, of step {folder.name}",
        file=sys.stderr,
    )
    return folder


def read_record(path: str | Path) -> dict[str, Any]:
    """What a checkpoint's folder says of its run: config, identity, versions, kernels.

    Raises:
        CheckpointError: it cannot be read.

    """
    file = Path(path) / "record" / "metadata"
    try:
        record = json.loads(file.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {record['format']}, this code reads {FORMAT}")
        return record
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: expected the record of a checkpoint: {error}") from error


def _steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a folder; unfinished ones have other names."""
    if not folder.is_dir():
        return []
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit() and (p / "arrays").is_dir()]


def read_arrays(path: str | Path, of: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a checkpoint by name, such as `parameters/final.kernel`.

    Args:
        path: the checkpoint's folder.
        of: first parts of the names to read, such as "parameters"; all by default.

    Raises:
        CheckpointError: there is no whole checkpoint in that folder.

    """
    folder = Path(path).absolute()
    if not (folder / "arrays").is_dir():
        raise CheckpointError(f"{folder}: no checkpoint; expected a folder with `arrays` in it")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(folder / "arrays")
        stored = dict(getattr(metadata, "item_metadata", metadata))
        host = {
            name: np.zeros(info.shape, info.dtype)
            for name, info in stored.items()
            if of is None or name.partition("/")[0] in of
        }
        arguments = ocp.args.PyTreeRestore(host, partial_restore=True)
        arrays = checkpointer.restore(folder / "arrays", args=arguments)
    return {name: np.asarray(array) for name, array in arrays.items()}
