"""Levels and neighbour maps of a sparse UNet: what they are, and how they are built.

A *level* is `coords int32[N, 4]` (batch, x, y, z) with a static number of rows N and a count of
valid ones. Rows past the count are padding (coordinates -1) and influence nothing. The batch is in
[0, 4096); x, y and z are within +-65,000, or at a coarser level what those are rounded down to.

A *neighbour map* `int32[K, N_out]` holds the input row at each kernel offset, or -1. Offsets follow
MinkowskiEngine: x is the fastest axis of k, offsets are multiplied by tensor stride and dilation.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import processors
from uov_jax.sparse import dispatch
from uov_jax.sparse.engine import engine
from uov_jax.sparse.voxels import require_voxel_size

Array = Any  # numpy on the host, jax inside jit


class CapacityError(ValueError):
    """More voxels than the static number of rows of some level."""


class Voxels(NamedTuple):
    """Voxels of one cloud."""

    coords: np.ndarray
    """int32 [V, 3]: floor of position / voxel size."""
    first: np.ndarray
    """int32 [V]: the first point in the voxel, which gives it its features and label."""
    inverse: np.ndarray
    """int32 [N]: the voxel of every point."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["forward", "transpose", "schedule", "back_schedule"],
    meta_fields=["mirrored"],
)
@dataclasses.dataclass(frozen=True)
class NeighbourMap:
    """Which input row each output row sees at each kernel offset.

    Invariant: `forward[k, n] == m` if and only if `transpose[k, m] == n`. A submanifold map is its
    own transpose, mirrored: `transpose[k] == forward[K - 1 - k]`; `NeighbourMap.submanifold` says
    so. A map with neither has no gradient with respect to its input rows.
    """

    forward: Array
    """int32 [K, N_out]."""
    transpose: Array | None = None
    """int32 [K, N_in], where it is stored."""
    mirrored: bool = False
    """Whether the transpose is `forward[::-1]`; static."""
    schedule: dispatch.Schedule | None = None
    """What a backend wants to know of `forward`, once for all products: see `scheduled`."""
    back_schedule: dispatch.Schedule | None = None
    """The same of `transpose`."""

    @classmethod
    def submanifold(cls, forward: Array) -> NeighbourMap:
        """A map int32 [K, N] that is its own transpose, mirrored.

        Raises:
            ValueError: K is even, or `forward` is a numpy array without that symmetry; names the
                first entry without a counterpart. A jax array is taken at its word.

        """
        if forward.ndim != 2 or forward.shape[0] % 2 == 0:
            raise ValueError(
                f"a submanifold map is [K, N] with K odd, not {list(np.shape(forward))}"
            )
        if isinstance(forward, np.ndarray):
            _check_mirrored(forward)
        return cls(forward, mirrored=True)

    def swapped(self) -> NeighbourMap:
        """The map of the transposed convolution, from output rows to input rows."""
        if self.transpose is None:
            raise ValueError("this map has no stored transpose to swap with")
        return NeighbourMap(
            self.transpose,
            self.forward,
            schedule=self.back_schedule,
            back_schedule=self.schedule,
        )

    def scheduled(self) -> NeighbourMap:
        """The same map with what the backend in force wants to know of it, if anything."""
        back = None if self.transpose is None else dispatch.schedule(self.transpose)
        found = dispatch.schedule(self.forward)
        return dataclasses.replace(self, schedule=found, back_schedule=back)


def _check_mirrored(forward: np.ndarray) -> None:
    offsets, rows = forward.shape
    for k, there in enumerate(forward):
        n = np.flatnonzero(there >= 0)
        m = there[n]
        back = np.where(m < rows, forward[offsets - 1 - k, np.minimum(m, rows - 1)], -1)
        if (wrong := np.flatnonzero(back != n)).size:
            entry = f"[{k}, {n[wrong[0]]}] is {m[wrong[0]]}"
            raise ValueError(
                f"this is no submanifold map: entry {entry}, but entry "
                f"[{offsets - 1 - k}, {m[wrong[0]]}] does not lead back"
            )


MOST_LEVELS = 5  # of a plan
ROOMY_FRACTIONS = (1.0, 0.75, 0.50, 0.30, 0.16)
"""For the last of a series of specs, which has to hold every sweep."""


