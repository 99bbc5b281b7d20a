"""Samples of evaluation: one whole sweep, its true labels and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes import true_classes
from uov_jax.datasets.projection import pair_points, points_seen
from uov_jax.datasets.sweeps import LabelledSweeps
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpSource
from uov_jax.input.batching import whole_cloud
from uov_jax.input.voxels import CYLINDRICAL, voxels_of
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.vocabulary import Vocabulary


def network_input(
    points: np.ndarray, plans: Sequence[sparse.PlanSpec], voxels: VoxelSettings, token: str
) -> dict[str, Any]:
    """One whole sweep, without augmentation, as the network takes it.

    Args:
        points: float32[points, 4 or more], metres and the input feature.
        plans: shapes of growing size.
        voxels: how points become voxels.
        token: of the sweep.

    Returns:
        `inputs` for the network, its `plan` and `features` float32[N, 1], and for the host
        `inverse` int32[points], row of every point; `points`; `token`.

    Raises:
        BatchTooLargeError: the sweep has more voxels than the largest of the plans holds.

    """
    voxelized = voxels_of(points, voxels, token)
    inputs, row = whole_cloud(voxelized.coords, points[voxelized.first, 3:4], plans, token)
    return {
        "inputs": inputs,
        "inverse": row[voxelized.inverse],
        "points": points,
        "token": token,
    }


def keyframe_sample(
    keyframe: Keyframe,
    vocabulary: Vocabulary,
    plans: Sequence[sparse.PlanSpec],
    voxels: VoxelSettings = CYLINDRICAL,
    dumps: DumpSource | None = None,
) -> dict[str, Any]:
    """One keyframe's sweep, without augmentation, beside what a teacher's dump says of it.

    Returns:
        What `network_input` gives; `truth` uint8[points], evaluation classes, or None without
        labels; `seen` bool[points], whether a camera sees the point; `teacher_label` uint8[points],
        the class of the word of the mask under the point, 0 for none; `groups`, the keyframe's
        `Superpoints`. The last two are None without dumps.

    Raises:
        BatchTooLargeError: the sweep has more voxels than the largest of the plans holds.

    """
    points = keyframe.points()
    pairs = pair_points(points, keyframe)
    groups = teacher_label = None
    if dumps is not None:
        cameras = matching_cameras(keyframe, dumps.read(keyframe))
        found = point_superpoints(pairs, cameras, len(points))
        word, groups = found.words(), found.groups
        classes = vocabulary.word_eval_class.astype(np.uint8)
        teacher_label = np.where(word >= 0, classes[word], 0).astype(np.uint8)
    return network_input(points, plans, voxels, keyframe.token) | {
        "truth": true_classes(keyframe, len(points), vocabulary),
        "seen": points_seen(pairs, len(points)),
        "teacher_label": teacher_label,
        "groups": groups,
    }


def sweep_sample(
    sweeps: LabelledSweeps,
    index: int,
    plans: Sequence[sparse.PlanSpec],
    voxels: VoxelSettings = CYLINDRICAL,
    teacher_labels: LabelledSweeps | None = None,
) -> dict[str, Any]:
    """One whole sweep, without augmentation, with its labels.

    Returns:
        What `network_input` gives, and `truth` uint8[points], classes, or None without labels;
        `seen` bool[points], whether a camera sees the point, or None; `teacher_label`
        uint8[points], the label that `teacher_labels` has for the same sweep, 0 for none, or None.

    Raises:
        BatchTooLargeError: the sweep has more voxels than the largest of the plans holds.

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
