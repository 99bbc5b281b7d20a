"""Sizes of batches' arrays that suit a dataset: from what its samples hold, looked at once.

Samples are built as training draws them, from a stream of their own, and counted; so what
augmentation adds or drops is in the counts. Batches are then drawn from the counts, and the sizes
are those that leave the fewest rows empty.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uov_jax import processors, sparse
from uov_jax.bar import Bar
from uov_jax.contents import parse_npy
from uov_jax.errors import InputError
from uov_jax.files import DAMAGE, read_bytes, write_bytes
from uov_jax.input.batching import Capacities, rounded_up
from uov_jax.user_cache import user_cache_directory

FORMAT_VERSION = 1
# Samples that are looked at: the mean of 4,096 is within a half percent of that of any number.
MOST_SAMPLES, FEWEST_DRAWS = 4096, 256
BATCHES = 2000  # that are drawn from the counts
MOST_SIZES = 6  # with the last, which is for what is rarer than one batch in `BATCHES`
SEED = 0
# A program more is compiled for minutes, and is worth it where more rows than this are empty.
PADDING = 0.05
MARGIN = 1.02  # of the largest batch that was drawn
ROOM = 1.5  # of the last size, over the largest that was drawn
STEPS = 256  # between which sizes are chosen


class CountedSource(Protocol):
    """A source whose samples' sizes can be looked at (such as `TriModalSource`)."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def name(self, index: int) -> str:
        """What names a sample."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """One augmented sample, with `coords`, and with pairs and superpoints if it has some."""
        ...

    def facts(self, indices: Sequence[int]) -> Mapping[str, object]:
        """What decides about the sizes of some samples, apart from their names: files, settings."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """What some samples hold.

    Attributes:
        voxels: int64[n, 5], of every level.
        pairs, superpoints: int64[n].

    """

    voxels: np.ndarray
    pairs: np.ndarray
    superpoints: np.ndarray

    @property
    def table(self) -> np.ndarray:
        """int64[n, 7]: all of them side by side."""
        return np.concatenate([self.voxels, self.pairs[:, None], self.superpoints[:, None]], axis=1)

    @classmethod
    def of_table(cls, table: np.ndarray) -> Counts:
        """The counts of a `table`; ValueError for anything else."""
        if table.ndim != 2 or table.shape[1] != sparse.MOST_LEVELS + 2 or table.dtype.kind != "i":
            raise ValueError(f"counts of {table.dtype} {table.shape}")
        levels = sparse.MOST_LEVELS
        return cls(table[:, :levels], table[:, levels], table[:, levels + 1])


def counts_of(source: CountedSource) -> Counts:
    """What the samples of a source hold, from the user's cache or looked at now.

    The cache is of the same settings and files, by their sizes and times of change. At most
    `MOST_SAMPLES`, evenly spaced; where they are few, each several times. A sample that is
    damaged is left out: training will say so.

    Raises:
        InputError: all of them are damaged; the first one's error.

    """
    cache = user_cache_directory()
    path = None if cache is None else cache / "sizes" / f"{_fingerprint(source)}.npy"
    if path is not None and (found := _kept(path)) is not None:
        return found
    counts = _look(source)
    if path is not None:
        with contextlib.suppress(OSError), io.BytesIO() as file:
            np.save(file, counts.table, allow_pickle=False)
            write_bytes(path, file.getvalue())
    return counts


def _chosen(source: CountedSource) -> list[tuple[int, int]]:
    """Samples to look at, and the number of each draw."""
    number = min(len(source), MOST_SAMPLES)
    draws = math.ceil(FEWEST_DRAWS / number)
    indices = [int(index) for index in np.linspace(0, len(source) - 1, number)]
    return [(index, draw) for index in indices for draw in range(draws)]


def _fingerprint(source: CountedSource) -> str:
    indices = [index for index, draw in _chosen(source) if not draw]
    names = [source.name(index) for index in indices]
    facts = {"format_version": FORMAT_VERSION, "samples": names, **source.facts(indices)}
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]


def _kept(path: Path) -> Counts | None:
    try:
        return Counts.of_table(parse_npy(read_bytes(path)))
    except DAMAGE:
        return None  # It is not there, or damaged: it is made again.


def _look(source: CountedSource) -> Counts:
    chosen = _chosen(source)
    errors: list[InputError] = []

    def look(place: tuple[int, int]) -> list[int] | None:
        index, draw = place
        try:
            sample = source.sample(index, np.random.default_rng((SEED, index, draw)))
        except InputError as error:
            errors.append(error)
            return None
        return [
            *sparse.level_counts(sample.coords, sparse.MOST_LEVELS).tolist(),
            len(getattr(sample, "pair_voxel", ())),
            len(getattr(sample, "superpoint_word", ())),
        ]

    bar = Bar(total=len(chosen), desc="sizes of samples", unit="sample", delay=2, leave=False)
    rows = []
    with bar, concurrent.futures.ThreadPoolExecutor(processors.available()) as pool:
        for row in pool.map(look, chosen):
            rows.append(row)
            bar.update()
    found = [row for row in rows if row is not None]
    if not found:
        raise errors[0]
    return Counts.of_table(np.array(found, np.int64))


@dataclasses.dataclass(frozen=True)
class StepShape:
    """How many samples lie together, for the sizes of a step's arrays.

    Attributes:
        devices: of the whole run; the fullest one decides.
        sweeps: of a device in a micro-batch.
        sweeps_of_a_shard: how many of a shard's lie on one device.

    """

    devices: int
    sweeps: int
    sweeps_of_a_shard: int


def drawn_batches(counts: Counts, shape: StepShape) -> np.ndarray:
    """int64[BATCHES, 7]: what the fullest device of a step holds, of steps drawn by chance.

    Voxels of every level, pairs; superpoints of the fullest shard.
    """
    needs = np.empty((BATCHES, counts.table.shape[1]), np.int64)
    shards = shape.sweeps // shape.sweeps_of_a_shard
    for step, per_device in enumerate(_drawn_steps(counts, shape)):
        needs[step] = per_device.sum(axis=1).max(axis=0)
        per_shard = per_device[..., -1].reshape(shape.devices * shards, -1)
        needs[step, -1] = per_shard.sum(axis=1).max()
    return needs


def drawn_voxels(counts: Counts, shape: StepShape) -> np.ndarray:
    """int64[BATCHES, devices]: the voxels of every device, of the same steps."""
    return np.array([rows[..., 0].sum(axis=1) for rows in _drawn_steps(counts, shape)], np.int64)


def _drawn_steps(counts: Counts, shape: StepShape) -> Iterator[np.ndarray]:
    """int64[devices, sweeps, 7], the samples of a step, BATCHES times."""
    rng = np.random.default_rng(SEED)
    table = counts.table
    for _ in range(BATCHES):
        rows = table[rng.integers(0, len(table), shape.devices * shape.sweeps)]
        yield rows.reshape(shape.devices, shape.sweeps, -1)


def fitted_capacities(counts: Counts, shape: StepShape, roomy: Capacities) -> Capacities:
    """Sizes of batches of samples with such counts, and a last one for all others.

    As few as leave at most `PADDING` of the fullest device's rows empty on the average, at most
    `MOST_SIZES` in all: each that occurs is a program to compile. All devices of a step take the
    size of the fullest, and sweeps are not shared out by their voxels. So more is empty over all of
    them: with sweeps that vary by an eighth, as real ones may, 5 % of one device, but 15 % of four
    and 17 % of eight devices of one sweep each, of whose rows 11 and 14 are what the others have
    less than the fullest (docs/performance.md). More sweeps a device even that out.

    Args:
        counts: of samples.
        shape: of a step.
        roomy: gives the last size, which grows where the samples need more, and what plans have in
            common.

    """
    needs = drawn_batches(counts, shape)
    largest = roomy.largest()
    levels = largest.plans[0].levels
    voxels = np.sort(needs[:, 0])
    for number in range(1, MOST_SIZES):
        ends = _best_ends(voxels, number)
        ends[-1] = ends[-1] * MARGIN
        sizes = sorted({rounded_up(end) for end in ends})
        if padding(voxels, sizes) <= PADDING:
            break
    room = _room(needs, sizes)
    plans = [
        dataclasses.replace(
            largest.plans[0],
            capacity=size,
            fractions=(1.0, *(min(1.0, rounded_up(rows) / size) for rows in own[1:levels])),
        )
        for size, own in zip(sizes, room, strict=True)
    ]
    last = dataclasses.replace(
        largest.plans[0],
        capacity=max(largest.plans[0].capacity, rounded_up(sizes[-1] * ROOM)),
    )
    pairs, superpoints = (
        (
            *(rounded_up(max(1, own[column])) for own in room),
            max(end, rounded_up(room[-1][column] * ROOM)),
        )
        for column, end in ((-2, largest.pairs[0]), (-1, largest.superpoints[0]))
    )
    return Capacities((*plans, last), pairs, superpoints)


def padding(needed: np.ndarray, sizes: list[int]) -> float:
    """The mean share of empty rows, of batches that need so many and take the first size that fits.

    Those that fit none are left out.
    """
    place = np.searchsorted(sizes, needed)
    fits = place < len(sizes)
    held = np.array(sizes)[place[fits]]
    return float(np.mean(1 - needed[fits] / held))


def _best_ends(values: np.ndarray, number: int) -> list[float]:
    """The ends of so many classes of rising values that leave the least empty below the ends.

    The optimum among `STEPS` quantiles: what it costs to end a class at one of them, after the
    cheapest way to the end of the class before.
    """
    places = np.unique(np.linspace(0, len(values) - 1, min(STEPS, len(values))).astype(int))
    ends = values[places].astype(np.float64)
    count = (places + 1).astype(np.float64)
    # A class from after end i (-1: from the first) to end j has its empty rows above its values.
    total = np.cumsum(values)[places].astype(np.float64)
    before_count, before_total = np.append(0.0, count), np.append(0.0, total)
    cost = ends[None] * (count[None] - before_count[:, None]) - (
        total[None] - before_total[:, None]
    )
    cost[before_count[:, None] >= count[None]] = np.inf
    best = cost[0]
    ways = []
    for _ in range(1, number):
        together = best[:, None] + cost[1:]
        ways.append(together.argmin(axis=0))
        best = together.min(axis=0)
    chosen = [len(ends) - 1]
    for way in reversed(ways):
        chosen.append(int(way[chosen[-1]]))
    return [float(ends[place]) for place in dict.fromkeys(reversed(chosen))]


def _room(needs: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """For every size the most that a batch of as few voxels needs of all, with a margin."""
    room = []
    for size in sizes:
        own = needs[needs[:, 0] <= size]
        room.append(np.ceil(own.max(axis=0) * MARGIN).astype(np.int64))
    return list(itertools.accumulate(room, np.maximum))
