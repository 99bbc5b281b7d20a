"""Projection of LiDAR points into camera images with the vehicle's motion in between."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.keyframe import CameraView, Keyframe

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
        points: float[N, 3 or more], metres in the LiDAR's frame.
        keyframe: gives the LiDAR's poses.
        camera: one of its views.
        image_size: height and width, where they differ from the view's.

    """
    return _project(_coordinates(points), keyframe, camera, image_size)


def pair_points(points: np.ndarray, keyframe: Keyframe) -> Pairs:
    """All pairs of points float[N, 3 or more] with the keyframe's cameras."""
    coordinates = _coordinates(points)
    columns = []
    for number, camera in enumerate(keyframe.cameras):
        projection = _project(coordinates, keyframe, camera, None)
        point = np.flatnonzero(projection.visible).astype(np.int32)
        columns.append((point, np.full(len(point), number, np.int32), *projection.pixels()))
    if not columns:
        return Pairs(*(np.zeros(0, np.int32) for _ in range(4)))
    return Pairs(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _coordinates(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points[:, :3].T, np.float64)


def _project(
    coordinates: np.ndarray,
    keyframe: Keyframe,
    camera: CameraView,
    image_size: tuple[int, int] | None,
) -> Projection:
    height, width = image_size or (camera.height, camera.width)
    rotation, translation = lidar_to_camera(keyframe, camera)
    depth = _affine(rotation[2], translation[2], coordinates)
    # Most points lie behind: the image plane's two coordinates are computed for the others alone.
    (deep,) = np.nonzero(depth > MIN_DEPTH)
    ahead = coordinates[:, deep]
    to_image, offset = camera.intrinsic @ rotation, camera.intrinsic @ translation
    scale = 1 / _affine(to_image[2], offset[2], ahead)
    u = _affine(to_image[0], offset[0], ahead) * scale
    v = _affine(to_image[1], offset[1], ahead) * scale
    uv = np.full((len(depth), 2), np.nan)
    uv[deep, 0], uv[deep, 1] = u, v
    visible = np.zeros(len(depth), bool)
    visible[deep] = (u > 0) & (u < width - 1) & (v > 0) & (v < height - 1)
    return Projection(uv, depth, visible)


def _affine(row: np.ndarray, offset: float, coordinates: np.ndarray) -> np.ndarray:
    # Not a matrix product: several workers that each start BLAS's threads hinder each other.
    x, y, z = coordinates
    return row[0] * x + row[1] * y + row[2] * z + offset


def lidar_to_camera(keyframe: Keyframe, camera: CameraView) -> tuple[np.ndarray, np.ndarray]:
    """float64[3, 3] R and float64[3] t: x -> R x + t from the LiDAR's frame to the camera's."""
    rotation, translation = np.eye(3), np.zeros(3)
    for pose in (keyframe.sensor_to_ego, keyframe.ego_to_global):
        rotation, translation = (
            pose.matrix @ rotation,
            pose.matrix @ translation + np.array(pose.translation),
        )
    for pose in (camera.ego_to_global, camera.sensor_to_ego):
        rotation, translation = (
            pose.matrix.T @ rotation,
            pose.matrix.T @ (translation - np.array(pose.translation)),
        )
    return rotation, translation


def points_seen(pairs: Pairs, num_points: int) -> np.ndarray:
    """bool[num_points]: whether a camera sees each point."""
    seen = np.zeros(num_points, bool)
    seen[pairs.point] = True
    return seen
