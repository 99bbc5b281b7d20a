"""Scores by distance from the sensor, and by whether a camera sees the point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix

EVERYWHERE, SEEN, UNSEEN = "all points", "seen", "unseen"
# Metres in the plane of the ground; the upper end belongs to the next band.
RANGES = {
    "0-10 m": (0.0, 10.0),
    "10-20 m": (10.0, 20.0),
    "20-40 m": (20.0, 40.0),
    "40+ m": (40.0, np.inf),
}
SUBSETS = (EVERYWHERE, *RANGES, SEEN, UNSEEN)


class SubsetScores:
    """One confusion matrix for all points and for each subset of them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start empty, over classes of which the first is ignored."""
        self.matrices = {subset: ConfusionMatrix(len(names), names) for subset in SUBSETS}

    @property
    def everywhere(self) -> ConfusionMatrix:
        """The matrix of all points."""
        return self.matrices[EVERYWHERE]

    @property
    def columns(self) -> dict[str, ConfusionMatrix]:
        """The matrix of all points, and those of the subsets that have any."""
        return {
            name: matrix
            for name, matrix in self.matrices.items()
            if matrix.points or name == EVERYWHERE
        }

    def add(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        points: np.ndarray,
        seen: np.ndarray | None = None,
    ) -> None:
        """Count the points of a sweep.

        Args:
            truth: uint8[N], classes, 0 for none.
            prediction: uint8[N]; 0 counts as a miss.
            points: float32[N, 2 or more], x and y in metres in the sensor's frame.
            seen: bool[N], whether a camera sees each point; None where that is not known.

        """
        self.everywhere.add(truth, prediction)
        distance = np.hypot(points[:, 0], points[:, 1])
        chosen = {
            name: (distance >= near) & (distance < far) for name, (near, far) in RANGES.items()
        }
        if seen is not None:
            chosen |= {SEEN: seen, UNSEEN: ~seen}
        for name, mask in chosen.items():
            self.matrices[name].add(truth[mask], prediction[mask])

    def counts(self) -> np.ndarray:
        """int64[subsets, C, C]: everything that was counted, for `restore`."""
        return np.stack([matrix.counts for matrix in self.matrices.values()])

    def restore(self, counts: np.ndarray) -> None:
        """Go on from what `counts` gave (ValueError for other classes)."""
        expected = (len(SUBSETS), *self.everywhere.counts.shape)
        if counts.shape != expected:
            raise ValueError(f"counts of shape {counts.shape}, expected {expected}")
        for matrix, counted in zip(self.matrices.values(), counts, strict=True):
            matrix.counts[:] = counted
