"""From coarse maps to regions of an image: a word for every pixel, an embedding for every region.

Maps of a network are resized to the image bilinearly (half-pixel centres, as PyTorch's
`interpolate` with `align_corners=False`) and never stored at that size for all words, or all
embedding dimensions, at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import label

from uov_jax.teachers.teacher import ImageMasks


class Resizing(NamedTuple):
    """How a map becomes the image: resized to `size`, of which the upper left `image` is kept.

    Both are (height, width) in pixels; they differ where the network saw a padded image.
    """

    size: tuple[int, int]
    image: tuple[int, int]


def best_words(scores: torch.Tensor, resizing: Resizing, words_at_once: int) -> torch.Tensor:
    """Number of the word with the highest resized score at every pixel; the first of equal ones.

    Args:
        scores: float [words, h, w].
        resizing: to the image.
        words_at_once: how many words are resized together.

    Returns:
        int64 [height, width].

    """
    best = scores.new_full(resizing.image, -torch.inf)
    words = torch.zeros(resizing.image, dtype=torch.int64, device=scores.device)
    for first in range(0, len(scores), words_at_once):
        part = resized(scores[first : first + words_at_once], resizing)
        value, word = part.max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        words = torch.where(better, word + first, words)
    return words


def resized(maps: torch.Tensor, resizing: Resizing) -> torch.Tensor:
    """Float [n, h, w] as the image, [n, height, width]."""
    full = F.interpolate(maps[None], size=resizing.size, mode="bilinear", align_corners=False)[0]
    return full[:, : resizing.image[0], : resizing.image[1]]


def segment_by_word(
    words: np.ndarray, features: np.ndarray, resizing: Resizing, *, connected: bool = False
) -> ImageMasks:
    """One mask for every word that occurs, with the embedding of its region.

    Args:
        words: int [height, width], word of every pixel.
        features: float32 [D, h, w], resized to the image like the scores that gave the words.
        resizing: see features.
        connected: a mask for every connected region of a word (of eight neighbours) instead.

    Returns:
        Masks in ascending order of their words (of their first pixels if connected); embeddings
        are the sums of the resized features over the mask, with unit norm.

    """
    if connected:
        masks = label(words, background=-1, connectivity=2)
        _, first = np.unique(masks, return_index=True)
        found = words.ravel()[first]
    else:
        found, masks = np.unique(words, return_inverse=True)
        masks = masks.reshape(words.shape) + 1
    sums = region_sums(masks, len(found), features, resizing.size)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return ImageMasks(
        masks=masks.astype(np.uint16),
        words=found.astype(np.int32),
        embeddings=(sums / np.maximum(norms, 1e-12)).astype(np.float32),
    )


def region_sums(
    masks: np.ndarray, count: int, features: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Sums of resized features over masks, without resizing them.

    Every pixel adds its four interpolation weights to its mask's weights of the coarse cells; the
    sums are those weights times the cells.

    Args:
        masks: int [height, width], 0 for none, 1..count.
        count: number of masks.
        features: float [D, h, w].
        size: (height, width) to which the features are resized; at least that of the masks.

    Returns:
        float64 [count, D].

    """
    height, width = features.shape[1:]
    rows = _taps(height, size[0], masks.shape[0])
    columns = _taps(width, size[1], masks.shape[1])
    weights = np.zeros((count + 1) * height * width)
    for row, row_weight in rows:
        for column, column_weight in columns:
            cell = (masks * height + row[:, None]) * width + column
            weight = row_weight[:, None] * column_weight
            weights += np.bincount(cell.ravel(), weight.ravel(), len(weights))
    cells = features.reshape(len(features), -1).astype(np.float64)
    return weights.reshape(count + 1, -1)[1:] @ cells.T


def _taps(cells: int, size: int, kept: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two cells (int64) under each of the first `kept` of `size` places, and their weights."""
    place = np.maximum((np.arange(kept) + 0.5) * cells / size - 0.5, 0)
    lower = np.minimum(place.astype(np.int64), cells - 1)
    upper = np.minimum(lower + 1, cells - 1)
    share = place - lower
    return [(lower, 1 - share), (upper, share)]
