"""Sweeps with one class per point: what segmentation trains and is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from uov_jax.data.nuscenes import Keyframe, read_lidarseg, read_sweep, require_files
from uov_jax.data.projection import pair_points
from uov_jax.data.pseudo_labels import PseudoLabels, evaluation_labels
from uov_jax.data.tmp_sample import sweep_files
from uov_jax.vocabulary import Vocabulary


class LabelledSweeps(Protocol):
    """A list of sweeps of one dataset (`NuScenesSweeps`, `SemanticKittiScans`).

    Attributes:
        classes: names of the C classes; the first is ignored.
        colors: uint8[C, 3], RGB of each.

    """

    classes: tuple[str, ...]
    colors: np.ndarray

    def __len__(self) -> int:
        """Number of sweeps."""
        ...

    def token(self, index: int) -> str:
        """What names a sweep in messages, and in the names of files."""
        ...

    def points(self, index: int) -> np.ndarray:
        """float32[N, 4 or more]: x, y, z in metres, the network's input feature, others."""
        ...

    def labels(self, index: int, num_points: int) -> np.ndarray | None:
        """uint8[num_points]: class of every point, 0 for none; None for a sweep without labels."""
        ...

    def seen(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """bool[N]: whether a camera sees each point; None where the dataset does not say."""
        ...


class NuScenesSweeps:
    """Keyframes of a dataset in nuScenes' format, with true or pseudo labels.

    The feature is the intensity as stored, 0..255.
    """

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        vocabulary: Vocabulary,
        pseudo_labels: PseudoLabels | None = None,
    ) -> None:
        """Check that every keyframe has its files.

        Args:
            keyframes: the sweeps.
            vocabulary: maps raw labels to evaluation classes.
            pseudo_labels: take the place of the true labels.

        Raises:
            FileNotFoundError: sweeps, label files or pseudo labels are missing; counts them.

        """
        require_files(keyframes, sweep_files, "LiDAR sweeps")
        if pseudo_labels is not None:
            pseudo_labels.check(keyframes)
        else:
            require_files(keyframes, lambda keyframe: [keyframe.lidarseg_path], "label files")
        self.keyframes = list(keyframes)
        self.vocabulary = vocabulary
        self.pseudo_labels = pseudo_labels
        self.classes = vocabulary.eval_classes
        self.colors = vocabulary.colors

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def token(self, index: int) -> str:
        """The `sample` token."""
        return self.keyframes[index].token

    def points(self, index: int) -> np.ndarray:
        """float32[N, 5]: x, y, z in metres, intensity, ring."""
        return read_sweep(self.keyframes[index].lidar_path)

    def labels(self, index: int, num_points: int) -> np.ndarray | None:
        """uint8[num_points]: evaluation classes; None for a keyframe without true labels."""
        keyframe = self.keyframes[index]
        if self.pseudo_labels is not None:
            raw = self.pseudo_labels.raw_labels(keyframe, num_points)
            return evaluation_labels(raw, self.vocabulary)
        if keyframe.lidarseg_path is None:
            return None
        return self.vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, num_points)]

    def seen(self, index: int, points: np.ndarray) -> np.ndarray:
        """bool[N]: whether one of the six cameras sees each point."""
        seen = np.zeros(len(points), bool)
        seen[pair_points(points, self.keyframes[index]).point] = True
        return seen
