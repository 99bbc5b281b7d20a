"""What a training step of a network has to do on a plan: its products, operations and bytes.

Counted from maps and channels, for whoever holds times against them; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import sweeps
from uov_jax import sparse
from uov_jax.models.minkunet import STAGES, STEM_CHANNELS, VARIANTS, Variant
from uov_jax.sparse import NeighbourMap, Plan

CLASSES = 17

SAME, DOWN, UP, POINTWISE = "3x3x3", "2x2x2 down", "2x2x2 up", "1x1x1"


@dataclass(frozen=True)
class Convolution:
    """A layer of the network.

    level: of its output. has_shortcut: whether its norm adds one. wants_dx: whether its input has a
    gradient, as all have but the first.
    """

    kind: str
    level: int
    c_in: int
    c_out: int
    has_norm: bool = True
    has_shortcut: bool = False
    wants_dx: bool = True


def convolutions(shape: Variant, in_channels: int, out_channels: int) -> list[Convolution]:
    """The layers of a network of the MinkUNet family, first to last."""
    found = [Convolution(SAME, 0, in_channels, STEM_CHANNELS, wants_dx=False)]
    width, skips = STEM_CHANNELS, [STEM_CHANNELS]
    for stage, (planes, blocks) in enumerate(zip(shape.planes, shape.blocks, strict=True)):
        if stage < STAGES:
            level = stage + 1
            found.append(Convolution(DOWN, level, width, width))
        else:
            level = 2 * STAGES - 1 - stage
            found.append(Convolution(UP, level, width, planes))
            width = planes + skips[level]
        for _ in range(blocks):
            found.append(Convolution(SAME, level, width, planes))
            if width != planes:
                found.append(Convolution(POINTWISE, level, width, planes))
            found.append(Convolution(SAME, level, planes, planes, has_shortcut=True))
            width = planes
        skips.append(width)
    return [*found, Convolution(POINTWISE, 0, width, out_channels, has_norm=False)]


@dataclass(frozen=True)
class Site:
    """Where a convolution happens: its map and the rows at both ends.

    forward int32 [K, capacity_out] and back [K, capacity_in], that of the gradient of x: None for a
    pointwise one. rows are valid ones; capacities are those of the arrays.
    """

    forward: np.ndarray | None
    back: np.ndarray | None
    offsets: int
    pairs: int
    rows_in: int
    rows_out: int
    capacity_in: int
    capacity_out: int


def site(plan: Plan, layer: Convolution) -> Site:
    """The site of a layer on a plan."""
    rows = [int(n) for n in np.asarray(plan.counts)]
    room = [len(coords) for coords in plan.coords]
    level = layer.level
    if layer.kind == POINTWISE:
        valid, capacity = rows[level], room[level]
        return Site(None, None, 1, valid, valid, valid, capacity, capacity)
    came_from = {SAME: level, DOWN: level - 1, UP: level + 1}[layer.kind]
    neighbours = _map(plan, layer)
    forward = neighbours.forward
    return Site(
        forward,
        forward if neighbours.transpose is None else neighbours.transpose,
        len(forward),
        int(np.sum(forward >= 0)),
        rows[came_from],
        rows[level],
        room[came_from],
        room[level],
    )


def _map(plan: Plan, layer: Convolution) -> NeighbourMap:
    if layer.kind == SAME:
        return plan.same[layer.level]
    if layer.kind == DOWN:
        return plan.down[layer.level - 1]
    return plan.down[layer.level].swapped()


@dataclass(frozen=True)
class Task:
    """One op of a step: what it is, where, and the least that it must compute and move.

    Bytes are those of arrays read or written once each, as if a cache held whatever is needed
    again.
    """

    op: str
    level: int
    operations: float
    bytes: float


def tasks(layer: Convolution, at: Site, width: int) -> list[Task]:
    """The ops of a layer and its norm in a training step, for rows of numbers of `width` bytes.

    Weights are read as wide as rows, their gradient is float32. A map is read as int32 [K, N], for
    a weight gradient as two int32 a pair.
    """
    pairs, into, out = at.pairs, at.rows_in * layer.c_in, at.rows_out * layer.c_out
    weights = at.offsets * layer.c_in * layer.c_out
    map_out, map_in = (
        (0, 0)
        if at.forward is None
        else (4 * at.offsets * at.rows_out, 4 * at.offsets * at.rows_in)
    )
    operations = 2.0 * pairs * layer.c_in * layer.c_out
    moved = width * (into + out)
    found = [Task("product", layer.level, operations, moved + width * weights + map_out)]
    if layer.wants_dx:
        found.append(
            Task("gradient of x", layer.level, operations, moved + width * weights + map_in)
        )
    lists = 0 if at.forward is None else 8 * pairs
    found.append(Task("gradient of w", layer.level, operations, moved + 4 * weights + lists))
    if layer.has_norm:
        # Forward: moments, then rows. Backward: two sums, then rows. See norm.py.
        extra = int(layer.has_shortcut)
        found.append(Task("norm", layer.level, 0.0, width * out * (1 + 2 + extra)))
        found.append(Task("norm, backward", layer.level, 0.0, width * out * (3 + 4 + extra)))
    return found


@dataclass(frozen=True)
class Workload:
    """A name, the plan of a batch, and every layer of the network with its site."""

    name: str
    plan: Plan
    layers: tuple[tuple[Convolution, Site], ...]

    @classmethod
    def of(cls, sweep: sweeps.VoxelSweep) -> Workload:
        """The workload of voxels: as many rows as voxels at level 0, the usual room below."""
        plan = sparse.build_plan(sweep.coords, sweeps.fitting_spec(sweep.coords))
        found = convolutions(VARIANTS["res16unet34c"], 1, CLASSES)
        return cls(sweep.name, plan, tuple((layer, site(plan, layer)) for layer in found))

    def tasks(self, width: int) -> list[Task]:
        """All ops of a step, for rows of numbers of `width` bytes."""
        return [t for layer, at in self.layers for t in tasks(layer, at, width)]
