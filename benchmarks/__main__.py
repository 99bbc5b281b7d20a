"""Measure the engine: `python -m benchmarks`, see --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import afi, first_step, kernels, network, ops, peers, report, sweeps
from uov_jax import processors, sparse

SUITES = {
    "layers": ops.layers,
    "moves": ops.moves,
    "plans": ops.plans,
    "kernels": kernels.kernels,
    "network": network.networks,
    "first_step": first_step.first_step,
    "afi": afi.smoothing,
}
MEASURE = "dense, numpy"  # what `--least` is about: it is there wherever the engine is


def main(arguments: list[str] | None = None) -> None:
    """Print a table; write it as JSON too where asked.

    Raises:
        SystemExit: the arguments make no sense, or the engine is slower than `--least` asks for.

    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times the engine beside dense products and peers, and label smoothing.",
    )
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SUITES)}; all by default")
    parser.add_argument("--sweep", type=Path, help="a nuScenes .pcd.bin; synthetic by default")
    parser.add_argument("--batch", type=int, default=1, help="sweeps in a batch")
    parser.add_argument("--repeats", type=int, default=9, help="of every call")
    parser.add_argument(
        "--least",
        type=float,
        help="fail where a layer or network is less than so many times as fast as numpy's products",
    )
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}: expected {', '.join(SUITES)}")
    processors.limit_libraries()
    sparse.keep_freed_memory()  # as training does
    if options.sweep is None:
        sweep = sweeps.synthetic(options.batch)
    else:
        sweep = sweeps.stored(options.sweep, options.batch)
    names = [peer.name for peer in peers.available()]
    print(", ".join(f"{key} {value}" for key, value in report.machine().items()))
    print(
        f"{sweep.name}: {len(sweep.coords):,} voxels; peers: {', '.join(names) or 'none'}; "
        f"medians of {options.repeats}"
    )
    for line in peers.broken():
        print(f"{line}; it is left out")
    rows = []
    for name in options.suites or SUITES:
        for row in SUITES[name](sweep, options.repeats):
            amount = (row.rate, row.unit) if row.milliseconds is None else (row.milliseconds, "ms")
            print(f"  {row.what}: {amount[0]:.3g} {amount[1]}", flush=True)
            rows.append(row)
    print("\n" + report.markdown(rows))
    if options.json is not None:
        report.write(options.json, rows)
        print(f"\nWritten to {options.json}.")
    if options.least is not None:
        _require(rows, options.least)


def _require(rows: Sequence[report.Row], least: float) -> None:
    """End with what is slower than `least` times `MEASURE`, if anything is."""
    held = [row for row in rows if MEASURE in row.against]
    if not held:
        sys.exit(f"nothing that ran is held against {MEASURE}: ask for layers or network")
    slow = [row for row in held if row.against[MEASURE] < least]
    if slow:
        names = ", ".join(f"{row.what} ({row.against[MEASURE]:.2f})" for row in slow)
        sys.exit(f"slower than {least:g} times {MEASURE}: {names}")


if __name__ == "__main__":
    main()
