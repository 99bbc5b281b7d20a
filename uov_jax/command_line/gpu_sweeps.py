"""Made-up LiDAR sweeps, of numpy alone: what a GPU check runs on where there is no dataset."""

from __future__ import annotations

import dataclasses

import numpy as np

from uov_jax import sparse

VOXEL_SIZE = (0.1, 1.0, 0.1)  # metres of radius, degrees, metres: that of the nuScenes recipes
BEAMS, TURNS = 32, 1090
STREETS = 8
HEIGHT = 1.84  # of the sensor, metres
FARTHEST = 70.0


def points(seed: int) -> np.ndarray:
    """One turn of a LiDAR in a street of boxes: float32 [N, 3], some 30,000 points in metres."""
    generator = np.random.default_rng(seed)
    azimuth = np.linspace(0, 2 * np.pi, TURNS, endpoint=False)
    elevation = np.radians(np.linspace(-30.7, 10.7, BEAMS))
    flat = np.cos(elevation)[:, None]
    rise = np.broadcast_to(np.sin(elevation)[:, None], (BEAMS, TURNS))
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), rise], axis=-1).reshape(-1, 3)
    reach = np.where(rays[:, 2] < 0, -HEIGHT / np.minimum(rays[:, 2], -1e-9), np.inf)
    for low, high in _boxes(generator):
        # Where a ray enters and leaves the slabs between opposite faces.
        with np.errstate(divide="ignore"):
            one, other = low / rays, high / rays
        enters = np.minimum(one, other).max(axis=1)
        leaves = np.maximum(one, other).min(axis=1)
        hit = (enters > 1) & (enters < leaves)
        reach = np.where(hit, np.minimum(reach, enters), reach)
    seen = reach < FARTHEST
    reach = reach[seen] + generator.normal(0, 0.02, seen.sum())
    return np.ascontiguousarray(rays[seen] * reach[:, None], np.float32)


def _boxes(generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Houses along both sides of a street, cars and posts on it: lowest and highest corners."""
    boxes = []
    for side in (-1, 1):
        for x in np.arange(-60, 60, 15):
            near = side * generator.uniform(8, 12)
            low = [x, min(near, side * 30), -HEIGHT]
            boxes.append((low, [x + generator.uniform(9, 14), max(near, side * 30), 8]))
    for size, number in (((4.5, 1.9, 1.6), 24), ((0.3, 0.3, 5.0), 40)):
        for x, y in generator.uniform([-50, -7], [50, 7], (number, 2)):
            boxes.append(([x, y, -HEIGHT], [x + size[0], y + size[1], size[2] - HEIGHT]))
    return [(np.array(low, float), np.array(high, float)) for low, high in boxes]


def voxels(cloud: np.ndarray) -> np.ndarray:
    """The voxels of a cloud as the recipes make them: int32 [V, 4], in the engine's order."""
    xyz = sparse.voxelize(cloud, VOXEL_SIZE, cylindrical=True).coords
    coords = np.concatenate([np.zeros((len(xyz), 1), np.int32), xyz], axis=1)
    return coords[sparse.locality_order(coords)]


def batch_of(sweeps: int, most: int | None = None) -> np.ndarray:
    """The voxels of as many sweeps, at most so many of each: int32 [V, 4].

    There are eight streets, over and over.
    """
    streets = [voxels(points(seed))[:most] for seed in range(min(sweeps, STREETS))]
    return np.concatenate([moved(streets[i % STREETS], i) for i in range(sweeps)])


def cloud_of(number: int) -> np.ndarray:
    """Exactly so many voxels, of as many sweeps as have them: int32 [number, 4]."""
    sweeps = 1
    while len(found := batch_of(sweeps)) < number:
        sweeps = max(sweeps + 1, sweeps * number // len(found))
    return found[:number]


def points_of(number: int) -> np.ndarray:
    """Exactly so many points, of as many sweeps beside each other as have them: [number, 3]."""
    clouds: list[np.ndarray] = []
    while sum(map(len, clouds)) < number:
        clouds.append(
            points(len(clouds) % STREETS) + np.array([FARTHEST * len(clouds), 0, 0], np.float32)
        )
    return np.concatenate(clouds)[:number]


def moved(coords: np.ndarray, batch: int) -> np.ndarray:
    """Voxels of the first sweep as those of another of the batch."""
    return coords + np.array([batch, 0, 0, 0], np.int32)


def fitting_spec(*clouds: np.ndarray) -> sparse.PlanSpec:
    """The shape of a plan with as many rows as the largest has voxels, and little room to spare."""
    usual = sparse.PlanSpec(max(map(len, clouds)))
    shares = (usual.fractions, sparse.ROOMY_FRACTIONS, (1.0,) * 5)
    series = [dataclasses.replace(usual, fractions=each) for each in shares]
    return max((sparse.smallest_spec(cloud, series) for cloud in clouds), key=series.index)
