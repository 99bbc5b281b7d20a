"""Batches of static shape: capacities, plans, padding."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from uov_jax import sparse
from uov_jax.errors import InputError
from uov_jax.input.voxels import MergedSweeps, merge_sweeps

Batch = dict[str, Any]
# Makes an array, of a shape and a dtype, whose content does not matter: `np.empty`, or memory that
# is handed over.
Allocate = Callable[..., np.ndarray]
Sample = TypeVar("Sample")
Fractions = tuple[float, ...]

SWEEP_FRACTIONS: tuple[Fractions, Fractions] = (
    sparse.PlanSpec(1).fractions,
    sparse.ROOMY_FRACTIONS,
)
ROOM_FRACTIONS: tuple[Fractions, Fractions] = (
    (1.0, 0.66, 0.23, 0.06, 0.015),
    (1.0, 0.92, 0.56, 0.19, 0.05),
)
"""Of rooms, whose surfaces have a quarter of their voxels on the next level once they are dense.

At 2 cm and 1,000 points a square metre, as few as ScanNet's scans have, rooms of planes and boxes
have at most 0.65, 0.22, 0.05 and 0.012 of their voxels on the coarser levels; at 10,000, or at
5 cm, about 0.27, 0.07, 0.016 and 0.004. A scan of ScanNet that was thinned to 40,000 points has
0.90, 0.53, 0.17 and 0.042: the last of a series holds such rooms too.
"""


class BatchTooLargeError(InputError, sparse.CapacityError):
    """A batch does not fit the largest of its recipe's sizes; names the field and the keyframes."""


@dataclasses.dataclass(frozen=True)
class Capacities:
    """The static shapes a batch of one device may have: a short series of rising sizes.

    Size i has the i-th of each; a batch takes the first size that holds all of it, and a run
    compiles one program for every size that occurs.

    Attributes:
        plans: of the voxels.
        pairs: numbers of point-camera pairs.
        superpoints: numbers of superpoints of one shard on one device.

    """

    plans: tuple[sparse.PlanSpec, ...]
    pairs: tuple[int, ...]
    superpoints: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.plans) == len(self.pairs) == len(self.superpoints) >= 1:
            raise InputError(
                f"{len(self.plans)} sizes of plans, {len(self.pairs)} of pairs and "
                f"{len(self.superpoints)} of superpoints: expected as many of each, at least one"
            )

    @classmethod
    def for_sweeps(
        cls,
        sweeps: int,
        levels: int = 5,
        first_kernel: int = 3,
        voxels: tuple[int, int] = (10_000, 36_000),
        pairs: tuple[int, int] = (16_384, 65_536),
        superpoints: tuple[int, int] = (128, 2048),
        fractions: tuple[Fractions, Fractions] = SWEEP_FRACTIONS,
        sweeps_of_a_shard: int | None = None,
    ) -> Capacities:
        """Series that suit batches of so many nuScenes sweeps a device.

        The three ranges are per sweep; the sizes between rise alike, the voxels by at most 1.75. A
        cylindrical nuScenes sweep has some 16,000 voxels and at most its 34,900 points; six cameras
        see 22,000 pairs of it, of which the crop keeps half, in up to 6 x 175 masks. `fractions`
        are the levels' shares of all sizes but the last, and of the last. Superpoints are counted
        by the shard, of which a device has `sweeps_of_a_shard` sweeps; None: all.
        """
        shard = sweeps if sweeps_of_a_shard is None else sweeps_of_a_shard
        count = 1 + math.ceil(math.log(voxels[1] / voxels[0]) / math.log(1.75))
        rooms = _series(voxels[0] * sweeps, voxels[1] * sweeps, count)
        usual, roomy = fractions
        plans = [sparse.PlanSpec(capacity, levels, first_kernel, usual) for capacity in rooms]
        plans[-1] = dataclasses.replace(plans[-1], fractions=roomy)
        return cls(
            plans=tuple(plans),
            pairs=_series(pairs[0] * sweeps, pairs[1] * sweeps, count),
            superpoints=_series(superpoints[0] * shard, superpoints[1] * shard, count),
        )

    def deferred(self) -> Capacities:
        """The same, with plans that are built where they are used."""
        plans = tuple(dataclasses.replace(spec, deferred=True) for spec in self.plans)
        return dataclasses.replace(self, plans=plans)

    def largest(self) -> Capacities:
        """The largest size alone, for runs on several hosts, which must agree on shapes."""
        return Capacities(self.plans[-1:], self.pairs[-1:], self.superpoints[-1:])


def fitting_plan(
    merged: Sequence[MergedSweeps],
    series: Sequence[sparse.PlanSpec],
    tokens: Sequence[object],
    at_least: int = 0,
) -> int:
    """Which of the series of plans is the first that holds the clouds of all local devices.

    Args:
        merged: of every device.
        series: of growing shapes.
        tokens: the keyframes of every device, for the message.
        at_least: the first of the series to be tried.

    Raises:
        BatchTooLargeError: a cloud does not fit the last of the series; names its keyframes.

    """
    size = at_least
    for cloud, names in zip(merged, tokens, strict=True):
        counts = cloud.counts[: series[-1].levels]
        try:
            size = max(size, series.index(sparse.spec_for(counts, series)))
        except sparse.CapacityError as error:
            raise BatchTooLargeError(f"{error}: {_remedy('voxels', names)}") from error
    return size


