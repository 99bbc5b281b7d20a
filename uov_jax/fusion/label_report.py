"""What pseudo labels of rooms are worth: shares, purity against the truth, the filter's changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.datasets.rooms import RoomStore
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.purity import Purity
from uov_jax.evaluation.scoring import room_mean_iou
from uov_jax.evaluation.tables import text_table
from uov_jax.files import write_text
from uov_jax.fusion.pseudo_labels import PseudoLabelFolder

# So that it may stand beside the scores of networks and features, see `room_mean_iou`.
CONVENTION = "over the classes that the truth has; a point without a label is a miss"


class LabelReport:
    """Counts over the pseudo labels of rooms.

    Attributes:
        names: of all classes, the first one ignored.
        rooms: that were counted.
        judged: of them, those with true labels.
        points: of all rooms.
        labelled: int64[C], points by label.
        matrix: points with a truth by it and their label, 0 for a point without one.
        moves: int64[C, C], points with a feature by their label without the scene-level filter and
            with it.

    """

    def __init__(self, names: Sequence[str]) -> None:
        """Nothing is counted yet."""
        self.names = tuple(names)
        self.rooms = self.judged = self.points = 0
        self.labelled = np.zeros(len(names), np.int64)
        self.matrix = ConfusionMatrix(len(names), names)
        self.moves = np.zeros((len(names), len(names)), np.int64)

    def add(self, labels: np.ndarray, truth: np.ndarray | None, moves: np.ndarray) -> None:
        """Count a room: labels uint8[N], truth uint8[N] where it exists, moves int64[C, C]."""
        self.rooms += 1
        self.points += len(labels)
        self.labelled += np.bincount(labels, minlength=len(self.names))
        self.moves += moves
        if truth is not None:
            self.judged += 1
            self.matrix.add(truth, labels)

    @property
    def changed(self) -> int:
        """Points whose label the scene-level filter changed."""
        return int(self.moves.sum() - np.trace(self.moves))

    def content(self) -> dict[str, Any]:
        """Everything, as JSON takes it; None for a share of nothing."""
        purity = Purity(self.matrix)
        kept = np.diagonal(self.moves)
        left, came = self.moves.sum(axis=1) - kept, self.moves.sum(axis=0) - kept
        given = int(self.labelled[1:].sum())
        iou = self.matrix.iou()
        classes = {
            name: {
                "points": int(self.labelled[number]),
                "share": _share(self.labelled[number] / given if given else np.nan),
                "purity": _share(purity.purity[number - 1]),
                "right": _share(purity.right[number - 1]),
                "coverage": _share(purity.coverage[number - 1]),
                "iou": _share(iou[number - 1]),
                "taken_by_filter": int(left[number]),
                "given_by_filter": int(came[number]),
            }
            for number, name in enumerate(self.names)
            if number
        }
        return {
            "rooms": self.rooms,
            "rooms_with_truth": self.judged,
            "points": self.points,
            "labelled": given,
            "changed_by_filter": self.changed,
            "right": _share(purity.total_right),
            "coverage": _share(purity.total_coverage),
            "mean_iou": _share(room_mean_iou(self.matrix)),
            "mean_iou_convention": CONVENTION,
            "classes": classes,
        }

    def table(self) -> str:
        """A row a class, shares in percent; the filter's changes in points.

        The mean IoU below a class's own is that of `CONVENTION`, which the last line says.
        """
        content = self.content()
        head = ["class", "points", "share", "purity", "IoU", "filter took", "filter gave"]
        rows = [
            [
                name,
                f"{facts['points']:,}",
                *(_percent(facts[key]) for key in ("share", "purity", "iou")),
                f"{facts['taken_by_filter']:,}",
                f"{facts['given_by_filter']:,}",
            ]
            for name, facts in content["classes"].items()
        ]
        total = [
            "all",
            f"{content['labelled']:,}",
            _percent(1.0 if content["labelled"] else None),
            _percent(content["right"]),
            _percent(content["mean_iou"]),
            f"{self.changed:,}",
            f"{self.changed:,}",
        ]
        table = text_table([[head], rows, [total]])
        return f"{table}\nMean IoU {CONVENTION}." if self.judged else table

    def write(self, folder: Path) -> list[Path]:
        """Write `report.json`, `report.txt` and `confusion.csv`; returns the files."""
        texts = {"report.json": json.dumps(self.content(), indent=1), "report.txt": self.table()}
        if self.judged:
            texts["confusion.csv"] = self.matrix.to_csv()
        for name, text in texts.items():
            write_text(folder / name, text)
        return [folder / name for name in texts]


def report_of(store: RoomStore, folder: PseudoLabelFolder, rooms: Sequence[str]) -> LabelReport:
    """Read back the labels of rooms, so that the report is of what lies on the disk."""
    report = LabelReport(store.classes)
    for name in rooms:
        room = store.room(name)
        labels = folder.labels(name, len(room))
        report.add(labels, room.labels, folder.facts(name).moves)
    return report


def _share(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
