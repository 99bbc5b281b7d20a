"""What a paper finds, held against the scores of one's own chains: one score is above another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

ScoresOfChain = TypeVar("ScoresOfChain")


@dataclasses.dataclass(frozen=True)
class Ordering(Generic[ScoresOfChain]):
    """What the paper finds: one score is above another (or, where `equal` is allowed, not below).

    Attributes:
        claim: in words.
        better, worse: how both scores are read off a chain.
        equal: whether equality will do.

    """

    claim: str
    better: Callable[[ScoresOfChain], float]
    worse: Callable[[ScoresOfChain], float]
    equal: bool = False

    def holds(self, scores: ScoresOfChain) -> bool:
        """Whether a chain shows it."""
        better, worse = self.better(scores), self.worse(scores)
        return better >= worse if self.equal else better > worse


def verdicts(
    claims: Sequence[Ordering[ScoresOfChain]], chains: Sequence[ScoresOfChain]
) -> list[str]:
    """A line for each of the paper's orderings: whether it holds, and both scores."""
    lines = []
    for ordering in claims:
        holds = sum(map(ordering.holds, chains))
        verdict = "holds" if holds == len(chains) else "DOES NOT HOLD"
        if len(chains) > 1:
            verdict += f" with {holds} of {len(chains)} seeds"
        better = cell([ordering.better(scores) for scores in chains])
        worse = cell([ordering.worse(scores) for scores in chains])
        lines.append(f"{verdict}: {ordering.claim} ({better} and {worse} %)")
    return lines


def cell(values: Sequence[float | None]) -> str:
    """Values 0..1 of several seeds in percent: mean and standard deviation, "-" for none."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.2f}"
    return f"{np.mean(known):.2f} ± {np.std(known, ddof=1):.2f}"
