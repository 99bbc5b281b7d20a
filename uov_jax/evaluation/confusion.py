"""Confusion matrix over points and the scores read off it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np

Absent = Literal["exclude", "one", "zero", "untrue"]
Void = Literal["miss", "drop"]


class ConfusionMatrix:
    """Counts of (truth, prediction) over points; class 0 is the ignored one.

    The metric of SLidR and UOV (`utils/metrics.py`): points whose truth is 0 take no part; a
    prediction of 0 where the truth is not counts as a miss of the true class.
    """

    def __init__(self, num_classes: int = 17, names: Sequence[str] | None = None) -> None:
        """Start empty.

        Args:
            num_classes: classes with the ignored one, at least 2.
            names: of all classes, the ignored one first; None numbers them.

        Raises:
            ValueError: fewer than 2 classes, or as many names as classes are not given.

        """
        if num_classes < 2:
            raise ValueError(
                f"num_classes counts the ignored class too: at least 2, not {num_classes}"
            )
        self.num_classes = num_classes
        self.names = class_names(num_classes, names)
        self.counts = np.zeros((num_classes, num_classes), np.int64)
        """int64 [C, C]: truth by prediction, the row of truth 0 empty."""

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count points: integers [N] each, below the number of classes.

        Raises:
            ValueError: the shapes differ, or a class is out of range; names the first such point.

        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.ndim != 1 or truth.shape != prediction.shape:
            raise ValueError(
                f"truth {truth.shape} and prediction {prediction.shape} must be one class per point"
            )
        _require_classes("truth", truth, self.num_classes)
        _require_classes("prediction", prediction, self.num_classes)
        labelled = truth > 0
        pairs = truth[labelled].astype(np.int64) * self.num_classes + prediction[labelled]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix over the same classes (ValueError otherwise)."""
        if other.names != self.names:
            raise ValueError(f"matrices over different classes: {self.names} and {other.names}")
        self.counts += other.counts

    @property
    def points(self) -> int:
        """Number of points with a truth."""
        return int(self.counts.sum())

    def iou(self, void: Void = "miss") -> np.ndarray:
        """Intersection over union of classes 1.., float64 [C - 1]; NaN where the union is empty.

        Args:
            void: what a prediction of class 0 is: a "miss" of the true class, or a reason to "drop"
                the point.

        """
        if void not in ("miss", "drop"):
            raise ValueError(f"void must be 'miss' or 'drop', not {void!r}")
        counts = self.counts if void == "miss" else self.counts[1:, 1:]
        intersection = np.diagonal(counts)
        union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
        with np.errstate(invalid="ignore"):
            return (intersection / union)[1 if void == "miss" else 0 :]

    def mean_iou(self, absent: Absent = "exclude", void: Void = "miss") -> float:
        """Mean over classes of the IoU.

        Args:
            absent: what a class is worth that is neither in the truth nor predicted: "exclude"
                leaves it out; "one" counts it as right, as UOV's code does (it lifts the score on
                small sets); "zero" counts it as wrong, as OpenScene's and 3DSS-VLG's do; "untrue"
                leaves out every class that is not in the truth, also one that is predicted.
            void: as for `iou`.

        Returns:
            NaN if no class is left.

        """
        if absent not in ("exclude", "one", "zero", "untrue"):
            raise ValueError(f"absent must be 'exclude', 'one', 'zero' or 'untrue', not {absent!r}")
        iou = self.iou(void)
        if absent in ("one", "zero"):
            return _mean(np.nan_to_num(iou, nan=float(absent == "one")))
        chosen = ~np.isnan(iou)
        if absent == "untrue":
            chosen &= self.counts[1:].sum(axis=1) > 0
        return float(iou[chosen].mean()) if chosen.any() else float("nan")

    def recall(self) -> np.ndarray:
        """Share of the points of classes 1.. predicted right, float64 [C - 1]; NaN without any."""
        with np.errstate(invalid="ignore"):
            return (np.diagonal(self.counts) / self.counts.sum(axis=1))[1:]

    def mean_accuracy(self, absent: Literal["exclude", "zero"] = "exclude") -> float:
        """Mean over classes of `recall`; a prediction of class 0 is a miss.

        Args:
            absent: what a class is worth that is not in the truth: "exclude" leaves it out, "zero"
                counts it as wrong, as OpenScene's and 3DSS-VLG's code does.

        Returns:
            NaN if "exclude" leaves no class.

        """
        if absent not in ("exclude", "zero"):
            raise ValueError(f"absent must be 'exclude' or 'zero', not {absent!r}")
        recall = self.recall()
        if absent == "zero":
            return _mean(np.nan_to_num(recall, nan=0.0))
        there = recall[~np.isnan(recall)]
        return float(there.mean()) if len(there) else float("nan")

    def frequency_weighted_iou(self) -> float:
        """Sum of intersections over sum of unions, the reference's "fwIoU"; NaN without points."""
        right, total = int(np.trace(self.counts)), self.points
        return right / (2 * total - right) if total else float("nan")

    def accuracy(self) -> float:
        """Share of points predicted right; NaN without points."""
        return float(np.trace(self.counts) / self.points) if self.points else float("nan")

    def to_csv(self) -> str:
        """The counts as CSV: a row per true class 1.., a column per predicted class 0.. ."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["truth", *self.names])
        for name, row in zip(self.names[1:], self.counts[1:].tolist(), strict=True):
            table.writerow([name, *row])
        return text.getvalue()


def class_names(num_classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """The given names of all classes, or numbers; ValueError if there are not as many."""
    if names is None:
        return ("ignore", *(f"class {index}" for index in range(1, num_classes)))
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} names for {num_classes} classes (the ignored one included)")
    return tuple(names)


def _mean(values: np.ndarray) -> float:
    """The mean, summed one after the other as the references do, to the last bit."""
    return float(np.cumsum(values)[-1] / len(values))


def _require_classes(what: str, labels: np.ndarray, num_classes: int) -> None:
    if labels.size and labels.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers, found {labels.dtype}")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f"{what} of point {wrong[0]} is {labels[wrong[0]]}, "
            f"expected a class below {num_classes} ({len(wrong)} such points)"
        )
