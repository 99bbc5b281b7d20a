"""Scores of networks, and of the teacher they learned from, against true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
# The column of the teacher's own labels, on the points that a camera sees; void is a miss.
TEACHER = "teacher, seen"


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


class Scores:
    """What sweeps were judged to be, one column a labelling, and how far networks agree with it.

    Attributes:
        names: of the classes, the first one ignored.
        columns: subsets of points by the names of the columns, `TEACHER` among them where a
            teacher's labels were judged.
        agreement: by column, the points with a teacher's label on which both agree, and all.
        labelled_sweeps: sweeps that had true labels.

    """

    def __init__(self, names: Sequence[str]) -> None:
        """No sweep yet."""
        self.names = tuple(names)
        self.columns: dict[str, SubsetScores] = {}
        self.agreement: dict[str, tuple[int, int]] = {}
        self.labelled_sweeps = 0

    def add(self, sample: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
        """Count a sweep.

        Args:
            sample: `points` float32[N, 2 or more], `truth` uint8[N] or None, `seen` bool[N] or
                None, `teacher_label` uint8[N] (0 for none) or None.
            columns: uint8[N], the classes of each labelling.

        """
        truth, teacher = sample["truth"], sample["teacher_label"]
        points, seen = sample["points"], sample["seen"]
        for name, classes in columns.items():
            self._column(name)
            if teacher is not None:
                labelled = teacher > 0
                equal = int(np.count_nonzero(classes[labelled] == teacher[labelled]))
                before = self.agreement.get(name, (0, 0))
                self.agreement[name] = (
                    before[0] + equal,
                    before[1] + int(np.count_nonzero(labelled)),
                )
            if truth is not None:
                self._column(name).add(truth, classes, points, seen)
        if truth is None:
            return
        self.labelled_sweeps += 1
        if seen is not None and teacher is not None:
            column = self._column(TEACHER)
            column.add(truth[seen], teacher[seen], points[seen], seen[seen])

    @property
    def judged(self) -> dict[str, SubsetScores]:
        """The columns with any point of a true class."""
        return {name: s for name, s in self.columns.items() if s.everywhere.points}

    def _column(self, name: str) -> SubsetScores:
        return self.columns.setdefault(name, SubsetScores(self.names))
