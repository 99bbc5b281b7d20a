"""Points to voxels on a GPU: beside the CPU's, twice for equal bits, and its time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.command_line.gpu_report import Row
from uov_jax.command_line.gpu_speed import median, seconds_of
from uov_jax.command_line.gpu_sweeps import VOXEL_SIZE, points_of
from uov_jax.command_line.gpu_values import equal_bits

CUBES = (0.05, 0.05, 0.05)
# An azimuth may be another float32 number than that of the CPU's library. Points so near to a face
# between two azimuths, in sizes of a voxel, may be on its other side then: some float32 units.
NEAR = 1e-4


def voxels(number: int) -> Iterator[Row]:
    """Coordinates, first points and the voxel of every point, of a cloud of so many points."""
    points = points_of(number)
    for what, size, cylindrical in (("cubes", CUBES, False), ("cylinders", VOXEL_SIZE, True)):
        build = _build(size, cylindrical)
        found, again = (jax.device_get(build(jnp.asarray(points))) for _ in range(2))
        coords, first, inverse, count = found
        coords = coords[:, 1:]
        expected = sparse.voxelize(points, size, cylindrical)
        cells, cpu = coords[inverse], expected.coords[expected.inverse]
        other = np.any(cells != cpu, axis=1)
        same = equal_bits(found, again)
        yield Row(
            f"voxelize, {len(points):,} points, {what}",
            {
                "voxels": int(count),
                "points elsewhere than on the CPU": int(other.sum()),
                "equal bits": "yes" if same else "no",
            },
            same
            and in_order(coords, first, inverse, int(count))
            and (cylindrical or not other.any())
            and bool(np.all(beside(points[other], cells[other], cpu[other]))),
        )


def in_order(coords: np.ndarray, first: np.ndarray, inverse: np.ndarray, count: int) -> bool:
    """Whether voxels are numbered as their first points come, nothing following the last.

    Args:
        coords: int32 [N, 3], of the voxels.
        first: int32 [N], their first points.
        inverse: int32 [N], the voxel of every point.
        count: voxels.

    """
    if not (0 < count <= len(coords) and inverse.min() == 0 and inverse.max() == count - 1):
        return False
    numbers, first_of = np.unique(inverse, return_index=True)
    return (
        len(numbers) == count == len(np.unique(coords[:count], axis=0))
        and np.array_equal(first[:count], first_of)
        and bool(np.all(np.diff(first_of) > 0))
        and bool(np.all(coords[count:] == -1) and np.all(first[count:] == -1))
    )


def beside(points: np.ndarray, cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether the azimuths of points lie on the face between two cylindrical voxels: bool [N]."""
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    azimuth = np.degrees(np.arctan2(y, x)) / VOXEL_SIZE[1]
    near = np.abs(azimuth - np.round(azimuth)) < NEAR
    apart = np.abs(cells.astype(np.int64) - others)
    return near & (apart[:, 1] == 1) & np.all(apart[:, [0, 2]] == 0, axis=1)


def times(clouds: Sequence[int], repeats: int) -> Iterator[Row]:
    """Milliseconds from so many points to their voxels, as the recipes make them."""
    for number in clouds:
        points = points_of(number)
        here, build = jnp.asarray(points), _build(VOXEL_SIZE, True)
        seconds = median(seconds_of(functools.partial(build, here), repeats))
        start = time.perf_counter()
        sparse.voxelize(points, VOXEL_SIZE, cylindrical=True)
        host = time.perf_counter() - start
        yield Row(
            f"{len(points):,} points, voxels with first points and inverse",
            {"ms": seconds * 1e3, "on the host, ms": host * 1e3},
        )


def _build(size: tuple[float, float, float], cylindrical: bool) -> Callable[[jax.Array], Any]:
    @jax.jit
    def build(points: jax.Array) -> sparse.VoxelRows:
        return sparse.voxelize_in_jit(points, jnp.int32(len(points)), size, cylindrical)

    return build
