"""Augmentation of rooms: elastic distortion, flips and colours, as OpenScene and 3DSS-VLG have it.

Every function is pure: random numbers come from the generator or the arguments that it is given,
arrays are not changed in place. Colours are float32[N, 3], red, green and blue from 0 to 255.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

# (granularity, magnitude) in metres of the two passes of elastic distortion.
ELASTIC = ((0.2, 0.4), (0.8, 1.6))
# How often a room is distorted, flipped, and its colours shifted and jittered; and contrasted.
LIKELY, SELDOM = 0.95, 0.2
# Of colours: shares of 255, of the circle of hues, and of the saturation.
LARGEST_SHIFT, JITTER, LARGEST_HUE, LARGEST_SATURATION = 0.1, 0.05, 0.5, 0.2


@dataclasses.dataclass(frozen=True)
class RoomAugmentation:
    """Which augmentations training applies to a room.

    Attributes:
        rotate: rotation and scale, see `room_voxels.random_rotation`.
        elastic: `distort`.
        flip: `flip`.
        colors: `change_colors`.

    """

    rotate: bool = True
    elastic: bool = True
    flip: bool = True
    colors: bool = True


ALL_AUGMENTATIONS = RoomAugmentation()
NO_AUGMENTATION = RoomAugmentation(rotate=False, elastic=False, flip=False, colors=False)


def distort(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points float[N, 3] after both passes of elastic distortion, or as they are (1 in 20)."""
    if rng.random() >= LIKELY:
        return points
    for granularity, magnitude in ELASTIC:
        noise = rng.standard_normal(noise_shape(points, granularity), np.float32)
        points = elastic_distortion(points, noise, granularity, magnitude)
    return points


def noise_shape(points: np.ndarray, granularity: float) -> tuple[int, int, int, int]:
    """Nodes along each axis and 3: the shape of the noise that `elastic_distortion` takes."""
    nodes = (points.max(axis=0) - points.min(axis=0)) // granularity
    x, y, z = (int(number) + 3 for number in nodes)
    return x, y, z, 3


def elastic_distortion(
    points: np.ndarray, noise: np.ndarray, granularity: float, magnitude: float
) -> np.ndarray:
    """Move points by smooth noise (Simard et al. 2003, in three dimensions).

    Args:
        points: float[N, 3], metres.
        noise: float32[X, Y, Z, 3], normal numbers on a grid whose first node lies one granularity
            before the smallest coordinates; see `noise_shape`.
        granularity: metres between nodes.
        magnitude: metres of a noise of 1, before it is blurred.

    Returns:
        float64[N, 3].

    """
    smooth = noise
    for _ in range(2):
        for axis in range(3):
            smooth = ndimage.uniform_filter1d(smooth, 3, axis=axis, mode="constant")
    first = points.min(axis=0).astype(np.float64) - granularity
    return points + magnitude * _trilinear(smooth, (points - first) / granularity)


def _trilinear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float[N, 3]: values [X, Y, Z, 3] at places float64[N, 3], counted in nodes, all inside."""
    last = np.array(values.shape[:3]) - 2
    node = np.clip(places.astype(np.int32), 0, last.astype(np.int32))
    share = (places - node).astype(values.dtype)
    strides = np.array([values.shape[1] * values.shape[2], values.shape[2], 1], np.int32)
    flat = values.reshape(-1, 3)
    corner = node @ strides
    total = np.zeros((len(places), 3), values.dtype)
    for x in range(2):
        for y in range(2):
            for z in range(2):
                at = flat[corner + (x * strides[0] + y * strides[1] + z * strides[2])]
                weight = (
                    (share[:, 0] if x else 1 - share[:, 0])
                    * (share[:, 1] if y else 1 - share[:, 1])
                    * (share[:, 2] if z else 1 - share[:, 2])
                )
                total += weight[:, None] * at
    return total


def flip(coords: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Voxels int32[N, 3], x and y each mirrored within the cloud's own extent half of the time.

    Neither is in 1 of 20 rooms beside.
    """
    if rng.random() >= LIKELY:
        return coords
    flipped = coords.copy()
    for axis in np.flatnonzero(rng.random(2) < 0.5):
        flipped[:, axis] = coords[:, axis].max() - coords[:, axis]
    return flipped


def change_colors(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours float32[N, 3] with contrast, a shift, jitter, hue and saturation changed at random.

    The result is whole numbers, as in the reference, whose way back from hues is through bytes.
    """
    if rng.random() < SELDOM:
        colors = auto_contrast(colors, rng.random())
    if rng.random() < LIKELY:
        shift = rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 3).astype(np.float32)
        colors = np.clip(colors + 255 * shift, 0, 255)
    if rng.random() < LIKELY:
        noise = rng.standard_normal(colors.shape, np.float32)
        colors = np.clip(colors + np.float32(255 * JITTER) * noise, 0, 255)
    hue = rng.uniform(-LARGEST_HUE, LARGEST_HUE)
    saturation = 1 + rng.uniform(-LARGEST_SATURATION, LARGEST_SATURATION)
    return shift_hue_and_saturation(colors, hue, saturation)


def auto_contrast(colors: np.ndarray, blend: float) -> np.ndarray:
    """Colours with every channel stretched to 0..255, blended in by a share of 0 to 1."""
    low, high = colors.min(axis=0), colors.max(axis=0)
    # A channel of one value cannot be stretched.
    stretch = np.where(high > low, 255 / np.where(high > low, high - low, 1), 0)
    return colors + np.float32(blend) * ((colors - low) * stretch.astype(np.float32) - colors)


def shift_hue_and_saturation(colors: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    """Colours turned about the circle of hues by a share of it, saturation times a factor.

    Whole numbers, cut off downward; float32[N, 3].
    """
    red, green, blue = colors.T
    value, low = colors.max(axis=1), colors.min(axis=1)
    spread = value - low
    safe = np.where(spread > 0, spread, 1)
    # In sixths of the circle.
    angle = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    angle = (angle + np.float32(6 * hue)) % 6
    # Saturation times value.
    chroma = np.minimum(np.float32(saturation) * spread, value)
    changed = np.empty_like(colors)
    for channel, sixths in enumerate((5, 3, 1)):
        place = (angle + sixths) % 6
        changed[:, channel] = value - chroma * np.clip(np.minimum(place, 4 - place), 0, 1)
    return np.floor(np.clip(changed, 0, 255))
