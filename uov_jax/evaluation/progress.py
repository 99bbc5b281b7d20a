"""How far an evaluation came, kept in its directory so that it can be gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from uov_jax.checkpoints.run import LATER_FIELDS, find_checkpoint
from uov_jax.config import PATHS, flat_fields
from uov_jax.contents import parse_json, parse_npz
from uov_jax.errors import InputError
from uov_jax.evaluation.scores import Scores
from uov_jax.files import DAMAGE, UnreadableFileError, read_bytes, replacing

FILE = "progress.npz"
# Of `config.run`, which else decides nothing.
DECISIVE = ("config.run.predict_ignored", "config.run.repeats")
# Before the names of columns, which may be any, among the names of arrays.
COUNTS = "counts of "


class EvaluationProgressError(InputError):
    """A directory holds an evaluation of something else, or its progress cannot be read."""


def evaluation_identity(
    config: ConfigDict, networks: Mapping[str, str | Path], **settings: Any
) -> dict[str, Any]:
    """What an evaluation is bound to: the recipe's fields, the checkpoints' files, the settings.

    A checkpoint that was written again since counts as another one.
    """
    fields = {f"config.{name}": value for name, value in flat_fields(config)}
    for name in (f"config.{path}" for path in PATHS):
        # The same folder, however it was typed.
        fields[name] = str(Path(fields[name]).resolve()) if fields.get(name) else ""
    free = (
        "config.run.",
        "config.data.workers",
        "config.data.worker_processes",
        "config.data.worker_timeout",
        "config.data.skip_damaged",
        # Its content counts, see `JudgedSplit.identity`, not where it lies.
        "config.data.vocabulary",
        # Sizes of padded arrays: padding influences nothing.
        "config.data.voxels",
        "config.data.pairs",
        "config.data.superpoints",
        "config.data.plans",
    )
    kept = {name: value for name, value in fields.items() if not name.startswith(free)}
    for name in DECISIVE:
        if name in fields:
            kept[name] = fields[name]
    versions = {f"checkpoint {name}": _version(Path(path)) for name, path in networks.items()}
    return {**versions, **settings, **kept}


def _version(path: Path) -> str:
    file = find_checkpoint(path) / "arrays" if path.is_dir() else path
    return f"{path.resolve()}, written {datetime.fromtimestamp(file.stat().st_mtime).isoformat()}"


class EvaluationProgress:
    """The counts of an evaluation after so many sweeps, bound to what is evaluated."""

    def __init__(self, directory: Path, identity: Mapping[str, Any]) -> None:
        """Nothing is read or written before it is asked for.

        Args:
            directory: of the evaluation.
            identity: plain values by name, all of which must be the same to go on.

        """
        self.path = directory / FILE
        self._identity = json.loads(json.dumps(dict(identity)))
        self._saved = time.monotonic()

    def restore(self, scores: Scores) -> int:
        """Fill `scores` with what was counted before; returns the number of sweeps done.

        Raises:
            EvaluationProgressError: the file is of another identity, or damaged; names the field.

        """
        if not self.path.is_file():
            return 0
        try:
            content = parse_npz(read_bytes(self.path))
            identity, done = parse_json(str(content.pop("identity"))), int(content.pop("done"))
            self._check(identity)
            scores.labelled_sweeps = int(content.pop("labelled_sweeps"))
            agreement = parse_json(str(content.pop("agreement")))
            scores.agreement = {name: tuple(counts) for name, counts in agreement.items()}
            for column, counts in content.items():
                name = column.removeprefix(COUNTS)
                scores.columns[name] = subsets = scores.empty_column()
                subsets.restore(counts)
        except (EvaluationProgressError, UnreadableFileError):
            raise
        except (*DAMAGE, AttributeError) as error:
            raise EvaluationProgressError(
                f"{self.path}: not readable as the progress of an evaluation ({error}); delete it "
                "to start again"
            ) from error
        return done

    def save(self, done: int, scores: Scores) -> None:
        """Write the counts after `done` sweeps; temporary name first, then renamed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        counts = {column: subsets.counts() for column, subsets in scores.columns.items()}
        with replacing(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                identity=np.array(json.dumps(self._identity)),
                done=np.array(done),
                labelled_sweeps=np.array(scores.labelled_sweeps),
                agreement=np.array(json.dumps(scores.agreement)),
                **{f"{COUNTS}{column}": values for column, values in counts.items()},
            )
        self._saved = time.monotonic()

    def save_now_and_then(self, done: int, scores: Scores, seconds: float) -> None:
        """`save`, unless the last time was less than `seconds` ago."""
        if time.monotonic() - self._saved >= seconds:
            self.save(done, scores)

    def _check(self, found: Mapping[str, Any]) -> None:
        later = {f"config.{name}": value for name, value in LATER_FIELDS.items()}
        found = {n: value for n, value in later.items() if n in self._identity} | dict(found)
        for name in {**found, **self._identity}:
            old, new = found.get(name), self._identity.get(name)
            if old != new:
                raise EvaluationProgressError(
                    f"{self.path}: an evaluation with {name} = {old} is there, now it is {new}. "
                    "Name another --output, or delete the file to start again"
                )
