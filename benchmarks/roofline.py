"""Res16UNet34C on paper: what a training step has to do, and how long it takes at the least.

    python -m benchmarks.roofline --forms --sweep SWEEP.pcd.bin --scan SCAN.bin

prints the tables of docs/performance.md. Nothing is run and nothing measured: operations and bytes
are counted from the neighbour maps of the given sweeps (a simulated one without any), and divided
by the figures of data sheets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import forms, plan_launches, sweeps, tiles
from benchmarks.accelerators import ACCELERATORS, BFLOAT16, FLOAT32, TF32, WIDTH, least
from benchmarks.report import table
from benchmarks.work import Task, Workload
from uov_jax.sparse import xla

# Kernels of our CUDA ops at most: what partial sums there are is joined by a second one, and
# products of few rows are such sums.
LAUNCHES = {
    "product": 2,
    "gradient of x": 2,
    "gradient of w": 2,
    "norm": 3,
    "norm, backward": 3,
}


def levels(work: Workload) -> str:
    """Voxels and neighbours of every level."""
    rows = []
    for level, (neighbours, count) in enumerate(
        zip(work.plan.same, np.asarray(work.plan.counts), strict=True)
    ):
        pairs, n = int(np.sum(neighbours.forward >= 0)), int(count)
        share = f"{pairs / (27 * n):.0%}"
        rows.append([str(level), f"{n:,}", f"{pairs:,}", f"{pairs / n:.1f}", share])
    return table(["level", "voxels", "pairs of 3x3x3", "a voxel", "of 27"], rows)


def per_level(work: Workload, numbers: str) -> str:
    """Operations, bytes and least times of every op at every level."""
    sums: dict[tuple[int, str], list[Task]] = {}
    for task in work.tasks(WIDTH[numbers]):
        sums.setdefault((task.level, task.op), []).append(task)
    rows = []
    for (level, op), group in sorted(
        sums.items(), key=lambda item: (item[0][0], list(LAUNCHES).index(item[0][1]))
    ):
        amounts = [
            f"{sum(t.operations for t in group) * 1e-9:.1f}",
            f"{sum(t.bytes for t in group) * 1e-6:.0f}",
        ]
        times = [f"{least(group, a, numbers) * 1e6:.0f}" for a in ACCELERATORS]
        rows.append([str(level), op, str(len(group)), *amounts, *times])
    return table(
        ["level", "op", "layers", "GFLOP", "MB", *(f"{a.name} us" for a in ACCELERATORS)], rows
    )


def totals(work: Workload) -> str:
    """A whole step's operations, bytes and least times in every format."""
    rows = []
    for numbers in WIDTH:
        group = work.tasks(WIDTH[numbers])
        forward = [t for t in group if t.op in ("product", "norm")]
        rows.append(
            [
                numbers,
                f"{sum(t.operations for t in group) * 1e-9:.0f}",
                f"{sum(t.bytes for t in group) * 1e-9:.2f}",
                *(f"{least(forward, a, numbers) * 1e3:.2f}" for a in ACCELERATORS),
                *(f"{least(group, a, numbers) * 1e3:.2f}" for a in ACCELERATORS),
            ]
        )
    head = ["numbers", "GFLOP", "GB"]
    head += [f"{a.name} forward ms" for a in ACCELERATORS]
    return table([*head, *(f"{a.name} step ms" for a in ACCELERATORS)], rows)


def optimiser(work: Workload) -> str:
    """What SGD with momentum moves: weights, gradients and momentum, two of them written too."""
    weights = sum(at.offsets * layer.c_in * layer.c_out for layer, at in work.layers)
    moved = 5 * 4 * weights
    times = ", ".join(f"{moved / a.bandwidth * 1e3:.2f} ms on {a.name}" for a in ACCELERATORS)
    size = f"{weights * 1e-6:.1f} million weights: {moved * 1e-9:.2f} GB"
    return f"SGD with momentum for {size}, {times}.\n"


def launches(work: Workload) -> str:
    """Kernels and memsets of a step: its plan and schedules, its convolutions and norms."""
    group = work.tasks(WIDTH[FLOAT32])
    calls = plan_launches.of_plan(work.plan)
    for op, each in LAUNCHES.items():
        calls[op] = [plan_launches.Launches(each, 0)] * sum(t.op == op for t in group)
    rows, all_of = [], [0, 0]
    for op, of_calls in calls.items():
        sums = [sum(numbers) for numbers in zip(*of_calls, strict=True)]
        most = max(each.kernels for each in of_calls)
        rows.append([op, str(len(of_calls)), str(most), *map(str, sums)])
        all_of = [total + more for total, more in zip(all_of, sums, strict=True)]
    rows.append(["together", "", "", *map(str, all_of)])
    return table(["op", "calls", "kernels each, at most", "kernels", "memsets"], rows)


def spared(work: Workload) -> str:
    """What is not read again where moments are taken of a convolution's sums: its result."""
    numbers = sum(
        at.rows_out * layer.c_out
        for layer, at in work.layers
        if layer.has_norm and at.forward is not None
    )
    amounts = [f"{numbers * WIDTH[name] * 1e-6:,.1f} MB in {name}" for name in (FLOAT32, BFLOAT16)]
    return f"Moments of sums that are in registers spare at most {', '.join(amounts)}.\n"


def loop_steps(work: Workload) -> int:
    """Dependent iterations of the loops of `xla` in a step: chunks of pairs of one offset."""
    total = 0
    for layer, at in work.layers:
        if at.forward is not None:
            pairs = np.sum(at.forward >= 0, axis=1)
            chunks = int(np.sum(-(-pairs // max(1, min(xla.CHUNK, at.capacity_out)))))
            total += chunks * (3 if layer.wants_dx else 2)
    return total


def report(
    work: Workload, tables: tuple[tiles.Table, tiles.Table], with_forms: bool = False
) -> None:
    """Print all tables of a workload."""
    print(f"## {work.name}\n")
    print(levels(work))
    print(f"Every op at every level, {TF32}:\n")
    print(per_level(work, TF32))
    print("The step:\n")
    print(totals(work))
    print(optimiser(work))
    print("Rows that tiles multiply for every pair:\n")
    print(tiles.padding(work))
    print(tiles.tiles(work, tables))
    print(launches(work))
    print(spared(work))
    print(f"The loop of xla: {loop_steps(work):,} dependent iterations.\n")
    if with_forms:
        print(forms.forms(work))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__)
    parser.add_argument("--sweep", type=Path, help="a nuScenes .pcd.bin; synthetic by default")
    parser.add_argument("--scan", type=Path, help="a SemanticKITTI .bin; left out by default")
    parser.add_argument("--batch", type=int, default=16, help="sweeps in the larger batch")
    parser.add_argument(
        "--tiles", type=Path, default=tiles.HEADER, help="the header with the kernels' tiles"
    )
    parser.add_argument("--forms", action="store_true", help="lower the xla backend's forms too")
    options = parser.parse_args()

    def read(batch: int) -> sweeps.VoxelSweep:
        if options.sweep is None:
            return sweeps.synthetic(batch)
        return sweeps.turned(options.sweep, batch)

    tables = tiles.read_tables(options.tiles)
    report(Workload.of(read(1)), tables, options.forms)
    report(Workload.of(read(options.batch)), tables, options.forms)
    if options.scan is not None:
        report(Workload.of(sweeps.scan(options.scan)), tables)


if __name__ == "__main__":
    main()
