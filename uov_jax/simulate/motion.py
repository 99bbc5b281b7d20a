"""How the ego and the other moving objects go along the streets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uov_jax.simulate.street import Street

Floats = NDArray[np.float64]


def yaw_matrix(yaw: ArrayLike) -> Floats:
    """float64[..., 3, 3]: rotation about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    matrix = np.zeros((*np.shape(yaw), 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1] = c, -s
    matrix[..., 1, 0], matrix[..., 1, 1] = s, c
    matrix[..., 2, 2] = 1.0
    return matrix


@dataclass(frozen=True)
class Still:
    """The pose of what stands."""

    x: float
    y: float
    z: float
    yaw: float

    def pose(self, time: ArrayLike) -> tuple[Floats, Floats]:
        """As `Track.pose`."""
        shape = np.shape(time)
        rotation = np.broadcast_to(yaw_matrix(self.yaw), (*shape, 3, 3))
        return rotation, np.broadcast_to(np.array([self.x, self.y, self.z]), (*shape, 3))


@dataclass(frozen=True)
class Track:
    """Motion along a street at constant speed; ``turned`` objects look against the line.

    ``speed`` in m/s is signed along the line; ``height`` is that of the ground under the track.
    """

    street: Street
    along: float
    beside: float
    speed: float
    height: float = 0.0
    turned: bool = False

    def pose(self, time: ArrayLike) -> tuple[Floats, Floats]:
        """Rotation float64[..., 3, 3] and translation float64[..., 3] at times in seconds."""
        when = np.asarray(time, np.float64)
        x, y, heading = self.street.at(self.along + self.speed * when, self.beside)
        translation = np.stack([x, y, np.full_like(x, self.height)], axis=-1)
        return yaw_matrix(heading + (np.pi if self.turned else 0.0)), translation


@dataclass(frozen=True)
class CrossingTrack:
    """Motion across a street: ``beside`` changes, ``along`` stays."""

    street: Street
    along: float
    beside: float
    speed: float
    height: float = 0.0

    def pose(self, time: ArrayLike) -> tuple[Floats, Floats]:
        """As `Track.pose`."""
        when = np.asarray(time, np.float64)
        x, y, heading = self.street.at(
            np.full_like(when, self.along), self.beside + self.speed * when
        )
        translation = np.stack([x, y, np.full_like(x, self.height)], axis=-1)
        return yaw_matrix(heading + np.sign(self.speed) * np.pi / 2), translation


@dataclass(frozen=True)
class EgoTrack:
    """The ego's motion: along its lane, with the slight pitch and roll of a car on its springs.

    The pose is that of nuScenes: the middle of the rear axle on the ground, x forward, y left.
    """

    street: Street
    beside: float
    speed: float
    sway: tuple[float, float, float, float]

    def pose(self, time: ArrayLike) -> tuple[Floats, Floats]:
        """Rotation float64[..., 3, 3] and translation float64[..., 3] at times in seconds."""
        when = np.asarray(time, np.float64)
        rate, phase, pitch_size, roll_size = self.sway
        x, y, heading = self.street.at(self.speed * when, self.beside)
        pitch = pitch_size * np.sin(2 * np.pi * rate * when + phase)
        roll = roll_size * np.sin(2 * np.pi * 0.7 * rate * when + 2 * phase)
        cp, sp, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        zero, one = np.zeros_like(cp), np.ones_like(cp)
        about_y = [[cp, zero, sp], [zero, one, zero], [-sp, zero, cp]]
        about_x = [[one, zero, zero], [zero, cr, -sr], [zero, sr, cr]]
        tilt = np.stack([np.stack(row, axis=-1) for row in about_y], axis=-2) @ np.stack(
            [np.stack(row, axis=-1) for row in about_x], axis=-2
        )
        return yaw_matrix(heading) @ tilt, np.stack([x, y, zero], axis=-1)


Motion = Still | Track | CrossingTrack | EgoTrack
