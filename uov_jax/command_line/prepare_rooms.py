"""Prepare scans of rooms: one folder of arrays that are mapped into memory, whatever the dataset.

ScanNet's raw release, its split lists and its table of labels (both are their authors'):

    python scripts/prepare_rooms.py --format scannet --data data/scannet \
        --label-table data/scannet/scannetv2-labels.combined.tsv \
        --split-lists ScanNet/Tasks/Benchmark --output data/rooms/scannet

OpenScene's preprocessed points (`scannet_3d/train/*.pth`); those of other datasets with a
--vocabulary of their classes, in their order:

    python scripts/prepare_rooms.py --format openscene --data data/scannet_3d \
        --output data/rooms/scannet

S3DIS, version 1.2, with Area 5 held out. With images of 2D-3D-S, take the unaligned release, or
give its folder as --angles:

    python scripts/prepare_rooms.py --format s3dis \
        --data data/Stanford3dDataset_v1.2_Aligned_Version --output data/rooms/s3dis

Rooms of one's own, as `.ply` (x y z, red green blue) or `.npz` (coords, colors) in metres with z
upward, in the coordinates of the camera poses; labels need not be there:

    python scripts/prepare_rooms.py --format recording --data data/my_rooms --output data/rooms/mine

Frames stay where they are: `FRAMES/ROOM/color/0.jpg, depth/0.png (16 bits, millimetres),
pose/0.txt (4 x 4, camera to world)`, with `intrinsics.txt` in the room's folder or in FRAMES.

Which classes a room has, where its points have no labels, is a line `kitchen: table, chair` in
`scene_labels.txt`: in --data, or wherever --scene-labels says.

Stop it at any time: the same command goes on where it stopped. Rooms whose files were replaced
since are prepared again. Other settings want another folder. With --shard 3/16, or as one of
several Slurm tasks or members of an indexed job, it does its share of the rooms; all shares go into
the same folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command
from uov_jax.command_line.typed import as_typed
from uov_jax.datasets.openscene_rooms import OpenSceneRooms
from uov_jax.datasets.prepare_rooms import (
    BYTES_PER_POINT,
    PreparedRoom,
    missing_rooms,
    open_store,
    prepare_rooms,
)
from uov_jax.datasets.recordings import SCENE_LABELS, Recordings
from uov_jax.datasets.s3dis import ALIGNED, HELD_OUT, UNALIGNED, S3DISRooms
from uov_jax.datasets.scannet import ScanNetRooms
from uov_jax.datasets.scans import ScanSource
from uov_jax.job_array import Shard
from uov_jax.readable import duration, readable_bytes
from uov_jax.vocabulary import Vocabulary, load_vocabulary

SHOWN_NOTES = 20
# Name of the dataset, its vocabulary, and seconds for a million points on one core of a server.
FORMATS = {
    "scannet": ("scannet", "scannet", 0.3),
    "openscene": ("scannet", "scannet", 0.4),
    "s3dis": ("s3dis", "s3dis", 1.0),
    "recording": ("recording", "scannet", 0.4),
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--format", required=True, choices=tuple(FORMATS), help="of the rooms")
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--output", required=True, type=Path, help="folder of the prepared rooms")
    parser.add_argument("--dataset", help="its name, where that is not the format's own")
    parser.add_argument("--vocabulary", help="name or file of the dictionary of its classes")
    parser.add_argument(
        "--scene-labels", type=Path, help="which classes each room has, a line 'ROOM: class, class'"
    )
    parser.add_argument(
        "--label-table", type=Path, help="scannet: scannetv2-labels.combined.tsv; else in --data"
    )
    parser.add_argument(
        "--split-lists", type=Path, help="scannet: folder of scannetv2_train.txt; else --data"
    )
    parser.add_argument("--held-out", default=HELD_OUT, help="s3dis: the area of the split val")
    parser.add_argument(
        "--release", choices=(ALIGNED, UNALIGNED), help="s3dis: else as --data is called"
    )
    parser.add_argument(
        "--angles", type=Path, help="s3dis: root of the unaligned release, for its angles"
    )
    parser.add_argument("--workers", type=command.at_least(1), default=2, help="processes")
    command.add_shard(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the rooms; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: prepare(options))


def open_source(options: argparse.Namespace, vocabulary: Vocabulary) -> ScanSource:
    """The rooms that the options name."""
    readers: dict[str, Callable[[], ScanSource]] = {
        "scannet": lambda: ScanNetRooms(
            options.data, vocabulary, options.label_table, options.split_lists
        ),
        "openscene": lambda: OpenSceneRooms(options.data, vocabulary),
        "s3dis": lambda: S3DISRooms(
            options.data, vocabulary, options.held_out, options.release, options.angles
        ),
        "recording": lambda: Recordings(options.data, vocabulary),
    }
    return readers[options.format]()


def prepare(options: argparse.Namespace) -> int:
    """Prepare what the options say; returns the exit status."""
    shard = command.shard_of(options)
    dataset, words, seconds = FORMATS[options.format]
    vocabulary = load_vocabulary(options.vocabulary or words)
    source = open_source(options, vocabulary)
    beside = options.data / SCENE_LABELS
    scene_labels = options.scene_labels or (beside if beside.is_file() else None)
    writer = open_store(
        options.output, options.dataset or dataset, vocabulary, source, scene_labels
    )
    for note in source.notes:
        print(f"Note: {note}.")
    names = shard.of(source.names())
    todo = missing_rooms(source, names, writer)
    points = sum(source.expected_points(name) for name in todo)
    replaced = [name for name in todo if writer.has(name)]
    if replaced:
        print(
            f"Note: the files of {len(replaced)} rooms, such as {replaced[0]}, were replaced since "
            "they were prepared: they are prepared again; so must be their features, which are of "
            "the former points."
        )
    share = f"Shard {shard}: " if shard.total > 1 else ""
    workers = max(1, min(options.workers, len(todo)))
    print(
        f"{share}{len(todo)} of {len(names)} rooms to prepare, about {points:,} points: "
        f"{readable_bytes(points * BYTES_PER_POINT)} into {options.output}, about "
        f"{duration(max(1, points / 1e6 * seconds / workers))} with {workers} processes.",
        flush=True,
    )
    start = time.perf_counter()
    results = prepare_rooms(source, names, writer, options.workers)
    done = list(Bar(results, total=len(names), unit="room"))
    return finish(options, shard, done, time.perf_counter() - start)


def finish(
    options: argparse.Namespace, shard: Shard, rooms: Sequence[PreparedRoom], seconds: float
) -> int:
    """Say what was written and what comes next; returns the exit status."""
    failed = [room for room in rooms if room.failure]
    written = [room for room in rooms if room.points]
    points = sum(room.points for room in written)
    again = sum(room.replaced for room in written)
    unlabelled = sum(room.classes is None for room in written)
    print(
        f"Wrote {len(written)} rooms of {points:,} points "
        f"({readable_bytes(points * BYTES_PER_POINT)}) to {options.output} in "
        f"{duration(seconds)}; {len(rooms) - len(written) - len(failed)} were there already."
    )
    if again:
        print(f"{again} of them were there, made from files that were replaced since.")
    if unlabelled:
        print(f"{unlabelled} of them have no labels of their points.")
    show_notes(note for room in written for note in room.notes)
    if failed:
        for room in failed:
            print(f"room {room.name}: {room.failure}", file=sys.stderr)
        print(
            f"error: {len(failed)} rooms could not be prepared: mend what is named above and run "
            "the same command again, it does what is missing",
            file=sys.stderr,
        )
        return 1
    if shard.total > 1:
        print("Next, once every shard is done: this command without --shard finds them all there.")
        return 0
    say_next(options)
    return 0


def show_notes(notes: Iterable[str]) -> None:
    """Print what was repaired, replaced or left out, the first of them in full."""
    found = list(notes)
    for note in found[:SHOWN_NOTES]:
        print(f"Note: {note}.")
    if len(found) > SHOWN_NOTES:
        print(f"... and {len(found) - SHOWN_NOTES} more notes of this kind.")


def say_next(options: argparse.Namespace) -> None:
    """Say which command comes next."""
    print(
        as_typed(
            "Next, with images of the rooms: scripts/fuse_features.py, which makes features of the "
            f"points of {options.output} from them; of ScanNet's .sens recordings images are "
            "extracted with scripts/extract_frames.py."
        )
    )
