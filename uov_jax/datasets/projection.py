"""Projection of LiDAR points into camera images with the vehicle's motion in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.keyframe import CameraView, Keyframe, rotation_matrices
from uov_jax.host import engine

MIN_DEPTH = 1.0  # metres; nearer points lie on the camera's own casing or mount


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
    """N points seen from one camera.

    Attributes:
        uv: float64[N, 2], column and row in pixels; NaN at a depth of 1 m or less.
        depth: float64[N], metres along the optical axis.
        visible: bool[N], deeper than 1 m and strictly inside the image less one pixel.

    """

    uv: np.ndarray
    depth: np.ndarray
    visible: np.ndarray

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """int32[n], int32[n]: row and column of the visible points, rounded half to even."""
        pixels = np.round(self.uv[self.visible]).astype(np.int32)
        return pixels[:, 1], pixels[:, 0]


class Pairs(NamedTuple):
    """P pairs of a point and a camera that sees it, camera by camera in the keyframe's order.

    point: int32[P], row of the point. camera: int32[P], number of the camera in the keyframe.
    v, u: int32[P], row and column of its pixel in the full image.
    """

    point: np.ndarray
    camera: np.ndarray
    v: np.ndarray
    u: np.ndarray

    def select(self, which: np.ndarray) -> Pairs:
        """The pairs at a boolean mask or index array."""
        return Pairs(*(column[which] for column in self))


def project(
    points: np.ndarray,
    keyframe: Keyframe,
    camera: CameraView,
    image_size: tuple[int, int] | None = None,
) -> Projection:
    """Project points: LiDAR -> ego at sweep time -> global -> ego at image time -> camera.

    The chain is that of nuscenes-devkit (`map_pointcloud_to_image`) and the margin that of SLidR
    (0 < u < width - 1), in float64 throughout: the devkit rounds global coordinates, some 1,000 m
    from their origin, to float32 after each step, which moves pixels by up to a few hundredths.

    Args:
        points: float32[N, 3 or more], metres in the LiDAR's frame.
        keyframe: gives the LiDAR's poses.
        camera: one of its views.
        image_size: height and width, where they differ from the view's.

    """
    cameras, sizes = _geometry(keyframe, [camera])
    if image_size is not None:
        sizes[0] = image_size
    return Projection(*engine().project_points(points, cameras, sizes, MIN_DEPTH))


def pair_points(points: np.ndarray, keyframe: Keyframe) -> Pairs:
    """All pairs of points float32[N, 3 or more] with the keyframe's cameras."""
    return Pairs(*engine().pair_points(points, *_geometry(keyframe, keyframe.cameras), MIN_DEPTH))


def _geometry(keyframe: Keyframe, cameras: Sequence[CameraView]) -> tuple[np.ndarray, np.ndarray]:
    """What leads from a point to depths and pixels, as rows of numbers a, b of a . x + b.

    Returns:
        float64[C, 4, 4], of every camera the depth and the three coordinates of the pixel; int64
        [C, 2], heights and widths.

    """
    rotation, translation = lidar_to_cameras(keyframe, cameras)
    numbers = np.empty((len(cameras), 4, 4))
    numbers[:, 0, :3], numbers[:, 0, 3] = rotation[:, 2], translation[:, 2]
    if len(cameras):
        intrinsic = np.stack([camera.intrinsic for camera in cameras])
        numbers[:, 1:, :3] = intrinsic @ rotation
        numbers[:, 1:, 3] = _products(intrinsic, translation)
    sizes = [(camera.height, camera.width) for camera in cameras]
    return numbers, np.array(sizes, np.int64).reshape(-1, 2)


def lidar_to_cameras(
    keyframe: Keyframe, cameras: Sequence[CameraView]
) -> tuple[np.ndarray, np.ndarray]:
    """float64[C, 3, 3] R and float64[C, 3] t: x -> R x + t from the LiDAR's frame to a camera's."""
    poses = [keyframe.sensor_to_ego, keyframe.ego_to_global]
    for camera in cameras:
        poses += [camera.ego_to_global, camera.sensor_to_ego]
    turns = rotation_matrices([pose.rotation for pose in poses])
    origins = np.array([pose.translation for pose in poses], np.float64)
    rotation = turns[1] @ turns[0]
    translation = turns[1] @ origins[0] + origins[1]
    rotations, translations = rotation[None], translation[None]
    for first in (2, 3):
        back = turns[first::2].transpose(0, 2, 1)
        rotations = back @ rotations
        translations = _products(back, translations - origins[first::2])
    return rotations, translations


def _products(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[C, 3]: every matrix [C, 3, 3] times its vector [C, 3]."""
    return (matrices @ vectors[..., None])[..., 0]


def points_seen(pairs: Pairs, num_points: int) -> np.ndarray:
    """bool[num_points]: whether a camera sees each point."""
    seen = np.zeros(num_points, bool)
    seen[pairs.point] = True
    return seen
