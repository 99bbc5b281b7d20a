"""Samples of evaluation: a whole room, made voxels of several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.datasets.rooms import Room
from uov_jax.input.batching import build_plans
from uov_jax.input.room_voxels import random_rotation, room_voxels
from uov_jax.input.voxels import merge_sweeps


def room_inputs(
    room: Room,
    plans: Sequence[sparse.PlanSpec],
    voxel_size: float,
    rng: np.random.Generator | None,
) -> tuple[dict[str, Any], np.ndarray]:
    """One room as the network takes it.

    Args:
        room: its points and colours.
        plans: shapes of growing size.
        voxel_size: metres.
        rng: turns and scales the room as in training; None leaves it as it is.

    Returns:
        `features` float32[rows, 3], colours from -1 to 1, and `plan`; int32[N], row of every point.

    Raises:
        BatchTooLargeError: the room has more voxels than the largest of the plans holds.

    """
    rotation = None if rng is None else random_rotation(rng)
    voxels = room_voxels(room.coords, voxel_size, room.name, rotation)
    merged = merge_sweeps([voxels.coords])
    _, (plan,) = build_plans([merged.coords], plans, [room.name])
    colors = room.colors[voxels.first].astype(np.float32) / np.float32(127.5) - np.float32(1)
    inputs = {"features": merged.gather([colors], len(plan.coords[0])), "plan": plan}
    return inputs, merged.row[0][voxels.inverse]


def room_sample(
    room: Room,
    plans: Sequence[sparse.PlanSpec],
    voxel_size: float,
    repeats: int,
    seed: Sequence[int],
) -> dict[str, Any]:
    """One whole room for evaluation.

    Args:
        room: what it is of.
        plans: shapes of growing size.
        voxel_size: metres.
        repeats: times that it is turned and scaled by chance and made voxels of; 0 for once as it
            is.
        seed: of the chance, other numbers for every room.

    Returns:
        `inputs` and `inverse` int32[N], both lists with one entry a repeat; `points` float32[N, 3];
        `colors` uint8[N, 3]; `truth` uint8[N] or None; `token`, the room's name; `seen` and
        `teacher_label`, None.

    Raises:
        BatchTooLargeError: the room has more voxels than the largest of the plans holds.

    """
    chances = [np.random.default_rng([*seed, repeat]) for repeat in range(repeats)]
    made = [room_inputs(room, plans, voxel_size, rng) for rng in chances]
    made = made or [room_inputs(room, plans, voxel_size, None)]
    return {
        "inputs": [inputs for inputs, _ in made],
        "inverse": [rows for _, rows in made],
        "points": np.asarray(room.coords),
        "colors": np.asarray(room.colors),
        "truth": None if room.labels is None else np.asarray(room.labels),
        "token": room.name,
        "seen": None,
        "teacher_label": None,
    }
