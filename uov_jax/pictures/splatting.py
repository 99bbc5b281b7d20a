"""Points as a camera sees them: splats with correct occlusion, and shading of their edges.

Every point is a disc that faces the camera and is about as large as the distance between
neighbouring points; a z-buffer keeps the nearest, and gaps that are left in surfaces are closed.
Edges are darkened by the difference in depth to the pixels around (eye-dome lighting, Boucheny
2009), which gives shape to surfaces of one colour.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from uov_jax.pictures.canvas import PAPER

SUPERSAMPLING = 2  # pixels a side that become one
LARGEST_SPLAT = 24  # pixels, before they are made smaller
_SAMPLE = 20_000  # points that the spacing is measured at
_EDGE_REACH = 2  # pixels, before they are made smaller
_EDGE_STRENGTH, _DEEPEST_EDGE, _DARKEST = 0.7, 0.4, 0.45  # per metre, metres, share
_NEAREST = 0.05  # metres; nearer points are behind the camera or on it


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A camera, for points in metres with z upward.

    Attributes:
        rotation: float64[3, 3], rows are right, down and ahead.
        position: float64[3], the eye; of a camera without perspective any point of the image plane.
        focal: pixels of the image a metre at distance 1, or a metre anywhere without perspective.
        centre: float[2], column and row of what lies ahead.
        perspective: whether what is far is small.

    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    centre: tuple[float, float]
    perspective: bool

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows float64[N, 2], and depths float64[N], of points float[N, 3]."""
        seen = (points - self.position) @ self.rotation.T
        depth = seen[:, 2]
        scale = np.full(len(points), self.focal)
        if self.perspective:
            scale = self.focal / np.maximum(depth, _NEAREST)
        return seen[:, :2] * scale[:, None] + self.centre, depth

    def enlarged(self, factor: float) -> Camera:
        """The camera of an image that is larger by a factor."""
        column, row = self.centre
        return dataclasses.replace(
            self, focal=self.focal * factor, centre=(column * factor, row * factor)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What a camera sees of points, whatever their colours.

    Attributes:
        point: int64[H, W], the nearest point at each pixel of a larger image, -1 for none.
        shade: float64[H, W], factor of each pixel's colour.

    """

    point: np.ndarray
    shade: np.ndarray

    def image(self, colors: np.ndarray) -> Image.Image:
        """The picture with colours uint8[N, 3], on white."""
        # A row behind the last one, for the pixels without a point (-1).
        table = np.concatenate([colors, [PAPER]]).astype(np.float64)
        large = table[self.point] * self.shade[:, :, None]
        height, width = (side // SUPERSAMPLING for side in self.point.shape)
        parts = large.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3)
        return Image.fromarray(np.round(parts.mean(axis=(1, 3))).astype(np.uint8))


def look(points: np.ndarray, camera: Camera, width: int, height: int, spacing: float) -> View:
    """Find the nearest point at every pixel.

    Args:
        points: float[N, 3], metres.
        camera: of an image of that size.
        width: of the image in pixels.
        height: of it.
        spacing: metres between points.

    """
    large = camera.enlarged(SUPERSAMPLING)
    size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    places, depth = large.project(points)
    chosen = np.flatnonzero(
        (depth > _NEAREST if camera.perspective else np.isfinite(depth))
        & (places > -LARGEST_SPLAT).all(axis=1)
        & (places < np.array(size[::-1]) + LARGEST_SPLAT).all(axis=1)
    )
    empty = np.full(size, -1, np.int64)
    if not len(chosen):
        return View(empty, np.ones(size))
    scale = large.focal / depth[chosen] if camera.perspective else large.focal
    radius = np.clip(0.5 + 0.8 * spacing * scale, 0.75, LARGEST_SPLAT)
    radius = np.broadcast_to(radius, chosen.shape)
    buffer = _z_buffer(places[chosen], depth[chosen], radius, size)
    covered = buffer != _FAR
    nearest = np.where(covered, (buffer & _LOW).astype(np.int64), 0)
    point = np.where(covered, chosen[nearest], -1)
    point = _without_holes(point, 2 * float(np.median(radius)))
    covered = point >= 0
    return View(point, _edges(np.where(covered, depth[point], np.inf), spacing))


_LOW, _FAR = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFF)


def _z_buffer(
    places: np.ndarray, depth: np.ndarray, radius: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """uint64[H, W]: rank of the nearest depth in the upper half, its number in the lower one."""
    height, width = size
    # Bits of non-negative float32 rise as the numbers do.
    rank = (depth - depth.min()).astype(np.float32).view(np.uint32).astype(np.uint64)
    key = (rank << np.uint64(32)) | np.arange(len(depth), dtype=np.uint64)
    column, row = np.round(places).astype(np.int64).T
    buffer = np.full(height * width, _FAR)
    reach = int(radius.max())
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            x, y = column + right, row + down
            inside = (radius >= np.hypot(down, right)) & (x >= 0) & (x < width)
            inside &= (y >= 0) & (y < height)
            np.minimum.at(buffer, y[inside] * width + x[inside], key[inside])
    return buffer.reshape(size)


def _without_holes(point: np.ndarray, radius: float) -> np.ndarray:
    """int64[H, W]: gaps narrower than twice the radius take the point of the nearest pixel.

    A closing (dilation, then erosion) by a disc, so that outlines stay where they are.
    """
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(point, margin, constant_values=-1)
    away, place = ndimage.distance_transform_edt(padded < 0, return_indices=True)
    closed = ndimage.distance_transform_edt(away <= radius) > radius
    filled = np.where(closed & (padded < 0), padded[tuple(place)], padded)
    return filled[margin:-margin, margin:-margin]


def _edges(depth: np.ndarray, spacing: float) -> np.ndarray:
    """float64[H, W]: below 1 where pixels around are nearer; depth is infinite where nothing is."""
    padded = np.pad(depth, _EDGE_REACH, mode="edge")
    behind = np.zeros(depth.shape)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        y, x = (_EDGE_REACH * (1 + step) for step in (down, right))
        around = padded[y : y + depth.shape[0], x : x + depth.shape[1]]
        with np.errstate(invalid="ignore"):  # nothing beside nothing
            step = np.nan_to_num(depth - around, nan=0.0)
        # Splats of one surface overlap, and are no edges.
        behind += np.clip(step - spacing, 0, _DEEPEST_EDGE)
    shade = np.maximum(np.exp(-_EDGE_STRENGTH * behind), _DARKEST)
    return np.where(np.isfinite(depth), shade, 1.0)


def spacing_of(points: np.ndarray) -> float:
    """Metres between neighbouring points: most have one within it; 0.01 for a single point."""
    if len(points) < 2:
        return 0.01
    some = points[:: max(1, len(points) // _SAMPLE)]
    distance, _ = cKDTree(points).query(some, k=min(4, len(points)))
    return float(np.percentile(distance[:, -1], 75)) or 0.01
