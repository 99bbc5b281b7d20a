"""Samples of segmentation: one sweep's voxels, each with the label of its first point."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.data import augment
from uov_jax.data.evaluation_sample import network_input
from uov_jax.data.labelled_sweeps import LabelledSweeps
from uov_jax.data.tmp_sample import CYLINDRICAL, VoxelSettings


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationSample:
    """One sweep with labels.

    Attributes:
        token: of the sweep.
        coords: int32[V, 3], voxels in order of first occurrence.
        features: float32[V, 1], intensity of each voxel's first point.
        labels: uint8[V], class of each voxel's first point, 0 for none.

    """

    token: str
    coords: np.ndarray
    features: np.ndarray
    labels: np.ndarray


class SegmentationSource:
    """Labelled sweeps as training samples; rotation and flips are all that is augmented."""

    def __init__(
        self,
        sweeps: LabelledSweeps,
        voxels: VoxelSettings = CYLINDRICAL,
        rotate: bool = True,
        flip: bool = True,
    ) -> None:
        """Check that there is something to learn from.

        Raises:
            ValueError: there is no sweep, or it has no labels.

        """
        if not len(sweeps):
            raise ValueError("training needs at least one labelled sweep, found none")
        if sweeps.labels(0, len(sweeps.points(0))) is None:
            raise ValueError(
                f"the sweep {sweeps.token(0)} has no labels, so there is nothing to train on: "
                "give a split with labels, or pseudo labels"
            )
        self.sweeps = sweeps
        self.voxels = voxels
        self.rotate = rotate
        self.flip = flip

    def __len__(self) -> int:
        """Number of sweeps."""
        return len(self.sweeps)

    def sample(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Build one sample; the same generator state gives the same sample."""
        points = self.sweeps.points(index)
        labels = self.sweeps.labels(index, len(points))
        if labels is None:
            raise ValueError(f"the sweep {self.sweeps.token(index)} has no labels to train on")
        xyz = points[:, :3]
        if self.rotate:
            xyz = augment.rotate_about_z(xyz, rng)
        if self.flip:
            xyz = augment.flip_axes(xyz, rng)
        voxelized = sparse.voxelize(
            np.ascontiguousarray(xyz), self.voxels.size, self.voxels.cylindrical, threads=1
        )
        return SegmentationSample(
            token=self.sweeps.token(index),
            coords=voxelized.coords,
            features=points[voxelized.first, 3:4],
            labels=labels[voxelized.first],
        )


def segmentation_evaluation_sample(
    sweeps: LabelledSweeps,
    index: int,
    plans: Sequence[sparse.PlanSpec],
    voxels: VoxelSettings = CYLINDRICAL,
    teacher_labels: LabelledSweeps | None = None,
) -> dict[str, Any]:
    """Build the evaluation sample of one sweep, without augmentation.

    Returns:
        What `network_input` gives, and `truth` uint8[points], classes, or None without labels;
        `seen` bool[points], whether a camera sees the point, or None; `teacher_label`
        uint8[points], the label that `teacher_labels` has for the same sweep, 0 for none, or None.

    Raises:
        CapacityError: the sweep has more voxels than the largest of the plans holds.

    """
    points = sweeps.points(index)
    teacher_label = None
    if teacher_labels is not None:
        teacher_label = teacher_labels.labels(index, len(points))
    return network_input(points, plans, voxels, sweeps.token(index)) | {
        "truth": sweeps.labels(index, len(points)),
        "seen": sweeps.seen(index, points),
        "teacher_label": teacher_label,
    }
