"""Extract every n-th frame of ScanNet's recordings: small images, depth and poses.

    python scripts/extract_frames.py --data data/scannet/scans --output data/scannet/scannet_2d

It writes `OUTPUT/ROOM/color/0.jpg, depth/0.png, pose/0.txt` and `intrinsics.txt`, every 20th frame
at 320 x 240 as OpenScene does. Stop it at any time: the same command goes on with the room where it
stopped. With --shard 3/16, or as one of several Slurm tasks or members of an indexed job, it does
its share of the rooms.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command
from uov_jax.command_line.typed import as_typed
from uov_jax.datasets.extract_frames import (
    BYTES_PER_PIXEL,
    ExtractedRoom,
    FrameJob,
    expected_frames,
    extracted,
    recordings,
)
from uov_jax.errors import MissingFileError
from uov_jax.job_array import Shard
from uov_jax.readable import duration, readable_bytes
from uov_jax.workers import spread

SECONDS_PER_FRAME = 0.03  # of 1296 x 968, on one core of a server


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--data", required=True, type=Path, help="folder with .sens files below, or one of them"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the frames")
    parser.add_argument("--every", type=command.at_least(1), default=20, help="n: every n-th frame")
    parser.add_argument("--width", type=command.at_least(2), default=320, help="of the images")
    parser.add_argument("--height", type=command.at_least(2), default=240, help="of the images")
    parser.add_argument("--workers", type=command.at_least(1), default=2, help="processes")
    command.add_shard(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Extract the frames; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: extract(options))


def extract(options: argparse.Namespace) -> int:
    """Extract what the options say; returns the exit status."""
    shard = command.shard_of(options)
    everything = recordings(options.data)
    if not everything:
        raise MissingFileError(
            f"{options.data}: no recordings here, expected .sens files in or below it, such as "
            "scans/scene0000_00/scene0000_00.sens"
        )
    mine = shard.of(everything)
    todo = [path for path in mine if not extracted(path, options.output)]
    frames = expected_frames(todo, options.every)
    size = frames * options.width * options.height * BYTES_PER_PIXEL
    share = f"Shard {shard}: " if shard.total > 1 else ""
    workers = max(1, min(options.workers, len(todo)))
    print(
        f"{share}{len(todo)} of {len(mine)} rooms to extract, {frames:,} frames of "
        f"{options.width} x {options.height}: about {readable_bytes(size)} into {options.output}, "
        f"about {duration(max(1, frames * SECONDS_PER_FRAME / workers))} with {workers} processes.",
        flush=True,
    )
    for path in todo:
        for folder in options.output.glob(f".{path.stem}.*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)
    job = FrameJob(options.output, options.every, (options.height, options.width))
    done = list(Bar(spread(job, mine, options.workers), total=len(mine), unit="room"))
    return finish(options, shard, done)


def finish(options: argparse.Namespace, shard: Shard, rooms: Sequence[ExtractedRoom]) -> int:
    """Say what was written and what comes next; returns the exit status."""
    written = [room for room in rooms if room.frames]
    failed = [room for room in rooms if room.failure]
    print(
        f"Wrote {sum(room.frames for room in written):,} frames of {len(written)} rooms "
        f"({readable_bytes(sum(room.bytes for room in written))}) to {options.output}; "
        f"{len(rooms) - len(written) - len(failed)} rooms were there already. "
        f"{sum(room.without_pose for room in written)} frames have no finite pose, so that they "
        "will not be looked at."
    )
    if failed:
        for room in failed:
            print(f"room {room.name}: {room.failure}", file=sys.stderr)
        print(
            f"error: {len(failed)} recordings could not be extracted: mend what is named above and "
            "run the same command again, it does what is missing",
            file=sys.stderr,
        )
        return 1
    if shard.total > 1:
        print("Next, once every shard is done: this command without --shard finds them all there.")
        return 0
    print(
        as_typed(
            "Next, once the points are prepared (scripts/prepare_rooms.py): "
            f"scripts/fuse_features.py with the frames of {options.output}."
        )
    )
    return 0
