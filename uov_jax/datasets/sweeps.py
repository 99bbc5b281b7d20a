"""Sweeps with one class per point: what segmentation trains and is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from uov_jax.datasets.keyframe import Keyframe


class LabelledSweeps(Protocol):
    """A list of sweeps of one dataset (see `open_split`).

    Attributes:
        classes: names of the C classes; the first is ignored.
        colors: uint8[C, 3], RGB of each.
        ahead: the axis of the points along which the vehicle goes, "x" or "y".

    """

    classes: tuple[str, ...]
    colors: np.ndarray
    ahead: str

    def __len__(self) -> int:
        """Number of sweeps."""
        ...

    def token(self, index: int) -> str:
        """What names a sweep in messages, and in the names of files."""
        ...

    def path(self, index: int) -> Path:
        """The file of a sweep."""
        ...

    def points(self, index: int) -> np.ndarray:
        """float32[N, 4 or more]: x, y, z in metres, the network's input feature, others."""
        ...

    def has_labels(self, index: int) -> bool:
        """Whether a sweep has labels; no file is opened."""
        ...

    def labels(self, index: int, num_points: int) -> np.ndarray | None:
        """uint8[num_points]: class of every point, 0 for none; None for a sweep without labels."""
        ...

    def seen(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """bool[N]: whether a camera sees each point; None where the dataset does not say."""
        ...


class PartlyLabelled(Protocol):
    """A list of sweeps of which some may lack labels, `LabelledSweeps` for one."""

    def __len__(self) -> int:
        """Number of sweeps."""
        ...

    def has_labels(self, index: int) -> bool:
        """Whether a sweep has labels."""
        ...


def labelled_indices(sweeps: PartlyLabelled) -> list[int]:
    """The indices of the sweeps that have labels."""
    return [index for index in range(len(sweeps)) if sweeps.has_labels(index)]


class PointLabels(Protocol):
    """Labels that take the place of a dataset's own, such as pseudo labels."""

    def labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """uint8[num_points]: class of every point of a keyframe's sweep, 0 for none."""
        ...

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """MissingFileError unless every keyframe has its labels."""
        ...