@dataclasses.dataclass(frozen=True)
class PlanSpec:
    """Static shape of a plan. Hashable: equal specs share one compiled program.

    The default fractions suit LiDAR sweeps in cylindrical voxels: nuScenes and simulated ones have
    0.54 to 0.65, 0.28 to 0.40, 0.14 to 0.23 and 0.06 to 0.11 of their voxels on the coarser levels.
    Rows without a voxel cost memory and time, so there is little room to spare: see
    `ROOMY_FRACTIONS`.
    """

    capacity: int
    """Rows of level 0."""
    levels: int = 5
    """Level l has tensor stride 2**l."""
    first_kernel: int = 3
    """3, or 5 when level 0 needs a 5x5x5 map too."""
    fractions: tuple[float, ...] = (1.0, 0.68, 0.42, 0.24, 0.12)
    """Rows of each level as a share of `capacity`."""
    deferred: bool = False
    """Whether batches leave the maps to the compiled program: see `DeferredPlan`."""

    def __post_init__(self) -> None:
        if (
            self.capacity < 1
            or not 1 <= self.levels <= MOST_LEVELS
            or self.first_kernel not in (3, 5)
        ):
            raise ValueError(f"no plan has such a shape: {self}")
        if len(self.fractions) < self.levels:
            raise ValueError(f"{self.levels} levels need as many fractions: {self.fractions}")
        if self.fractions[0] != 1 or not all(0 < share <= 1 for share in self.fractions):
            raise ValueError(f"fractions are shares of level 0, whose own is 1: {self.fractions}")

    @property
    def capacities(self) -> tuple[int, ...]:
        """Rows of every level, at least 1."""
        return tuple(
            max(1, int(np.ceil(self.capacity * share))) for share in self.fractions[: self.levels]
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["coords", "counts", "same", "first", "down"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Plan:
    """All levels and neighbour maps of a UNet over one batch."""

    coords: tuple[Array, ...]
    """Per level int32 [N_l, 4] (batch, x, y, z); padding rows are -1."""
    counts: Array
    """int32 [levels]: valid rows."""
    same: tuple[NeighbourMap, ...]
    """Per level the 3x3x3 submanifold map."""
    first: NeighbourMap | None
    """The 5x5x5 submanifold map of level 0, where asked for."""
    down: tuple[NeighbourMap, ...]
    """From level l to l + 1, kernel 2 stride 2; `down[l].swapped()` leads back up."""

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.coords)

    def scheduled(self) -> Plan:
        """The same plan, its maps scheduled: inside `jit`, before they are used more than once."""
        return dataclasses.replace(
            self,
            same=tuple(each.scheduled() for each in self.same),
            first=None if self.first is None else self.first.scheduled(),
            down=tuple(each.scheduled() for each in self.down),
        )

    def mask(self, level: int) -> jax.Array:
        """Bool [N_l, 1]: which rows of a level are valid."""
        return (jnp.arange(self.coords[level].shape[0]) < self.counts[level])[:, None]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["coords", "counts"], meta_fields=["spec"]
)
@dataclasses.dataclass(frozen=True)
class DeferredPlan:
    """What a plan is built from, once it is where it is used: some 27 times less to send there."""

    coords: tuple[Array, ...]
    """Level 0 alone, int32 [N_0, 4]; padding rows are -1."""
    counts: Array
    """int32 [levels]: valid rows, of which none exceeds its capacity."""
    spec: PlanSpec
    """Its shape; static."""

    def scheduled(self) -> Plan:
        """The plan, with its schedules, inside `jit`."""
        return plan_in_jit(self.coords[0], self.counts[0], self.spec).scheduled()


def _at_most(threads: int | None) -> int:
    """As many threads as asked for, else as this process may use processors."""
    if threads is None:
        return processors.available()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads


def voxelize(
    points: np.ndarray,
    voxel_size: tuple[float, float, float],
    cylindrical: bool,
    threads: int | None = None,
) -> Voxels:
    """Quantise one cloud (host function); voxels come in the order of their first points.

    Args:
        points: float32 [N, 3 or more], metres.
        voxel_size: metres per axis; cylindrical: (metres of radius, degrees of azimuth, metres).
        cylindrical: voxels of (hypot(x, y), atan2(y, x), z) as UOV and SLidR use them.
        threads: at most so many; None: one for each processor that this process may use. What
            several workers do at a time, each should do on one.

    Raises:
        ValueError: a point is not finite or outside +-65,000 voxels, or sizes are not positive.

    """
    points = np.asarray(points)
    size = _checked_voxels(points, voxel_size)
    return Voxels(*engine().voxelize(points, size, cylindrical, _at_most(threads)))


