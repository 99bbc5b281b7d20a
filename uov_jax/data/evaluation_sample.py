"""Samples of evaluation: one whole sweep, its true labels and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.data.batching import build_plans, merge_sweeps
from uov_jax.data.dump import DumpSource
from uov_jax.data.nuscenes import Keyframe, read_lidarseg, read_sweep
from uov_jax.data.projection import pair_points
from uov_jax.data.superpoints import matching_cameras, point_words
from uov_jax.data.tmp_sample import CYLINDRICAL, VoxelSettings
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
        `plan` and `features` float32[N, 1] for the network, and for the host `inverse`
        int32[points], row of every point; `points`; `token`.

    Raises:
        CapacityError: the sweep has more voxels than the largest of the plans holds.

    """
    voxelized = sparse.voxelize(
        np.ascontiguousarray(points[:, :3]), voxels.size, voxels.cylindrical, threads=1
    )
    merged = merge_sweeps([voxelized.coords])
    _, (plan,) = build_plans([merged.coords], plans, [token])
    return {
        "plan": plan,
        "features": merged.gather([points[voxelized.first, 3:4]], len(plan.coords[0])),
        "inverse": merged.row[0][voxelized.inverse],
        "points": points,
        "token": token,
    }


def evaluation_sample(
    keyframe: Keyframe,
    vocabulary: Vocabulary,
    plans: Sequence[sparse.PlanSpec],
    voxels: VoxelSettings = CYLINDRICAL,
    dumps: DumpSource | None = None,
) -> dict[str, Any]:
    """Build the evaluation sample of one keyframe, without augmentation.

    Returns:
        What `network_input` gives; `truth` uint8[points], evaluation classes, or None where the
        dataset has no labels; `teacher_label` uint8[points], the teacher's evaluation class, 0
        where no camera sees the point or no mask was hit, or None without dumps; `seen`
        bool[points], whether a camera sees the point.

    Raises:
        CapacityError: the sweep has more voxels than the largest of the plans holds.

    """
    points = read_sweep(keyframe.lidar_path)
    truth = None
    if keyframe.lidarseg_path is not None:
        raw = read_lidarseg(keyframe.lidarseg_path, len(points))
        truth = vocabulary.raw_to_eval[raw]
    pairs = pair_points(points, keyframe)
    teacher_label = None
    if dumps is not None:
        cameras = matching_cameras(keyframe, dumps.read(keyframe))
        word, seen = point_words(pairs, cameras, len(points))
        classes = vocabulary.word_eval_class.astype(np.uint8)
        teacher_label = np.where(word >= 0, classes[word], 0).astype(np.uint8)
    else:
        seen = np.zeros(len(points), bool)
        seen[pairs.point] = True
    return network_input(points, plans, voxels, keyframe.token) | {
        "truth": truth,
        "teacher_label": teacher_label,
        "seen": seen,
    }
