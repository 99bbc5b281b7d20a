"""Convert teacher dumps between the reference's format (.png, .json, .pt) and the native one.

Example, the reference's dumps of SAN for nuScenes:

    python scripts/convert_dump.py --input SAN_superpixels --output data/dumps/san \
        --teacher san --data data/nuscenes

The direction follows from what --input holds. Stop it at any time: the same command goes on where
it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command, next_steps
from uov_jax.command_line.dataset import add_dataset, open_tables, rig_words
from uov_jax.dumps.convert import to_native, to_reference
from uov_jax.dumps.folder import DumpFolder
from uov_jax.dumps.reference import ReferenceDumpFolder, open_dumps
from uov_jax.readable import readable_bytes
from uov_jax.vocabulary import load_vocabulary


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--input", required=True, type=Path, help="folder of dumps of either kind")
    parser.add_argument("--output", required=True, type=Path, help="folder of the other kind")
    add_dataset(parser)
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    command.add_vocabulary(parser)
    parser.add_argument(
        "--teacher", default="", help="who made them: the reference's files do not say"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: convert(options))


def convert(options: argparse.Namespace) -> None:
    """Convert what the options say."""
    vocabulary = load_vocabulary(options.vocabulary)
    tables = open_tables(options)
    keyframes = tables.keyframes(options.split)
    source = open_dumps(options.input, vocabulary)
    if isinstance(source, DumpFolder):
        result = to_reference(source, keyframes, options.output, vocabulary)
    else:
        folder = ReferenceDumpFolder(options.input, vocabulary, options.teacher)
        result = to_native(folder, keyframes, options.output, vocabulary)
    print(
        f"Wrote {result.written} keyframes ({readable_bytes(result.bytes)}) to {options.output}; "
        f"{result.found} were there already."
    )
    words = ["--check", "--data", options.data, "--version", options.version]
    words += ["--split", options.split, "--output", options.output]
    words += ["--vocabulary", options.vocabulary, *rig_words(tables.rig)]
    command.say_next(next_steps.script("dump_teacher", *words))
