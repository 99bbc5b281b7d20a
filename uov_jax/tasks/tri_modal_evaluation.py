"""Evaluation of a pre-trained network by words, without any label in training."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.required_files import require_keyframe_files
from uov_jax.datasets.split import NUSCENES, open_split
from uov_jax.dumps.folder import MissingDumpError
from uov_jax.dumps.reference import open_dumps
from uov_jax.errors import InputError
from uov_jax.evaluation.judged_split import OneClassARow
from uov_jax.input.whole_sweep import keyframe_sample
from uov_jax.tasks.recipe_batches import recipe_capacities
from uov_jax.tasks.sweep_smoothing import smooth_sweep
from uov_jax.tasks.tri_modal import pretraining_model
from uov_jax.tasks.zero_shot import word_classifier, word_probabilities
from uov_jax.vocabulary import load_vocabulary, vocabulary_identity


class ZeroShotSplit(OneClassARow):
    """Keyframes judged by the word that is most similar to each voxel's feature.

    Of the dumps the words' embeddings are needed, and where the split was dumped too the teacher's
    own labels are judged beside the network.
    """

    title = "Zero-shot segmentation by words"
    ahead = "y"

    def __init__(self, config: ConfigDict, split: str) -> None:
        """Open the split and the words.

        Raises:
            MissingFileError: dataset, sweeps, label files or dumps are missing.
            InputError: they do not fit each other or the config; dumps without words.

        """
        data = config.data
        self.config, self.split = config, split
        self.vocabulary = load_vocabulary(data.vocabulary)
        self.classes, self.colors = self.vocabulary.eval_classes, self.vocabulary.colors
        opened = open_split(data, split)
        self.keyframes = opened.with_cameras()
        self.label_format = opened.label_format
        require_keyframe_files(self.keyframes)
        self.dumps = open_dumps(data.dumps, self.vocabulary)
        text = self.dumps.text_embeddings
        if text is None:
            raise InputError(
                f"{self.dumps.root}: the dumps of {self.dumps.teacher!r} have no words, so there "
                "is no class to give"
            )
        ignored = config.run.predict_ignored
        self._classify = word_classifier(text, self.vocabulary, ignored)
        temperature = config.loss.temperature
        self._probabilities = word_probabilities(text, self.vocabulary, temperature, ignored)
        self.teacher = self._has_dumps()
        self.voxels = voxel_settings(data)
        self.plans = recipe_capacities(config, 1).plans

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def identity(self) -> dict[str, str]:
        """The words, their classes and those of the ground."""
        return vocabulary_identity(self.vocabulary)

    def token(self, index: int) -> str:
        """The `sample` token."""
        return self.keyframes[index].token

    def has_labels(self, index: int) -> bool:
        """Whether a keyframe has true labels."""
        return self.keyframes[index].lidarseg_path is not None

    def sample(self, index: int) -> dict[str, Any]:
        """One keyframe's sweep, with the teacher's labels where the split was dumped."""
        dumps = self.dumps if self.teacher else None
        keyframe = self.keyframes[index]
        return keyframe_sample(keyframe, self.vocabulary, self.plans, self.voxels, dumps)

    def keyframe(self, index: int) -> Keyframe:
        """The keyframe itself."""
        return self.keyframes[index]

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with one unit feature of the teacher's embedding size a voxel."""
        return pretraining_model(self.config.model, self.dumps.embedding_size, rngs, axis_name)

    def classify(self, output: jax.Array) -> jax.Array:
        """uint8[rows]: the class of the nearest word."""
        return self._classify(output)

    def probabilities(self, output: jax.Array) -> jax.Array:
        """float32[rows, C]: softmax over classes, each at its nearest word, as training scales."""
        return self._probabilities(output)

    def smooth(
        self,
        points: np.ndarray,
        classes: np.ndarray,
        afi_points: int | None = None,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """uint8[N]: smoothed, with a plane fitted to the ground near the sensor."""
        return smooth_sweep(
            points,
            classes,
            len(self.classes),
            NUSCENES,
            self.vocabulary.ground_classes,
            afi_points,
            probabilities,
        )

    def _has_dumps(self) -> bool:
        try:
            self.dumps.check(self.keyframes)
        except MissingDumpError as error:
            print(f"The teacher is not judged beside the network: {error}", flush=True)
            return False
        return True
