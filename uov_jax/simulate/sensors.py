"""The sensors of the simulated car: where they sit, how they look, when they see.

The numbers are this simulator's own, in the manner of nuScenes: x forward, y left, z up in the
vehicle's frame whose origin is the middle of the rear axle on the ground; cameras x right, y down,
z forward; the LiDAR x right, y forward, z up. The LiDAR turns clockwise seen from above, starts to
the left, and takes 50 ms; each camera is triggered as the LiDAR passes the middle of its view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RINGS = 32
FIRINGS = 1084  # columns of a stored sweep
SPIN = 0.05  # seconds
ELEVATIONS = np.radians(np.linspace(-30.67, 10.67, RINGS))  # rings 0..31 from below


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera: yaw in degrees (left positive), focal length and centre in pixels."""

    channel: str
    yaw: float
    position: tuple[float, float, float]
    focal: float
    center: tuple[float, float]
    tilt: float

    def intrinsic(self, scale: float = 1.0) -> Floats:
        """float64[3, 3] for images scaled by ``scale``; pixel centres at whole numbers."""
        cx, cy = ((value + 0.5) * scale - 0.5 for value in self.center)
        return np.array([[self.focal * scale, 0, cx], [0, self.focal * scale, cy], [0, 0, 1.0]])

    def rotation(self) -> Floats:
        """float64[3, 3]: camera axes in the vehicle's frame."""
        yaw, tilt = np.radians(self.yaw), np.radians(self.tilt)
        forward = np.array([np.cos(yaw) * np.cos(tilt), np.sin(yaw) * np.cos(tilt), np.sin(tilt)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        return np.stack([right, np.cross(forward, right), forward], axis=1)

    def trigger(self) -> float:
        """Seconds from the end of the sweep (negative): the LiDAR passes the view's middle."""
        turned = (90.0 - self.yaw) % 360.0
        return SPIN * (turned / 360.0 - 1.0) + 0.002


CAMERA_MODELS: tuple[CameraModel, ...] = (
    CameraModel("CAM_FRONT", 0.2, (1.71, 0.01, 1.51), 1262.0, (811.0, 488.0), 0.1),
    CameraModel("CAM_FRONT_RIGHT", -55.6, (1.56, -0.50, 1.50), 1258.0, (806.0, 492.0), -0.3),
    CameraModel("CAM_BACK_RIGHT", -109.4, (1.02, -0.49, 1.56), 1256.0, (803.0, 496.0), -0.2),
    CameraModel("CAM_BACK", 179.8, (0.03, 0.01, 1.58), 806.0, (824.0, 478.0), -0.6),
    CameraModel("CAM_BACK_LEFT", 108.9, (1.03, 0.49, 1.58), 1260.0, (796.0, 490.0), 0.2),
    CameraModel("CAM_FRONT_LEFT", 55.3, (1.53, 0.50, 1.51), 1268.0, (820.0, 483.0), 0.3),
)
WIDTH, HEIGHT = 1600, 900

LIDAR_POSITION = (0.94, 0.0, 1.84)


def lidar_rotation() -> Floats:
    """float64[3, 3]: LiDAR axes in the vehicle's frame, mounted not quite straight."""
    yaw, pitch = np.radians(-90.0 + 0.2), np.radians(0.4)
    c, s = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array(
        [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]
    )


def lidar_rays() -> tuple[Floats, Floats]:
    """Directions of one turn in the LiDAR's frame and when they are sent.

    Returns:
        float64[FIRINGS * RINGS, 3] in firing order (all rings of a column, then the next column);
        float64[FIRINGS * RINGS], seconds before the end of the turn as negative numbers.

    """
    column = np.repeat(np.arange(FIRINGS), RINGS)
    ring = np.tile(np.arange(RINGS), FIRINGS)
    # The lasers of a column fire one after another, even rings first.
    order = np.where(ring % 2 == 0, ring // 2, RINGS // 2 + ring // 2) / RINGS
    turned = (column + order) / FIRINGS
    bearing = 2 * np.pi * turned - np.pi / 2  # clockwise from forward; starts to the left
    elevation = ELEVATIONS[ring]
    directions = np.stack(
        [
            np.cos(elevation) * np.sin(bearing),
            np.cos(elevation) * np.cos(bearing),
            np.sin(elevation),
        ],
        axis=1,
    )
    return directions, SPIN * (turned - 1.0)


def quaternion(rotation: Floats) -> list[float]:
    """A rotation matrix as the unit quaternion w, x, y, z with w >= 0."""
    m = rotation
    four = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    k = int(np.argmax(four))
    off = {
        0: (four[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]),
        1: (m[2, 1] - m[1, 2], four[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]),
        2: (m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], four[2], m[2, 1] + m[1, 2]),
        3: (m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], four[3]),
    }[k]
    values = np.array(off) / np.linalg.norm(off)
    return [float(value) for value in (values if values[0] >= 0 else -values)]
