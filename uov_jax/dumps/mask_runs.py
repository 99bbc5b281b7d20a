"""Run-length coded mask image: ids at given pixels without decoding the image."""

from __future__ import annotations

import dataclasses

import numpy as np

from uov_jax.host import engine


@dataclasses.dataclass(frozen=True, eq=False)
class MaskRuns:
    """An image of mask ids as runs of equal ids in row-major pixel order.

    Attributes:
        height, width: size of the image in pixels.
        start: int32[R], row-major number of each run's first pixel, ascending from 0.
        ids: uint16[R], the mask id of each run; 0 is void.

    """

    height: int
    width: int
    start: np.ndarray
    ids: np.ndarray

    @classmethod
    def from_image(cls, masks: np.ndarray) -> MaskRuns:
        """Code an integer image [H, W] of ids 0..65535; ValueError for anything else."""
        masks = np.asarray(masks)
        if masks.ndim != 2 or masks.size == 0 or masks.dtype.kind not in "ui":
            raise ValueError(
                f"a mask image is a non-empty integer array [H, W], found {masks.dtype} of shape "
                f"{masks.shape}"
            )
        if masks.dtype != np.uint16 and (masks.min() < 0 or masks.max() > 65535):
            raise ValueError(
                f"mask ids are 0..65535, found values from {masks.min()} to {masks.max()}"
            )
        flat = masks.ravel()
        start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]).astype(np.int32)
        height, width = masks.shape
        return cls(height, width, start, flat[start].astype(np.uint16))

    @classmethod
    def from_lengths(
        cls, height: int, width: int, lengths: np.ndarray, ids: np.ndarray
    ) -> MaskRuns:
        """Build from run lengths [R] and ids [R]; ValueError unless they fill the image exactly."""
        lengths = np.asarray(lengths, np.int64)
        start = engine().run_starts(lengths, height * width)
        if start is None or len(lengths) != len(ids):
            total = int(lengths.sum())
            raise ValueError(
                f"{len(lengths)} runs with {len(ids)} ids cover {total} pixels, expected non-empty "
                f"runs over the {height} x {width} = {height * width} pixels of the image"
            )
        return cls(height, width, start, np.asarray(ids, np.uint16))

    def split_longer_than(self, longest: int) -> MaskRuns:
        """The same image in runs of at most `longest` pixels."""
        lengths = self.lengths
        pieces = -(-lengths // longest)
        if pieces.max() == 1:
            return self
        number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = np.repeat(self.start, pieces) + (number * longest).astype(np.int32)
        return MaskRuns(self.height, self.width, start, np.repeat(self.ids, pieces))

    @property
    def lengths(self) -> np.ndarray:
        """int64[R]: pixels in each run."""
        return np.diff(self.start, append=self.height * self.width).astype(np.int64)

    @property
    def largest_id(self) -> int:
        """The largest id in the image."""
        return int(self.ids.max())

    def to_image(self) -> np.ndarray:
        """uint16[H, W]: the decoded image."""
        return np.repeat(self.ids, self.lengths).reshape(self.height, self.width)

    def lookup(self, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """uint16[n]: ids at integer rows v [n] and columns u [n]; ValueError outside the image."""
        v, u = np.asarray(v), np.asarray(u)
        if v.size == 0:
            return np.zeros(v.shape, np.uint16)
        if v.min() < 0 or u.min() < 0 or v.max() >= self.height or u.max() >= self.width:
            raise ValueError(
                f"pixel rows {v.min()}..{v.max()}, columns {u.min()}..{u.max()} leave the image of "
                f"{self.height} x {self.width} pixels"
            )
        return engine().look_up(self.numbers(0), v.astype(np.int32), u.astype(np.int32))

    def numbers(self, num_masks: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        """Runs, image and number of masks as the engine takes them."""
        return self.start, self.ids, self.height, self.width, num_masks

    def areas(self, num_masks: int) -> np.ndarray:
        """int64[num_masks + 1]: pixels of every id from 0 (void) to num_masks."""
        return np.bincount(self.ids, self.lengths, num_masks + 1).astype(np.int64)
