"""Judging sweeps one after the other: the only loop over a split's sweeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.errors import NotFiniteError
from uov_jax.evaluation.clock import SweepClock

Item = TypeVar("Item")
Built = TypeVar("Built")
Sample = Mapping[str, Any]
# The "class" of a row of outputs that are not all finite; there are fewer classes than this.
NOT_FINITE = 255
# The class of every row of a network's output, uint8[rows], or that and the probabilities of all
# classes, float32[rows, C]; `PointColumns`; None where it gives no classes.
ClassesOfRows = Callable[[Sample], Any]
# uint8[N] classes of the N points float32[N, 3 or more], made from others of the same shape and,
# where the network gives some, float32[N, C] probabilities.
Smoothing = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class PointColumns:
    """What is made of a network's outputs where that is more than one class a row.

    Attributes:
        columns: uint8[N], the class of every point, by the end of the column's name, which begins
            with the network's: "" for its own classes.

    """

    columns: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class JudgedSweep:
    """A sweep of N points with what networks say of it.

    Attributes:
        sample: as it was built.
        columns: uint8[N], the class of every point, by the names of networks; those of smoothed
            labels have the smoothing's name appended. What the sample was given stands last.

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
        build: makes the sample of an item: with `inverse` int32[N], the row of every point,
            `points` and, where there are some, `given`: uint8[N] by name, labellings to be judged
            beside the networks. Threads call it for several items at once.
        items: one a sweep.
        networks: by name.
        workers: threads that build samples ahead.
        smoothings: by name, applied to each network's classes.
        clock: is told what takes the time; the consumer's own work is for the consumer to note.

    Raises:
        NotFiniteError: a network gave NOT_FINITE to points.
        FaultError: a GPU was given a bad plan or index.

    """
    clock = clock or SweepClock()
    clock.start()
    for sample in prefetched(build, items, workers):
        clock.note("data")
        rows = {name: classes_of_rows(sample) for name, classes_of_rows in networks.items()}
        columns: dict[str, np.ndarray] = {}
        probabilities: dict[str, np.ndarray] = {}
        for name, found in rows.items():
            if isinstance(found, PointColumns):
                columns |= {name + end: classes for end, classes in found.columns.items()}
                continue
            if isinstance(found, tuple):
                probabilities[name] = np.asarray(found[1])[sample["inverse"]]
                found = found[0]
            if found is not None:
                columns[name] = np.asarray(found)[sample["inverse"]]
        sparse.raise_fault()
        for name, classes in columns.items():
            _require_finite(name, classes, sample)
        clock.note("network")
        for end, smooth in (smoothings or {}).items():
            for name in rows:
                given = probabilities.get(name)
                columns[name + end] = smooth(sample["points"], columns[name], given)
            clock.note("AFI")
        yield JudgedSweep(sample, columns | sample.get("given", {}))


def _require_finite(name: str, classes: np.ndarray, sample: Sample) -> None:
    wrong = np.count_nonzero(classes == NOT_FINITE)
    if wrong:
        raise NotFiniteError(
            f"{name}: outputs of {wrong:,} of the {len(classes):,} points of sweep "
            f"{sample['token']} are not finite: its training had broken down, or the sweep is far "
            "from anything that it was trained on; take an earlier checkpoint, or look at the sweep"
        )


def where_finite(output: jax.Array, classes: jax.Array) -> jax.Array:
    """The classes uint8[rows], but NOT_FINITE for rows of `output` [rows, C] that are not finite.

    Else the first class would win every comparison with NaN, and look like a prediction.
    """
    return jnp.where(jnp.isfinite(output).all(axis=1), classes, jnp.uint8(NOT_FINITE))


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
