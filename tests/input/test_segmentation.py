"""Labelled sweeps, their samples and batches: a voxel has the label of its first point."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.nuscenes import NuScenesSweeps, read_lidarseg
from uov_jax.datasets.projection import pair_points
from uov_jax.input.augment import flip_axes, move, rotate_about_z
from uov_jax.input.batching import Capacities
from uov_jax.input.segmentation import SegmentationSource, collate_segmentation
from uov_jax.input.whole_sweep import sweep_sample
from uov_jax.superpoints.labels import MissingPseudoLabelsError
from uov_jax.superpoints.make import make_superpoints, prepare

PLANS = (sparse.PlanSpec(512, fractions=(1.0,) * 5),)
CAPACITIES = Capacities(
    tuple(sparse.PlanSpec(size, fractions=(1.0,) * 5) for size in (512, 1024)), (64, 64), (64, 64)
)
# Some voxels have several points.
COARSE = VoxelSettings((2.0, 2.0, 2.0), False)


@pytest.fixture
def sweeps(tiny_keyframes, vocabulary) -> NuScenesSweeps:
    return NuScenesSweeps(tiny_keyframes, vocabulary)


def first_points(points: np.ndarray, voxels: VoxelSettings) -> dict[tuple[int, ...], int]:
    """The first point of every voxel, by hand."""
    first: dict[tuple[int, ...], int] = {}
    for row, point in enumerate(points[:, :3]):
        key = tuple(np.floor(point / np.array(voxels.size, np.float32)).astype(int))
        first.setdefault(key, row)
    return first


def test_a_voxel_has_feature_and_label_of_its_first_point(sweeps, vocabulary):
    source = SegmentationSource(sweeps, COARSE, rotate=False, flip=False)
    sample = source.sample(1, np.random.default_rng(0))
    keyframe = sweeps.keyframes[1]
    points = keyframe.points()
    truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, len(points))]
    first = dict(sorted(first_points(points, COARSE).items()))
    assert len(first) < len(points)
    assert [tuple(row) for row in sample.coords.tolist()] == list(first)
    rows = list(first.values())
    np.testing.assert_array_equal(sample.features[:, 0], points[rows, 3])
    np.testing.assert_array_equal(sample.labels, truth[rows])
    assert sample.token == keyframe.token


def test_rotation_and_flips_are_all_that_is_augmented(sweeps):
    source = SegmentationSource(sweeps)
    sample = source.sample(0, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    points = sweeps.points(0)
    turn = rotate_about_z(rng)
    voxels = sparse.sorted_voxels(move(points, turn, flip_axes(rng)), (0.1, 1.0, 0.1), True)
    np.testing.assert_array_equal(sample.coords, voxels.coords)
    np.testing.assert_array_equal(sample.labels, sweeps.labels(0, 400)[voxels.first])
    again = source.sample(0, np.random.default_rng(5))
    np.testing.assert_array_equal(again.coords, sample.coords)
    other = source.sample(0, np.random.default_rng(6))
    assert not np.array_equal(other.coords[:50], sample.coords[:50])


def test_pseudo_labels_take_the_place_of_true_ones(
    tmp_path, tiny_keyframes, tiny_dumps, vocabulary
):
    folder = prepare(tiny_keyframes[:2], tiny_dumps, vocabulary, tmp_path / "labels", "native")
    list(make_superpoints(tiny_keyframes[:2], tiny_dumps, vocabulary, folder))
    unlabelled = [dataclasses.replace(k, lidarseg_path=None) for k in tiny_keyframes]
    sweeps = NuScenesSweeps(unlabelled[:2], vocabulary, folder)
    raw = folder.raw_labels(tiny_keyframes[1], 400)
    expected = [vocabulary.raw_to_eval[label] if label >= 0 else 0 for label in raw]
    np.testing.assert_array_equal(sweeps.labels(1, 400), expected)
    assert sweeps.labels(1, 400).dtype == np.uint8
    sample = SegmentationSource(sweeps).sample(1, np.random.default_rng(0))
    assert 0 < np.count_nonzero(sample.labels) < len(sample.labels)
    with pytest.raises(MissingPseudoLabelsError, match="2 of 4 keyframes have no pseudo labels"):
        NuScenesSweeps(unlabelled, vocabulary, folder)


def test_sweeps_without_labels_cannot_be_trained_on(tiny_keyframes, vocabulary):
    unlabelled = [dataclasses.replace(tiny_keyframes[0], lidarseg_path=None)]
    with pytest.raises(ValueError, match=f"none of 1 sweeps, .*{tiny_keyframes[0].token} is the f"):
        SegmentationSource(NuScenesSweeps(unlabelled, vocabulary))
    with pytest.raises(ValueError, match="at least one labelled sweep, found none"):
        SegmentationSource(NuScenesSweeps([], vocabulary))


def test_the_samples_are_the_labelled_sweeps_alone(tiny_keyframes, vocabulary):
    unlabelled = dataclasses.replace(tiny_keyframes[1], lidarseg_path=None)
    keyframes = [unlabelled, tiny_keyframes[0], unlabelled, tiny_keyframes[2]]
    source = SegmentationSource(NuScenesSweeps(keyframes, vocabulary))
    assert (len(source), source.indices) == (2, [1, 3])
    whole = SegmentationSource(NuScenesSweeps(tiny_keyframes, vocabulary))
    for index, same in enumerate((0, 2)):
        sample = source.sample(index, np.random.default_rng(5))
        expected = whole.sample(same, np.random.default_rng(5))
        assert sample.token == tiny_keyframes[same].token
        np.testing.assert_array_equal(sample.labels, expected.labels)
        np.testing.assert_array_equal(sample.coords, expected.coords)


def test_missing_files_are_found_at_the_start(tiny_keyframes, vocabulary, tmp_path):
    gone = dataclasses.replace(tiny_keyframes[0], lidarseg_path=tmp_path / "x_lidarseg.bin")
    with pytest.raises(FileNotFoundError, match="x_lidarseg.bin: 1 of 2 label files are missing"):
        NuScenesSweeps([gone, tiny_keyframes[1]], vocabulary)
    gone = dataclasses.replace(tiny_keyframes[0], lidar_path=tmp_path / "x.pcd.bin")
    with pytest.raises(FileNotFoundError, match="x.pcd.bin: 1 of 1 LiDAR sweeps are missing"):
        NuScenesSweeps([gone], vocabulary)


def test_a_batch_keeps_labels_with_their_voxels(sweeps):
    source = SegmentationSource(sweeps)
    samples = [
        [source.sample(2 * device + i, np.random.default_rng(i)) for i in range(2)]
        for device in range(2)
    ]
    batch = collate_segmentation(samples, CAPACITIES)
    assert batch["labels"].shape == (2, 1024)
    assert batch["labels"].dtype == np.uint8
    assert batch["features"].shape == (2, 1024, 1)
    for device, pair in enumerate(samples):
        coords = batch["plan"].coords[0][device]
        count = int(batch["plan"].counts[device, 0])
        assert count == sum(len(sample.coords) for sample in pair)
        rows = {tuple(row): i for i, row in enumerate(coords[:count].tolist())}
        for number, sample in enumerate(pair):
            own = [rows[(number, *voxel)] for voxel in sample.coords.tolist()]
            np.testing.assert_array_equal(batch["labels"][device, own], sample.labels)
            np.testing.assert_array_equal(batch["features"][device, own], sample.features)
        assert not batch["labels"][device, count:].any()
    small = Capacities(tuple(sparse.PlanSpec(n) for n in (64, 128)), (64, 64), (64, 64))
    with pytest.raises(sparse.CapacityError, match=r"config\.data\.voxels, .*scene-0061-sample-0"):
        collate_segmentation(samples, small)


def test_the_evaluation_sample_finds_row_truth_and_cameras_of_every_point(sweeps, vocabulary):
    sample = sweep_sample(sweeps, 3, PLANS)
    keyframe = sweeps.keyframes[3]
    points = keyframe.points()
    np.testing.assert_array_equal(sample["points"], points)
    voxels = sparse.voxelize(points[:, :3].copy(), (0.1, 1.0, 0.1), True)
    coords = sample["inputs"]["plan"].coords[0][sample["inverse"]]
    np.testing.assert_array_equal(coords[:, 1:], voxels.coords[voxels.inverse])
    np.testing.assert_array_equal(sample["truth"], sweeps.labels(3, len(points)))
    seen = np.isin(np.arange(len(points)), pair_points(points, keyframe).point)
    np.testing.assert_array_equal(sample["seen"], seen)
    assert sample["token"] == keyframe.token
