"""Predicted labels as files: beside the points or elsewhere, a label for every point in its order.

    NAME.predicted.label   uint32, little-endian, as SemanticKITTI stores labels
    NAME.predicted.npz     labels, the classes' names, and whatever else was asked for
    NAME.predicted.ply     the points where they were, in the colours of their classes

Labels are the numbers of evaluation classes; 0 is for points without one, as those that are not
finite. The names are nobody else's, so no file of a dataset is ever written over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.clouds.cloud import Cloud, CloudError
from uov_jax.datasets.ply_file import ply_bytes
from uov_jax.errors import MissingFileError
from uov_jax.files import read_bytes, write_bytes, write_npz

MARK = ".predicted"
LABEL, ARRAYS, COLORED = f"{MARK}.label", f"{MARK}.npz", f"{MARK}.ply"


def is_prediction(path: Path) -> bool:
    """Whether a file is called as those that are written here."""
    return Path(path.stem).suffix == MARK


def write_label(folder: Path, name: str, labels: np.ndarray) -> Path:
    """Write the labels [N], whole numbers from 0, of the cloud `name`; the file.

    Temporary name first, then renamed, as all files here; the folder is made where it is missing.
    """
    path = folder / f"{name}{LABEL}"
    write_bytes(path, labels.astype("<u4").tobytes())
    return path


def read_label(path: Path, points: int) -> np.ndarray:
    """uint32[points], the labels of a file.

    Raises:
        MissingFileError: there is no such file.
        CloudError: it has the labels of another number of points.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file of predicted labels of a cloud")
    content = read_bytes(path)
    if len(content) != 4 * points:
        raise CloudError(
            f"{path}: {len(content):,} bytes, expected {4 * points:,}: four for each of "
            f"{points:,} points"
        )
    return np.frombuffer(content, "<u4").astype(np.uint32)


def write_arrays(
    folder: Path,
    name: str,
    labels: np.ndarray,
    classes: Sequence[str],
    more: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write labels [N] with the names of all classes, from class 0 on; the file.

    Args:
        folder: made where it is missing.
        name: of the cloud.
        labels: whole numbers below the number of classes; stored as uint8 or uint16.
        classes: the names.
        more: other arrays by their names, such as scores.

    """
    path = folder / f"{name}{ARRAYS}"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = labels.astype(np.min_scalar_type(max(len(classes) - 1, 0)))
    write_npz(path, {"labels": small, "classes": np.array(list(classes)), **(more or {})})
    return path


def write_colored(
    folder: Path, cloud: Cloud, labels: np.ndarray, classes: Sequence[str], colors: np.ndarray
) -> Path:
    """Write a cloud in the colours of its classes; the file.

    Points stay where their file has them, in its unit, axes and type, also those that are not
    finite; with their labels, and their intensity where there is one. The header names the classes.

    Args:
        folder: made where it is missing.
        cloud: N points.
        labels: [N], whole numbers below the number of classes.
        classes: names of all C classes.
        colors: uint8[C, 3], RGB.

    """
    kind = cloud.positions.dtype.str[1:]
    fields = [*((axis, kind) for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    fields.append(("label", np.min_scalar_type(max(len(classes) - 1, 0)).str[1:]))
    if cloud.intensity is not None:
        fields.append(("intensity", "f4"))
    vertices = np.empty(len(cloud), np.dtype(fields))
    for axis, name in enumerate("xyz"):
        vertices[name] = cloud.positions[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[labels, channel]
    vertices["label"] = labels
    if cloud.intensity is not None:
        vertices["intensity"] = cloud.intensity
    path = folder / f"{cloud.name}{COLORED}"
    write_bytes(path, ply_bytes(vertices, [f"class {i} {c}" for i, c in enumerate(classes)]))
    return path
