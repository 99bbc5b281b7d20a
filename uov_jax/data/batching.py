"""Batches of static shape: capacities, merging of sweeps, stacking over devices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from uov_jax import sparse
from uov_jax.data.tmp_sample import TmpSample

if TYPE_CHECKING:
    from uov_jax.data.segmentation_sample import SegmentationSample

Batch = dict[str, Any]


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
            raise ValueError(
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
    ) -> Capacities:
        """Series that suit batches of so many nuScenes sweeps a device.

        The three ranges are per sweep; the sizes between rise alike, the voxels by at most 1.75. A
        cylindrical nuScenes sweep has some 16,000 voxels and at most its 34,900 points; six cameras
        see 22,000 pairs of it, of which the crop keeps half, in up to 6 x 175 masks.
        """
        count = 1 + math.ceil(math.log(voxels[1] / voxels[0]) / math.log(1.75))
        rooms = _series(voxels[0] * sweeps, voxels[1] * sweeps, count)
        plans = [sparse.PlanSpec(capacity, levels, first_kernel) for capacity in rooms]
        plans[-1] = dataclasses.replace(plans[-1], fractions=sparse.ROOMY_FRACTIONS)
        return cls(
            plans=tuple(plans),
            pairs=_series(pairs[0] * sweeps, pairs[1] * sweeps, count),
            superpoints=_series(superpoints[0] * sweeps, superpoints[1] * sweeps, count),
        )

    def largest(self) -> Capacities:
        """The largest size alone, for runs on several hosts, which must agree on shapes."""
        return Capacities(self.plans[-1:], self.pairs[-1:], self.superpoints[-1:])


@dataclasses.dataclass(frozen=True, eq=False)
class MergedSweeps:
    """The voxels of several sweeps as one cloud, ordered so that neighbours are near in memory.

    Attributes:
        coords: int32[n, 4], (sweep, x, y, z).
        row: for every sweep int32[V], the merged row of each of its voxels.

    """

    coords: np.ndarray
    row: list[np.ndarray]

    def gather(self, columns: Sequence[np.ndarray], capacity: int) -> np.ndarray:
        """[capacity, C] from one array [V, C] a sweep, in merged order and padded with zeros."""
        merged = np.zeros((capacity, *columns[0].shape[1:]), columns[0].dtype)
        for row, column in zip(self.row, columns, strict=True):
            merged[row] = column
        return merged


def merge_sweeps(coords: Sequence[np.ndarray]) -> MergedSweeps:
    """Merge the voxels int32[V, 3] of the sweeps of one device."""
    number = np.repeat(np.arange(len(coords), dtype=np.int32), [len(c) for c in coords])
    merged = np.concatenate([number[:, None], np.concatenate(coords)], axis=1)
    order = sparse.locality_order(merged)
    row = np.empty(len(order), np.int32)
    row[order] = np.arange(len(order), dtype=np.int32)
    ends = np.cumsum([len(c) for c in coords])[:-1]
    return MergedSweeps(merged[order], np.split(row, ends))


def collate_tmp(samples: Sequence[Sequence[TmpSample]], capacities: Capacities) -> Batch:
    """The batch of tri-modal pre-training.

    Args:
        samples: for every local device its sweeps.
        capacities: all devices take the smallest size that holds the fullest of them.

    Returns:
        Arrays with a leading axis over the devices: `plan`, `features` float32[N, 1],
        `pair_voxel` and `pair_superpoint` int32[P] (-1 padding), `superpoint_word` int32[S]
        (-1 padding or no word), `superpoint_embedding` float16[S, D] (zeros padding). Superpoints
        are numbered through the sweeps of a device, and each has at least one pair.

    Raises:
        CapacityError: more voxels, pairs or superpoints than the largest capacity, with numbers.

    """
    merged = [merge_sweeps([sample.coords for sample in sweeps]) for sweeps in samples]
    tokens = [[sample.token for sample in sweeps] for sweeps in samples]
    num_pairs = [sum(len(s.pair_voxel) for s in sweeps) for sweeps in samples]
    num_superpoints = [sum(len(s.superpoint_word) for s in sweeps) for sweeps in samples]
    fullest = tokens[int(np.argmax(num_pairs))]
    size = fitting_size(num_pairs, capacities.pairs, "pairs", fullest)
    fullest = tokens[int(np.argmax(num_superpoints))]
    size = max(size, fitting_size(num_superpoints, capacities.superpoints, "superpoints", fullest))
    clouds = [cloud.coords for cloud in merged]
    size, plans = build_plans(clouds, capacities.plans, tokens, at_least=size)
    pairs, groups = capacities.pairs[size], capacities.superpoints[size]
    devices = []
    for sweeps, cloud, plan in zip(samples, merged, plans, strict=True):
        first = np.cumsum([0] + [len(s.superpoint_word) for s in sweeps])
        voxel = [row[s.pair_voxel] for s, row in zip(sweeps, cloud.row, strict=True)]
        group = [s.pair_superpoint + np.int32(f) for s, f in zip(sweeps, first, strict=False)]
        embedding = [s.superpoint_embedding for s in sweeps]
        devices.append(
            {
                "plan": plan,
                "features": cloud.gather([s.features for s in sweeps], len(plan.coords[0])),
                "pair_voxel": pad(np.concatenate(voxel), pairs, -1),
                "pair_superpoint": pad(np.concatenate(group), pairs, -1),
                "superpoint_word": pad(
                    np.concatenate([s.superpoint_word for s in sweeps]), groups, -1
                ),
                "superpoint_embedding": pad(np.concatenate(embedding), groups, 0),
            }
        )
    return stack_devices(devices)


def collate_segmentation(
    samples: Sequence[Sequence[SegmentationSample]], capacities: Capacities
) -> Batch:
    """The batch of segmentation.

    Args:
        samples: for every local device its sweeps.
        capacities: all devices take the smallest plan that holds the fullest of them.

    Returns:
        Arrays with a leading axis over the devices: `plan`, `features` float32[N, 1], `labels`
        uint8[N], 0 for unlabelled voxels and padding.

    Raises:
        CapacityError: more voxels than the largest capacity, with numbers.

    """
    merged = [merge_sweeps([sample.coords for sample in sweeps]) for sweeps in samples]
    tokens = [[sample.token for sample in sweeps] for sweeps in samples]
    _, plans = build_plans([cloud.coords for cloud in merged], capacities.plans, tokens)
    devices = []
    for sweeps, cloud, plan in zip(samples, merged, plans, strict=True):
        rows = len(plan.coords[0])
        devices.append(
            {
                "plan": plan,
                "features": cloud.gather([sample.features for sample in sweeps], rows),
                "labels": cloud.gather([sample.labels for sample in sweeps], rows),
            }
        )
    return stack_devices(devices)


def build_plans(
    coords: Sequence[np.ndarray],
    series: Sequence[sparse.PlanSpec],
    tokens: Sequence[object],
    at_least: int = 0,
) -> tuple[int, list[sparse.Plan]]:
    """Plans of equal shape for the clouds of all local devices, and which of the series it is.

    Args:
        coords: int32[n, 4] of every device.
        series: of growing shapes.
        tokens: the keyframes of every device, for the message.
        at_least: the first of the series to be tried.

    Raises:
        CapacityError: a cloud does not fit the last of the series; names its keyframes.

    """
    size = at_least
    for cloud, names in zip(coords, tokens, strict=True):
        try:
            size = max(size, series.index(sparse.smallest_spec(cloud, series)))
        except sparse.CapacityError as error:
            raise sparse.CapacityError(f"{error}: {_remedy('voxels', names)}") from error
    return size, [sparse.build_plan(cloud, series[size], threads=1) for cloud in coords]


def fitting_size(numbers: Sequence[int], series: Sequence[int], what: str, tokens: object) -> int:
    """Which of a rising series of capacities is the first that holds every number.

    Args:
        numbers: of every device.
        series: of rising capacities.
        what: is counted: "pairs" or "superpoints", the field of `config.data` that sets the series.
        tokens: the keyframes of the fullest device, for the message.

    Raises:
        CapacityError: none does; names the keyframes.

    """
    for size, capacity in enumerate(series):
        if max(numbers) <= capacity:
            return size
    raise sparse.CapacityError(
        f"{max(numbers):,} {what} on one device, but room for {series[-1]:,}: "
        f"{_remedy(what, tokens)}"
    )


def _remedy(field: str, tokens: object) -> str:
    return f"raise the second number of config.data.{field} (keyframes on this device: {tokens})"


def pad(column: np.ndarray, capacity: int, fill: int) -> np.ndarray:
    """Append rows of `fill` up to `capacity` rows."""
    padded = np.full((capacity, *column.shape[1:]), fill, column.dtype)
    padded[: len(column)] = column
    return padded


def stack_devices(devices: Sequence[Batch]) -> Batch:
    """Stack the arrays of equal batches along a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *devices)


def _series(smallest: int, largest: int, count: int) -> tuple[int, ...]:
    steps = np.geomspace(smallest, largest, count) if count > 1 else [largest]
    return tuple(math.ceil(round(value, 6) / 64) * 64 for value in steps)  # whole cache lines
