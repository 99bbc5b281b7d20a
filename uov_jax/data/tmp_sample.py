"""Samples of tri-modal pre-training: one sweep's voxels and its superpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax import sparse
from uov_jax.data import augment
from uov_jax.data.dump import DumpSource
from uov_jax.data.nuscenes import Keyframe, read_sweep, require_files
from uov_jax.data.projection import pair_points
from uov_jax.data.superpoints import matching_cameras, superpoints


@dataclasses.dataclass(frozen=True)
class VoxelSettings:
    """How points become voxels.

    Attributes:
        size: metres; for cylindrical voxels metres of radius, degrees of azimuth, metres of height.
        cylindrical: as UOV and SLidR use them.

    """

    size: tuple[float, float, float] = (0.1, 1.0, 0.1)
    cylindrical: bool = True


CYLINDRICAL = VoxelSettings()


@dataclasses.dataclass(frozen=True)
class TmpAugmentation:
    """Which augmentations pre-training applies.

    Attributes:
        rotate, flip, drop_cuboid: as the functions of `uov_jax.data.augment`.
        scale: smallest and largest factor, None for none (the published recipes).
        crop: of the images, None for none.

    Raises:
        ValueError: `scale` is not two numbers, 0 < smallest <= largest.

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
            raise ValueError(
                f"scale of the sweeps: expected None or two numbers, 0 < smallest <= largest, "
                f"found {self.scale!r}"
            )


ALL_AUGMENTATIONS = TmpAugmentation()
NO_AUGMENTATION = TmpAugmentation(rotate=False, flip=False, drop_cuboid=False, crop=None)


@dataclasses.dataclass(frozen=True, eq=False)
class TmpSample:
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


class TmpSource:
    """Keyframes with a teacher's dumps as samples of tri-modal pre-training."""

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        dumps: DumpSource,
        voxels: VoxelSettings = CYLINDRICAL,
        augmentation: TmpAugmentation = ALL_AUGMENTATIONS,
    ) -> None:
        """Check that every keyframe has its sweep and its dump.

        Raises:
            ValueError: there is no keyframe.
            FileNotFoundError: a sweep or a dump is missing; the message counts them.

        """
        if not keyframes:
            raise ValueError("pre-training needs at least one keyframe, found none")
        require_files(keyframes, sweep_files, "LiDAR sweeps")
        dumps.check(keyframes)
        self.keyframes = list(keyframes)
        self.dumps = dumps
        self.voxels = voxels
        self.augmentation = augmentation

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def sample(self, index: int, rng: np.random.Generator) -> TmpSample:
        """Build one sample; the same generator state gives the same sample."""
        keyframe = self.keyframes[index]
        return tmp_sample(
            keyframe,
            read_sweep(keyframe.lidar_path),
            self.dumps,
            self.voxels,
            self.augmentation,
            rng,
        )


def tmp_sample(
    keyframe: Keyframe,
    points: np.ndarray,
    dumps: DumpSource,
    voxels: VoxelSettings,
    augmentation: TmpAugmentation,
    rng: np.random.Generator,
) -> TmpSample:
    """Build the sample of one keyframe from its sweep float32[N, 5] and the teacher's dump.

    Raises:
        DumpError: the dump is corrupt or of other images.
        FileNotFoundError: there is no dump of the keyframe.

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
    groups = superpoints(pairs, cameras)
    voxelized = sparse.voxelize(
        np.ascontiguousarray(xyz), voxels.size, voxels.cylindrical, threads=1
    )
    return TmpSample(
        token=keyframe.token,
        coords=voxelized.coords,
        features=intensity[voxelized.first],
        pair_voxel=voxelized.inverse[groups.pair_point],
        pair_superpoint=groups.pair_superpoint,
        superpoint_word=groups.word,
        superpoint_embedding=groups.embedding,
    )


def sweep_files(keyframe: Keyframe) -> list[Path | None]:
    """The sweep of a keyframe, for `require_files`."""
    return [keyframe.lidar_path]
