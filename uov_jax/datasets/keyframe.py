"""Keyframes: what a vehicle's LiDAR and cameras saw at one moment, and where they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, SweepColumns, read_points

LIDAR = "LIDAR_TOP"
# The order in which a later camera overwrites an earlier one's label of a point.
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)


@dataclasses.dataclass(frozen=True)
class Pose:
    """A rigid motion x -> R x + t from a child frame (sensor, ego) to its parent (ego, global).

    Attributes:
        rotation: unit quaternion w, x, y, z.
        translation: in metres.

    """

    rotation: tuple[float, float, float, float]
    translation: tuple[float, float, float]

    @property
    def matrix(self) -> np.ndarray:
        """float64[3, 3]: the rotation matrix R; the quaternion is normalised first."""
        w, x, y, z = np.array(self.rotation, np.float64) / np.linalg.norm(self.rotation)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )


@dataclasses.dataclass(frozen=True, eq=False)
class CameraView:
    """One camera image of a keyframe.

    Attributes:
        channel: such as "CAM_FRONT".
        token: `sample_data` token.
        path: the JPEG.
        intrinsic: float64[3, 3], pixels.
        sensor_to_ego, ego_to_global: poses, the latter at the time of the image.
        width, height: in pixels.

    """

    channel: str
    token: str
    path: Path
    intrinsic: np.ndarray
    sensor_to_ego: Pose
    ego_to_global: Pose
    width: int
    height: int


@dataclasses.dataclass(frozen=True, eq=False)
class Keyframe:
    """One annotated moment: a LiDAR sweep and the images nearest in time.

    Attributes:
        token: `sample` token.
        scene: name of the scene.
        lidar_path, lidar_token: sweep file and its `sample_data` token.
        sensor_to_ego, ego_to_global: poses of the LiDAR, the latter at the time of the sweep.
        cameras: one view each, in the order that was asked for, by default that of `CAMERAS`.
        lidarseg_path: file of point labels, None where the dataset has none.
        columns: of the sweep file.

    """

    token: str
    scene: str
    lidar_path: Path
    lidar_token: str
    sensor_to_ego: Pose
    ego_to_global: Pose
    cameras: Sequence[CameraView]
    lidarseg_path: Path | None
    columns: SweepColumns = NUSCENES_COLUMNS

    def points(self) -> np.ndarray:
        """float32[N, 4]: x, y, z in metres in the LiDAR's frame, intensity; see `read_points`."""
        return read_points(self.lidar_path, self.columns)
