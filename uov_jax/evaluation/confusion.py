"""Confusion matrix over points and the scores read off it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np


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

    def iou(self) -> np.ndarray:
        """Intersection over union of classes 1.., float64 [C - 1]; NaN where the union is empty."""
        intersection = np.diagonal(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - intersection
        with np.errstate(invalid="ignore"):
            return (intersection / union)[1:]

    def mean_iou(self, absent: Literal["exclude", "one"] = "exclude") -> float:
        """Mean over classes of the IoU.

        Args:
            absent: what a class is worth that is neither in the truth nor predicted: "exclude"
                leaves it out; "one" counts it as right, as the reference does (it lifts the score
                on small sets).

        Returns:
            NaN if "exclude" leaves no class.

        """
        if absent not in ("exclude", "one"):
            raise ValueError(f"absent must be 'exclude' or 'one', not {absent!r}")
        iou = self.iou()
        if absent == "one":
            return float(np.nan_to_num(iou, nan=1.0).mean())
        present = iou[~np.isnan(iou)]
        return float(present.mean()) if len(present) else float("nan")

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


def _require_classes(what: str, labels: np.ndarray, num_classes: int) -> None:
    if labels.size and labels.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers, found {labels.dtype}")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f"{what} of point {wrong[0]} is {labels[wrong[0]]}, "
            f"expected a class below {num_classes} ({len(wrong)} such points)"
        )
