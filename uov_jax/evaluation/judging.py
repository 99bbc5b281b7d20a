"""Judging sweeps one after the other: the only loop over a split's sweeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from uov_jax.evaluation.clock import SweepClock

Item = TypeVar("Item")
Built = TypeVar("Built")
Sample = Mapping[str, Any]
# The class of every row of a network's output, uint8[rows]; None where it gives no classes.
ClassesOfRows = Callable[[Sample], Any]
# uint8[N] classes of the N points float32[N, 3 or more], made from others of the same shape.
Smoothing = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class JudgedSweep:
    """A sweep of N points with what networks say of it.

    Attributes:
        sample: as it was built.
        columns: uint8[N], the class of every point, by the names of networks; those of smoothed
            labels have the smoothing's name appended.

    """

    sample: Sample
    columns: dict[str, np.ndarray]


def judge(
    build: Callable[[Item], Sample],
    items: Sequence[Item],
    networks: Mapping[str, ClassesOfRows],
    *,
    workers: int,
    smoothings: Mapping[str, Smoothing] | None = None,
    clock: SweepClock | None = None,
) -> Iterator[JudgedSweep]:
    """Judge sweeps in order; memory does not grow with their number.

    Args:
        build: makes the sample of an item: with `inverse` int32[N], the row of every point, and
            `points`; threads call it for several items at once.
        items: one a sweep.
        networks: by name.
        workers: threads that build samples ahead.
        smoothings: by name, applied to each network's classes.
        clock: is told what takes the time; the consumer's own work is for the consumer to note.

    """
    clock = clock or SweepClock()
    clock.start()
    for sample in prefetched(build, items, workers):
        clock.note("data")
        rows = {name: classes_of_rows(sample) for name, classes_of_rows in networks.items()}
        columns = {
            name: np.asarray(classes)[sample["inverse"]]
            for name, classes in rows.items()
            if classes is not None
        }
        clock.note("network")
        for end, smooth in (smoothings or {}).items():
            for name in rows:
                columns[name + end] = smooth(sample["points"], columns[name])
            clock.note("AFI")
        yield JudgedSweep(sample, columns)


def evenly_spaced(items: Sequence[Item], number: int | None) -> list[Item]:
    """`number` of the items at equal distances, or all of them."""
    if number is None or number >= len(items):
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def prefetched(
    build: Callable[[Item], Built], items: Sequence[Item], workers: int
) -> Iterator[Built]:
    """`build(item)` for every item in order, built ahead by threads; 0 builds as they are asked."""
    if not workers:
        yield from map(build, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Built]] = []
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
