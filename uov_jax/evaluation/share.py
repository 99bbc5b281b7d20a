"""Which part of an evaluation a process does, and how what all found comes together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from uov_jax.evaluation.scores import Scores
from uov_jax.job_array import Shard

Item = TypeVar("Item")


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclasses.dataclass(frozen=True)
class Share:
    """A process's share of an evaluation; the whole by default.

    Attributes:
        shard: number of the process, and how many there are.
        gather: gives every process's value (anything JSON can say) to all; all must call it.
        at_once: sweeps that the process judges side by side, one on each of its devices.

    """

    shard: Shard = Shard()
    gather: Callable[[Any], list[Any]] = _alone
    at_once: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes and prints what all found."""
        return self.shard.number == 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items of this process."""
        return self.shard.of(items)

    def merge(self, scores: Scores) -> None:
        """Put what all processes counted into their scores."""
        counts = self.gather(scores.counted())
        if len(counts) > 1:
            scores.clear()
            for count in counts:
                scores.add_counted(count)

    def sums(self, terms: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """The sum of every term over all processes' items, the same however they were shared."""
        found = self.gather({name: list(values) for name, values in terms.items()})
        names = dict.fromkeys(name for each in found for name in each)
        # Exact, so that the order does not matter.
        return {n: math.fsum(v for each in found for v in each.get(n, ())) for n in names}


WHOLE = Share()
