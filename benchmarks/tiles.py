"""What the CUDA kernels' tiles make of products along neighbour maps: what is multiplied in vain.

A warp multiplies all its 32 rows at every offset where one of them has a neighbour, so rows are
sorted by the offsets that they have; and a block multiplies whole tiles of channels. Which tiles,
the table in csrc/cuda/tiles.h says, which is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accelerators import GPUS, WIDTH, Accelerator
from benchmarks.report import table
from benchmarks.work import Convolution, Site, Task, Workload, tasks

HEADER = Path(__file__).parents[1] / "csrc" / "cuda" / "tiles.h"
# Rows of a warp, and channels or pairs that are summed over in one step: kWarpRows and kDepth.
WARP_ROWS, DEPTH = 32, 32
# Rows are sorted within stretches of so many: kStretchBits in schedule.cu.
STRETCH_BITS = 16
ARCHITECTURE = 800


@dataclass(frozen=True)
class Tile:
    """Of a product: rows and channels; of a weight gradient: channels of both sides."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Table:
    """Tiles, and which is taken: (numbers, architecture, rows, channels in, channels out, tile)."""

    tiles: tuple[Tile, ...]
    choices: tuple[tuple[str, int, int, int, int, int], ...]

    def chosen(self, numbers: str, rows: int, c_in: int, c_out: int) -> Tile:
        """The first choice that all sizes reach."""
        for name, architecture, *least, tile in self.choices:
            reached = all(a <= b for a, b in zip(least, (rows, c_in, c_out), strict=True))
            if name == numbers.lower() and architecture <= ARCHITECTURE and reached:
                return self.tiles[tile]
        return self.tiles[0]


def read_tables(header: Path = HEADER) -> tuple[Table, Table]:
    """Those of `gather_gemm` and of `gather_gemm_dw`."""
    text = header.read_text("utf-8")

    def one(name: str) -> Table:
        tiles = re.findall(r"\{(\d+), (\d+), \d+, \d+\}", _initializer(text, f"k{name}Tiles"))
        choices = re.findall(
            r"Precision::k(\w+), (\d+), (\d+), (\d+), (\d+), (\d+)\}",
            _initializer(text, f"k{name}Choices"),
        )
        return Table(
            tuple(Tile(int(rows), int(columns)) for rows, columns in tiles),
            tuple((name.lower(), *(int(n) for n in numbers)) for name, *numbers in choices),
        )

    return one("Gather"), one("Gradient")


def _initializer(text: str, name: str) -> str:
    found = re.search(rf"\b{name}\[\] = \{{(.*?)\n?\}};", text, re.S)
    if found is None:
        raise ValueError(f"there is no table {name} in the header of tiles")
    return found[1]


def masks(forward: np.ndarray) -> np.ndarray:
    """Uint64 [N]: a bit of a row is set where it has a neighbour at an offset; K is at most 48.

    The rarest offset has the highest bit, as in csrc/cuda/schedule.cu.
    """
    exists = forward >= 0
    bits = np.zeros(forward.shape[1], np.uint64)
    for place, k in enumerate(np.argsort(-np.sum(exists, axis=1), kind="stable")):
        bits |= exists[k].astype(np.uint64) << np.uint64(place)
    return bits


def sorted_masks(bits: np.ndarray) -> np.ndarray:
    """In the order of the kernels: by stretch, then by mask."""
    stretch = np.arange(len(bits)) >> STRETCH_BITS
    return bits[np.lexsort((bits, stretch))]


def tiled_rows(bits: np.ndarray, rows: int) -> int:
    """Rows that tiles multiply: each all of its own, at every offset where one has a neighbour."""
    padded = np.concatenate([bits, np.zeros(-len(bits) % rows, np.uint64)])
    joined = np.bitwise_or.reduce(padded.reshape(-1, rows), axis=1)
    return rows * int(np.sum(np.bitwise_count(joined)))


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
        pairs, bits = int(np.sum(forward >= 0)), masks(forward)
        found = [(bits, WARP_ROWS), *((sorted_masks(bits), n) for n in (WARP_ROWS, 64, 128))]
        ratios = [tiled_rows(several, height) / pairs for several, height in found]
        rows.append([name, f"{pairs:,}", *(f"{r:.2f}" for r in ratios)])
    return table(["map", "pairs", "unsorted, 32", "sorted, 32", "64", "128"], rows)


