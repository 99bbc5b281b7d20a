"""Voxels of rooms: turned and scaled at random, in float64, the smallest coordinates at zero."""

from __future__ import annotations

import dataclasses

import numpy as np

from uov_jax import sparse
from uov_jax.errors import InputError

TILT = np.pi / 64  # largest angle about x and y, in radians
SCALES = (0.9, 1.1)
LARGEST_OFFSET = 100  # voxels; of a step's coordinates


@dataclasses.dataclass(frozen=True, eq=False)
class RoomVoxels:
    """The voxels of one room, in order of first occurrence.

    Attributes:
        coords: int32[V, 3], the smallest of every axis is 0.
        first: int32[V], the first point of each voxel.
        inverse: int32[N], the voxel of every point.

    """

    coords: np.ndarray
    first: np.ndarray
    inverse: np.ndarray


def room_voxels(
    points: np.ndarray, voxel_size: float, room: str, rotation: np.ndarray | None = None
) -> RoomVoxels:
    """The voxels of points, floor(rotation @ x / voxel size) moved to zero.

    Computed in float64: float32 moves points at the sides of voxels to the next one.

    Args:
        points: float[N, 3], metres.
        voxel_size: metres.
        room: its name, for messages.
        rotation: float64[3, 3], a scale included; None for none.

    Raises:
        InputError: there is no point, one is not finite, or they spread over too many voxels.

    """
    if not len(points):
        raise InputError(f"room {room}: there is no point to make voxels of")
    to_voxels = np.diag(np.full(3, 1 / voxel_size))
    if rotation is not None:
        to_voxels = rotation @ to_voxels
    places = np.floor(points.astype(np.float64) @ to_voxels.T)
    # The engine finds the voxels; whole numbers of this size are exact in float32.
    places -= places.min(axis=0)
    try:
        found = sparse.voxelize(places.astype(np.float32), (1.0, 1.0, 1.0), False, threads=1)
    except ValueError as error:
        raise InputError(f"room {room}: {error}") from error
    return RoomVoxels(*found)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """float64[3, 3]: a training room's rotation and scale.

    Angles up to `TILT` about x and y and any about z, the three matrices multiplied in random
    order, times a scale within `SCALES`; all uniform.
    """
    angles = (rng.uniform(-TILT, TILT), rng.uniform(-TILT, TILT), rng.uniform(-np.pi, np.pi))
    turns = [_about(axis, angle) for axis, angle in enumerate(angles)]
    first, second, third = (turns[axis] for axis in rng.permutation(3))
    return first @ second @ third * rng.uniform(*SCALES)


def random_offset(rng: np.random.Generator) -> np.ndarray:
    """int32[3]: whole voxels from 0 to 99 an axis, for all coordinates of a step.

    It decides which voxels lie in one of the next level.
    """
    return rng.integers(0, LARGEST_OFFSET, 3).astype(np.int32)


def _about(axis: int, angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[one, one] = turn[other, other] = cosine
    turn[one, other], turn[other, one] = -sine, sine
    return turn
