"""Batches of static shape: capacities, plans, padding, stacking over devices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from uov_jax import sparse
from uov_jax.errors import InputError

Batch = dict[str, Any]
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
        superpoints: numbers of superpoints.

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
    ) -> Capacities:
        """Series that suit batches of so many nuScenes sweeps a device.

        The three ranges are per sweep; the sizes between rise alike, the voxels by at most 1.75. A
        cylindrical nuScenes sweep has some 16,000 voxels and at most its 34,900 points; six cameras
        see 22,000 pairs of it, of which the crop keeps half, in up to 6 x 175 masks. `fractions`
        are the levels' shares of all sizes but the last, and of the last.
        """
        count = 1 + math.ceil(math.log(voxels[1] / voxels[0]) / math.log(1.75))
        rooms = _series(voxels[0] * sweeps, voxels[1] * sweeps, count)
        usual, roomy = fractions
        plans = [sparse.PlanSpec(capacity, levels, first_kernel, usual) for capacity in rooms]
        plans[-1] = dataclasses.replace(plans[-1], fractions=roomy)
        return cls(
            plans=tuple(plans),
            pairs=_series(pairs[0] * sweeps, pairs[1] * sweeps, count),
            superpoints=_series(superpoints[0] * sweeps, superpoints[1] * sweeps, count),
        )

    def deferred(self) -> Capacities:
        """The same, with plans that are built where they are used."""
        plans = tuple(dataclasses.replace(spec, deferred=True) for spec in self.plans)
        return dataclasses.replace(self, plans=plans)

    def largest(self) -> Capacities:
        """The largest size alone, for runs on several hosts, which must agree on shapes."""
        return Capacities(self.plans[-1:], self.pairs[-1:], self.superpoints[-1:])


def build_plans(
    coords: Sequence[np.ndarray],
    series: Sequence[sparse.PlanSpec],
    tokens: Sequence[object],
    at_least: int = 0,
) -> tuple[int, list[sparse.Plan | sparse.DeferredPlan]]:
    """Plans of equal shape for the clouds of all local devices, and which of the series it is.

    Deferred ones where the specs say so.

    Args:
        coords: int32[n, 4] of every device.
        series: of growing shapes.
        tokens: the keyframes of every device, for the message.
        at_least: the first of the series to be tried.

    Raises:
        BatchTooLargeError: a cloud does not fit the last of the series; names its keyframes.

    """
    size = at_least
    for cloud, names in zip(coords, tokens, strict=True):
        try:
            size = max(size, series.index(sparse.smallest_spec(cloud, series)))
        except sparse.CapacityError as error:
            raise BatchTooLargeError(f"{error}: {_remedy('voxels', names)}") from error
    spec = series[size]
    if spec.deferred:
        return size, [sparse.defer_plan(cloud, spec) for cloud in coords]
    return size, [sparse.build_plan(cloud, spec, threads=1) for cloud in coords]


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
    padded = np.full((capacity, *column.shape[1:]), fill, column.dtype)
    padded[: len(column)] = column
    return padded


def stack_devices(devices: Sequence[Batch]) -> Batch:
    """Stack the arrays of equal batches along a new first axis."""
    if len(devices) == 1:
        # Without a copy.
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], devices[0])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *devices)


def _series(smallest: int, largest: int, count: int) -> tuple[int, ...]:
    steps = np.geomspace(smallest, largest, count) if count > 1 else [largest]
    return tuple(math.ceil(round(value, 6) / 64) * 64 for value in steps)  # whole cache lines
