r"""Ask a trained network where something is: the points of a sweep, or of a room, that fit best.

Example, words of the vocabulary on the simulated drive, without any weights:

    python scripts/query.py --checkpoint runs/tmp_san-sim --text "traffic cone" car tree

Any text, with the text tower of the teacher that the network was trained with:

    python scripts/query.py --checkpoint runs/tmp_san --weights san_vit_large_14.pth \
        --text "an overturned shopping cart"

Rooms, by a network that configs/esg_*.py trained, or by fused features without any network:

    python scripts/query.py --checkpoint runs/esg_scannet-sim --room 0 --text bed "a desk"
    python scripts/query.py --features data/sim-rooms/features --data data/sim-rooms/store \
        --room 0 --text bed
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax import compilation
from uov_jax.command_line import command
from uov_jax.command_line.query_room import ask_room, is_of_rooms, run_directory
from uov_jax.command_line.text_tower import embedded_texts
from uov_jax.datasets.keyframe import Keyframe, rig_of
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.reference import open_dumps
from uov_jax.tasks.query import QueriedNetwork, QueryError, answer, rows_of
from uov_jax.vocabulary import (
    Vocabulary,
    load_vocabulary,
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a run, or one checkpoint")
    parser.add_argument(
        "--features",
        type=Path,
        help="of rooms: folder of fused features with the words; the run's by default",
    )
    parser.add_argument("--text", required=True, nargs="+", help="what to look for")
    parser.add_argument("--weights", nargs="+", type=Path, help="the teacher's official files")
    parser.add_argument(
        "--teacher",
        help="whose weights these are, where the run's dumps do not say (the reference's)",
    )
    parser.add_argument(
        "--data", type=Path, help="root of the dataset, or the store of rooms; the run's by default"
    )
    parser.add_argument("--dumps", type=Path, help="the teacher's dumps; the run's by default")
    parser.add_argument("--split", help="the run's validation split by default")
    parser.add_argument("--keyframe", help="token or number in the split", default="0")
    parser.add_argument("--room", help="name or number in the split", default="0")
    parser.add_argument(
        "--vocabulary", help="of rooms: name or file of the words; the run's or the features' else"
    )
    parser.add_argument("--top", type=int, default=10, help="places to list")
    parser.add_argument("--device", default="auto", help="of the text tower")
    parser.add_argument("--output", type=Path, help="folder of the pictures; RUN/query by default")
    options = parser.parse_args(arguments)
    if options.checkpoint is None and (options.features is None or options.data is None):
        parser.error("give --checkpoint; or, for rooms without a network, --features and --data")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Query; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: ask(options), stopped="")


def ask(options: argparse.Namespace) -> None:
    """Answer the query that the options say."""
    compilation.use_cache()
    if options.checkpoint is None or is_of_rooms(options.checkpoint):
        ask_room(options)
        return
    network = QueriedNetwork(options.checkpoint)
    data = network.config["data"]
    vocabulary = load_vocabulary(data["vocabulary"])
    keyframe = find_keyframe(options, data)
    queries, words = embed(options, network, vocabulary)
    print(f"Checkpoint {network.folder}, teacher {network.identity['teacher']!r}.", flush=True)
    output = options.output or run_directory(network.folder) / "query"
    for line in answer(network, keyframe, vocabulary, queries, words, output, top=options.top):
        print(line, flush=True)
    command.say_next(f"look at the pictures in {output}, or ask with another --text or --keyframe")


def find_keyframe(options: argparse.Namespace, data: dict[str, Any]) -> Keyframe:
    """The keyframe of a token, or of a number in the split."""
    split = options.split or data["val_split"] or data["train_split"]
    tables = NuScenesTables(options.data or data["root"], data["version"], rig_of(data))
    keyframes = tables.keyframes(split)
    chosen = [frame for frame in keyframes if frame.token == options.keyframe]
    if not chosen and options.keyframe.isdecimal():
        chosen = list(keyframes[int(options.keyframe) :][:1])
    if not chosen:
        raise QueryError(
            f"--keyframe {options.keyframe}: the split {split!r} has {len(keyframes)} keyframes, "
            f"numbers 0 to {len(keyframes) - 1}, tokens like {keyframes[0].token}"
        )
    return chosen[0]


def embed(
    options: argparse.Namespace, network: QueriedNetwork, vocabulary: Vocabulary
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Unit vectors of the texts, and those of the vocabulary's words where they are at hand.

    The texts' come from the teacher's text tower if its weights are given, else from its dumps.
    """
    texts = list(dict.fromkeys(options.text))
    folder = options.dumps or Path(network.config["data"]["dumps"])
    words = None
    if folder.is_dir() or not options.weights:
        words = network.words(open_dumps(folder, vocabulary))
    if options.weights:
        name = options.teacher or network.identity["teacher"]
        rows = embedded_texts(name, texts, options.weights, options.device, network.require_weights)
    else:
        assert words is not None
        rows = rows_of(texts, words, vocabulary)
    return dict(zip(texts, rows, strict=True)), words
