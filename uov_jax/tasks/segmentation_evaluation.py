"""Evaluation of networks with one output a class, after annotation-free training or fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.afi import NUSCENES_GROUND, PUBLISHED, FlatInteraction, GroundRing, smooth_labels
from uov_jax.data.batching import Capacities
from uov_jax.data.label_files import LabelFiles, NuScenesLabelFiles, SemanticKittiLabelFiles
from uov_jax.data.labelled_sweeps import LabelledSweeps, NuScenesSweeps
from uov_jax.data.nuscenes import Keyframe, NuScenesTables
from uov_jax.data.pseudo_labels import open_pseudo_labels
from uov_jax.data.segmentation_sample import segmentation_evaluation_sample
from uov_jax.data.semantickitti import SemanticKittiScans
from uov_jax.data.tmp_sample import VoxelSettings
from uov_jax.models import VARIANTS
from uov_jax.tasks.segmentation import best_class, check_variant, segmentation_model
from uov_jax.vocabulary import Vocabulary, load_vocabulary

# A scan has 3.6 times the points of a nuScenes sweep; see `FlatInteraction.points`.
SEMANTICKITTI_AFI = FlatInteraction(points=65_536)


@dataclasses.dataclass(frozen=True, eq=False)
class _Split:
    """What the two datasets differ in.

    Attributes:
      sweeps: to be judged on.
      label_files: their label format.
      afi: how labels are smoothed.
      ground: around the sensor, which AFI treats on its own; None for no such ground.
      keyframes: with the cameras of every sweep; None where the dataset has none.
      teacher_labels: pseudo labels of every sweep; None without.

    """

    sweeps: LabelledSweeps
    label_files: LabelFiles
    afi: FlatInteraction
    ground: GroundRing | None = None
    keyframes: Sequence[Keyframe] | None = None
    teacher_labels: LabelledSweeps | None = None


class SegmentationEvaluation:
    """Sweeps judged by the largest output of every voxel.

    Where the recipe names pseudo labels and the split has some, they are judged beside the network.
    """

    def __init__(self, config: ConfigDict, split: str) -> None:
        """Open the split, and its pseudo labels.

        Raises:
          FileNotFoundError: dataset, sweeps or label files are missing.
          ValueError: unknown dataset or split, or they do not fit the config.

        """
        check_variant(config.model)
        self.config, self.split = config, split
        self._data = _open(config.data, split)
        self.title = f"Segmentation as trained by {config.task}"
        self.classes, self.colors = self._data.sweeps.classes, self._data.sweeps.colors
        self.label_files = self._data.label_files
        self.voxels = VoxelSettings(tuple(config.data.voxel_size), config.data.cylindrical)
        first_kernel = VARIANTS[config.model.variant].first_kernel
        sizes = Capacities.for_sweeps(
            1, first_kernel=first_kernel, voxels=tuple(config.data.voxels)
        )
        self.plans = sizes.plans

    def __len__(self) -> int:
        """Number of sweeps."""
        return len(self._data.sweeps)

    def token(self, index: int) -> str:
        """The sweep's name in its dataset."""
        return self._data.sweeps.token(index)

    def sample(self, index: int) -> dict[str, Any]:
        """One sweep, with its pseudo labels where the split has some."""
        data = self._data
        return segmentation_evaluation_sample(
            data.sweeps, index, self.plans, self.voxels, data.teacher_labels
        )

    def keyframe(self, index: int) -> Keyframe | None:
        """The cameras of a sweep; None for SemanticKITTI."""
        keyframes = self._data.keyframes
        return None if keyframes is None else keyframes[index]

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network that training built."""
        return segmentation_model(self.config.model, len(self.classes), rngs, axis_name)

    def classify(self, output: jax.Array) -> jax.Array:
        """uint8[rows]: the class of the largest output, the ignored one only if the recipe says."""
        return best_class(output, self.config.run.predict_ignored)

    def smooth(
        self, points: np.ndarray, classes: np.ndarray, afi_points: int | None = None
    ) -> np.ndarray:
        """uint8[N]: smoothed, on nuScenes with a plane fitted to the ground near the sensor."""
        afi = self._data.afi
        return smooth_labels(
            points[:, :3],
            classes,
            afi if afi_points is None else dataclasses.replace(afi, points=afi_points),
            num_classes=len(self.classes),
            ground=self._data.ground,
            workers=-1,
        )


def _open(data: ConfigDict, split: str) -> _Split:
    # Annotation-free recipes have no such field: their teachers look at nuScenes' cameras.
    dataset = data.get("dataset", "nuscenes")
    openers: dict[str, Callable[[ConfigDict, str], _Split]] = {
        "nuscenes": _nuscenes,
        "semantickitti": _semantickitti,
    }
    if dataset not in openers:
        raise ValueError(
            f"config.data.dataset: expected one of {sorted(openers)}, found {dataset!r}"
        )
    return openers[dataset](data, split)


def _nuscenes(data: ConfigDict, split: str) -> _Split:
    vocabulary = load_vocabulary(data.vocabulary)
    keyframes = NuScenesTables(data.root, data.version).keyframes(split)
    return _Split(
        sweeps=NuScenesSweeps(keyframes, vocabulary),
        label_files=NuScenesLabelFiles(keyframes, split.partition(":")[0]),
        afi=PUBLISHED,
        ground=NUSCENES_GROUND,
        keyframes=keyframes,
        teacher_labels=_teacher_labels(data, keyframes, vocabulary),
    )


def _semantickitti(data: ConfigDict, split: str) -> _Split:
    scans = SemanticKittiScans(data.root, split, data.intensity_offset)
    return _Split(scans, SemanticKittiLabelFiles(scans.scans), SEMANTICKITTI_AFI)


def _teacher_labels(
    data: ConfigDict, keyframes: Sequence[Keyframe], vocabulary: Vocabulary
) -> NuScenesSweeps | None:
    if "labels" not in data:
        return None
    try:
        return NuScenesSweeps(keyframes, vocabulary, open_pseudo_labels(data.labels, vocabulary))
    except FileNotFoundError as error:
        print(f"The teacher is not judged beside the network: {error}", flush=True)
        return None
