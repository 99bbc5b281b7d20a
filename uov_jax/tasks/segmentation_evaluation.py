"""Evaluation of networks with one output a class, after annotation-free training or fine-tuning."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.split import Split, open_split
from uov_jax.datasets.sweeps import LabelledSweeps
from uov_jax.errors import MissingFileError
from uov_jax.evaluation.judged_split import OneClassARow
from uov_jax.input.whole_sweep import sweep_sample
from uov_jax.superpoints.labels import open_pseudo_labels
from uov_jax.tasks.recipe_batches import check_model, recipe_capacities
from uov_jax.tasks.segmentation import best_class, class_probabilities, segmentation_model
from uov_jax.tasks.sweep_smoothing import smooth_sweep
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import load_vocabulary, vocabulary_identity


class SegmentationSplit(OneClassARow):
    """Sweeps judged by the largest output of every voxel.

    Where the recipe names pseudo labels and the split has some, they are judged beside the network.
    """

    def __init__(self, config: ConfigDict, split: str) -> None:
        """Open the split, and its pseudo labels.

        Raises:
            MissingFileError: dataset, sweeps or label files are missing.
            InputError: unknown dataset or split, or they do not fit the config.

        """
        check_model(config.model)
        self.config, self.split = config, split
        self._opened = open_split(config.data, split)
        self._sweeps = self._opened.sweeps()
        self._vocabulary = load_vocabulary(config.data.vocabulary)
        self._teacher_labels = _teacher_labels(config.data, self._opened)
        self.title = f"Segmentation as trained by {config.task}"
        self.classes, self.colors = self._sweeps.classes, self._sweeps.colors
        self.ahead = self._sweeps.ahead
        self.label_format = self._opened.label_format
        self.voxels = voxel_settings(config.data)
        self.plans = recipe_capacities(config, 1).plans

    def __len__(self) -> int:
        """Number of sweeps."""
        return len(self._sweeps)

    def identity(self) -> dict[str, str]:
        """The classes, and the vocabulary that gave them to labels."""
        return {
            "classes": fingerprint("\n".join(self.classes).encode()),
            **vocabulary_identity(self._vocabulary),
        }

    def token(self, index: int) -> str:
        """The sweep's name in its dataset."""
        return self._sweeps.token(index)

    def has_labels(self, index: int) -> bool:
        """Whether a sweep has true labels."""
        return self._sweeps.has_labels(index)

    def sample(self, index: int) -> dict[str, Any]:
        """One sweep, with its pseudo labels where the split has some."""
        return sweep_sample(self._sweeps, index, self.plans, self.voxels, self._teacher_labels)

    def keyframe(self, index: int) -> Keyframe | None:
        """The cameras of a sweep; None for SemanticKITTI."""
        keyframes = self._opened.keyframes
        return None if keyframes is None else keyframes[index]

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network that training built."""
        return segmentation_model(self.config.model, len(self.classes), rngs, axis_name)

    def classify(self, output: jax.Array) -> jax.Array:
        """uint8[rows]: the class of the largest output, the ignored one only if the recipe says."""
        return best_class(output, self.config.run.predict_ignored)

    def probabilities(self, output: jax.Array) -> jax.Array:
        """float32[rows, C]: softmax of the outputs of those classes that may be predicted."""
        return class_probabilities(output, self.config.run.predict_ignored)

    def smooth(
        self,
        points: np.ndarray,
        classes: np.ndarray,
        afi_points: int | None = None,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """uint8[N]: smoothed, on nuScenes with a plane fitted to the ground near the sensor."""
        return smooth_sweep(
            points,
            classes,
            len(self.classes),
            self._opened.dataset,
            self._vocabulary.ground_classes,
            afi_points,
            probabilities,
        )


def _teacher_labels(data: ConfigDict, split: Split) -> LabelledSweeps | None:
    if "labels" not in data:
        return None
    try:
        return split.sweeps(open_pseudo_labels(data.labels, load_vocabulary(data.vocabulary)))
    except MissingFileError as error:
        print(f"The teacher is not judged beside the network: {error}", flush=True)
        return None
