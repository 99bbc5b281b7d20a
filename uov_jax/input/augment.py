"""Augmentation of a sweep and of its point-pixel pairs, without looking at any pixel.

The transformations and their ranges are those of SLidR and UOV (`utils/transforms.py`), but for
`scale`. They come in the order rotation, flips, scale, cuboid, crop. The reference then mirrors
each image with probability 1/2; that needs no code here, since the mask ids move with the image and
so every pair keeps the mask it hits. Every function is pure: random numbers come from the generator
it is given, arrays are not changed in place.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from uov_jax.datasets.projection import Pairs


def rotate_about_z(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn points float32[N, 3] about z by an angle uniform over the circle."""
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)
    return xyz @ rotation.T


def flip_axes(xyz: np.ndarray, rng: np.random.Generator, probability: float = 0.5) -> np.ndarray:
    """Mirror points float32[N, 3] in x and in y, each with the given probability."""
    signs = np.ones(3, np.float32)
    signs[:2] = np.where(rng.random(2) < probability, -1, 1)
    return xyz * signs


def scale(xyz: np.ndarray, rng: np.random.Generator, smallest: float, largest: float) -> np.ndarray:
    """Scale points float32[N, 3] about the sensor by a factor uniform in [smallest, largest].

    Not part of the published recipes. Ground next to the car lies below the view of the cameras,
    where the rings are denser than anywhere the teacher sees; a shrunk sweep has such rings under
    the teacher's masks.
    """
    return xyz * np.float32(rng.uniform(smallest, largest))


def drop_cuboid(
    xyz: np.ndarray,
    pairs: Pairs,
    num_cameras: int,
    rng: np.random.Generator,
    largest_share: float = 0.2,
    fewest_pairs: int = 1024,
) -> tuple[np.ndarray, Pairs]:
    """Drop the points inside one random axis-aligned cuboid, and their pairs.

    Its sides are one random share, uniform up to `largest_share`, of the cloud's extent, and its
    centre is a random point.

    Args:
        xyz: float32[N, 3].
        pairs: of these points.
        num_cameras: cameras of the keyframe.
        rng: random numbers.
        largest_share: of the extent along each axis.
        fewest_pairs: nothing is dropped where any camera would keep fewer pairs than this.

    Returns:
        Rows kept int32[n] and the pairs kept, which count points among the rows kept.

    """
    everything = np.arange(len(xyz), dtype=np.int32)
    if not len(xyz):
        return everything, pairs
    half_side = np.ptp(xyz, axis=0) * np.float32(rng.uniform(0, largest_share) / 2)
    centre = xyz[rng.integers(len(xyz))]
    kept = ~(np.abs(xyz - centre) < half_side).all(axis=1)
    kept_pairs = pairs.select(kept[pairs.point])
    per_camera = np.bincount(kept_pairs.camera, minlength=num_cameras)
    if per_camera.min() < fewest_pairs:
        return everything, pairs
    new_row = np.cumsum(kept, dtype=np.int32) - 1
    return everything[kept], kept_pairs._replace(point=new_row[kept_pairs.point])


@dataclasses.dataclass(frozen=True)
class CropSettings:
    """Random resized crop of the images, as torchvision's `RandomResizedCrop` draws it.

    Attributes:
        size: height and width after resizing, in pixels.
        area: smallest and largest share of the image's area.
        aspect: smallest and largest width / height; the logarithm is uniform.
        enough_pairs: a crop is taken when more pairs than this lie in it,
        enough_share: or more than this share of the camera's pairs.
        attempts: crops drawn before the whole image is taken instead. The reference draws without
            end, and so never returns on a camera without pairs.
        at_small_pixel: look mask ids up where the reference does, see `crop_images`.

    """

    size: tuple[int, int] = (224, 416)
    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (14 / 9, 17 / 9)
    enough_pairs: int = 1024
    enough_share: float = 0.75
    attempts: int = 50
    at_small_pixel: bool = False


