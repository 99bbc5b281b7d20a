"""Dense features of one image, as teachers give them: a coarse grid, or a vector for every mask.

Neither is ever spread over the image's pixels: 768 numbers for each of 320 x 240 are 118 MB in half
precision, and a few thousand points look at them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np

from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError
from uov_jax.fusion.views import SeenPoints
from uov_jax.sparse.views import add_planes, add_rows

Resize = Literal["bilinear", "nearest"]


class ImageFeatures(Protocol):
    """Features of every pixel of an image, whatever they are made of."""

    def add_to(
        self, sums: np.ndarray, seen: SeenPoints, size: tuple[int, int], threads: int = 0
    ) -> np.ndarray:
        """Add to each seen point's sum the feature of its pixel.

        Args:
            sums: float32[N, D], added to in place.
            seen: the points, each once, and their pixels.
            size: height and width of the image.
            threads: at most; 0 takes all processors.

        Returns:
            int32[n]: rows of the points that got a feature; pixels may have none.

        Raises:
            InputError: features that are not finite, or of another length.

        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureGrid:
    """A feature for every cell of a grid over the image, at most one for every pixel.

    Attributes:
        planes: float16 or float32[D, h, w].
        resize: what a pixel between cells has: "bilinear", with half-pixel centres as PyTorch's
            `interpolate`, or the "nearest" cell, v * h // H.

    """

    planes: np.ndarray
    resize: Resize = "bilinear"

    def add_to(
        self, sums: np.ndarray, seen: SeenPoints, size: tuple[int, int], threads: int = 0
    ) -> np.ndarray:
        """See `ImageFeatures`."""
        _require_length(len(self.planes), sums)
        bilinear = self.resize == "bilinear" and self.planes.shape[1:] != tuple(size)
        with _refusing():
            add_planes(
                sums, seen.point, self.planes, seen.row, seen.column, size, bilinear, threads
            )
        return seen.point


@dataclasses.dataclass(frozen=True, eq=False)
class MaskFeatures:
    """A feature for every mask; a pixel has that of its mask.

    Attributes:
        masks: uint16[h, w], 0 = void, 1..M; of the image's size or coarser: pixel (v, u) reads
            masks[v * h // H, u * w // W].
        embeddings: float16 or float32[M, D], row i - 1 belongs to mask i.

    """

    masks: np.ndarray
    embeddings: np.ndarray

    def add_to(
        self, sums: np.ndarray, seen: SeenPoints, size: tuple[int, int], threads: int = 0
    ) -> np.ndarray:
        """See `ImageFeatures`; pixels of no mask have no feature."""
        _require_length(self.embeddings.shape[1], sums)
        (height, width), (rows, columns) = size, self.masks.shape
        mask = self.masks[seen.row * rows // height, seen.column * columns // width]
        described = mask > 0
        point = seen.point[described]
        with _refusing():
            index = mask[described].astype(np.int32) - np.int32(1)
            add_rows(sums, point, self.embeddings, index, threads)
        return point


class ImageTeacher(Protocol):
    """Who says the features of images.

    Attributes:
        name: such as "maskclip".
        weights_hash: sha256 of its weights, "" where it has none.
        embedding_size: D.
        settings: by name, those that change its features; kept with them.
        quick: whether asking again costs no more than reading a file.

    """

    name: str
    weights_hash: str
    embedding_size: int
    settings: dict[str, Any]
    quick: bool

    def load(self, frame: Frame) -> Any:
        """What `features` needs of a frame's files; called ahead, by other threads.

        Raises:
            MissingFileError, InputError: a file is missing, or cannot be used; names it.

        """
        ...

    def features(self, frame: Frame, loaded: Any) -> ImageFeatures:
        """The features of a frame's image, in half precision; called by one thread.

        Raises:
            InputError: the image cannot be used; names it.

        """
        ...


def _require_length(length: int, sums: np.ndarray) -> None:
    if length != sums.shape[1]:
        raise InputError(f"features of {length} numbers, expected {sums.shape[1]}")


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What the engine refuses as what a user reads."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error
