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


# OpenBLAS's and OpenMP's threads go on spinning for some 100 ms after their work, on the cores that
# the next call is going to need.
REST = 0.15
# After it a call runs unmeasured for so long, at least once: cores and threads have fallen asleep,
# and the memory that it wants again is split up by the call before.
WARM_UP = 0.02


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Run all calls in turn, `repeats` times after one unmeasured round.

    A call may return JAX arrays: it ends when they are there. Every other round runs in the
    opposite order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for name in names:
        _measure(calls[name])
    for repetition in range(repeats):
        for name in names[:: -1 if repetition % 2 else 1]:
            time.sleep(REST)
            _warm_up(calls[name])
            seconds[name].append(_measure(calls[name]))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _warm_up(call: Callable[[], Any]) -> None:
    seconds = 0.0
    while seconds < WARM_UP:
        seconds += _measure(call)


def _measure(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def ratio(one: Timing, other: Timing) -> float:
    """How many times faster `one` is than `other`: median over the rounds both ran in."""
    return statistics.median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))
