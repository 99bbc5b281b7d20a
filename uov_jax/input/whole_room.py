"""Samples of evaluation: one whole room, its true labels and what fused features say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.datasets.rooms import Room
from uov_jax.fusion.features import RoomFeatures
from uov_jax.input.batching import whole_cloud
from uov_jax.input.room_distillation import network_colors
from uov_jax.input.room_voxels import room_voxels

# Rows of features that are in memory at a time.
CHUNK = 16_384
# Classes uint8[n] of features float16[n, D], on the host.
Classify = Callable[[np.ndarray], np.ndarray]


def room_input(
    room: Room,
    plans: Sequence[sparse.PlanSpec],
    voxel_size: float,
    rotation: np.ndarray | None = None,
) -> dict[str, Any]:
    """One whole room as the network takes it.

    Args:
        room: the room.
        plans: shapes of growing size.
        voxel_size: metres.
        rotation: as of `room_voxels`.

    Returns:
        `inputs` for the network, its `plan` and `features` float32[N, 3], and for the host
        `inverse` int32[points], row of every point; `points` float32[points, 3]; `token`, the
        room's name.

    Raises:
        BatchTooLargeError: the room has more voxels than the largest of the plans holds.

    """
    voxels = room_voxels(room.coords, voxel_size, room.name, rotation)
    colors = network_colors(room.colors[voxels.first])
    inputs, row = whole_cloud(voxels.coords, colors, plans, room.name)
    return {
        "inputs": inputs,
        "inverse": row[voxels.inverse],
        "points": np.asarray(room.coords),
        "token": room.name,
    }


def judged_facts(
    room: Room, fused: RoomFeatures | None, classify: Classify | None
) -> dict[str, Any]:
    """What a room's points are judged by.

    Returns:
        `truth` uint8[points] or None without labels; `views` uint16[points], how many saw each,
        `seen` bool[points], whether any did, and `teacher_label` uint8[points], the class of its
        fused feature, 0 for none: None without features; `views_counted`, as of `RoomFeatures`.

    """
    views = seen = teacher_label = None
    if fused is not None:
        views, seen = np.asarray(fused.views), np.asarray(fused.visible)
        if classify is not None:
            teacher_label = np.zeros(len(room), np.uint8)
            teacher_label[seen] = np.concatenate([classify(part) for part in fused.parts(CHUNK)])
    truth = None if room.labels is None else np.asarray(room.labels)
    return {
        "truth": truth,
        "views": views,
        "views_counted": fused is None or fused.views_counted,
        "seen": seen,
        "teacher_label": teacher_label,
    }
