"""From points to voxels: one voxel keeps its first point, and neighbours lie near in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.errors import InputError

# As UOV and SLidR use them.
CYLINDRICAL = VoxelSettings((0.1, 1.0, 0.1), cylindrical=True)


def voxels_of(points: np.ndarray, settings: VoxelSettings, token: str) -> sparse.Voxels:
    """The voxels of points float32[N, 3 or more], in metres, in the caller's own thread.

    Raises:
        InputError: the settings make no voxels, or a point is too far away; names the sweep.

    """
    xyz = np.ascontiguousarray(points[:, :3])
    try:
        return sparse.voxelize(xyz, settings.size, settings.cylindrical, threads=1)
    except ValueError as error:
        raise InputError(f"{token}: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class MergedSweeps:
    """The voxels of several sweeps as one cloud, ordered so that neighbours are near in memory.

    Attributes:
        coords: int32[n, 4], (sweep, x, y, z).
        row: for every sweep int32[V], the merged row of each of its voxels.

    """

    coords: np.ndarray
    row: list[np.ndarray]

    def gather(self, columns: Sequence[np.ndarray], capacity: int) -> np.ndarray:
        """[capacity, C] from one array [V, C] a sweep, in merged order and padded with zeros."""
        merged = np.zeros((capacity, *columns[0].shape[1:]), columns[0].dtype)
        for row, column in zip(self.row, columns, strict=True):
            merged[row] = column
        return merged


def merge_sweeps(coords: Sequence[np.ndarray]) -> MergedSweeps:
    """Merge the voxels int32[V, 3] of the sweeps of one device."""
    number = np.repeat(np.arange(len(coords), dtype=np.int32), [len(c) for c in coords])
    merged = np.concatenate([number[:, None], np.concatenate(coords)], axis=1)
    order = sparse.locality_order(merged)
    row = np.empty(len(order), np.int32)
    row[order] = np.arange(len(order), dtype=np.int32)
    ends = np.cumsum([len(c) for c in coords])[:-1]
    return MergedSweeps(merged[order], np.split(row, ends))
