"""LiDAR sweeps to measure on, as voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uov_jax import sparse
from uov_jax.data.nuscenes import read_sweep
from uov_jax.data.simulate.sensors import lidar_rays


@dataclass(frozen=True)
class VoxelSweep:
    """Voxels of one or more sweeps.

    points float32 [N, 3] of the first sweep, and the voxel size they were quantised with; coords
    int32 [V, 4] (batch, x, y, z) in the engine's order.
    """

    name: str
    points: np.ndarray
    voxel_size: tuple[float, float, float]
    coords: np.ndarray


def _voxels(points: np.ndarray, size: tuple[float, float, float], batch: int) -> np.ndarray:
    xyz = sparse.voxelize(points, size, cylindrical=True).coords
    coords = np.concatenate([np.full((len(xyz), 1), batch, np.int32), xyz], axis=1)
    return coords[sparse.locality_order(coords)]


def synthetic(batch: int = 1, seed: int = 0) -> VoxelSweep:
    """Turns of nuScenes' 32-beam LiDAR between two rows of houses.

    One has about 18,800 voxels and 101,000 neighbour pairs at 0.1 m, 1 degree, 0.2 m.
    """
    size = (0.1, 1.0, 0.2)
    rays = lidar_rays()[0].reshape(-1, 3)
    generator = np.random.default_rng(seed)
    clouds = [_street(rays, generator) for _ in range(batch)]
    coords = np.concatenate([_voxels(cloud, size, i) for i, cloud in enumerate(clouds)])
    return VoxelSweep(f"synthetic x {batch}", clouds[0], size, coords)


def _street(rays: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    x, y, z = rays.T
    with np.errstate(divide="ignore"):
        distance = np.where(z < 0, -1.84 / z, np.inf)
        for wall in generator.uniform(8.0, 12.0, 2) * (-1, 1):
            hit = wall / y
            # Houses of 14 m with gaps of 3 m, 8 m high.
            on_wall = (hit > 0) & (np.abs(hit * x) % 17 < 14) & (hit * z < 8)
            distance = np.minimum(distance, np.where(on_wall, hit, np.inf))
        for end in (-40.0, 55.0):
            hit = end / x
            distance = np.minimum(distance, np.where((hit > 0) & (hit * z < 6), hit, np.inf))
    seen = np.isfinite(distance) & (distance < 70)
    points = rays[seen] * distance[seen, None]
    return (points + generator.normal(0.0, 0.018, points.shape)).astype(np.float32)


def stored(path: Path, batch: int = 1) -> VoxelSweep:
    """A nuScenes `.pcd.bin`, voxelised as the recipes do; `batch` copies of it."""
    size = (0.1, 1.0, 0.1)
    points = np.ascontiguousarray(read_sweep(path)[:, :3])
    coords = np.concatenate([_voxels(points, size, i) for i in range(batch)])
    return VoxelSweep(f"{path.name[:20]}... x {batch}", points, size, coords)