def sorted_voxels(
    points: np.ndarray, voxel_size: tuple[float, float, float], cylindrical: bool
) -> Voxels:
    """The voxels of `voxelize` in the order of (x, y, z), by the caller's thread alone.

    Clouds of them that follow each other are in `locality_order`.
    """
    return Voxels(*engine().sorted_voxels(points, _checked_voxels(points, voxel_size), cylindrical))


def _checked_voxels(
    points: np.ndarray, voxel_size: tuple[float, float, float]
) -> tuple[float, ...]:
    require_voxel_size(voxel_size)
    if points.dtype != np.float32:
        raise ValueError(f"points must be float32, not {points.dtype}")
    return tuple(voxel_size)


def locality_order(coords: np.ndarray) -> np.ndarray:
    """Permutation int32 [V] that sorts int32 [V, 4] coordinates by (batch, x, y, z), or [V, 3].

    Neighbours then lie within a few slices of x of each other: near in memory, and the order in
    which plans are built without another sort.

    Raises:
        ValueError: a coordinate is duplicate or out of range; names the row.

    """
    return engine().sorted_order(_as_int32(coords))


def _as_int32(coords: np.ndarray) -> np.ndarray:
    """Coordinates as the engine takes them; what int32 cannot hold stays out of range."""
    coords = np.asarray(coords)
    if not np.issubdtype(coords.dtype, np.integer):
        raise ValueError(f"coords must be int32 [N, 4], not {coords.dtype}{list(coords.shape)}")
    if coords.dtype != np.int32:
        limits = np.iinfo(np.int32)
        coords = np.clip(coords, limits.min, limits.max).astype(np.int32)
    return np.ascontiguousarray(coords)


def level_counts(coords: np.ndarray, levels: int) -> np.ndarray:
    """int32 [levels]: voxels of level 0 and of the coarser ones, without building any.

    The counts of clouds of different batches add up.

    Args:
        coords: int32 [n, 4] (batch, x, y, z), or [n, 3] of one cloud, in any order.
        levels: 1 to 5.

    Raises:
        ValueError: a coordinate is duplicate or out of range; names the row.

    """
    return np.array(engine().level_counts(_as_int32(coords), levels), np.int32)


def _refuse(counts: Sequence[int] | np.ndarray, spec: PlanSpec) -> CapacityError:
    level = next(i for i, n in enumerate(counts) if n > spec.capacities[i])
    return CapacityError(
        f"level {level} of the plan has {counts[level]:,} voxels but room for "
        f"{spec.capacities[level]:,} (capacity {spec.capacity:,}, voxels per level "
        f"{[int(n) for n in counts]}, room {list(spec.capacities)})"
    )


def empty_plan(
    spec: PlanSpec, devices: int, allocate: Callable[..., np.ndarray] = np.empty
) -> Plan | DeferredPlan:
    """Arrays for the plans of so many devices, under a leading axis, for `fill_plan`.

    Args:
        spec: static shape; says if the plan is deferred.
        devices: how many.
        allocate: makes an array, of a shape and a dtype; its content does not matter.

    """

    def array(*shape: int) -> np.ndarray:
        return allocate((devices, *shape), np.int32)

    sizes = spec.capacities
    level0, counts = array(sizes[0], 4), array(len(sizes))
    if spec.deferred:
        return DeferredPlan((level0,), counts, spec)
    return Plan(
        coords=(level0, *(array(size, 4) for size in sizes[1:])),
        counts=counts,
        same=tuple(NeighbourMap(array(27, size), mirrored=True) for size in sizes),
        first=NeighbourMap(array(125, sizes[0]), mirrored=True) if spec.first_kernel == 5 else None,
        down=tuple(
            NeighbourMap(array(8, coarse), array(8, fine))
            for fine, coarse in itertools.pairwise(sizes)
        ),
    )


