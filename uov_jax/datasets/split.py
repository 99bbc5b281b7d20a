"""Opening a split of a dataset: one way for every task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from ml_collections import ConfigDict

from uov_jax.datasets.keyframe import Keyframe, rig_of
from uov_jax.datasets.lidar_file import SEMANTICKITTI_COLUMNS
from uov_jax.datasets.nuscenes import NuScenesLabelFormat, NuScenesSweeps
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.semantickitti import SemanticKittiLabelFormat, SemanticKittiScans
from uov_jax.datasets.submission import LabelFormat
from uov_jax.datasets.sweeps import LabelledSweeps, PointLabels
from uov_jax.errors import InputError
from uov_jax.vocabulary import load_vocabulary

NUSCENES, SEMANTICKITTI = "nuscenes", "semantickitti"


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some sweeps of a dataset.

    Attributes:
        dataset: "nuscenes" (also for other data in its format) or "semantickitti".
        name: of the split, possibly with a share, such as "train:1%".
        keyframes: the sweeps with their cameras, in order; None where the dataset has no cameras.
        label_format: of the dataset's labels.
        open_sweeps: see `sweeps`.

    """

    dataset: str
    name: str
    keyframes: Sequence[Keyframe] | None
    label_format: LabelFormat
    open_sweeps: Callable[[PointLabels | None], LabelledSweeps]

    def sweeps(self, labels: PointLabels | None = None) -> LabelledSweeps:
        """The sweeps with their labels; every file is looked for.

        Args:
            labels: take the place of the dataset's own.

        Raises:
            MissingFileError: sweeps or labels are missing; counts them.
            InputError: labels for a dataset without keyframes.

        """
        return self.open_sweeps(labels)

    def with_cameras(self) -> Sequence[Keyframe]:
        """The keyframes; InputError where the dataset has no cameras, or the recipe names none."""
        if self.keyframes is None:
            raise InputError(
                f"config.data.dataset: {self.dataset!r} is read without its cameras, and here they "
                "are needed"
            )
        if any(not keyframe.rig.cameras for keyframe in self.keyframes[:1]):
            raise InputError("config.data.cameras: names no camera, and here they are needed")
        return self.keyframes


class Dataset(Protocol):
    """A dataset, opened once for all its splits."""

    def split(self, name: str) -> Split:
        """One of its splits (InputError for an unknown one)."""
        ...


class NuScenes:
    """A dataset in nuScenes' format."""

    def __init__(self, data: ConfigDict) -> None:
        """Read its scene table; `data` as in `open_dataset`."""
        self.vocabulary = load_vocabulary(data.vocabulary)
        self.tables = NuScenesTables(data.root, data.version, rig_of(data))

    def split(self, name: str) -> Split:
        """The keyframes of a split's scenes."""
        keyframes = self.tables.keyframes(name)
        return Split(
            NUSCENES,
            name,
            keyframes,
            NuScenesLabelFormat(
                keyframes, name.partition(":")[0], len(self.vocabulary.eval_classes)
            ),
            lambda labels: NuScenesSweeps(keyframes, self.vocabulary, labels),
        )


class SemanticKitti:
    """The SemanticKITTI dataset."""

    def __init__(self, data: ConfigDict) -> None:
        """Nothing is read yet; `data` as in `open_dataset`."""
        self.data = data

    def split(self, name: str) -> Split:
        """The scans of a split's sequences, with their label files looked for."""
        columns = SEMANTICKITTI_COLUMNS
        if "columns" in self.data:
            columns = columns.with_names(self.data.columns)
        scans = SemanticKittiScans(self.data.root, name, self.data.intensity_offset, columns)

        def sweeps(labels: PointLabels | None) -> LabelledSweeps:
            if labels is not None:
                raise InputError("there are no pseudo labels for SemanticKITTI: it has no cameras")
            return scans

        return Split(SEMANTICKITTI, name, None, SemanticKittiLabelFormat(scans.scans), sweeps)


def open_dataset(data: ConfigDict) -> Dataset:
    """The dataset of a recipe.

    Args:
        data: the recipe's `data`: `root`; `dataset`, "nuscenes" where the field is missing;
            `columns` of the sweeps; `version`, `vocabulary` and the rig (`lidar`, `cameras`) for
            nuScenes, `intensity_offset` for SemanticKITTI.

    Raises:
        MissingFileError: it is not there; says how to get it.
        InputError: there is no such dataset, or its tables cannot be read.

    """
    # Pre-training and annotation-free recipes have no such field: their teachers look at cameras.
    name = data.get("dataset", NUSCENES)
    datasets: dict[str, type[NuScenes] | type[SemanticKitti]] = {
        NUSCENES: NuScenes,
        SEMANTICKITTI: SemanticKitti,
    }
    if name not in datasets:
        raise InputError(f"config.data.dataset: expected one of {sorted(datasets)}, found {name!r}")
    return datasets[name](data)


def open_split(data: ConfigDict, name: str) -> Split:
    """One split of a recipe's dataset; `data` and errors as in `open_dataset`."""
    return open_dataset(data).split(name)