def build_plans(
    merged: Sequence[MergedSweeps], spec: sparse.PlanSpec, allocate: Allocate = np.empty
) -> sparse.Plan | sparse.DeferredPlan:
    """Plans of one shape for the clouds of all local devices, under a leading axis over them.

    Deferred ones where the spec says so.
    """
    plans = sparse.empty_plan(spec, len(merged), allocate)
    for device, cloud in enumerate(merged):
        plan = jax.tree.map(operator.itemgetter(device), plans)
        counts = cloud.counts[: spec.levels]
        sparse.fill_plan(plan, cloud.place(plan.coords[0]), spec, threads=1, counts=counts)
    return plans


def whole_cloud(
    coords: np.ndarray,
    column: np.ndarray,
    series: Sequence[sparse.PlanSpec],
    token: str,
) -> tuple[dict[str, Any], np.ndarray]:
    """One cloud alone as the network takes it, without an axis over devices.

    Args:
        coords: int32[V, 3], its voxels.
        column: [V, C], their features.
        series: of growing shapes.
        token: of the sweep or room, for the message.

    Returns:
        `plan` and `features` [N, C] by name, and int32[V], the row of every voxel.

    Raises:
        BatchTooLargeError: it does not fit the last of the series.

    """
    merged = merge_sweeps([coords])
    spec = series[fitting_plan([merged], series, [[token]])]
    plan = jax.tree.map(operator.itemgetter(0), build_plans([merged], spec))
    features = np.empty((spec.capacity, *column.shape[1:]), column.dtype)
    merged.gather([column], features)
    rows = merged.rows(0, np.arange(len(coords), dtype=np.int32))
    return {"plan": plan, "features": features}, rows


def fitting_size(numbers: Sequence[int], series: Sequence[int], what: str, tokens: object) -> int:
    """Which of a rising series of capacities is the first that holds every number.

    Args:
        numbers: of every device.
        series: of rising capacities.
        what: is counted: "pairs" or "superpoints", the field of `config.data` that sets the series.
        tokens: the keyframes of the fullest device, for the message.

    Raises:
        BatchTooLargeError: none does; names the keyframes.

    """
    for size, capacity in enumerate(series):
        if max(numbers) <= capacity:
            return size
    raise BatchTooLargeError(
        f"{max(numbers):,} {what} on one device, but room for {series[-1]:,}: "
        f"{_remedy(what, tokens)}"
    )


def _remedy(field: str, tokens: object) -> str:
    return (
        f"raise the second number of config.data.{field}, which a run may do and go on (on this "
        f"device: {tokens})"
    )


def pad(column: np.ndarray, capacity: int, fill: int) -> np.ndarray:
    """Append rows of `fill` up to `capacity` rows."""
    return sparse.pad_rows(column, capacity, 0, fill)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the rows of an array of a batch are.

    Attributes:
        of: "voxels", "pairs" or "superpoints": which capacity they have.
        axis: of the array, that of the devices counted.
        fill: what stands in the rows that are not used.

    """

    of: str
    axis: int
    fill: int


ROWS = {
    "features": Rows("voxels", 1, 0),
    "labels": Rows("voxels", 1, 0),
    "target": Rows("voxels", 1, 0),
    "seen": Rows("voxels", 1, 0),
    "pair_voxel": Rows("pairs", 1, -1),
    "pair_superpoint": Rows("pairs", 1, -1),
    "superpoint_word": Rows("superpoints", 2, -1),
    "superpoint_embedding": Rows("superpoints", 2, 0),
}
"""All arrays of batches beside the plan, by name."""


def size_of(batch: Batch, capacities: Capacities) -> int:
    """Which of the sizes a batch was built in."""
    return [spec.capacity for spec in capacities.plans].index(batch["plan"].coords[0].shape[1])


def pad_batch(batch: Batch, capacities: Capacities, size: int) -> Batch:
    """The same batch in arrays of a larger size, as if it had been built in that one.

    Args:
        batch: numpy arrays.
        capacities: that it was built with.
        size: which of them.

    """
    before = size_of(batch, capacities)
    if before == size:
        return batch
    rows = {
        "voxels": capacities.plans[size].capacity,
        "pairs": capacities.pairs[size],
        "superpoints": capacities.superpoints[size],
    }
    padded: Batch = {"plan": sparse.pad_plan(batch["plan"], capacities.plans[size])}
    for name, array in batch.items():
        if name == "plan":
            continue
        kind = ROWS[name]
        if name == "pair_superpoint":
            # Numbers are counted through the shards of a device, each with all its rows.
            shard, number = np.divmod(array, np.int32(capacities.superpoints[before]))
            renumbered = shard * np.int32(rows["superpoints"]) + number
            array = np.where(array < 0, array, renumbered)
        padded[name] = sparse.pad_rows(array, rows[kind.of], kind.axis, kind.fill)
    return padded


def in_shards(sweeps: Sequence[Sample], shards: int) -> list[Sequence[Sample]]:
    """The sweeps of one device in so many equal parts, in their order."""
    size = len(sweeps) // shards
    return [sweeps[first : first + size] for first in range(0, len(sweeps), size)]


def rounded_up(rows: float) -> int:
    """So many rows, and what is left of the last cache line."""
    return math.ceil(round(rows, 6) / 64) * 64


def _series(smallest: int, largest: int, count: int) -> tuple[int, ...]:
    steps = np.geomspace(smallest, largest, count) if count > 1 else [largest]
    return tuple(rounded_up(float(value)) for value in steps)
