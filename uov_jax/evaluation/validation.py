"""The scores of the one network in training, beside the teacher it learned from."""

from __future__ import annotations

from pathlib import Path

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.score_files import write_table
from uov_jax.evaluation.scores import TEACHER, Scores
from uov_jax.evaluation.scoring import SEEN, UNSEEN

NETWORK = "network"  # the column that is judged


class ValidationScores:
    """`Scores` of the column `NETWORK`, as metrics, a table and two sentences."""

    def __init__(self, scores: Scores, metric: str) -> None:
        """Read them; `metric` is what the network's mean IoU on all points is called."""
        empty = scores.empty_column()
        network = scores.columns.get(NETWORK, empty)
        self._agreement = scores.agreement.get(NETWORK, (0, 0))
        self._labelled = bool(scores.labelled_sweeps)
        self.metric = metric
        self.everywhere: ConfusionMatrix = network.everywhere
        self.seen, self.unseen = network.matrices[SEEN], network.matrices[UNSEEN]
        self.teacher = scores.columns.get(TEACHER, empty).everywhere

    @property
    def columns(self) -> dict[str, ConfusionMatrix]:
        """The matrices that have points, by the names that the table gives them."""
        columns = {
            "network, all points": self.everywhere,
            "network, seen": self.seen,
            "network, unseen": self.unseen,
            TEACHER: self.teacher,
        }
        first = next(iter(columns))
        return {name: m for name, m in columns.items() if m.points or name == first}

    def metrics(self) -> dict[str, float]:
        """Mean IoUs where there were true labels, and the agreement with the teacher."""
        found = {}
        if self._agreement[1]:
            found["teacher_agreement"] = self._agreement[0] / self._agreement[1]
        if self._labelled:
            matrices = {
                self.metric: self.everywhere,
                f"{self.metric}_seen": self.seen,
                f"{self.metric}_unseen": self.unseen,
                "teacher_miou_seen": self.teacher,
            }
            # A mean over no class at all, as of unseen points where every point is seen.
            found |= {name: m.mean_iou() for name, m in matrices.items() if m.points}
        return found

    def summary(self) -> list[str]:
        """Two lines: the network beside the teacher, and where no camera looks."""
        scores = self.metrics()
        teacher = scores.get("teacher_miou_seen", 0.0)
        everywhere = scores.get(self.metric, 0.0)
        seen, unseen = scores.get(f"{self.metric}_seen"), scores.get(f"{self.metric}_unseen")
        return [
            _share("On seen points", seen, teacher, "the teacher's mIoU"),
            _share("On unseen points", unseen, everywhere, "its mIoU on all points"),
        ]

    def write_tables(self, directory: Path, step: int) -> None:
        """Write the table of a step in every style."""
        write_table(self.columns, directory / "tables" / f"step_{step:07d}")


def _share(where: str, score: float | None, of: float, whose: str) -> str:
    if score is None or not of > 0:
        return f"{where} there is nothing to compare."
    return f"{where} the network has {score / of:.0%} of {whose}."
