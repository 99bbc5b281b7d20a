"""How far pseudo labels agree with true labels: coverage and purity, overall and per class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix

COLUMNS = ("class", "points", "coverage", "right", "purity", "IoU")


class Purity:
    """Shares read off a confusion matrix of true classes and pseudo labels (0: none).

    Attributes:
        matrix: the counts.
        coverage: float64[C - 1], share of a true class's points that have a pseudo label.
        right: float64[C - 1], share of these points whose pseudo label is right.
        purity: float64[C - 1], share of the points with a pseudo label of the class, and a true
            one of any, that are of the class.

    All are NaN where there is no such point.

    """

    def __init__(self, matrix: ConfusionMatrix) -> None:
        self.matrix = matrix
        counts = matrix.counts[1:]
        labelled = counts[:, 1:]
        right = np.diagonal(labelled)
        with np.errstate(invalid="ignore"):
            self.coverage = labelled.sum(axis=1) / counts.sum(axis=1)
            self.right = right / labelled.sum(axis=1)
            self.purity = right / labelled.sum(axis=0)

    @property
    def total_coverage(self) -> float:
        """Share of the points with a true class that have a pseudo label; NaN without any."""
        labelled = int(self.matrix.counts[1:, 1:].sum())
        return labelled / self.matrix.points if self.matrix.points else float("nan")

    @property
    def total_right(self) -> float:
        """Share of the points with both labels on which they agree; NaN without any."""
        labelled = int(self.matrix.counts[1:, 1:].sum())
        return int(np.trace(self.matrix.counts)) / labelled if labelled else float("nan")

    def table(self) -> str:
        """Aligned text, shares in percent."""
        rows = [
            [name, f"{points:,}", *map(_percent, shares)] for name, points, *shares in self.rows()
        ]
        width = max(len(row[0]) for row in [list(COLUMNS), *rows])
        count = max(len(row[1]) for row in [list(COLUMNS), *rows])

        def line(row: list[str]) -> str:
            numbers = (row[1].rjust(count), *(share.rjust(8) for share in row[2:]))
            return "  ".join((row[0].ljust(width), *numbers))

        rule = "-" * len(line(list(COLUMNS)))
        return "\n".join([line(list(COLUMNS)), rule, *map(line, rows[:-1]), rule, line(rows[-1])])

    def to_csv(self) -> str:
        """The same rows with shares as fractions in full precision, empty where undefined."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, points, *shares in self.rows():
            cells = ("" if np.isnan(share) else repr(float(share)) for share in shares)
            writer.writerow([name, points, *cells])
        return text.getvalue()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """(name, points, coverage, right, purity, IoU) of every class, then of all."""
        matrix = self.matrix
        points = matrix.counts[1:].sum(axis=1)
        columns = (points, self.coverage, self.right, self.purity, matrix.iou())
        yield from zip(matrix.names[1:], *(column.tolist() for column in columns), strict=True)
        right = self.total_right
        yield "all", matrix.points, self.total_coverage, right, right, matrix.mean_iou()


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"
