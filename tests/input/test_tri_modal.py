"""Samples of pre-training: parts fit together, augmentation is seeded, files are checked."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import MissingDumpError
from uov_jax.input import augment
from uov_jax.input.augment import CropSettings
from uov_jax.input.tri_modal import (
    NO_AUGMENTATION,
    TriModalAugmentation,
    TriModalSource,
    tri_modal_sample,
)
from uov_jax.input.voxels import CYLINDRICAL
from uov_jax.superpoints.grouping import mask_ids


def arrays(sample) -> dict[str, np.ndarray]:
    return {k: v for k, v in vars(sample).items() if isinstance(v, np.ndarray)}


def assert_same(a, b) -> None:
    for name, array in arrays(a).items():
        np.testing.assert_array_equal(array, arrays(b)[name], err_msg=name)


def test_without_augmentation_every_pair_finds_its_voxel_and_mask(tiny_keyframes, tiny_dumps):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    rng = np.random.default_rng(0)
    sample = tri_modal_sample(keyframe, points, tiny_dumps, CYLINDRICAL, NO_AUGMENTATION, rng)
    cameras = matching_cameras(keyframe, tiny_dumps.read(keyframe))
    pairs = pair_points(points, keyframe)
    ids = mask_ids(pairs, cameras)
    hit = ids > 0
    assert 100 < hit.sum() == len(sample.pair_voxel)
    voxels = sparse.sorted_voxels(points, (0.1, 1.0, 0.1), True)
    np.testing.assert_array_equal(sample.coords, voxels.coords)
    np.testing.assert_array_equal(sample.features[:, 0], points[voxels.first, 3])
    np.testing.assert_array_equal(sample.pair_voxel, voxels.inverse[pairs.point[hit]])
    for pair in range(0, len(sample.pair_voxel), 7):
        camera, mask = pairs.camera[hit][pair], ids[hit][pair]
        superpoint = sample.pair_superpoint[pair]
        assert sample.superpoint_word[superpoint] == cameras[camera].words[mask - 1]
        np.testing.assert_array_equal(
            sample.superpoint_embedding[superpoint], cameras[camera].embeddings[mask - 1]
        )
    assert sample.token == keyframe.token
    dtypes = {name: array.dtype.name for name, array in arrays(sample).items()}
    assert dtypes == {
        "coords": "int32",
        "features": "float32",
        "pair_voxel": "int32",
        "pair_superpoint": "int32",
        "superpoint_word": "int32",
        "superpoint_embedding": "float16",
    }


def test_every_superpoint_has_a_pair_and_every_pair_a_superpoint(tiny_keyframes, tiny_dumps):
    source = TriModalSource(tiny_keyframes, tiny_dumps)
    for index in range(len(source)):
        sample = source.sample(index, np.random.default_rng(index))
        count = np.bincount(sample.pair_superpoint, minlength=len(sample.superpoint_word))
        assert len(count) == len(sample.superpoint_word)
        assert count.min() > 0
        assert sample.pair_voxel.max() < len(sample.coords)


def test_the_generator_decides_everything(tiny_keyframes, tiny_dumps):
    source = TriModalSource(tiny_keyframes, tiny_dumps)
    one = source.sample(1, np.random.default_rng(5))
    assert_same(one, source.sample(1, np.random.default_rng(5)))
    other = source.sample(1, np.random.default_rng(6))
    assert not np.array_equal(one.coords[:50], other.coords[:50])


@pytest.mark.parametrize("field", ["rotate", "flip", "drop_cuboid", "crop"])
def test_each_augmentation_can_be_turned_off(tiny_keyframes, tiny_dumps, field, monkeypatch):
    # No camera of the tiny dataset has the 1,024 pairs that a cuboid needs.
    dropping = functools.partial(augment.drop_cuboid, fewest_pairs=0)
    monkeypatch.setattr(augment, "drop_cuboid", dropping)
    off = {"rotate": False, "flip": False, "drop_cuboid": False, "crop": None}
    on = TriModalAugmentation(**(off | {field: CropSettings() if field == "crop" else True}))
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    plain, changed = (
        tri_modal_sample(keyframe, points, tiny_dumps, CYLINDRICAL, which, np.random.default_rng(0))
        for which in (NO_AUGMENTATION, on)
    )
    same_cloud = np.array_equal(plain.coords, changed.coords)
    same_pairs = len(plain.pair_voxel) == len(changed.pair_voxel)
    assert (same_cloud, same_pairs) == {
        "rotate": (False, True),
        "flip": (False, True),
        "drop_cuboid": (False, False),
        "crop": (True, False),
    }[field]


def test_cartesian_voxels(tiny_keyframes, tiny_dumps):
    cartesian = VoxelSettings((0.5, 0.5, 0.5), cylindrical=False)
    source = TriModalSource(tiny_keyframes, tiny_dumps, cartesian, NO_AUGMENTATION)
    points = tiny_keyframes[0].points()
    sample = source.sample(0, np.random.default_rng(0))
    cells = np.floor(points[:, :3] / np.float32(0.5)).astype(np.int32)
    np.testing.assert_array_equal(sample.coords, np.unique(cells, axis=0))


def test_missing_dumps_and_sweeps_are_found_before_training(
    tmp_path, tiny_keyframes, tiny_dumps, vocabulary
):
    from tests.tiny_dataset import write_dumps

    some = write_dumps(tmp_path / "dumps", tiny_keyframes[:3], vocabulary)
    with pytest.raises(MissingDumpError, match=f"1 of 4 .* is {tiny_keyframes[3].token}"):
        TriModalSource(tiny_keyframes, some)
    with pytest.raises(ValueError, match="at least one keyframe"):
        TriModalSource([], tiny_dumps)


def test_missing_sweeps_are_found_before_training(tmp_path, vocabulary):
    from tests.tiny_dataset import write_dataset, write_dumps
    from uov_jax.datasets.nuscenes_tables import NuScenesTables

    keyframes = NuScenesTables(write_dataset(tmp_path), "v1.0-mini").keyframes("mini_train")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    keyframes[1].lidar_path.unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 LiDAR sweeps are missing"):
        TriModalSource(keyframes, dumps)
