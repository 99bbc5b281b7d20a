"""Write a simulated drive: nuScenes tables, LiDAR, images, labels and a simulated teacher's dumps.

Example, the drive that `make train` uses:

    python scripts/simulate.py

Stop it at any time: the same command goes on where it stopped and gives the same files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command, next_steps
from uov_jax.readable import readable_bytes
from uov_jax.simulate import (
    WITHOUT_EMBREE,
    DriveReport,
    DriveSettings,
    expected_bytes,
    expected_seconds,
    simulate_drive,
)

# Where the configs' variants look.
DEFAULT_OUTPUT, LONG_OUTPUT = Path("data/sim"), Path("data/sim-long")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="root of the new dataset"
    )
    parser.add_argument("--scenes", type=int, default=20, help="the last fifth is for validation")
    parser.add_argument("--keyframes", type=int, default=6, help="of each scene, 0.5 s apart")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it")
    parser.add_argument("--workers", type=command.at_least(1), default=2, help="processes")
    parser.add_argument(
        "--image-scale", type=float, default=1.0, help="size of the images relative to 1600 x 900"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: simulate(options))


def simulate(options: argparse.Namespace) -> None:
    """Simulate what the options say."""
    settings = DriveSettings(options.scenes, options.keyframes, options.seed, options.image_scale)
    total = options.scenes * options.keyframes
    print(
        f"Simulating {options.scenes} scenes of {options.keyframes} keyframes into "
        f"{options.output}: about {readable_bytes(expected_bytes(settings))} and "
        f"{expected_seconds(settings, options.workers):.0f} s with {options.workers} processes."
    )
    if WITHOUT_EMBREE:
        print(
            f"Embree cannot be imported ({WITHOUT_EMBREE}): rays are cast in numpy, and all takes "
            "three times as long. `pip install embreex` helps where it has wheels."
        )
    with Bar(total=total, unit="keyframe") as bar:
        report = simulate_drive(
            options.output,
            options.scenes,
            options.keyframes,
            options.seed,
            options.workers,
            options.image_scale,
            lambda count: bar.update(count) and None,
        )
    print(
        f"Wrote {report.written} keyframes, {report.keyframes - report.written} were there before: "
        f"{report.output} holds {readable_bytes(report.bytes)} in nuScenes' format (version "
        f"v1.0-sim, splits sim_train and sim_val), teacher dumps in {report.dumps}. All of it is "
        "simulated, the teacher too."
    )
    command.say_next(training_command(report))


def training_command(report: DriveReport) -> str:
    """The command that trains on the drive: a variant of its own where one expects it."""
    if report.output in (DEFAULT_OUTPUT, LONG_OUTPUT):
        variant = "sim" if report.output == DEFAULT_OUTPUT else "sim-long"
        return next_steps.training(f"configs/tmp_san.py:{variant}", {}, "")[0]
    fields = {"data.root": report.output, "data.dumps": report.dumps}
    name = report.output.resolve().name
    return next_steps.training("configs/tmp_san.py:sim", fields, name, own=True)[0]
