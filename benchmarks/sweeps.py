"""LiDAR sweeps to measure on, as voxels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uov_jax import sparse
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, SEMANTICKITTI_COLUMNS, read_points
from uov_jax.simulate import lidar
from uov_jax.simulate.keyframe import DriveSettings, keyframe_time, make_world

VOXEL_SIZE = (0.1, 1.0, 0.1)  # metres of radius, degrees, metres: that of the nuScenes recipes
CUBE = (0.05, 0.05, 0.05)  # metres: that of published times on SemanticKITTI


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


def fitting_spec(coords: np.ndarray) -> sparse.PlanSpec:
    """The shape of a plan with as many rows as voxels, and the least room on the coarser levels."""
    usual = sparse.PlanSpec(len(coords))
    roomy = (sparse.ROOMY_FRACTIONS, (1.0,) * 5)
    return sparse.smallest_spec(
        coords, [usual, *(dataclasses.replace(usual, fractions=shares) for shares in roomy)]
    )


def _voxels(
    points: np.ndarray, size: tuple[float, float, float], batch: int, cylindrical: bool = True
) -> np.ndarray:
    xyz = sparse.voxelize(points, size, cylindrical=cylindrical).coords
    coords = np.concatenate([np.full((len(xyz), 1), batch, np.int32), xyz], axis=1)
    return coords[sparse.locality_order(coords)]


def synthetic(batch: int = 1) -> VoxelSweep:
    """Turns of the simulated drive's LiDAR in as many streets, voxelised as the recipes do.

    One has about 19,000 voxels and 73,000 neighbour pairs.
    """
    drive = DriveSettings(scenes=batch, keyframes=1, seed=0)
    clouds = []
    for scene in range(batch):
        world = make_world(drive, scene)
        turn = lidar.sweep(world, keyframe_time(0), drive.generator(scene))
        clouds.append(np.ascontiguousarray(turn.points[:, :3]))
    coords = np.concatenate([_voxels(cloud, VOXEL_SIZE, i) for i, cloud in enumerate(clouds)])
    return VoxelSweep(f"synthetic x {batch}", clouds[0], VOXEL_SIZE, coords)


def stored(path: Path, batch: int = 1) -> VoxelSweep:
    """A nuScenes `.pcd.bin`, voxelised as the recipes do; `batch` copies of it."""
    points = np.ascontiguousarray(read_points(path, NUSCENES_COLUMNS)[:, :3])
    coords = np.concatenate([_voxels(points, VOXEL_SIZE, i) for i in range(batch)])
    return VoxelSweep(f"{path.name[:20]}... x {batch}", points, VOXEL_SIZE, coords)


def scan(path: Path) -> VoxelSweep:
    """A SemanticKITTI `.bin` in cubes of 5 cm: a sweep of many voxels."""
    points = np.ascontiguousarray(read_points(path, SEMANTICKITTI_COLUMNS)[:, :3])
    coords = _voxels(points, CUBE, 0, cylindrical=False)
    return VoxelSweep(f"{path.name[:20]}, cubes of 5 cm", points, CUBE, coords)


def turned(path: Path, batch: int = 1) -> VoxelSweep:
    """A nuScenes `.pcd.bin` as it is, and turned about the vertical and mirrored for the others.

    As training augments sweeps. Copies would have every neighbourhood as often as there are of
    them, which sorts too well.
    """
    points = np.ascontiguousarray(read_points(path, NUSCENES_COLUMNS)[:, :3])
    coords = []
    for i in range(batch):
        angle = 2 * np.pi * i / batch
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        mirror = np.array([(-1) ** i, 1, 1])
        coords.append(_voxels((points * mirror @ turn.T).astype(np.float32), VOXEL_SIZE, i))
    name = f"{path.name[:20]}... x {batch}{', turned' * (batch > 1)}"
    return VoxelSweep(name, points, VOXEL_SIZE, np.concatenate(coords))
