"""Samples of tri-modal pre-training: one sweep's voxels and its superpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.projection import pair_points
from uov_jax.datasets.required_files import require_keyframe_sweeps
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpSource
from uov_jax.errors import InputError
from uov_jax.input import augment
from uov_jax.input.batching import Batch, Capacities, build_plans, fitting_size, pad, stack_devices
from uov_jax.input.voxels import CYLINDRICAL, merge_sweeps, voxels_of
from uov_jax.superpoints.grouping import group_pairs


@dataclasses.dataclass(frozen=True)
class TriModalAugmentation:
    """Which augmentations pre-training applies.

    Attributes:
        rotate, flip, drop_cuboid: as the functions of `uov_jax.input.augment`.
        scale: smallest and largest factor, None for none (the published recipes).
        crop: of the images, None for none.

    Raises:
        InputError: `scale` is not two numbers, 0 < smallest <= largest.

    """

    rotate: bool = True
    flip: bool = True
    drop_cuboid: bool = True
    scale: tuple[float, float] | None = None
    crop: augment.CropSettings | None = augment.CropSettings()

    def __post_init__(self) -> None:
        """Check the scale."""
        if self.scale is None:
            return
        numbers = len(self.scale) == 2 and all(isinstance(v, int | float) for v in self.scale)
        if not numbers or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise InputError(
                f"scale of the sweeps: expected None or two numbers, 0 < smallest <= largest, "
                f"found {self.scale!r}"
            )


ALL_AUGMENTATIONS = TriModalAugmentation()
NO_AUGMENTATION = TriModalAugmentation(rotate=False, flip=False, drop_cuboid=False, crop=None)


@dataclasses.dataclass(frozen=True, eq=False)
class TriModalSample:
    """One keyframe of tri-modal pre-training.

    Attributes:
        token: of the keyframe.
        coords: int32[V, 3], voxels in order of first occurrence.
        features: float32[V, 1], intensity 0..255 of each voxel's first point.
        pair_voxel, pair_superpoint: int32[P], the pairs of a point and a camera that sees it.
        superpoint_word: int32[S], -1 for none.
        superpoint_embedding: float16[S, D], of any norm.

    """

    token: str
    coords: np.ndarray
    features: np.ndarray
    pair_voxel: np.ndarray
    pair_superpoint: np.ndarray
    superpoint_word: np.ndarray
    superpoint_embedding: np.ndarray


class TriModalSource:
    """Keyframes with a teacher's dumps as samples of tri-modal pre-training."""

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        dumps: DumpSource,
        voxels: VoxelSettings = CYLINDRICAL,
        augmentation: TriModalAugmentation = ALL_AUGMENTATIONS,
    ) -> None:
        """Check that every keyframe has its sweep and its dump.

        Raises:
            InputError: there is no keyframe.
            MissingFileError: a sweep or a dump is missing; the message counts them.

        """
        if not keyframes:
            raise InputError("pre-training needs at least one keyframe, found none")
        require_keyframe_sweeps(keyframes)
        dumps.check(keyframes)
        self.keyframes = keyframes
        self.dumps = dumps
        self.voxels = voxels
        self.augmentation = augmentation

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def sample(self, index: int, rng: np.random.Generator) -> TriModalSample:
        """Build one sample; the same generator state gives the same sample."""
        keyframe = self.keyframes[index]
        return tri_modal_sample(
            keyframe,
            keyframe.points(),
            self.dumps,
            self.voxels,
            self.augmentation,
            rng,
        )


