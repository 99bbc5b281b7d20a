"""What tiles of rows make of products along neighbour maps: rows that are multiplied in vain.

A tile multiplies all its rows at every offset where one of them has a neighbour. Rows sorted by
their mask (which neighbours exist) share their offsets with the others of their tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.accelerators import BFLOAT16, GPUS, TF32, WIDTH, Accelerator
from benchmarks.report import table
from benchmarks.work import Convolution, Site, Task, Workload, tasks

# Rows of tiles, and how many channels a block of threads computes.
HEIGHTS = (32, 64, 128)
COLUMNS = 64
# What one step of a tensor core sums over, and how many channels it computes.
DEPTH = {TF32: 8, BFLOAT16: 16}
CHANNELS = 8


def masks(forward: np.ndarray) -> np.ndarray:
    """Uint64 [N]: bit k of a row is set where it has a neighbour at offset k; K is at most 64."""
    bits = np.zeros(forward.shape[1], np.uint64)
    for k, index in enumerate(forward):
        bits |= (index >= 0).astype(np.uint64) << np.uint64(k)
    return bits


def tiled_rows(bits: np.ndarray, tile: int) -> int:
    """Rows that tiles multiply: each all of its own, at every offset where one has a neighbour."""
    padded = np.concatenate([bits, np.zeros(-len(bits) % tile, np.uint64)])
    joined = np.bitwise_or.reduce(padded.reshape(-1, tile), axis=1)
    return tile * int(np.sum(np.bitwise_count(joined)))


def padding(work: Workload) -> str:
    """How many rows tiles multiply for every pair, in the order of memory and sorted by mask."""
    maps = [
        *((f"3x3x3, level {i}", m.forward) for i, m in enumerate(work.plan.same)),
        *((f"down to level {i + 1}", m.forward) for i, m in enumerate(work.plan.down)),
        *((f"up to level {i}", m.transpose) for i, m in enumerate(work.plan.down)),
    ]
    rows = []
    for name, forward in maps:
        assert forward is not None
        bits, pairs = masks(forward), int(np.sum(forward >= 0))
        ratios = [tiled_rows(b, tile) / pairs for b in (bits, np.sort(bits)) for tile in HEIGHTS]
        rows.append([name, f"{pairs:,}", *(f"{r:.2f}" for r in ratios)])
    head = [f"{name} {tile}" for name in ("unsorted", "sorted") for tile in HEIGHTS]
    return table(["map", "pairs", *head], rows)


def up_to(value: int, unit: int) -> int:
    """The next multiple."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Tiled:
    """A product as tiles compute it: its operations, and how many blocks do."""

    operations: float
    blocks: int


class Tiles:
    """What tiles of 32, 64 or 128 rows and `COLUMNS` channels make of a workload's products."""

    def __init__(self, work: Workload, numbers: str) -> None:
        self._numbers = numbers
        self._rows: dict[tuple[int, int], int] = {}
        self.products = [
            (task, [self._tiled(task, layer, at, tile) for tile in HEIGHTS])
            for layer, at in work.layers
            for task in tasks(layer, at, WIDTH[numbers])
        ]

    def _tiled(self, task: Task, layer: Convolution, at: Site, tile: int) -> Tiled | None:
        """None for what is no product."""
        if not task.operations:
            return None
        into, out, depth = layer.c_in, layer.c_out, DEPTH[self._numbers]
        if task.op == "gradient of w":
            # Pairs are summed over, by offset; as many blocks as it takes share them.
            found = [at.pairs] if at.forward is None else np.sum(at.forward >= 0, axis=1).tolist()
            rows = sum(up_to(pairs, max(depth, 32)) for pairs in found)
            return Tiled(2.0 * rows * up_to(into, 16) * up_to(out, CHANNELS), 0)
        forward, rows = at.forward, at.rows_out
        if task.op == "gradient of x":
            forward, rows, into, out = at.back, at.rows_in, out, into
        padded = up_to(rows, tile) if forward is None else self._multiplied(forward, tile)
        # A block of a tensor core has 8 channels, a block of threads `COLUMNS`.
        operations = 2.0 * padded * up_to(into, depth) * up_to(out, CHANNELS)
        return Tiled(operations, -(-rows // tile) * -(-out // COLUMNS))

    def _multiplied(self, forward: np.ndarray, tile: int) -> int:
        key = id(forward), tile
        if key not in self._rows:
            self._rows[key] = tiled_rows(np.sort(masks(forward)), tile)
        return self._rows[key]

    def row(self, choice: int | None) -> list[str]:
        """Cells of the table: tiles of one height, or (None) for each product the quickest."""
        ideal = padded = 0.0
        full, idle = ([0.0] * len(GPUS) for _ in range(2))
        for task, variants in self.products:
            for i, machine in enumerate(GPUS):
                picked = self._pick(task, variants, choice, machine)
                if picked is None:
                    full[i] += machine.seconds(0, task.bytes, self._numbers)
                    idle[i] += machine.seconds(0, task.bytes, self._numbers)
                    continue
                ideal, padded = ideal + task.operations, padded + picked.operations
                full[i] += machine.seconds(picked.operations, task.bytes, self._numbers)
                idle[i] += self._with_idle(task, picked, machine)
        what = "the quickest of each" if choice is None else f"{HEIGHTS[choice]} rows"
        times = [f"{seconds * 1e3:.2f}" for seconds in (*full, *idle)]
        return [f"{self._numbers}, {what}", f"{padded / ideal:.2f}", *times]

    def _pick(
        self, task: Task, variants: list[Tiled | None], choice: int | None, machine: Accelerator
    ) -> Tiled | None:
        if choice is not None:
            return variants[choice]
        there = [v for v in variants if v is not None]
        return min(there, key=lambda v: self._with_idle(task, v, machine), default=None)

    def _with_idle(self, task: Task, tiled: Tiled, machine: Accelerator) -> float:
        fill = tiled.blocks / up_to(tiled.blocks, machine.multiprocessors) if tiled.blocks else 1.0
        return machine.seconds(tiled.operations / fill, task.bytes, self._numbers)


def tiles(work: Workload) -> str:
    """A step in tiles: what is multiplied for every useful operation, and times."""
    rows = []
    for numbers in (TF32, BFLOAT16):
        counted = Tiles(work, numbers)
        rows += [counted.row(choice) for choice in (0, 1, 2, None)]
    head = ["products", "multiplied / useful", *(f"{a.name} ms" for a in GPUS)]
    return table([*head, *(f"{a.name} ms, idle ones counted" for a in GPUS)], rows)
