"""Samples of tri-modal pre-training: one sweep's voxels and its superpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.projection import pair_points
from uov_jax.datasets.required_files import SWEEPS, require_keyframe_sweeps
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpSource
from uov_jax.errors import InputError
from uov_jax.files import file_versions
from uov_jax.input import augment
from uov_jax.input.batching import (
    Allocate,
    Batch,
    Capacities,
    build_plans,
    fitting_plan,
    fitting_size,
    in_shards,
)
from uov_jax.input.voxels import CYLINDRICAL, MergedSweeps, merge_sweeps, voxels_of
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
        coords: int32[V, 3], voxels in the order of (x, y, z).
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

    def name(self, index: int) -> str:
        """The token of a keyframe."""
        return self.keyframes[index].token

    def facts(self, indices: Sequence[int]) -> Mapping[str, object]:
        """What decides about the sizes of some samples, apart from their names."""
        keyframes = [self.keyframes[index] for index in indices]
        sweeps = [keyframe.lidar_path for keyframe in keyframes]
        dumps = [path for keyframe in keyframes for path in self.dumps.paths(keyframe)]
        return {
            "sweep": sweeps[0],
            "files": file_versions(sweeps, SWEEPS).tolist(),
            "dump_files": file_versions(dumps, "teacher dumps").tolist(),
            "dumps": self.dumps.root,
            "teacher": self.dumps.teacher,
            "voxels": self.voxels,
            "augmentation": self.augmentation,
        }

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
    turn = augment.rotate_about_z(rng) if augmentation.rotate else None
    signs = augment.flip_axes(rng) if augmentation.flip else (1.0, 1.0)
    factor = augment.scale(rng, *augmentation.scale) if augmentation.scale else 1.0
    xyz, intensity = augment.move(points, turn, signs, factor), points[:, 3:4]
    if augmentation.drop_cuboid:
        rows, pairs = augment.drop_cuboid(xyz, pairs, len(cameras), rng)
        if rows is not None:
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


def collate_tri_modal(
    samples: Sequence[Sequence[TriModalSample]],
    capacities: Capacities,
    shards: int = 1,
    allocate: Allocate = np.empty,
) -> Batch:
    """The batch of tri-modal pre-training.

    Args:
        samples: for every local device its sweeps.
        capacities: all devices take the smallest size that holds the fullest of them, and of their
            shards.
        shards: of a device, of equally many sweeps each.
        allocate: makes the batch's arrays.

    Returns:
        Arrays with a leading axis over the devices: `plan`, `features` float32[N, 1],
        `pair_voxel` and `pair_superpoint` int32[P] (-1 padding), `superpoint_word`
        int32[shards, S] (-1 padding or no word), `superpoint_embedding` float16[shards, S, D]
        (zeros padding). Superpoints are numbered through the sweeps of a shard, and each has at
        least one pair; for a pair, superpoint i of shard k of its device is k * S + i.

    Raises:
        BatchTooLargeError: more voxels, pairs or superpoints than the largest capacity has.

    """
    merged = [merge_sweeps([sample.coords for sample in sweeps]) for sweeps in samples]
    size = _fitting_size(samples, merged, capacities, shards)
    spec, pairs = capacities.plans[size], capacities.pairs[size]
    devices, slots = len(samples), capacities.superpoints[size]
    width = samples[0][0].superpoint_embedding.shape[1]
    batch = {
        "features": allocate((devices, spec.capacity, 1), np.float32),
        "pair_voxel": allocate((devices, pairs), np.int32),
        "pair_superpoint": allocate((devices, pairs), np.int32),
        "superpoint_word": allocate((devices, shards, slots), np.int32),
        "superpoint_embedding": allocate((devices, shards, slots, width), np.float16),
    }
    for device, (sweeps, cloud) in enumerate(zip(samples, merged, strict=True)):
        arrays = {name: array[device] for name, array in batch.items()}
        cloud.gather([sample.features for sample in sweeps], arrays["features"])
        voxel = [cloud.rows(number, s.pair_voxel) for number, s in enumerate(sweeps)]
        _concatenate(voxel, arrays["pair_voxel"], -1)
        numbers = []
        for shard, part in enumerate(in_shards(sweeps, shards)):
            first = np.cumsum([shard * slots, *(len(s.superpoint_word) for s in part)])
            numbers += [s.pair_superpoint + np.int32(f) for s, f in zip(part, first, strict=False)]
            words, embeddings = arrays["superpoint_word"], arrays["superpoint_embedding"]
            _concatenate([s.superpoint_word for s in part], words[shard], -1)
            _concatenate([s.superpoint_embedding for s in part], embeddings[shard], 0)
        _concatenate(numbers, arrays["pair_superpoint"], -1)
    return {"plan": build_plans(merged, spec, allocate), **batch}


def _fitting_size(
    samples: Sequence[Sequence[TriModalSample]],
    merged: Sequence[MergedSweeps],
    capacities: Capacities,
    shards: int,
) -> int:
    """Which of the capacities is the first that holds all of every device."""
    tokens = [[sample.token for sample in sweeps] for sweeps in samples]
    parts = [part for sweeps in samples for part in in_shards(sweeps, shards)]
    num_pairs = [sum(len(s.pair_voxel) for s in sweeps) for sweeps in samples]
    num_superpoints = [sum(len(s.superpoint_word) for s in part) for part in parts]
    fullest = tokens[int(np.argmax(num_pairs))]
    size = fitting_size(num_pairs, capacities.pairs, "pairs", fullest)
    fullest = [sample.token for sample in parts[int(np.argmax(num_superpoints))]]
    size = max(size, fitting_size(num_superpoints, capacities.superpoints, "superpoints", fullest))
    return fitting_plan(merged, capacities.plans, tokens, at_least=size)


def _concatenate(parts: Sequence[np.ndarray], out: np.ndarray, fill: int) -> None:
    """Write parts one after the other into the rows of `out`, and `fill` into the rest."""
    count = sum(map(len, parts))
    np.concatenate(parts, out=out[:count])
    out[count:] = fill
