"""Scoring of a network on a validation split, beside the teacher it learned from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.data.nuscenes import Keyframe
from uov_jax.evaluation import tables
from uov_jax.evaluation.confusion import ConfusionMatrix

TABLE_STYLES: dict[str, tables.Style] = {"txt": "text", "md": "markdown", "csv": "csv"}


@dataclasses.dataclass
class NetworkScores:
    """Confusion matrices of a network, and of its teacher, against the true labels.

    Attributes:
      score: what metrics call the mean IoU of the network on all points.
      everywhere: the network, on all points.
      seen: the network, on the points that a camera sees.
      unseen: the network, on the points that no camera sees.
      teacher: the teacher's labels projected onto the points that a camera sees; void is a miss.
      agreement: of the points with a teacher's label, those on which both agree, and all.
      labelled_sweeps: sweeps that had true labels.

    """

    score: str
    everywhere: ConfusionMatrix
    seen: ConfusionMatrix
    unseen: ConfusionMatrix
    teacher: ConfusionMatrix
    agreement: tuple[int, int] = (0, 0)
    labelled_sweeps: int = 0

    @classmethod
    def empty(cls, names: Sequence[str], score: str) -> NetworkScores:
        """Scores of no sweep yet, over classes of which the first is ignored."""
        everywhere, seen, unseen, teacher = (ConfusionMatrix(len(names), names) for _ in range(4))
        return cls(score, everywhere, seen, unseen, teacher)

    def add(
        self,
        prediction: np.ndarray,
        truth: np.ndarray | None,
        teacher_label: np.ndarray | None = None,
        seen: np.ndarray | None = None,
    ) -> None:
        """Add one sweep: arrays [points] of evaluation classes, and bool `seen` by a camera.

        The teacher's label takes part where there is one, and the cameras where it is known what
        they see.
        """
        if teacher_label is not None:
            labelled = teacher_label > 0
            equal = int(np.count_nonzero(prediction[labelled] == teacher_label[labelled]))
            total = int(np.count_nonzero(labelled))
            self.agreement = (self.agreement[0] + equal, self.agreement[1] + total)
        if truth is None:
            return
        self.labelled_sweeps += 1
        self.everywhere.add(truth, prediction)
        if seen is None:
            return
        self.seen.add(truth[seen], prediction[seen])
        self.unseen.add(truth[~seen], prediction[~seen])
        if teacher_label is not None:
            self.teacher.add(truth[seen], teacher_label[seen])

    @property
    def columns(self) -> dict[str, ConfusionMatrix]:
        """The matrices that have points, by the names that the table gives them."""
        columns = {
            "network, all points": self.everywhere,
            "network, seen": self.seen,
            "network, unseen": self.unseen,
            "teacher, seen": self.teacher,
        }
        first = next(iter(columns))
        return {name: m for name, m in columns.items() if m.points or name == first}

    def metrics(self) -> dict[str, float]:
        """Mean IoUs where there were true labels, and the agreement with the teacher."""
        found = {}
        if self.agreement[1]:
            found["teacher_agreement"] = self.agreement[0] / self.agreement[1]
        if self.labelled_sweeps:
            matrices = {
                self.score: self.everywhere,
                f"{self.score}_seen": self.seen,
                f"{self.score}_unseen": self.unseen,
                "teacher_miou_seen": self.teacher,
            }
            # A mean over no class at all, as of unseen points where every point is seen.
            found |= {name: m.mean_iou() for name, m in matrices.items() if m.points}
        return found

    def summary(self) -> list[str]:
        """Two lines: the network beside the teacher, and where no camera looks."""
        scores = self.metrics()
        teacher = scores.get("teacher_miou_seen", 0.0)
        everywhere = scores.get(self.score, 0.0)
        seen, unseen = scores.get(f"{self.score}_seen"), scores.get(f"{self.score}_unseen")
        return [
            _share("On seen points", seen, teacher, "the teacher's mIoU"),
            _share("On unseen points", unseen, everywhere, "its mIoU on all points"),
        ]

    def write_tables(self, directory: Path, step: int) -> None:
        """Write the table of a step in every style."""
        folder = directory / "tables"
        folder.mkdir(exist_ok=True)
        for ending, style in TABLE_STYLES.items():
            table = tables.format_table(self.columns, style)
            (folder / f"step_{step:07d}.{ending}").write_text(table + "\n")


def _share(where: str, score: float | None, of: float, whose: str) -> str:
    if score is None or not of > 0:
        return f"{where} there is nothing to compare."
    return f"{where} the network has {score / of:.0%} of {whose}."


def picture_path(directory: Path, step: int, token: str) -> Path:
    """Where the bird's-eye picture of a keyframe at a step goes."""
    return directory / "pictures" / f"step_{step:07d}_{token}.png"


def evenly_spaced(items: Sequence[Any], number: int | None) -> list[Any]:
    """`number` of the items at equal distances, or all of them."""
    if number is None or number >= len(items):
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def prefetched(build: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """`build(item)` for every item in order, built ahead by threads; 0 builds as they are asked."""
    if not workers:
        yield from map(build, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Any]] = []
        try:
            for item in items:
                waiting.append(pool.submit(build, item))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def label_files(keyframe: Keyframe) -> list[Path | None]:
    """The true labels of a keyframe's sweep, for `require_files`."""
    return [keyframe.lidarseg_path]


def sha256(content: bytes) -> str:
    """What a run is bound to, as one short word."""
    return hashlib.sha256(content).hexdigest()
