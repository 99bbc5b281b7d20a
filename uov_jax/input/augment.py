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
from uov_jax.host import engine


def rotate_about_z(rng: np.random.Generator) -> tuple[float, float]:
    """Cosine and sine, of float32, of an angle uniform over the circle."""
    angle = rng.uniform(0, 2 * np.pi)
    return float(np.float32(np.cos(angle))), float(np.float32(np.sin(angle)))


def flip_axes(rng: np.random.Generator, probability: float = 0.5) -> tuple[float, float]:
    """The signs of x and of y after mirroring each with the given probability."""
    flipped = rng.random(2) < probability
    return -1.0 if flipped[0] else 1.0, -1.0 if flipped[1] else 1.0


def scale(rng: np.random.Generator, smallest: float, largest: float) -> float:
    """A factor uniform in [smallest, largest], of float32.

    Not part of the published recipes. Ground next to the car lies below the view of the cameras,
    where the rings are denser than anywhere the teacher sees; a shrunk sweep has such rings under
    the teacher's masks.
    """
    return float(np.float32(rng.uniform(smallest, largest)))


def move(
    points: np.ndarray,
    turn: tuple[float, float] | None = None,
    signs: tuple[float, float] = (1.0, 1.0),
    factor: float = 1.0,
) -> np.ndarray:
    """Points float32[N, 3] turned about z, mirrored, and scaled about the sensor, in this order.

    Args:
        points: float32[N, 3 or more].
        turn: of `rotate_about_z`, None for no turn.
        signs: of `flip_axes`.
        factor: of `scale`.

    """
    return engine().moved_points(points, turn, signs, factor)


def drop_cuboid(
    xyz: np.ndarray,
    pairs: Pairs,
    num_cameras: int,
    rng: np.random.Generator,
    largest_share: float = 0.2,
    fewest_pairs: int = 1024,
) -> tuple[np.ndarray | None, Pairs]:
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
        Rows kept int32[n], None for all, and the pairs kept, whose points are counted among them.

    """
    if not len(xyz):
        return None, pairs
    share = np.float32(rng.uniform(0, largest_share) / 2)
    half_sides = np.array(engine().extent(xyz), np.float32) * share
    rows = engine().outside_box(xyz, xyz[rng.integers(len(xyz))], half_sides)
    kept = Pairs(*engine().pairs_of_points(pairs, rows, len(xyz)))
    if np.bincount(kept.camera, minlength=num_cameras).min() < fewest_pairs:
        return None, pairs
    return rows, kept


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
    ends = np.searchsorted(pairs.camera, np.arange(len(image_sizes) + 1), "left")
    crops, windows = [], []
    for camera, image_size in enumerate(image_sizes):
        own = slice(ends[camera], ends[camera + 1])
        crop, window = _draw_accepted_crop(pairs.v[own], pairs.u[own], image_size, settings, rng)
        crops.append(crop)
        windows.append(window)
    kept = Pairs(*engine().pairs_inside(pairs, windows))
    if settings.at_small_pixel:
        kept = _at_small_pixels(kept, crops, settings.size)
    return kept, crops


def _at_small_pixels(pairs: Pairs, crops: list[Crop], size: tuple[int, int]) -> Pairs:
    """The pairs at the pixels of the full images that the small ones show for theirs."""
    v, u = np.empty_like(pairs.v), np.empty_like(pairs.u)
    for camera, crop in enumerate(crops):
        own = pairs.camera == camera
        row, column = small_pixels(pairs.select(own), crop, size)
        v[own] = crop.top + row * crop.height // size[0]
        u[own] = crop.left + column * crop.width // size[1]
    return pairs._replace(v=v, u=u)


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


Window = tuple[int, int, int, int]


def _draw_accepted_crop(
    v: np.ndarray,
    u: np.ndarray,
    image_size: tuple[int, int],
    settings: CropSettings,
    rng: np.random.Generator,
) -> tuple[Crop, Window]:
    """A crop that keeps enough of the pairs at rows v and columns u, and the window it keeps."""
    for _ in range(settings.attempts if len(v) else 0):
        crop = draw_crop(image_size, settings, rng)
        window = _window(crop, settings.size)
        count = engine().count_inside(v, u, window)
        if count > settings.enough_pairs or count > settings.enough_share * len(v):
            return crop, window
    whole = Crop(0, 0, *image_size)
    return whole, _window(whole, settings.size)


def _window(crop: Crop, size: tuple[int, int]) -> Window:
    """First and end of the rows, then of the columns, whose `small_pixels` lie in the small image.

    They leave out what rounds over the edge, and reach over the crop where its edge rounds inward.
    """
    return (
        *_span(crop.top, crop.height, size[0]),
        *_span(crop.left, crop.width, size[1]),
    )


def _span(first: int, length: int, pixels: int) -> tuple[int, int]:
    """The places from `first` on that fall into so many small pixels, and the end of them."""
    scale = pixels / length
    begin, end = first, first + length
    while round((begin - 1 - first) * scale) >= 0:
        begin -= 1
    while round((end - 1 - first) * scale) >= pixels:
        end -= 1
    return begin, end
