"""One turn of the simulated 32-beam LiDAR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.casting import World, is_glass, window_cells
from uov_jax.simulate.geometry import FACADE
from uov_jax.simulate.kinds import EGO_RAW, RAW_OF_KIND
from uov_jax.simulate.sensors import FIRINGS, LIDAR_POSITION, RINGS, lidar_rays, lidar_rotation

RANGE_NOISE = 0.02  # metres, one standard deviation
MAX_RANGE = 105.0
WEAKEST = 1.0e-6  # reflectivity x cosine / range^2 at which every second pulse is lost

# Reflectivity at 905 nm that the surfaces of one raw label gather around. Things of like shape lie
# apart, far more than in reality: a demonstration has to show learning within minutes.
_TYPICAL = {
    **dict.fromkeys((24,), 0.04),  # driveable surface
    **dict.fromkeys((30,), 0.10),  # vegetation
    **dict.fromkeys((17, 19, 20), 0.16),  # cars
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8), 0.22),  # people, animals
    **dict.fromkeys((26,), 0.28),  # sidewalk
    **dict.fromkeys((28,), 0.34),  # manmade
    **dict.fromkeys((15, 16), 0.40),  # buses
    **dict.fromkeys((13, 14), 0.46),  # bicycles
    **dict.fromkeys((27,), 0.52),  # terrain
    **dict.fromkeys((23,), 0.58),  # trucks
    **dict.fromkeys((21,), 0.64),  # motorcycles
    **dict.fromkeys((9,), 0.70),  # barriers
    **dict.fromkeys((25,), 0.76),  # other flat
    **dict.fromkeys((22,), 0.82),  # trailers
    **dict.fromkeys((10, 11, 12), 0.88),  # cones, debris
    **dict.fromkeys((18,), 0.95),  # construction vehicles
}
_TYPICAL_OF_RAW = np.array([_TYPICAL.get(raw, 0.3) for raw in range(32)], np.float32)
_TYPICAL_SHARE = 0.75  # the rest is the material's own


@dataclass(frozen=True)
class Sweep:
    """A stored sweep.

    points float32[N, 5]: x, y, z in the LiDAR's frame at the end of the turn, intensity 0..255,
    ring; in firing order. As in nuScenes a lost pulse is kept, as a point at the sensor, and is
    labelled as the ego. raw uint8[N]: lidarseg labels. instance int32[N]: object hit, or 0.
    """

    points: NDArray[np.float32]
    raw: NDArray[np.uint8]
    instance: NDArray[np.int32]


def sweep(world: World, end: float, generator: np.random.Generator) -> Sweep:
    """Turn once, ending ``end`` seconds into the scene."""
    directions, delays = lidar_rays()
    times = end + delays
    rotation, translation = world.scene.ego.pose(times)
    mount = lidar_rotation()
    origins = (rotation @ np.array(LIDAR_POSITION) + translation).astype(np.float32)
    aim = np.einsum("nij,nj->ni", rotation, directions @ mount.T).astype(np.float32)
    distance, face = world.cast(origins, aim, times)
    faces = world.faces
    hit = face >= 0
    number = np.where(hit, face, 0)
    points = origins + np.where(hit, distance, 0.0)[:, None].astype(np.float32) * aim
    strength = _strength(world, number, points, aim, float(times.mean()))
    weight = strength / np.clip(distance, 1.0, 1e4) ** 2
    kept = generator.random(len(face)) < 0.997 * weight / (weight + WEAKEST)
    own = hit & (faces.kind[number] == world.faces.kind[world.first_ground_face - 1])
    kept &= hit & (distance < MAX_RANGE) & ~(own & (generator.random(len(face)) < 0.7))
    noise = generator.normal(0.0, 1.0, len(face)) * np.hypot(RANGE_NOISE, faces.roughness[number])
    reach = np.where(kept, distance + noise, 0.0)
    returned = origins + reach[:, None] * aim
    end_rotation, end_translation = world.scene.ego.pose(end)
    in_ego = (returned - end_translation) @ end_rotation
    in_lidar = (in_ego - np.array(LIDAR_POSITION)) @ mount
    raw_of_hit = RAW_OF_KIND[faces.kind[number]]
    intensity = _intensity(strength, _TYPICAL_OF_RAW[raw_of_hit], kept, generator)
    ring = np.tile(np.arange(RINGS), FIRINGS)
    stored = np.column_stack([in_lidar, intensity, ring]).astype(np.float32)
    raw = np.where(kept, raw_of_hit, np.uint8(EGO_RAW)).astype(np.uint8)
    instance = np.where(kept, faces.instance[number], 0).astype(np.int32)
    return Sweep(stored, raw, instance)


def _strength(
    world: World,
    face: NDArray[np.int32],
    points: NDArray[np.float32],
    aim: NDArray[np.float32],
    time: float,
) -> NDArray[np.float32]:
    """Share of the light sent back: reflectivity times cosine, little of it from glass."""
    faces, normals = world.faces, world.normals_at(time)[face]
    cosine = np.abs(np.einsum("ij,ij->i", normals, aim))
    # Rough and retro-reflecting things send light back at any angle.
    retro = faces.reflectivity[face] > 0.8
    strength = faces.reflectivity[face] * np.where(retro, 0.7 + 0.3 * cosine, 0.25 + 0.75 * cosine)
    facade = np.flatnonzero(faces.texture[face] >= FACADE)
    pane, _ = window_cells(points[facade], normals[facade], faces.texture[face[facade]])
    strength[facade[pane]] *= 0.02
    strength[is_glass(faces.texture[face])] *= 0.05
    return strength.astype(np.float32)


def _intensity(
    strength: NDArray[np.float32],
    typical: NDArray[np.float32],
    kept: NDArray[np.bool_],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Whole numbers 0..255 of a sensor that corrects for range; lost pulses carry noise's."""
    speckle = np.exp(generator.normal(0.0, 0.08, len(strength)))
    mixed = _TYPICAL_SHARE * typical + (1.0 - _TYPICAL_SHARE) * np.minimum(strength, 1.0)
    value = 255.0 * mixed * speckle + generator.normal(0.0, 3.0, len(strength))
    noise = generator.exponential(8.0, len(strength))
    return np.floor(np.clip(np.where(kept, value, noise), 0, 255))
