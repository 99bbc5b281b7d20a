"""One turn of the simulated 32-beam LiDAR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uov_jax.data.simulate.casting import FAR, World, is_glass, window_cells
from uov_jax.data.simulate.geometry import FACADE
from uov_jax.data.simulate.kinds import EGO_RAW, RAW_OF_KIND
from uov_jax.data.simulate.sensors import FIRINGS, LIDAR_POSITION, RINGS, lidar_rays, lidar_rotation

RANGE_NOISE = 0.02  # metres, one standard deviation
MAX_RANGE = 105.0
WEAKEST = 1.0e-6  # reflectivity x cosine / range^2 at which every second pulse is lost


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
    intensity = _intensity(strength, np.minimum(distance, FAR), kept, generator)
    ring = np.tile(np.arange(RINGS), FIRINGS)
    stored = np.column_stack([in_lidar, intensity, ring]).astype(np.float32)
    raw = np.where(kept, RAW_OF_KIND[faces.kind[number]], np.uint8(EGO_RAW)).astype(np.uint8)
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
    distance: NDArray[np.float32],
    kept: NDArray[np.bool_],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Whole numbers 0..255; lost pulses carry the small values of noise."""
    fading = np.exp(-distance / 90.0) * (1.0 - 0.6 * np.exp(-distance / 2.5))
    speckle = np.exp(generator.normal(0.0, 0.22, len(strength)))
    value = 255.0 * (1.0 - np.exp(-0.9 * strength * fading * speckle))
    noise = generator.exponential(8.0, len(strength))
    return np.floor(np.clip(np.where(kept, value, noise), 0, 255))
