"""Ask a pre-trained network where something is: the points of a sweep that fit a text best.

Example, words of the vocabulary on the simulated drive, without any weights:

    python scripts/query.py --checkpoint runs/tmp_san-sim --text "traffic cone" car tree

Any text, with the text tower of the teacher that the network was trained with:

    python scripts/query.py --checkpoint runs/tmp_san --weights san_vit_large_14.pth \
        --text "an overturned shopping cart"
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from uov_jax import compilation
from uov_jax.command_line import command
from uov_jax.datasets.keyframe import Keyframe, rig_of
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.reference import open_dumps
from uov_jax.tasks.query import QueriedNetwork, QueryError, answer, rows_of
from uov_jax.vocabulary import (
    Vocabulary,
    load_vocabulary,
    vocabulary_of_words,
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="a run, or one checkpoint")
    parser.add_argument("--text", required=True, nargs="+", help="what to look for")
    parser.add_argument("--weights", nargs="+", type=Path, help="the teacher's official files")
    parser.add_argument(
        "--teacher",
        help="whose weights these are, where the run's dumps do not say (the reference's)",
    )
    parser.add_argument("--data", type=Path, help="root of the dataset; the run's by default")
    parser.add_argument("--dumps", type=Path, help="the teacher's dumps; the run's by default")
    parser.add_argument("--split", help="the run's validation split by default")
    parser.add_argument("--keyframe", help="token or number in the split", default="0")
    parser.add_argument("--top", type=int, default=10, help="places to list")
    parser.add_argument("--device", default="auto", help="of the text tower")
    parser.add_argument("--output", type=Path, help="folder of the pictures; RUN/query by default")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Query; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: ask(options), stopped="")


def ask(options: argparse.Namespace) -> None:
    """Answer the query that the options say."""
    logging.set_verbosity(logging.ERROR)
    compilation.use_cache()
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
        # Late, because they need PyTorch.
        from uov_jax.teachers import TeacherOptions, create_teacher, packages_needed

        name = options.teacher or network.identity["teacher"]
        with packages_needed(name):
            from uov_jax.teachers.weights import weights_hash

        network.require_weights(weights_hash(options.weights))
        settings = TeacherOptions(tuple(options.weights), options.device)
        teacher = create_teacher(name, vocabulary_of_words(texts), settings)
        assert teacher.text_embeddings is not None
        rows = teacher.text_embeddings
    else:
        assert words is not None
        rows = rows_of(texts, words, vocabulary)
    return dict(zip(texts, rows, strict=True)), words


def run_directory(folder: Path) -> Path:
    """The run that a checkpoint's folder belongs to."""
    return folder.parents[1] if folder.parent.name == "checkpoints" else folder
