"""Scores of the whole chain of stages in one table like the paper's, and the paper's orderings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uov_jax.errors import InputError
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


@dataclasses.dataclass(frozen=True)
class Ordering:
    """What the paper finds: one score is above another (or, where `equal` is allowed, not below).

    Attributes:
        claim: in words.
        better, worse: how both scores are read off a chain.
        equal: whether equality will do.

    """

    claim: str
    better: Callable[[ChainScores], float]
    worse: Callable[[ChainScores], float]
    equal: bool = False

    def holds(self, scores: ChainScores) -> bool:
        """Whether a chain shows it."""
        better, worse = self.better(scores), self.worse(scores)
        return better >= worse if self.equal else better > worse


ORDERINGS = (
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
            *(_cell([read(scores).get(start) for scores in chains]) for read in columns.values()),
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
            f"{_cell([read(s).get(start) for s in chains])} from {STARTS[start]}"
            for start in (RANDOM, PRETRAINED)
        )

    return [
        f"The pre-trained network by words, without any training for classes: "
        f"{_cell([s.zero_shot for s in chains])} %.",
        f"On points that a camera sees: the pseudo labels {_cell([s.teacher_seen for s in chains])}"
        f" %, the annotation-free networks {both(lambda s: s.annotation_free_seen)} %.",
        f"AFI is that of {chains[0].afi_points:,} sampled points. With the published number, which "
        f"is for nuScenes: {both(lambda s: s.smoothed_as_published)} %.",
    ]


def orderings(chains: Sequence[ChainScores]) -> list[str]:
    """A line for each of the paper's orderings: whether it holds, and both scores."""
    lines = []
    for ordering in ORDERINGS:
        holds = sum(map(ordering.holds, chains))
        verdict = "holds" if holds == len(chains) else "DOES NOT HOLD"
        if len(chains) > 1:
            verdict += f" with {holds} of {len(chains)} seeds"
        better = _cell([ordering.better(scores) for scores in chains])
        worse = _cell([ordering.worse(scores) for scores in chains])
        lines.append(f"{verdict}: {ordering.claim} ({better} and {worse} %)")
    return lines


def _cell(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.2f}"
    return f"{np.mean(known):.2f} ± {np.std(known, ddof=1):.2f}"
