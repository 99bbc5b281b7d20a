"""The way of a hand-held camera around a room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.rooms.room import SimulatedRoom

Generator = np.random.Generator
CLEARANCE = 0.3  # metres that the camera keeps from walls and from what is as high as it
LOWEST = 1.0  # metres; what is lower is no hindrance to a camera in the hand


def camera_poses(room: SimulatedRoom, count: int, generator: Generator) -> NDArray[np.float64]:
    """Poses along a way around the room, in the room's own frame.

    Most look across the room and down a little, some at what is near; a camera looks along +z, x to
    the right, y down.

    Returns:
        float64[count, 4, 4], camera to room.

    """
    spots = _clear_spots(room, generator)
    center = spots.mean(axis=0)
    turn = generator.uniform(0, 2 * np.pi)
    way = generator.choice([-1.0, 1.0])
    angles = turn + way * 2 * np.pi * np.arange(count) / count
    stops = _around(spots, center, angles)
    heights = 1.45 + 0.12 * _wave(count, generator)
    pitch = np.radians(-21 + 11 * _wave(count, generator) + generator.normal(0, 4, count))
    sway = np.radians(48 * _wave(count, generator) + generator.normal(0, 10, count))
    roll = np.radians(generator.normal(0, 2.5, count))
    across = center - stops
    # Where there is no way around, as in a small bathroom, the camera turns on the spot.
    far = np.linalg.norm(across, axis=1) > 0.25
    yaw = np.where(far, np.arctan2(across[:, 1], across[:, 0]), angles) + sway
    poses = np.tile(np.eye(4), (count, 1, 1))
    for number in range(count):
        poses[number, :3, :3] = _looking(yaw[number], pitch[number], roll[number])
        poses[number, :3, 3] = [*stops[number], heights[number]]
    return poses


def _clear_spots(room: SimulatedRoom, generator: Generator) -> NDArray[np.float64]:
    """Points of the floor [n, 2] where a person may stand and hold a camera."""
    blocks = [(thing.low, thing.high) for thing in room.things if thing.high[2] > LOWEST]
    for spare in (CLEARANCE, 0.12):
        found = []
        for zone in room.plan.zones:
            low, high = np.array([zone.x, zone.y]).T
            area = float(np.prod(high - low))
            spots = generator.uniform(low + spare, high - spare, (round(60 * area), 2))
            clear = np.ones(len(spots), bool)
            for block_low, block_high in blocks:
                inside = (spots > block_low[:2] - spare) & (spots < block_high[:2] + spare)
                clear &= ~inside.all(axis=1)
            found.append(spots[clear])
        all_spots = np.concatenate(found)
        if len(all_spots) >= 8:
            return all_spots
    # A room that is full to the last corner is looked at from its middle.
    return np.array([room.plan.zones[0].center])


def _around(
    spots: NDArray[np.float64], center: NDArray[np.float64], angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For every angle the spot about two thirds of the way out from the middle."""
    offset = spots - center
    direction = np.arctan2(offset[:, 1], offset[:, 0])
    distance = np.linalg.norm(offset, axis=1)
    chosen = []
    for angle in angles:
        apart = np.abs(np.angle(np.exp(1j * (direction - angle))))
        ahead = apart < 0.35
        reach = 0.7 * distance[ahead].max() if ahead.any() else 0.0
        cost = distance * apart + np.abs(distance - reach)
        chosen.append(spots[int(cost.argmin())])
    return np.array(chosen)


def _wave(count: int, generator: Generator) -> NDArray[np.float64]:
    """A smooth swing between about -1 and 1."""
    at = np.linspace(0, 2 * np.pi, count)
    waves = [np.sin(k * at + generator.uniform(0, 2 * np.pi)) / np.sqrt(k) for k in (1, 2, 3, 5)]
    return sum(waves, np.zeros(count)) / 1.6


def _looking(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """float64[3, 3]: camera to room, of a gaze at an angle about z, upward by pitch."""
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
