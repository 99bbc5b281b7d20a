"""Predicted labels in the datasets' own formats, and submissions to their benchmark servers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Protocol

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import replacing, write_bytes


class LabelFormat(Protocol):
    """The label format of a dataset, for the sweeps of one of its splits.

    Attributes:
        benchmark: name of the benchmark and its server; "" where none takes these labels.
        benchmark_sweeps: sweeps of the benchmark's validation split.
        points_per_sweep: about.
        bytes_per_point: of the labels.
        official_classes: that the benchmark takes, the ignored one counted.

    """

    benchmark: str
    benchmark_sweeps: int
    points_per_sweep: int
    bytes_per_point: int
    official_classes: int

    def path(self, index: int) -> Path:
        """The file of a sweep, relative to the folder of a submission."""
        ...

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """Evaluation classes uint8[N] as they are stored; InputError for other classes."""
        ...

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: the evaluation classes of a file that `encode` filled."""
        ...

    def describe(self, folder: Path) -> list[Path]:
        """Write what a submission holds beside the labels; the files, relative to the folder."""
        ...


def expected_bytes(form: LabelFormat, sweeps: int) -> int:
    """Size of the predictions of so many sweeps, within some percent."""
    return form.bytes_per_point * form.points_per_sweep * sweeps


def write_labels(form: LabelFormat, folder: Path, index: int, classes: np.ndarray) -> Path:
    """Write the classes uint8[N] of a sweep below a folder; temporary name first, then renamed.

    Raises:
        InputError: a class that the format does not take; names the file.

    """
    path = folder / form.path(index)
    try:
        content = form.encode(classes).tobytes()
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    write_bytes(path, content)
    return path


def pack_submission(form: LabelFormat, folder: Path, num_sweeps: int) -> Path:
    """Make a folder of predictions a submission, and the zip file beside it that is uploaded.

    Args:
        form: the dataset's format.
        folder: with the predictions of `write_labels`.
        num_sweeps: of the split; each must have its file.

    Raises:
        MissingFileError: a sweep has no predictions.

    """
    paths = [form.path(index) for index in range(num_sweeps)]
    missing = [path for path in paths if not (folder / path).is_file()]
    if missing:
        raise MissingFileError(
            f"{folder / missing[0]}: {len(missing)} of {len(paths)} predictions of the split are "
            "missing, and a submission needs all of them"
        )
    # These alone: the folder may hold what an earlier evaluation left.
    contents = sorted([*form.describe(folder), *map(Path, paths)])
    archive = folder.with_name(f"{folder.name}.zip")
    with replacing(archive) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            # SemanticKITTI's validator asks for entries of the folders themselves.
            for parent in sorted({parent for path in contents for parent in path.parents[:-1]}):
                file.mkdir(parent.as_posix())
            for path in contents:
                file.write(folder / path, path)
    return archive
