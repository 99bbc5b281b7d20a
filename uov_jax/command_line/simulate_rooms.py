"""Write simulated rooms: scans with labels, posed frames, and a simulated teacher's features.

Example, the rooms that `make demo-indoor` uses:

    python scripts/simulate_rooms.py

Stop it at any time: the same command goes on where it stopped and gives the same files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command, next_steps
from uov_jax.readable import duration, readable_bytes
from uov_jax.simulate import WITHOUT_EMBREE
from uov_jax.simulate.rooms import (
    FORMATS,
    RoomSettings,
    expected_bytes,
    expected_seconds,
    simulate_rooms,
)

DEFAULT_OUTPUT = Path("data/sim-rooms")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder for all of it")
    parser.add_argument("--rooms", type=int, default=100, help="the last fifth is for validation")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it")
    parser.add_argument("--workers", type=command.at_least(1), default=2, help="processes")
    parser.add_argument(
        "--density",
        type=int,
        default=20_000,
        help="points of a room; 400000 fills some 200000 voxels of 2 cm",
    )
    parser.add_argument("--frames", type=int, default=24, help="of each room, 320 x 240 pixels")
    parser.add_argument(
        "--lost-poses", type=float, default=0.03, help="share of frames with a pose of infinities"
    )
    parser.add_argument(
        "--formats",
        nargs="*",
        choices=FORMATS,
        default=[],
        help="beside the store: ScanNet's raw release, its recordings, OpenScene's files; clouds "
        "without labels, as of a recording of one's own",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: simulate(options))


def simulate(options: argparse.Namespace) -> None:
    """Simulate what the options say."""
    settings = RoomSettings(
        options.rooms,
        options.seed,
        options.density,
        options.frames,
        options.lost_poses,
        tuple(options.formats),
    )
    print(
        f"Simulating {settings.rooms} rooms of about {settings.density} points and "
        f"{settings.frames} frames into {options.output}: about "
        f"{readable_bytes(expected_bytes(settings))} and "
        f"{duration(expected_seconds(settings, options.workers))} with {options.workers} processes."
    )
    if WITHOUT_EMBREE:
        print(
            f"Embree cannot be imported ({WITHOUT_EMBREE}): rays are cast in numpy, and all takes "
            "six times as long. `pip install embreex` helps where it has wheels."
        )
    with Bar(total=settings.rooms, unit="room") as bar:
        report = simulate_rooms(
            options.output, settings, options.workers, lambda count: bar.update(count) and None
        )
    print(
        f"Wrote {report.written} rooms, {report.rooms - report.written} were there before: "
        f"{report.output} holds {readable_bytes(report.bytes)}, prepared rooms in "
        f"{report.output / 'store'}, frames and the teacher's features in "
        f"{report.output / 'frames'}. All of it is simulated, the teacher too."
    )
    command.say_next(fusion_command(report.output))


def fusion_command(output: Path) -> str:
    """The command that fuses the teacher's features onto the points."""
    words = ["--teacher", "simulated", "--rooms", output / "store", "--frames", output / "frames"]
    return next_steps.script("fuse_features", *words, "--output", output / "features")
