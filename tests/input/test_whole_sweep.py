"""Evaluation samples: every point finds its row, its truth and the teacher's class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.datasets.nuscenes import read_lidarseg
from uov_jax.datasets.projection import project
from uov_jax.input.whole_sweep import keyframe_sample

PLANS = (sparse.PlanSpec(512, fractions=(1.0,) * 5),)


def test_points_rows_truth_and_teacher_agree(tiny_keyframes, tiny_dumps, vocabulary):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    sample = keyframe_sample(keyframe, vocabulary, PLANS, dumps=tiny_dumps)
    np.testing.assert_array_equal(sample["points"], points)
    assert sample["token"] == keyframe.token
    voxels = sparse.voxelize(points[:, :3].copy(), (0.1, 1.0, 0.1), True)
    coords = sample["inputs"]["plan"].coords[0][sample["inverse"]]
    np.testing.assert_array_equal(coords[:, 1:], voxels.coords[voxels.inverse])
    assert (coords[:, 0] == 0).all()
    first = voxels.first[voxels.inverse]
    features = sample["inputs"]["features"][sample["inverse"], 0]
    np.testing.assert_array_equal(features, points[first, 3])
    raw = read_lidarseg(keyframe.lidarseg_path, len(points))
    np.testing.assert_array_equal(sample["truth"], vocabulary.raw_to_eval[raw])

    label, seen = np.zeros(len(points), int), np.zeros(len(points), bool)
    dump = tiny_dumps.read(keyframe)
    for view, camera in zip(keyframe.cameras, dump.cameras, strict=True):
        found, image = project(points, keyframe, view), camera.masks
        for point in np.flatnonzero(found.visible):
            seen[point] = True
            column, row = np.round(found.uv[point]).astype(int)
            if image[row, column]:
                word = camera.words[image[row, column] - 1]
                label[point] = vocabulary.word_eval_class[word]
    np.testing.assert_array_equal(sample["seen"], seen)
    np.testing.assert_array_equal(sample["teacher_label"], label)
    assert 0 < seen.sum() < len(points)
    dtypes = {name: sample[name].dtype.name for name in ("truth", "teacher_label", "inverse")}
    assert dtypes == {"truth": "uint8", "teacher_label": "uint8", "inverse": "int32"}


def test_without_labels_and_dumps_there_is_neither(tiny_keyframes, tiny_dumps, vocabulary):
    bare = dataclasses.replace(tiny_keyframes[0], lidarseg_path=None)
    sample = keyframe_sample(bare, vocabulary, PLANS)
    assert sample["truth"] is None
    assert sample["teacher_label"] is None
    full = keyframe_sample(tiny_keyframes[0], vocabulary, PLANS, dumps=tiny_dumps)
    np.testing.assert_array_equal(sample["seen"], full["seen"])


def test_a_sweep_beyond_the_capacity_names_its_keyframe_and_the_setting(tiny_keyframes, vocabulary):
    plans = (sparse.PlanSpec(64, fractions=(1.0,) * 5),)
    message = rf"room for 64 .*config\.data\.voxels, .*{tiny_keyframes[1].token}"
    with pytest.raises(sparse.CapacityError, match=message):
        keyframe_sample(tiny_keyframes[1], vocabulary, plans)