def tri_modal_sample(
    keyframe: Keyframe,
    points: np.ndarray,
    dumps: DumpSource,
    voxels: VoxelSettings,
    augmentation: TriModalAugmentation,
    rng: np.random.Generator,
) -> TriModalSample:
    """Build the sample of one keyframe from its sweep float32[N, 4] and the teacher's dump.

    Raises:
        DumpError: the dump is corrupt or of other images.
        MissingFileError: there is no dump of the keyframe.

    """
    cameras = matching_cameras(keyframe, dumps.read(keyframe))
    pairs = pair_points(points, keyframe)
    xyz, intensity = points[:, :3], points[:, 3:4]
    if augmentation.rotate:
        xyz = augment.rotate_about_z(xyz, rng)
    if augmentation.flip:
        xyz = augment.flip_axes(xyz, rng)
    if augmentation.scale:
        xyz = augment.scale(xyz, rng, *augmentation.scale)
    if augmentation.drop_cuboid:
        rows, pairs = augment.drop_cuboid(xyz, pairs, len(cameras), rng)
        xyz, intensity = xyz[rows], intensity[rows]
    if augmentation.crop:
        sizes = [masks.image_size for masks in cameras]
        pairs, _ = augment.crop_images(pairs, sizes, augmentation.crop, rng)
    groups = group_pairs(pairs, cameras)
    voxelized = voxels_of(xyz, voxels, keyframe.token)
    return TriModalSample(
        token=keyframe.token,
        coords=voxelized.coords,
        features=intensity[voxelized.first],
        pair_voxel=voxelized.inverse[groups.pair_point],
        pair_superpoint=groups.pair_superpoint,
        superpoint_word=groups.word,
        superpoint_embedding=groups.embedding,
    )


def collate_tri_modal(samples: Sequence[Sequence[TriModalSample]], capacities: Capacities) -> Batch:
    """The batch of tri-modal pre-training.

    Args:
        samples: for every local device its sweeps.
        capacities: all devices take the smallest size that holds the fullest of them.

    Returns:
        Arrays with a leading axis over the devices: `plan`, `features` float32[N, 1],
        `pair_voxel` and `pair_superpoint` int32[P] (-1 padding), `superpoint_word` int32[S]
        (-1 padding or no word), `superpoint_embedding` float16[S, D] (zeros padding). Superpoints
        are numbered through the sweeps of a device, and each has at least one pair.

    Raises:
        BatchTooLargeError: more voxels, pairs or superpoints than the largest capacity has.

    """
    merged = [merge_sweeps([sample.coords for sample in sweeps]) for sweeps in samples]
    tokens = [[sample.token for sample in sweeps] for sweeps in samples]
    num_pairs = [sum(len(s.pair_voxel) for s in sweeps) for sweeps in samples]
    num_superpoints = [sum(len(s.superpoint_word) for s in sweeps) for sweeps in samples]
    fullest = tokens[int(np.argmax(num_pairs))]
    size = fitting_size(num_pairs, capacities.pairs, "pairs", fullest)
    fullest = tokens[int(np.argmax(num_superpoints))]
    size = max(size, fitting_size(num_superpoints, capacities.superpoints, "superpoints", fullest))
    clouds = [cloud.coords for cloud in merged]
    size, plans = build_plans(clouds, capacities.plans, tokens, at_least=size)
    pairs, groups = capacities.pairs[size], capacities.superpoints[size]
    devices = []
    for sweeps, cloud, plan in zip(samples, merged, plans, strict=True):
        first = np.cumsum([0] + [len(s.superpoint_word) for s in sweeps])
        voxel = [row[s.pair_voxel] for s, row in zip(sweeps, cloud.row, strict=True)]
        group = [s.pair_superpoint + np.int32(f) for s, f in zip(sweeps, first, strict=False)]
        embedding = [s.superpoint_embedding for s in sweeps]
        devices.append(
            {
                "plan": plan,
                "features": cloud.gather([s.features for s in sweeps], len(plan.coords[0])),
                "pair_voxel": pad(np.concatenate(voxel), pairs, -1),
                "pair_superpoint": pad(np.concatenate(group), pairs, -1),
                "superpoint_word": pad(
                    np.concatenate([s.superpoint_word for s in sweeps]), groups, -1
                ),
                "superpoint_embedding": pad(np.concatenate(embedding), groups, 0),
            }
        )
    return stack_devices(devices)
