"""The nuScenes dataset: LiDAR sweeps, point labels, splits of labelled sweeps, submissions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.projection import pair_points, points_seen
from uov_jax.datasets.required_files import require_keyframe_files, require_keyframe_sweeps
from uov_jax.datasets.sweeps import PointLabels
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import ABSENT, read_bytes, write_text
from uov_jax.vocabulary import Vocabulary, load_vocabulary
from uov_jax.vocabulary.vocabulary import NUSCENES_RAW_LABELS

OFFICIAL_CLASSES = 17  # with the ignored one


class NuScenesSweeps:
    """Keyframes of a dataset in nuScenes' format, with true or pseudo labels.

    The feature is the intensity as stored, 0..255.
    """

    ahead = "y"

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        vocabulary: Vocabulary,
        labels: PointLabels | None = None,
    ) -> None:
        """Check that every keyframe has its files.

        Args:
            keyframes: the sweeps.
            vocabulary: maps raw labels to evaluation classes.
            labels: take the place of the true labels.

        Raises:
            MissingFileError: sweeps, label files or pseudo labels are missing; counts them.
            InputError: sweeps or label files have sizes that cannot be; likewise.

        """
        if labels is not None:
            require_keyframe_sweeps(keyframes)
            labels.check(keyframes)
        else:
            require_keyframe_files(keyframes)
        self.keyframes = keyframes
        self.vocabulary = vocabulary
        self._labels = labels
        self.classes = vocabulary.eval_classes
        self.colors = vocabulary.colors

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def token(self, index: int) -> str:
        """The `sample` token."""
        return self.keyframes[index].token

    def path(self, index: int) -> Path:
        """The file of a sweep."""
        return self.keyframes[index].lidar_path

    def points(self, index: int) -> np.ndarray:
        """float32[N, 4]: x, y, z in metres, intensity."""
        return self.keyframes[index].points()

    def has_labels(self, index: int) -> bool:
        """Whether a keyframe has true labels, or all have pseudo labels."""
        return self._labels is not None or self.keyframes[index].lidarseg_path is not None

    def labels(self, index: int, num_points: int) -> np.ndarray | None:
        """uint8[num_points]: evaluation classes; None for a keyframe without true labels."""
        keyframe = self.keyframes[index]
        if self._labels is not None:
            return self._labels.labels(keyframe, num_points)
        return true_classes(keyframe, num_points, self.vocabulary)

    def seen(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """bool[N]: whether one of the cameras sees each point; None for a rig without cameras."""
        keyframe = self.keyframes[index]
        if not keyframe.rig.cameras:
            return None
        return points_seen(pair_points(points, keyframe), len(points))


class NuScenesLabelFormat:
    """`lidarseg/SPLIT/TOKEN_lidarseg.bin`: uint8, classes from 1 on, for nuScenes' challenge 1..16.

    The format of `nuscenes.eval.lidarseg` of nuscenes-devkit: TOKEN is the sweep's `sample_data`
    token, and `SPLIT/submission.json` says which sensors were used.
    """

    benchmark = "nuScenes lidarseg"
    benchmark_sweeps = 6019
    points_per_sweep = 34_700
    bytes_per_point = 1

    def __init__(
        self, keyframes: Sequence[Keyframe], split: str, num_classes: int = OFFICIAL_CLASSES
    ) -> None:
        """The keyframes of a split, such as "val", and the classes with the ignored one."""
        self.keyframes = keyframes
        self.split = split
        self.num_classes = num_classes

    @property
    def official_classes(self) -> tuple[str, ...]:
        """Names of the benchmark's classes, the first one ignored."""
        return load_vocabulary("nuscenes").eval_classes

    def path(self, index: int) -> Path:
        """The file of a keyframe."""
        return Path("lidarseg", self.split, f"{self.keyframes[index].lidar_token}_lidarseg.bin")

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """uint8[N] unchanged; InputError unless all are 1..C - 1."""
        wrong = np.flatnonzero((classes < 1) | (classes >= self.num_classes))
        if len(wrong):
            raise InputError(
                f"class {classes[wrong[0]]} of point {wrong[0]} ({len(wrong)} such points): "
                f"{self.benchmark} takes 1 to {self.num_classes - 1} alone"
            )
        return classes.astype(np.uint8)

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: classes 0..C - 1.

        Raises:
            MissingFileError: there is no such file.
            InputError: it has another number of labels, or one beyond C - 1.

        """
        try:
            labels = np.frombuffer(read_bytes(path), np.uint8)
        except ABSENT as error:
            raise MissingFileError(f"{path}: no such label file") from error
        if len(labels) != num_points:
            raise InputError(f"{path}: {len(labels)} labels, but the sweep has {num_points} points")
        if num_points and labels.max() >= self.num_classes:
            row = int(np.argmax(labels >= self.num_classes))
            raise InputError(
                f"{path}: label {labels[row]} of point {row}, expected an evaluation class "
                f"0..{self.num_classes - 1}"
            )
        return labels

    def describe(self, folder: Path) -> list[Path]:
        """Write `SPLIT/submission.json`: LiDAR alone is used, and weights from other data."""
        meta = {f"use_{sensor}": sensor == "lidar" for sensor in ("camera", "lidar", "radar")}
        meta |= {"use_map": False, "use_external": True}
        file = folder / self.split / "submission.json"
        write_text(file, json.dumps({"meta": meta}, indent=2))
        return [file.relative_to(folder)]


def read_lidarseg(
    path: str | Path, num_points: int, num_raw_labels: int = NUSCENES_RAW_LABELS
) -> np.ndarray:
    """uint8[num_points]: the raw label of every point, 0..31 in nuScenes.

    Raises:
        MissingFileError: there is no such file.
        InputError: it holds another number of labels, or one that nuScenes does not have.

    """
    path = Path(path)
    try:
        labels = np.frombuffer(read_bytes(path), np.uint8)
    except ABSENT as error:
        raise MissingFileError(
            f"{path}: no such label file: unpack the nuScenes-lidarseg archive into the dataset"
        ) from error
    if len(labels) != num_points:
        raise InputError(f"{path}: {len(labels)} labels, but the sweep has {num_points} points")
    if num_points and labels.max() >= num_raw_labels:
        row = int(np.flatnonzero(labels >= num_raw_labels)[0])
        raise InputError(
            f"{path}: label {labels[row]} of point {row}, expected 0..{num_raw_labels - 1}"
        )
    return labels


def true_classes(keyframe: Keyframe, num_points: int, vocabulary: Vocabulary) -> np.ndarray | None:
    """uint8[num_points]: the true evaluation classes; None for a keyframe without labels."""
    if keyframe.lidarseg_path is None:
        return None
    raw = read_lidarseg(keyframe.lidarseg_path, num_points, vocabulary.num_raw_labels)
    return vocabulary.raw_to_eval[raw]
