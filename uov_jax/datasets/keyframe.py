"""Keyframes: what a vehicle's LiDAR and cameras saw at one moment, and where they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, SweepColumns, read_points
from uov_jax.errors import InputError

LIDAR = "LIDAR_TOP"
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)


@dataclasses.dataclass(frozen=True)
class Rig:
    """Which sensors of a dataset its keyframes show, by their channels; nuScenes' by default.

    Attributes:
        lidar: whose sweeps they are.
        cameras: whose images they have. Their order counts: a later camera overwrites an earlier
            one's label of a point. None at all suit what needs no images.
        columns: of the sweep files. No part of what makes two rigs different: labels of sweeps that
            are read in another way are refused by their number.

    Raises:
        InputError: a camera is named twice, or a name is none.

    """

    lidar: str = LIDAR
    cameras: tuple[str, ...] = CAMERAS
    columns: SweepColumns = dataclasses.field(default=NUSCENES_COLUMNS, compare=False)

    def __post_init__(self) -> None:
        """Check the names."""
        for name in (self.lidar, *self.cameras):
            if not isinstance(name, str) or not name or "," in name:
                raise InputError(
                    f"{name!r} is no sensor's channel: give --lidar LIDAR_TOP --cameras CAM_A "
                    "CAM_B, or in a recipe --config.data.lidar=LIDAR_TOP "
                    "--config.data.cameras=\"('CAM_A', 'CAM_B')\""
                )
        twice = [name for name in self.cameras if self.cameras.count(name) > 1]
        if twice:
            raise InputError(f"the camera {twice[0]} is named twice: {', '.join(self.cameras)}")

    def __str__(self) -> str:
        """For messages."""
        return f"{self.lidar} with {', '.join(self.cameras) or 'no camera'}"

    def identity(self) -> dict[str, str]:
        """What labels made with it are bound to; nothing for nuScenes', which once was the only."""
        if self == NUSCENES_RIG:
            return {}
        return {"lidar": self.lidar, "cameras": ", ".join(self.cameras)}


NUSCENES_RIG = Rig()


def rig_of(data: Any) -> Rig:
    """The rig of a recipe's `data` section; nuScenes' where that of an older run names none."""
    columns = data.get("columns", NUSCENES_COLUMNS.text)
    return Rig(
        data.get("lidar", LIDAR),
        tuple(data.get("cameras", CAMERAS)),
        NUSCENES_COLUMNS.with_names(columns),
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
        return rotation_matrices([self.rotation])[0]


def rotation_matrices(quaternions: Sequence[Sequence[float]]) -> np.ndarray:
    """float64[n, 3, 3]: the rotation matrices of quaternions w, x, y, z, normalised first."""
    rows = np.array(quaternions, np.float64).reshape(-1, 4)
    rows /= np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    w, x, y, z = rows.T
    matrix = np.empty((len(rows), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1] = 1 - 2 * (y * y + z * z), 1 - 2 * (x * x + z * z)
    matrix[:, 2, 2] = 1 - 2 * (x * x + y * y)
    matrix[:, 0, 1], matrix[:, 1, 0] = 2 * (x * y - z * w), 2 * (x * y + z * w)
    matrix[:, 0, 2], matrix[:, 2, 0] = 2 * (x * z + y * w), 2 * (x * z - y * w)
    matrix[:, 1, 2], matrix[:, 2, 1] = 2 * (y * z - x * w), 2 * (y * z + x * w)
    return matrix


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
        cameras: one view each, in the order of the rig.
        lidarseg_path: file of point labels, None where the dataset has none of this sweep.
        rig: channels of LiDAR and cameras, columns of the sweep.

    """

    token: str
    scene: str
    lidar_path: Path
    lidar_token: str
    sensor_to_ego: Pose
    ego_to_global: Pose
    cameras: Sequence[CameraView]
    lidarseg_path: Path | None
    rig: Rig = NUSCENES_RIG

    def points(self) -> np.ndarray:
        """float32[N, 4]: x, y, z in metres in the LiDAR's frame, intensity; see `read_points`."""
        return read_points(self.lidar_path, self.rig.columns)
