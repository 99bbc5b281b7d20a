"""A teacher without weights: SLIC superpixels described by colour, texture and shape.

It has no words. It serves class-agnostic pre-training in the way of SLidR, and takes real images
the whole way through the program without any download. Superpixels: Achanta et al., "SLIC
Superpixels Compared to State-of-the-Art Superpixel Methods", 2012; number and compactness as SLidR
uses them. Texture: histogram of gradient orientations (Dalal and Triggs, 2005) and uniform local
binary patterns (Ojala et al., 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from skimage.color import rgb2lab
from skimage.feature import local_binary_pattern
from skimage.segmentation import slic

from uov_jax.errors import InputError
from uov_jax.teachers.teacher import ImageMasks, TeacherOptions, require_rgb
from uov_jax.vocabulary import Vocabulary

NUM_SUPERPIXELS = 150  # typical result
NUM_SEEDS = 225  # of which some 150 remain once fragments are merged into their neighbours
COMPACTNESS = 6.0
REDUCTION = 2  # superpixels are found at half resolution: a quarter of the time
ORIENTATION_BINS = 9
PATTERN_BINS = 10  # rotation-invariant uniform patterns of 8 neighbours

# Blocks of the descriptor with their numbers of dimensions.
BLOCKS = {
    "colour_mean": 3,
    "colour_deviation": 3,
    "orientation": ORIENTATION_BINS,
    "gradient": 1,
    "pattern": PATTERN_BINS,
    "height": 2,
    "shape": 4,
}
EMBEDDING_SIZE = sum(BLOCKS.values())

# Measured over 900 superpixels of six street images, one per camera, and rounded.
TYPICAL = np.array(
    [
        *(45.0, -1.0, 0.8),
        *(5.7, 1.4, 1.9),
        *(0.33, 0.25, 0.27, 0.33, 0.45, 0.33, 0.28, 0.26, 0.30),
        0.6,
        *(0.17, 0.25, 0.19, 0.33, 0.41, 0.41, 0.28, 0.28, 0.35, 0.32),
        *(0.61, 0.0),
        *(-5.1, 0.6, 0.0, 0.0),
    ]
)
SPREAD = np.array(
    [
        *(19.0, 1.8, 4.5),
        *(4.6, 1.0, 1.4),
        *(0.13, 0.07, 0.08, 0.11, 0.15, 0.10, 0.09, 0.08, 0.13),
        0.65,
        *(0.044, 0.04, 0.054, 0.037, 0.098, 0.05, 0.04, 0.032, 0.11, 0.05),
        *(0.3, 0.73),
        *(0.43, 0.45, 0.64, 0.32),
    ]
)


class SlicTeacher:
    """About 150 superpixels an image, each with a descriptor of 32 standardised numbers.

    The vector is, in this order (see `describe`):

    - colour_mean (3), colour_deviation (3): mean and standard deviation of L*, a*, b*;
    - orientation (9): square roots of the shares of gradient orientations 0..180 degrees, by
      magnitude;
    - gradient (1): logarithm of the mean gradient magnitude of L*;
    - pattern (10): square roots of the shares of the uniform local binary patterns;
    - height (2): mean row in the image, as sine and cosine over half a turn. The column is left
      out: a sweep that is turned at random cannot tell where a camera looks;
    - shape (4): logarithms of area and of elongation, and elongation times the cosine and sine of
      twice the direction of the longer axis.

    Each number has its typical value over street images subtracted and is divided by its typical
    spread, so that vectors point in different directions; the loss divides them by their norm.
    """

    name = "slic"
    weights_hash = ""
    embedding_size = EMBEDDING_SIZE
    masks_per_image = NUM_SUPERPIXELS
    mask_bytes: int | None = 10_300  # two rows each are alike
    text_embeddings = None
    settings: ClassVar[dict[str, Any]] = {}

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3]; every pixel belongs to a superpixel."""
        require_rgb(images)
        return [self._segment(image) for image in images]

    def _segment(self, image: np.ndarray) -> ImageMasks:
        height, width = image.shape[:2]
        small = _reduce(image)
        lab = rgb2lab(small)
        found = slic(small, n_segments=NUM_SEEDS, compactness=COMPACTNESS, start_label=0)
        _, labels = np.unique(found, return_inverse=True)
        labels = labels.reshape(found.shape)
        raw = describe(lab, labels)
        masks = np.repeat(np.repeat(labels, REDUCTION, axis=0), REDUCTION, axis=1)
        return ImageMasks(
            masks=(masks[:height, :width] + 1).astype(np.uint16),
            words=np.full(len(raw), -1, np.int32),
            embeddings=((raw - TYPICAL) / SPREAD).astype(np.float32),
        )


