"""Scores of networks, and of the teacher they learned from, against true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.scoring import EVERYWHERE, SWEEPS, Scoring

# The column of the teacher's own labels, on the points that a camera sees; void is a miss.
TEACHER = "teacher, seen"


class SubsetScores:
    """One confusion matrix for all points and for each subset of them."""

    def __init__(self, names: Sequence[str], scoring: Scoring = SWEEPS) -> None:
        """Start empty, over classes of which the first is ignored; `scoring` has the subsets."""
        self.matrices = {subset: ConfusionMatrix(len(names), names) for subset in scoring.subsets}

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
        self, truth: np.ndarray, prediction: np.ndarray, masks: Mapping[str, np.ndarray]
    ) -> None:
        """Count the points of a sweep.

        Args:
            truth: uint8[N], classes, 0 for none.
            prediction: uint8[N]; 0 counts as a miss.
            masks: bool[N] by name, those of `Scoring.masks`.

        """
        self.everywhere.add(truth, prediction)
        for name, mask in masks.items():
            self.matrices[name].add(truth[mask], prediction[mask])

    def counts(self) -> np.ndarray:
        """int64[subsets, C, C]: everything that was counted, for `restore`."""
        return np.stack([matrix.counts for matrix in self.matrices.values()])

    def restore(self, counts: np.ndarray) -> None:
        """Go on from what `counts` gave (ValueError for other classes)."""
        expected = (len(self.matrices), *self.everywhere.counts.shape)
        if counts.shape != expected:
            raise ValueError(f"counts of shape {counts.shape}, expected {expected}")
        for matrix, counted in zip(self.matrices.values(), counts, strict=True):
            matrix.counts[:] = counted


class Scores:
    """What sweeps were judged to be, one column a labelling, and how far networks agree with it.

    Attributes:
        names: of the classes, the first one ignored.
        scoring: which subsets of points there are, and which means.
        columns: subsets of points by the names of the columns, `TEACHER` among them where a
            teacher's labels were judged.
        agreement: by column, the points with a teacher's label on which both agree, and all.
        labelled_sweeps: sweeps that had true labels.

    """

    def __init__(self, names: Sequence[str], scoring: Scoring = SWEEPS) -> None:
        """No sweep yet."""
        self.names, self.scoring = tuple(names), scoring
        self.columns: dict[str, SubsetScores] = {}
        self.agreement: dict[str, tuple[int, int]] = {}
        self.labelled_sweeps = 0

    def add(self, sample: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
        """Count a sweep.

        Args:
            sample: `truth` uint8[N] or None, `seen` bool[N] or None, `teacher_label` uint8[N] (0
                for none) or None, and what `Scoring.masks` asks for.
            columns: uint8[N], the classes of each labelling.

        """
        truth, teacher = sample["truth"], sample["teacher_label"]
        seen = sample["seen"]
        masks = {} if truth is None else self.scoring.masks(sample)
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
                self._column(name).add(truth, classes, masks)
        if truth is None:
            return
        self.labelled_sweeps += 1
        if seen is not None and teacher is not None:
            own = {name: mask[seen] for name, mask in masks.items()}
            self._column(TEACHER).add(truth[seen], teacher[seen], own)

    def counted(self) -> dict[str, Any]:
        """Everything that was counted, as plain values for `add_counted`."""
        return {
            "labelled_sweeps": self.labelled_sweeps,
            "agreement": self.agreement,
            "columns": {name: subsets.counts().tolist() for name, subsets in self.columns.items()},
        }

    def add_counted(self, counted: Mapping[str, Any]) -> None:
        """Add what others of the same classes have counted, as `counted` gives it."""
        self.labelled_sweeps += counted["labelled_sweeps"]
        for name, (equal, total) in counted["agreement"].items():
            before = self.agreement.get(name, (0, 0))
            self.agreement[name] = (before[0] + equal, before[1] + total)
        for name, counts in counted["columns"].items():
            column = self._column(name)
            column.restore(column.counts() + np.array(counts, np.int64))

    def clear(self) -> None:
        """Forget everything."""
        self.columns, self.agreement, self.labelled_sweeps = {}, {}, 0

    @property
    def judged(self) -> dict[str, SubsetScores]:
        """The columns with any point of a true class."""
        return {name: s for name, s in self.columns.items() if s.everywhere.points}

    def empty_column(self) -> SubsetScores:
        """A column that nothing was counted in."""
        return SubsetScores(self.names, self.scoring)

    def _column(self, name: str) -> SubsetScores:
        return self.columns.setdefault(name, self.empty_column())
