"""Samples of segmentation: one sweep's voxels, each with the label of its first point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.required_files import SWEEPS
from uov_jax.datasets.sweeps import LabelledSweeps, labelled_indices
from uov_jax.errors import InputError
from uov_jax.files import file_versions
from uov_jax.input import augment
from uov_jax.input.batching import Allocate, Batch, Capacities, build_plans, fitting_plan
from uov_jax.input.voxels import CYLINDRICAL, merge_sweeps, voxels_of


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationSample:
    """One sweep with labels.

    Attributes:
        token: of the sweep.
        coords: int32[V, 3], voxels in the order of (x, y, z).
        features: float32[V, 1], intensity of each voxel's first point.
        labels: uint8[V], class of each voxel's first point, 0 for none.

    """

    token: str
    coords: np.ndarray
    features: np.ndarray
    labels: np.ndarray


class SegmentationSource:
    """Labelled sweeps as training samples; rotation and flips are all that is augmented.

    Attributes:
        sweeps: all of a split.
        indices: those of them that have labels, which are the samples.

    """

    def __init__(
        self,
        sweeps: LabelledSweeps,
        voxels: VoxelSettings = CYLINDRICAL,
        rotate: bool = True,
        flip: bool = True,
    ) -> None:
        """Check that there is something to learn from.

        Raises:
            InputError: there is no sweep, or none has labels.

        """
        if not len(sweeps):
            raise InputError("training needs at least one labelled sweep, found none")
        self.indices = labelled_indices(sweeps)
        if not self.indices:
            raise InputError(
                f"none of {len(sweeps)} sweeps, of which {sweeps.token(0)} is the first, has "
                "labels, so there is nothing to train on: give a split with labels, or pseudo "
                "labels"
            )
        self.sweeps = sweeps
        self.voxels = voxels
        self.rotate = rotate
        self.flip = flip

    def __len__(self) -> int:
        """Number of labelled sweeps."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """The token of a sweep."""
        return self.sweeps.token(self.indices[index])

    def facts(self, indices: Sequence[int]) -> Mapping[str, object]:
        """What decides about the sizes of some samples, apart from their names."""
        paths = [self.sweeps.path(self.indices[index]) for index in indices]
        return {
            "sweep": paths[0],
            "files": file_versions(paths, SWEEPS).tolist(),
            "voxels": self.voxels,
            "rotate": self.rotate,
            "flip": self.flip,
        }

    def sample(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Build one sample; the same generator state gives the same sample."""
        index = self.indices[index]
        token = self.sweeps.token(index)
        points = self.sweeps.points(index)
        labels = self.sweeps.labels(index, len(points))
        assert labels is not None
        turn = augment.rotate_about_z(rng) if self.rotate else None
        signs = augment.flip_axes(rng) if self.flip else (1.0, 1.0)
        voxelized = voxels_of(augment.move(points, turn, signs), self.voxels, token)
        return SegmentationSample(
            token=token,
            coords=voxelized.coords,
            features=points[voxelized.first, 3:4],
            labels=labels[voxelized.first],
        )


def collate_segmentation(
    samples: Sequence[Sequence[SegmentationSample]],
    capacities: Capacities,
    allocate: Allocate = np.empty,
) -> Batch:
    """The batch of segmentation.

    Args:
        samples: for every local device its sweeps.
        capacities: all devices take the smallest plan that holds the fullest of them.
        allocate: makes the batch's arrays.

    Returns:
        Arrays with a leading axis over the devices: `plan`, `features` float32[N, 1], `labels`
        uint8[N], 0 for unlabelled voxels and padding.

    Raises:
        BatchTooLargeError: more voxels than the largest capacity, with numbers.

    """
    merged = [merge_sweeps([sample.coords for sample in sweeps]) for sweeps in samples]
    tokens = [[sample.token for sample in sweeps] for sweeps in samples]
    spec = capacities.plans[fitting_plan(merged, capacities.plans, tokens)]
    features = allocate((len(samples), spec.capacity, 1), np.float32)
    labels = allocate((len(samples), spec.capacity), np.uint8)
    for device, (sweeps, cloud) in enumerate(zip(samples, merged, strict=True)):
        cloud.gather([sample.features for sample in sweeps], features[device])
        cloud.gather([sample.labels for sample in sweeps], labels[device])
    plan = build_plans(merged, spec, allocate)
    return {"plan": plan, "features": features, "labels": labels}