def fill_plan(
    plan: Plan | DeferredPlan,
    coords: np.ndarray,
    spec: PlanSpec,
    threads: int | None = None,
    counts: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Build the plan of one device in arrays that are there (of `empty_plan`).

    Args:
        plan: the arrays of one device.
        coords: int32 [n, 4] (batch, x, y, z), in any order; rows keep it. They may be the first
            rows of the plan's own.
        spec: static shape.
        threads: as in `voxelize`.
        counts: of `level_counts`, where they are known.

    Raises:
        CapacityError: a level has more voxels than rows; the arrays hold nothing of use.
        ValueError: a coordinate is duplicate or out of range; names the row.

    """
    coords = _as_int32(coords)
    if len(coords) > spec.capacity or isinstance(plan, DeferredPlan):
        if counts is None:
            counts = engine().level_counts(coords, spec.levels)
    else:
        counts = engine().fill_plan(
            coords,
            [each.forward for each in plan.same],
            None if plan.first is None else plan.first.forward,
            [each.forward for each in plan.down],
            [each.transpose for each in plan.down],
            list(plan.coords[1:]),
            _at_most(threads),
        )
    if any(n > room for n, room in zip(counts, spec.capacities, strict=True)):
        raise _refuse(counts, spec)
    level0 = plan.coords[0]
    level0[: len(coords)] = coords
    level0[len(coords) :] = -1
    plan.counts[:] = counts


def defer_plan(coords: np.ndarray, spec: PlanSpec) -> DeferredPlan:
    """What it takes to build a plan inside a compiled program; checked here, as `build_plan` does.

    Args and errors as of `fill_plan`.
    """
    return _one_plan(coords, dataclasses.replace(spec, deferred=True), None)


def build_plan(coords: np.ndarray, spec: PlanSpec, threads: int | None = None) -> Plan:
    """Build a plan on the host, as numpy arrays; args and errors as of `fill_plan`."""
    return _one_plan(coords, dataclasses.replace(spec, deferred=False), threads)


def _one_plan(coords: np.ndarray, spec: PlanSpec, threads: int | None) -> Any:
    plan = jax.tree.map(lambda array: array[0], empty_plan(spec, 1))
    fill_plan(plan, coords, spec, threads)
    return plan


def pad_plan(
    plan: Plan | DeferredPlan, spec: PlanSpec, allocate: Callable[..., np.ndarray] = np.empty
) -> Plan | DeferredPlan:
    """The same plan in arrays of a larger spec, without building it again.

    Args:
        plan: numpy arrays, under any leading axes.
        spec: with at least as many rows on every level; levels, first kernel and whether it is
            deferred are the plan's.
        allocate: as of `empty_plan`, of arrays with the same leading axes.

    Raises:
        ValueError: it is no such spec.

    """
    if (
        isinstance(plan, DeferredPlan) != spec.deferred
        or len(spec.capacities) != np.shape(plan.counts)[-1]
    ):
        raise ValueError(f"no plan of this kind has the shape {spec}")
    if isinstance(plan, DeferredPlan):
        (coords,) = _padded_levels(plan.coords, spec.capacities, -2, allocate)
        return DeferredPlan((coords,), plan.counts, spec)
    if (plan.first is None) != (spec.first_kernel == 3):
        raise ValueError(f"no plan of this kind has the shape {spec}")
    sizes = spec.capacities

    def maps(arrays: Sequence[Array], rows: Sequence[int]) -> tuple[np.ndarray, ...]:
        return _padded_levels(arrays, rows, -1, allocate)

    same = maps([each.forward for each in plan.same], sizes)
    first = None if plan.first is None else maps([plan.first.forward], sizes)[0]
    down = maps([each.forward for each in plan.down], sizes[1:])
    back = maps([each.transpose for each in plan.down], sizes)
    return Plan(
        coords=_padded_levels(plan.coords, sizes, -2, allocate),
        counts=plan.counts,
        same=tuple(NeighbourMap(each, mirrored=True) for each in same),
        first=None if first is None else NeighbourMap(first, mirrored=True),
        down=tuple(NeighbourMap(f, t) for f, t in zip(down, back, strict=True)),
    )


def _padded_levels(
    arrays: Sequence[Array], rows: Sequence[int], axis: int, allocate: Callable[..., np.ndarray]
) -> tuple[np.ndarray, ...]:
    return tuple(
        pad_rows(array, size, axis, -1, allocate) for array, size in zip(arrays, rows, strict=False)
    )


def pad_rows(
    array: np.ndarray,
    rows: int,
    axis: int,
    fill: int,
    allocate: Callable[..., np.ndarray] = np.empty,
) -> np.ndarray:
    """The array with so many rows along one axis, the new ones `fill`; ValueError if it has more.

    As it is where it has them already.
    """
    if array.shape[axis] == rows:
        return array
    if array.shape[axis] > rows:
        raise ValueError(f"{array.shape[axis]} rows do not fit {rows}")
    shape = list(array.shape)
    shape[axis] = rows
    padded = allocate(tuple(shape), array.dtype)
    moved = np.moveaxis(padded, axis, 0)
    moved[: array.shape[axis]] = np.moveaxis(array, axis, 0)
    moved[array.shape[axis] :] = fill
    return padded


def smallest_spec(coords: np.ndarray, series: Sequence[PlanSpec]) -> PlanSpec:
    """The first of a series of growing specs whose levels all hold the voxels.

    Raises:
        CapacityError: none does.
        ValueError: a coordinate is duplicate or out of range; names the row.

    """
    if not series:
        raise ValueError("the series of plan shapes is empty")
    return spec_for(level_counts(coords, series[-1].levels), series)


def spec_for(counts: Sequence[int] | np.ndarray, series: Sequence[PlanSpec]) -> PlanSpec:
    """The first of a series of growing specs with so many rows on every level; CapacityError."""
    for spec in series:
        if all(n <= room for n, room in zip(counts, spec.capacities, strict=True)):
            return spec
    raise _refuse(counts, series[-1])


def build_plan_in_series(coords: np.ndarray, series: Sequence[PlanSpec]) -> Plan:
    """`build_plan` with `smallest_spec`."""
    return build_plan(coords, smallest_spec(coords, series))


def plan_in_jit(coords: jax.Array, count: jax.Array, spec: PlanSpec) -> Plan:
    """Build a plan inside `jit`, by the same code as on the host.

    Args:
        coords: int32 [capacity, 4]; rows from `count` on are ignored.
        count: int32 [], valid rows.
        spec: static shape.

    Returns:
        The plan. `counts` are the true numbers of voxels: where one exceeds its capacity, nothing
        is connected (every map entry is -1) and the caller must refuse the result; but for the
        `cpu` backend, coarser levels are then counted without the voxels that had no room. That
        backend raises on duplicate or out-of-range coordinates; the others cannot raise inside
        `jit`: there they fit no capacity, and all counts are the largest int32.

    Raises:
        ValueError: `coords` has another shape or dtype.

    """
    if coords.shape != (spec.capacity, 4) or coords.dtype != jnp.int32:
        raise ValueError(
            f"coords must be int32[{spec.capacity}, 4], not {coords.dtype}{list(coords.shape)}"
        )
    sizes = spec.capacities
    first_kernel_5 = spec.first_kernel == 5
    shape = {"capacities": sizes, "first_kernel_5": first_kernel_5}
    flat = list(dispatch.run("plan", coords, count, **shape))
    same = tuple(NeighbourMap(flat.pop(0), mirrored=True) for _ in sizes)
    first_map = NeighbourMap(flat.pop(0), mirrored=True) if first_kernel_5 else None
    valid = (jnp.arange(spec.capacity) < count)[:, None]
    levels = [jnp.where(valid, coords, -1)]
    down = []
    for _ in sizes[1:]:
        down.append(NeighbourMap(flat.pop(0), flat.pop(0)))
        levels.append(flat.pop(0))
    return Plan(tuple(levels), flat.pop(0), same, first_map, tuple(down))


def submanifold_map(
    coords: Array, count: Array | int, kernel: int, tensor_stride: int = 1, dilation: int = 1
) -> NeighbourMap:
    """Submanifold map of any odd kernel and dilation, on the host or inside `jit`.

    Args:
        coords: int32 [N, 4], multiples of `tensor_stride`; numpy gives a numpy map.
        count: valid rows.
        kernel: 3 or 5 (any odd number up to 5).
        tensor_stride: power of two.
        dilation: 1 or 2.

    Raises:
        ValueError: kernel, stride or dilation out of range; on the host also bad coordinates.
            Inside `jit` the `cpu` backend raises on those; the others cannot, and connect nothing.

    """
    if kernel not in (1, 3, 5) or dilation not in (1, 2) or tensor_stride not in (1, 2, 4, 8, 16):
        raise ValueError(
            f"kernel {kernel}, tensor stride {tensor_stride}, dilation {dilation}: expected kernel "
            "1, 3 or 5, a stride of 1, 2, 4, 8 or 16, dilation 1 or 2"
        )
    if isinstance(coords, np.ndarray):
        valid = _as_int32(coords[: int(count)])
        capacity, threads = len(coords), _at_most(None)
        found = engine().submanifold_map(valid, kernel, tensor_stride, dilation, capacity, threads)
        return NeighbourMap(found, mirrored=True)
    count = jnp.asarray(count, jnp.int32)
    of = {"kernel": kernel, "tensor_stride": tensor_stride, "dilation": dilation}
    return NeighbourMap(dispatch.run("submanifold_map", coords, count, **of), mirrored=True)