@dataclasses.dataclass(frozen=True)
class Crop:
    """A rectangle of the image in pixels: first row, first column, height, width."""

    top: int
    left: int
    height: int
    width: int


def crop_images(
    pairs: Pairs,
    image_sizes: list[tuple[int, int]],
    settings: CropSettings,
    rng: np.random.Generator,
) -> tuple[Pairs, list[Crop]]:
    """Draw one crop per camera and drop the pairs outside.

    The reference resizes the cropped image and mask map to `settings.size`, moves each pair to the
    pixel a = round((v - top) * size / height) of the small image, keeps it if that is inside, and
    reads the small mask map there, which nearest-neighbour resizing filled from the row
    top + floor(a * height / size) of the full one. All of this needs positions only. By default a
    kept pair is looked up at its own pixel of the full mask map, as the published method means it;
    with `settings.at_small_pixel` at the pixel the reference's rounding leads to, up to four pixels
    away.

    Args:
        pairs: pairs with positions in the full images.
        image_sizes: height and width of every camera's image.
        settings: of the crop.
        rng: random numbers.

    Returns:
        The pairs kept, their v and u again in the full images, and the crop of every camera.

    """
    kept_pairs, crops = [], []
    for camera, image_size in enumerate(image_sizes):
        own = pairs.select(pairs.camera == camera)
        crop, inside = _draw_accepted_crop(own, image_size, settings, rng)
        own = own.select(inside)
        if settings.at_small_pixel:
            row, column = small_pixels(own, crop, settings.size)
            v = crop.top + row * crop.height // settings.size[0]
            u = crop.left + column * crop.width // settings.size[1]
            own = own._replace(v=v, u=u)
        kept_pairs.append(own)
        crops.append(crop)
    if not kept_pairs:
        return pairs, crops
    columns = zip(*kept_pairs, strict=True)
    return Pairs(*(np.concatenate(column) for column in columns)), crops


def small_pixels(pairs: Pairs, crop: Crop, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """int32[P], int32[P]: row and column of pairs in the cropped image resized to `size`.

    They lie outside of it for pairs outside of the crop, and for those that round over its edge.
    """
    row = np.round((pairs.v - crop.top) * (size[0] / crop.height)).astype(np.int32)
    column = np.round((pairs.u - crop.left) * (size[1] / crop.width)).astype(np.int32)
    return row, column


def draw_crop(
    image_size: tuple[int, int], settings: CropSettings, rng: np.random.Generator
) -> Crop:
    """Draw a rectangle of random area and aspect inside the image.

    Ten draws that do not fit lead to the largest centred rectangle within the range of aspects,
    like torchvision's `RandomResizedCrop.get_params`.
    """
    image_height, image_width = image_size
    for _ in range(10):
        area = image_height * image_width * rng.uniform(*settings.area)
        aspect = math.exp(rng.uniform(math.log(settings.aspect[0]), math.log(settings.aspect[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            top = int(rng.integers(image_height - height + 1))
            left = int(rng.integers(image_width - width + 1))
            return Crop(top, left, height, width)
    aspect = min(max(image_width / image_height, settings.aspect[0]), settings.aspect[1])
    width = min(image_width, round(image_height * aspect))
    height = min(image_height, round(image_width / aspect))
    return Crop((image_height - height) // 2, (image_width - width) // 2, height, width)


def _draw_accepted_crop(
    pairs: Pairs, image_size: tuple[int, int], settings: CropSettings, rng: np.random.Generator
) -> tuple[Crop, np.ndarray]:
    num_pairs = len(pairs.point)
    for _ in range(settings.attempts if num_pairs else 0):
        crop = draw_crop(image_size, settings, rng)
        inside = _inside(pairs, crop, settings.size)
        count = np.count_nonzero(inside)
        if count > settings.enough_pairs or count > settings.enough_share * num_pairs:
            return crop, inside
    whole = Crop(0, 0, *image_size)
    return whole, _inside(pairs, whole, settings.size)


def _inside(pairs: Pairs, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    row, column = small_pixels(pairs, crop, size)
    return (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