def create(vocabulary: Vocabulary, options: TeacherOptions) -> SlicTeacher:
    """Make the teacher; it has no words, and runs on the CPU without weights.

    Raises:
        InputError: weights are given.

    """
    del vocabulary
    if options.weights:
        raise InputError(f"the teacher 'slic' has no weights, {options.weights[0]} given")
    return SlicTeacher()


def describe(lab: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[M, 32]: the descriptors before standardisation.

    Args:
        lab: float[h, w, 3], L*a*b* image.
        labels: int[h, w], superpixel 0..M-1 of every pixel, each with at least one pixel.

    """
    flat = labels.ravel()
    num = int(flat.max()) + 1
    area = np.bincount(flat, minlength=num).astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(flat, values.ravel(), num) / area

    def histogram(bins: np.ndarray, num_bins: int, weights: np.ndarray | None = None) -> np.ndarray:
        weight = None if weights is None else weights.ravel()
        counts = np.bincount(flat * num_bins + bins.ravel(), weight, num * num_bins)
        counts = counts.reshape(num, num_bins)
        # A flat superpixel has no orientation: all bins alike.
        return np.sqrt((counts + 1e-6) / (counts + 1e-6).sum(axis=1, keepdims=True))

    channels = [lab[..., i] for i in range(3)]
    means = [mean(channel) for channel in channels]
    deviations = [
        np.sqrt(np.maximum(mean(channel**2) - m**2, 0))
        for channel, m in zip(channels, means, strict=True)
    ]
    lightness = channels[0]
    around = np.pad(lightness, 1, mode="edge")
    along_y = (around[2:, 1:-1] - around[:-2, 1:-1]) / 2
    along_x = (around[1:-1, 2:] - around[1:-1, :-2]) / 2
    magnitude = np.hypot(along_x, along_y)
    turn = np.mod(np.arctan2(along_y, along_x), np.pi) / np.pi
    orientation = np.minimum((turn * ORIENTATION_BINS).astype(np.int64), ORIENTATION_BINS - 1)
    grey = np.clip(lightness * 2.55, 0, 255).astype(np.uint8)
    pattern = local_binary_pattern(grey, 8, 1, "uniform").astype(np.int64)
    return np.column_stack(
        [
            *means,
            *deviations,
            histogram(orientation, ORIENTATION_BINS, magnitude),
            np.log(mean(magnitude) + 0.1),
            histogram(pattern, PATTERN_BINS),
            *_height_and_shape(labels.shape, mean, area),
        ]
    )


def _height_and_shape(
    size: tuple[int, ...], mean: Callable[[np.ndarray], np.ndarray], area: np.ndarray
) -> list[np.ndarray]:
    row, column = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in size), indexing="ij")
    y, x = mean(row), mean(column)
    # Second moments; a pixel is not a point but a square, of moment 1/12.
    yy = mean(row**2) - y**2 + 1 / 12
    xx = mean(column**2) - x**2 + 1 / 12
    xy = mean(row * column) - x * y
    difference = np.hypot(xx - yy, 2 * xy)
    elongation = 0.5 * np.log((xx + yy + difference) / np.maximum(xx + yy - difference, 1e-3))
    direction = np.arctan2(2 * xy, xx - yy)  # twice the angle of the longer axis
    height = np.pi * (y + 0.5) / size[0]
    return [
        np.sin(height),
        np.cos(height),
        np.log(area / (size[0] * size[1])),
        elongation,
        elongation * np.cos(direction),
        elongation * np.sin(direction),
    ]


def _reduce(image: np.ndarray) -> np.ndarray:
    height, width = (-(-n // REDUCTION) * REDUCTION for n in image.shape[:2])
    padding = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    even = np.pad(image, padding, mode="edge").astype(np.float32)
    blocks = even.reshape(height // REDUCTION, REDUCTION, width // REDUCTION, REDUCTION, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
