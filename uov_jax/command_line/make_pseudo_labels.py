r"""Turn the features of rooms into pseudo labels: of every point the word that fits it best.

Example, on the simulated rooms:

    python scripts/make_pseudo_labels.py --rooms data/rooms-sim \
        --features data/rooms-sim/features --output data/rooms-sim/pseudo_labels

3DSS-VLG labels by the bare words, whatever prompt features were fused with. Words in another
prompt, by the same teacher, are named with --text:

    python scripts/embed_words.py --teacher maskclip --weights open_clip_model.safetensors \
        --vocabulary scannet --prompt "{}" --output data/scannet/bare_words
    python scripts/make_pseudo_labels.py --rooms data/scannet/store \
        --features data/scannet/features --text data/scannet/bare_words \
        --output data/scannet/pseudo_labels

A room's points get only classes that the room has (its scene-level labels: those of its points, or
what a person wrote into the store's scene_labels.txt), unless --no-filter is given. It writes one
folder a room, and a report: how many points have each class and, where there are true labels, how
many of them rightly. Stop it at any time: the same command goes on where it stopped. With --shard
3/16, or as one of several tasks of a scheduler, it does its share of the rooms; all shares go into
the same folder.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax import processors
from uov_jax.bar import Bar
from uov_jax.command_line import command, next_steps
from uov_jax.config import find_recipe, load_config
from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.errors import InputError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.label_report import LabelReport, report_of
from uov_jax.fusion.make_pseudo_labels import (
    BYTES_PER_POINT,
    FeatureOfPoint,
    LabelSettings,
    RoomLabeller,
)
from uov_jax.fusion.words import read_words
from uov_jax.input.room_voxels import random_rotation, room_voxels
from uov_jax.readable import readable_bytes
from uov_jax.vocabulary import load_vocabulary

SIMULATED = "simulated"  # the simulator's teacher


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--rooms", required=True, type=Path, help="the store of rooms")
    parser.add_argument("--features", required=True, type=Path, help="folder of their features")
    parser.add_argument(
        "--text",
        type=Path,
        help="words in another prompt, a folder of embed_words or an .npz; the features' own else",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the pseudo labels")
    parser.add_argument(
        "--split", action="append", help="such as train; may be given several times; all rooms else"
    )
    parser.add_argument(
        "--no-filter", action="store_true", help="let points have classes that their room lacks"
    )
    parser.add_argument(
        "--voxel-size",
        type=float,
        default=0.0,
        help="metres; every point takes the feature of the first point of its voxel, in a room "
        "turned and scaled by chance, as the published code does; each its own by default",
    )
    parser.add_argument("--seed", type=command.at_least(0), default=0, help="of that chance")
    parser.add_argument("--vocabulary", help="name or file of the dictionary; the store's else")
    parser.add_argument(
        "--workers", type=command.at_least(1), default=processors.available(), help="threads"
    )
    command.add_shard(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pseudo labels; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: label(options))


def label(options: argparse.Namespace) -> None:
    """Make the pseudo labels that the options say."""
    shard = command.shard_of(options)
    store = RoomStore(options.rooms)
    vocabulary = load_vocabulary(options.vocabulary or store.manifest.vocabulary)
    store = RoomStore(options.rooms, vocabulary)  # refuses another vocabulary
    features = FeatureFolder(options.features, vocabulary)
    everything = store.chosen(options.split)
    voxels = first_of_voxel(options.voxel_size, options.seed) if options.voxel_size else None
    settings = LabelSettings(
        not options.no_filter, options.voxel_size, options.seed if options.voxel_size else 0
    )
    words = read_words(options.text, vocabulary) if options.text else None
    labeller = RoomLabeller(store, features, vocabulary, options.output, settings, voxels, words)
    own = shard.of(everything)
    todo = labeller.check(own)
    if shard.total > 1:
        print(f"Shard {shard}: {len(own)} of {len(everything)} rooms.")
    points = sum(store.facts(room).points for room in todo)
    how = "any class" if options.no_filter else "the classes that their rooms have"
    facts = features.manifest
    print(
        f"{len(todo)} of {len(own)} rooms to label with {how} by {facts.kind} features of "
        f"{facts.teacher!r}: {points:,} points, {readable_bytes(BYTES_PER_POINT * points)} into "
        f"{options.output}",
        flush=True,
    )
    if words is not None:
        prompt = f", in the prompt {words.prompt!r}" if words.prompt else ""
        print(f"By the words of {words.source}{prompt}.", flush=True)
    with Bar(total=len(todo), unit="room") as bar:
        for _ in labeller.label(todo, options.workers):
            bar.update()
    there = [room for room in everything if labeller.folder.has(room)]
    report = report_of(store, labeller.folder, there)
    say(report, options, len(everything))
    if shard.total > 1 and len(there) < len(everything):
        print("Next, once every shard is done, type the command without --shard for the report.")
        return
    command.say_next(training_command(options, store, facts.teacher))


def first_of_voxel(voxel_size: float, seed: int) -> FeatureOfPoint:
    """The first point of every point's voxel, in a room that is turned and scaled by chance.

    Chance depends on the seed and the room's name alone, not on which rooms a process labels.
    """
    if not 0 < voxel_size < np.inf:
        raise InputError(f"--voxel-size {voxel_size}: expected metres, more than 0")

    def first(room: Room) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(room.name.encode())])
        voxels = room_voxels(room.coords, voxel_size, room.name, random_rotation(rng))
        return voxels.first[voxels.inverse]

    return first


def say(report: LabelReport, options: argparse.Namespace, rooms: int) -> None:
    """Print the report, and write it beside the labels."""
    written = report.write(options.output)
    content = report.content()
    of = "" if report.rooms == rooms else f" of {rooms}"
    print(
        f"{report.rooms}{of} rooms are labelled: {content['labelled']:,} of {report.points:,} "
        f"points have a class."
    )
    if not options.no_filter:
        print(f"The scene-level filter changed the class of {report.changed:,} points.")
    print("In %, but for numbers of points:")
    print(report.table())
    if report.matrix.points:
        print(
            f"{report.judged} rooms have true labels: {content['coverage']:.1%} of their points "
            f"are labelled, {content['right']:.1%} of those right, mean IoU "
            f"{content['mean_iou']:.1%}."
        )
    else:
        print("The rooms have no true labels, so nothing is known of how many are right.")
    print(f"Wrote {', '.join(map(str, written))}")


def training_command(options: argparse.Namespace, store: RoomStore, teacher: str) -> str:
    """The command that specialises features by the labels.

    On the recipe's own splits where the store has them, else on those that were labelled.
    """
    recipe = f"configs/ess_{store.manifest.dataset}.py"
    if not find_recipe(Path(recipe)):
        recipe = "configs/ess_scannet.py"
    recipe += ":sim" * (teacher == SIMULATED)
    fields = {
        "data.root": options.rooms,
        "data.features": options.features,
        "data.labels": options.output,
        "data.vocabulary": options.vocabulary or store.manifest.vocabulary,
    }
    data, splits = load_config(recipe).data, store.splits()
    if splits and data.train_split not in splits:
        fields["data.train_split"] = (options.split or splits)[0]
    if data.val_split not in splits:
        fields["data.val_split"] = ""
    return next_steps.training(recipe, fields, options.output.resolve().name)[0]
