"""The whole way on one real keyframe: images, SLIC dump, sample, batch."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import real_nuscenes_root
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.folder import DumpFolder, expected_bytes
from uov_jax.dumps.write import dump_keyframes
from uov_jax.input.batching import Capacities
from uov_jax.input.tri_modal import NO_AUGMENTATION, TriModalSource, collate_tri_modal
from uov_jax.teachers import create_teacher
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def keyframe() -> Keyframe:
    (found,) = NuScenesTables(real_nuscenes_root(), "v1.0-mini").keyframes("mini_train")
    return found


@pytest.fixture(scope="module")
def dumps(keyframe: Keyframe, tmp_path_factory: pytest.TempPathFactory) -> DumpFolder:
    root = tmp_path_factory.mktemp("slic")
    vocabulary = load_vocabulary()
    dump_keyframes(create_teacher("slic", vocabulary), [keyframe], root, vocabulary)
    return DumpFolder(root, vocabulary)


def test_each_camera_sees_a_tenth_of_the_sweep(keyframe):
    points = keyframe.points()
    assert points.shape == (34_688, 4)
    pairs = pair_points(points, keyframe)
    assert np.bincount(pairs.camera).tolist() == [3056, 3076, 3370, 4822, 4091, 3700]


def test_the_dump_has_about_150_superpixels_an_image_and_the_expected_size(keyframe, dumps):
    dump = dumps.read(keyframe)
    assert all(120 < camera.num_masks < 190 for camera in dump.cameras)
    teacher = create_teacher("slic", load_vocabulary())
    estimate = expected_bytes(
        1, dump.embedding_size, teacher.masks_per_image, mask_bytes=teacher.mask_bytes
    )
    assert 0.8 < dumps.path(keyframe).stat().st_size / estimate < 1.2


def test_every_pair_lies_on_a_superpixel(keyframe, dumps):
    source = TriModalSource([keyframe], dumps, augmentation=NO_AUGMENTATION)
    sample = source.sample(0, np.random.default_rng(0))
    assert len(sample.coords) == 15_947
    assert len(sample.pair_voxel) == 22_115
    assert 400 < len(sample.superpoint_word) < 1000
    batch = collate_tri_modal([[sample, sample]], Capacities.for_sweeps(2))
    assert (batch["pair_voxel"] >= 0).sum() == 2 * 22_115
