"""Timing of several calls in one run, so that a slow spell of the machine strikes all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over its repetitions."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds, half of the repetitions above."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Run all calls in turn, `repeats` times after one unmeasured round.

    A call may return JAX arrays: it ends when they are there.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(one: Timing, other: Timing) -> float:
    """How many times faster `one` is than `other`: median over the rounds both ran in."""
    return statistics.median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))
