"""Judging sweeps one after the other: the only loop over a split's sweeps."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.daemon_threads import PATIENCE, TIMEOUT, DaemonThreads, HangingError
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
    timeout: float = TIMEOUT,
    name_of: Callable[[Item], str] = str,
    at_once: int = 1,
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
        timeout: seconds after which a thread that builds one sample counts as hanging.
        name_of: gives an item's name for messages.
        at_once: sweeps whose networks' outputs are not waited for before the next is begun.
        smoothings: by name, applied to each network's classes.
        clock: is told what takes the time; the consumer's own work is for the consumer to note.

    Raises:
        NotFiniteError: a network gave NOT_FINITE to points.
        HangingError: a sample was not built within the timeout.
        FaultError: a GPU was given a bad plan or index.

    """
    clock = clock or SweepClock()
    clock.start()
    begun: collections.deque[tuple[Sample, dict[str, Any]]] = collections.deque()
    samples = prefetched(build, items, workers, timeout, name_of)
    while True:
        for sample in itertools.islice(samples, at_once - len(begun)):
            clock.note("data")
            begun.append((sample, {name: of(sample) for name, of in networks.items()}))
        if not begun:
            return
        sample, rows = begun.popleft()
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
    build: Callable[[Item], Built],
    items: Iterable[Item],
    workers: int,
    timeout: float = TIMEOUT,
    name_of: Callable[[Item], str] = str,
) -> Iterator[Built]:
    """`build(item)` for every item in order, built ahead by threads; 0 builds as they are asked.

    Raises:
        HangingError: a thread has not built an item within the timeout, in seconds; has its name.

    """
    if not workers:
        yield from map(build, items)
        return
    threads, patience = DaemonThreads(workers, "samples"), PATIENCE
    waiting: collections.deque[tuple[Item, concurrent.futures.Future[Built]]] = collections.deque()

    def first() -> Built:
        nonlocal patience
        item, future = waiting.popleft()
        if not concurrent.futures.wait([future], timeout).done:
            patience = 0
            raise HangingError(
                f"{name_of(item)}: has been read and prepared for {timeout:g} s without an "
                "end: the file system hangs, or the machine"
            )
        return future.result()

    try:
        for item in items:
            waiting.append((item, threads.submit(build, item)))
            if len(waiting) > workers:
                yield first()
        while waiting:
            yield first()
    finally:
        threads.close(patience)
