"""From points to voxels: one voxel keeps its first point, and neighbours lie near in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.errors import InputError
from uov_jax.host import engine

# As UOV and SLidR use them.
CYLINDRICAL = VoxelSettings((0.1, 1.0, 0.1), cylindrical=True)


def voxels_of(points: np.ndarray, settings: VoxelSettings, token: str) -> sparse.Voxels:
    """The voxels of points float32[N, 3 or more], in metres, in the order of (x, y, z).

    They are found in the caller's own thread.

    Raises:
        InputError: the settings make no voxels, or a point is too far away; names the sweep.

    """
    try:
        return sparse.sorted_voxels(points, settings.size, settings.cylindrical)
    except ValueError as error:
        raise InputError(f"{token}: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class MergedSweeps:
    """The voxels of several sweeps as one cloud, ordered so that neighbours are near in memory.

    Attributes:
        coords: of every sweep int32[V, 3] in the order of (x, y, z); the sweeps follow each other.
        order: for every sweep which of its voxels stands in each place, int32[V]; None where they
            came in order.
        start: int64[sweeps + 1], where each sweep's rows begin, and the number of all.

    """

    coords: list[np.ndarray]
    order: list[np.ndarray | None]
    start: np.ndarray

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """int32[5]: voxels of every level that a plan may have."""
        found = [sparse.level_counts(coords, sparse.MOST_LEVELS) for coords in self.coords]
        return np.stack(found).sum(axis=0, dtype=np.int32)

    def place(self, level0: np.ndarray) -> np.ndarray:
        """Write (sweep, x, y, z) into rows of int32[N, 4], -1 into the rest; the rows filled."""
        engine().place_coords(level0, self.coords)
        return level0[: self.start[-1]]

    def gather(self, columns: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Write an array [V, C] a sweep into `out` [N, C], in merged order; zeros into the rest."""
        for sweep, (column, order) in enumerate(zip(columns, self.order, strict=True)):
            own = out[self.start[sweep] : self.start[sweep + 1]]
            if order is None:
                own[:] = column
            else:
                np.take(column, order, axis=0, out=own)
        out[self.start[-1] :] = 0

    def rows(self, sweep: int, voxels: np.ndarray) -> np.ndarray:
        """int32: the merged rows of some voxels of a sweep, by their own numbers."""
        order = self.order[sweep]
        if order is not None:
            place = np.empty_like(order)
            place[order] = np.arange(len(order), dtype=np.int32)
            voxels = place[voxels]
        return voxels + np.int32(self.start[sweep])


def merge_sweeps(coords: Sequence[np.ndarray]) -> MergedSweeps:
    """Merge the voxels int32[V, 3] of the sweeps of one device."""
    orders = [
        None if engine().is_in_order(each) else sparse.locality_order(each) for each in coords
    ]
    return MergedSweeps(
        [
            each if order is None else each[order]
            for each, order in zip(coords, orders, strict=True)
        ],
        orders,
        np.cumsum([0, *map(len, coords)]),
    )
