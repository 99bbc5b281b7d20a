"""Scores of the whole chain of stages in one table like the paper's, and the paper's orderings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from uov_jax.errors import InputError
from uov_jax.evaluation.orderings import Ordering, cell
from uov_jax.evaluation.tables import Style, markdown_table, text_table

RANDOM, PRETRAINED, ANNOTATION_FREE = "random", "tri_modal", "annotation_free"
STARTS = {
    RANDOM: "random weights",
    PRETRAINED: "tri-modal pre-training",
    ANNOTATION_FREE: "annotation-free training",
}


@dataclasses.dataclass(frozen=True)
class ChainScores:
    """Mean IoU 0..1 of every stage of one chain, by the weights that it started from (`STARTS`).

    Attributes:
        teacher_seen: of the pseudo labels, on the points that a camera sees; no label is a miss.
        zero_shot: of the pre-trained network, by words.
        annotation_free, annotation_free_seen: of the networks trained on pseudo labels: on all
          points, on those that a camera sees.
        smoothed, smoothed_as_published: of them on all points with AFI, with `afi_points` sampled
          points and with the published number.
        afi_points: see there.
        linear_probing, finetuning: with true labels, on all points.

    """

    teacher_seen: float
    zero_shot: float
    annotation_free: Mapping[str, float]
    annotation_free_seen: Mapping[str, float]
    smoothed: Mapping[str, float]
    smoothed_as_published: Mapping[str, float]
    afi_points: int
    linear_probing: Mapping[str, float]
    finetuning: Mapping[str, float]


ORDERINGS: tuple[Ordering[ChainScores], ...] = (
    Ordering(
        "annotation-free training: after pre-training > from random weights",
        lambda scores: scores.annotation_free[PRETRAINED],
        lambda scores: scores.annotation_free[RANDOM],
    ),
    Ordering(
        "the student > its own pseudo labels, on points that a camera sees",
        lambda scores: scores.annotation_free_seen[PRETRAINED],
        lambda scores: scores.teacher_seen,
    ),
    Ordering(
        "with AFI >= without",
        lambda scores: scores.smoothed[PRETRAINED],
        lambda scores: scores.annotation_free[PRETRAINED],
        equal=True,
    ),
    Ordering(
        "fine-tuning: after pre-training > from random weights",
        lambda scores: scores.finetuning[PRETRAINED],
        lambda scores: scores.finetuning[RANDOM],
    ),
    Ordering(
        "linear probing: after pre-training > from random weights",
        lambda scores: scores.linear_probing[PRETRAINED],
        lambda scores: scores.linear_probing[RANDOM],
    ),
)


def transfer_table(chains: Sequence[ChainScores], style: Style = "text") -> str:
    """One row for each kind of first weights, mean IoU in percent; "-" where nothing was trained.

    Args:
        chains: with different seeds; of several the mean and the standard deviation are given.
        style: "text" or "markdown".

    Raises:
        InputError: no chain, or another style.

    """
    if not chains:
        raise InputError("a table needs the scores of at least one chain")
    columns = {
        "annotation-free": lambda s: s.annotation_free,
        "annotation-free + AFI": lambda s: s.smoothed,
        "linear probing": lambda s: s.linear_probing,
        "fine-tuning, 1 scene": lambda s: s.finetuning,
    }
    head = ["mIoU in %, starting from", *columns]
    rows = [
        [
            name,
            *(cell([read(scores).get(start) for scores in chains]) for read in columns.values()),
        ]
        for start, name in STARTS.items()
    ]
    if style == "text":
        return text_table([[head], rows])
    if style == "markdown":
        return markdown_table(head, rows)
    raise InputError(f"unknown table style {style!r}, expected text or markdown")


def besides(chains: Sequence[ChainScores]) -> list[str]:
    """Lines with the scores that have no place in the table."""

    def both(read: Callable[[ChainScores], Mapping[str, float]]) -> str:
        return ", ".join(
            f"{cell([read(s).get(start) for s in chains])} from {STARTS[start]}"
            for start in (RANDOM, PRETRAINED)
        )

    return [
        f"The pre-trained network by words, without any training for classes: "
        f"{cell([s.zero_shot for s in chains])} %.",
        f"On points that a camera sees: the pseudo labels {cell([s.teacher_seen for s in chains])}"
        f" %, the annotation-free networks {both(lambda s: s.annotation_free_seen)} %.",
        f"AFI is that of {chains[0].afi_points:,} sampled points. With the published number, which "
        f"is for nuScenes: {both(lambda s: s.smoothed_as_published)} %.",
    ]