def up_to(value: int, unit: int) -> int:
    """The next multiple."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Tiled:
    """A product as tiles compute it.

    blocks: 0 where as many share it as it takes. cached: bytes that blocks read through the
    second-level cache, rows and weights.
    """

    operations: float
    blocks: int
    cached: float


class Tiles:
    """What the tiles of the table make of the products of a workload."""

    def __init__(self, work: Workload, numbers: str, tables: tuple[Table, Table]) -> None:
        self._numbers, self._tables = numbers, tables
        self._sorted: dict[int, np.ndarray] = {}
        self.products = [
            (task, self._tiled(task, layer, at))
            for layer, at in work.layers
            for task in tasks(layer, at, WIDTH[numbers])
        ]

    def _tiled(self, task: Task, layer: Convolution, at: Site) -> Tiled | None:
        """None for what is no product."""
        if not task.operations:
            return None
        if task.op == "gradient of w":
            return self._gradient(layer, at)
        if task.op == "gradient of x":
            return self._product(at.back, at.pairs, at.rows_in, layer.c_out, layer.c_in)
        return self._product(at.forward, at.pairs, at.rows_out, layer.c_in, layer.c_out)

    def _product(
        self, forward: np.ndarray | None, pairs: int, rows: int, c_in: int, c_out: int
    ) -> Tiled:
        tile = self._tables[0].chosen(self._numbers, rows, c_in, c_out)
        if forward is None:
            multiplied, steps = up_to(rows, tile.rows), -(-rows // tile.rows)
        else:
            bits = self._sorted.setdefault(id(forward), sorted_masks(masks(forward)))
            multiplied = tiled_rows(bits, WARP_ROWS)
            steps = tiled_rows(bits, tile.rows) // tile.rows
        across = -(-c_out // tile.columns)
        read = (pairs + steps * tile.columns) * across * c_in * WIDTH[self._numbers]
        operations = 2.0 * multiplied * up_to(c_in, DEPTH) * across * tile.columns
        return Tiled(operations, -(-rows // tile.rows) * across, read)

    def _gradient(self, layer: Convolution, at: Site) -> Tiled:
        tile = self._tables[1].chosen(self._numbers, at.rows_out, layer.c_in, layer.c_out)
        found = [at.pairs] if at.forward is None else np.sum(at.forward >= 0, axis=1).tolist()
        rows = sum(up_to(pairs, DEPTH) for pairs in found)
        down, across = -(-layer.c_in // tile.rows), -(-layer.c_out // tile.columns)
        read = at.pairs * (across * layer.c_in + down * layer.c_out) * WIDTH[self._numbers]
        return Tiled(2.0 * rows * down * tile.rows * across * tile.columns, 0, read)

    def row(self) -> list[str]:
        """Cells of the table: what is multiplied and read, and times on both GPUs."""
        useful = padded = cached = 0.0
        full, idle = ([0.0] * len(GPUS) for _ in range(2))
        for task, tiled in self.products:
            if tiled is not None:
                useful, padded = useful + task.operations, padded + tiled.operations
                cached += tiled.cached
            for i, machine in enumerate(GPUS):
                full[i] += self._seconds(task, tiled, machine, False)
                idle[i] += self._seconds(task, tiled, machine, True)
        times = [f"{seconds * 1e3:.2f}" for seconds in (*full, *idle)]
        return [self._numbers, f"{padded / useful:.2f}", f"{cached * 1e-9:.1f}", *times]

    def _seconds(
        self, task: Task, tiled: Tiled | None, machine: Accelerator, count_idle: bool
    ) -> float:
        if tiled is None:
            return machine.seconds(0.0, task.bytes, self._numbers)
        share = 1.0
        if count_idle and tiled.blocks:
            share = tiled.blocks / up_to(tiled.blocks, machine.multiprocessors)
        return machine.seconds(tiled.operations / share, task.bytes, self._numbers)


def tiles(work: Workload, tables: tuple[Table, Table]) -> str:
    """A step in tiles: what is multiplied for every useful operation, and times."""
    rows = [Tiles(work, numbers, tables).row() for numbers in WIDTH]
    head = [
        "numbers",
        "multiplied / useful",
        "GB through the cache",
        *(f"{a.name} ms" for a in GPUS),
    ]
    return table([*head, *(f"{a.name} ms, idle ones counted" for a in GPUS)], rows)
