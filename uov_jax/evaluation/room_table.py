"""Scores of the stages of rooms in one table like the paper's ablation, and what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from uov_jax.errors import InputError
from uov_jax.evaluation.orderings import Ordering, cell
from uov_jax.evaluation.tables import Style, markdown_table, text_table


@dataclasses.dataclass(frozen=True)
class RoomScores:
    """Mean IoU 0..1 of every stage of one chain of 3DSS-VLG.

    Attributes:
        labels_unfiltered, labels: of the pseudo labels, on the points of the training rooms,
            without and with the scene-level filter; no label is a miss.
        fused, specialised: of the features of images by words, before and after ESS, on the
            points of the validation rooms that a view sees.
        fused_everywhere, fused_by_few: of fused features on all points, on those that at most one
            view sees; no feature is a miss.
        student_of_fused, student: of ESG's networks on all points, distilled from fused and from
            specialised features.
        student_by_few: of the latter on points that at most one view sees.
        ensemble: of the latter and fused features together, on all points.

    """

    labels_unfiltered: float
    labels: float
    fused: float
    specialised: float
    fused_everywhere: float
    fused_by_few: float
    student_of_fused: float
    student: float
    student_by_few: float
    ensemble: float


ORDERINGS: tuple[Ordering[RoomScores], ...] = (
    Ordering(
        "pseudo labels: with the scene-level filter > without",
        lambda scores: scores.labels,
        lambda scores: scores.labels_unfiltered,
    ),
    Ordering(
        "features by words, on points that a view sees: specialised > fused",
        lambda scores: scores.specialised,
        lambda scores: scores.fused,
    ),
    Ordering(
        "the student of specialised features > the student of fused ones",
        lambda scores: scores.student,
        lambda scores: scores.student_of_fused,
    ),
    Ordering(
        "on points that at most one view sees: the student > fused features",
        lambda scores: scores.student_by_few,
        lambda scores: scores.fused_by_few,
    ),
)

_Row = tuple[str, str, str, Callable[[RoomScores], float]]
ROWS: tuple[_Row, ...] = (
    ("pseudo labels, no filter", "training rooms", "all", lambda s: s.labels_unfiltered),
    ("pseudo labels, scene-level filter", "training rooms", "all", lambda s: s.labels),
    ("fused features", "validation rooms", "seen", lambda s: s.fused),
    ("specialised features (ESS)", "validation rooms", "seen", lambda s: s.specialised),
    ("fused features", "validation rooms", "all", lambda s: s.fused_everywhere),
    ("student of fused features", "validation rooms", "all", lambda s: s.student_of_fused),
    ("student of specialised features (ESG)", "validation rooms", "all", lambda s: s.student),
    ("the same with fused features, ensemble", "validation rooms", "all", lambda s: s.ensemble),
    ("fused features", "validation rooms", "at most one view", lambda s: s.fused_by_few),
    ("student (ESG)", "validation rooms", "at most one view", lambda s: s.student_by_few),
)


def room_table(chains: Sequence[RoomScores], style: Style = "text") -> str:
    """One row for each result, mean IoU in percent.

    Args:
        chains: with different seeds; of several the mean and the standard deviation are given.
        style: "text" or "markdown".

    Raises:
        InputError: no chain, or another style.

    """
    if not chains:
        raise InputError("a table needs the scores of at least one chain")
    head = ["what", "where", "points", "mIoU in %"]
    rows = [
        [what, where, points, cell([read(scores) for scores in chains])]
        for what, where, points, read in ROWS
    ]
    if style == "text":
        return text_table([[head], rows])
    if style == "markdown":
        return markdown_table(head, rows)
    raise InputError(f"unknown table style {style!r}, expected text or markdown")
