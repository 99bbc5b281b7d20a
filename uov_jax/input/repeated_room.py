"""Samples of evaluation: a whole room, made voxels of several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax import sparse
from uov_jax.datasets.rooms import Room
from uov_jax.input.room_voxels import random_rotation
from uov_jax.input.whole_room import judged_facts, room_input


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
    turns: list[np.ndarray | None] = [random_rotation(chance) for chance in chances]
    made = [room_input(room, plans, voxel_size, turn) for turn in turns or [None]]
    return {
        "inputs": [each["inputs"] for each in made],
        "inverse": [each["inverse"] for each in made],
        "points": made[0]["points"],
        "colors": np.asarray(room.colors),
        "token": room.name,
        **judged_facts(room, None, None),
    }
