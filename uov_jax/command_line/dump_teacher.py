"""Run a 2D teacher over the images of a dataset and write its masks and embeddings.

Example, on nuScenes:

    python scripts/dump_teacher.py --teacher san --weights san_vit_large_14.pth \
        --data data/nuscenes --output data/dumps/san

Stop it at any time: the same command goes on where it stopped. With --shard 3/16, or as one of
several Slurm tasks or members of an indexed job, it does its share of the keyframes; all shares go
into the same folder. With --check it verifies a finished dump instead. Without weights,
--teacher slic finds superpixels that have no words.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uov_jax.command_line import command, next_steps
from uov_jax.command_line.dataset import add_dataset, open_tables
from uov_jax.config import load_config
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.check import find_problems
from uov_jax.dumps.reference import open_dumps
from uov_jax.dumps.write import DumpResult, dump_keyframes
from uov_jax.errors import InputError
from uov_jax.job_array import Shard
from uov_jax.readable import readable_bytes
from uov_jax.teachers import TeacherOptions, create_teacher, teacher_names
from uov_jax.vocabulary import Vocabulary, load_vocabulary

STEPS_OF_A_SMALL_SET = 400
SHOWN_PROBLEMS = 20


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--teacher", choices=teacher_names())
    parser.add_argument(
        "--weights", nargs="+", default=[], type=Path, help="the teacher's official file(s)"
    )
    add_dataset(parser)
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    parser.add_argument("--output", required=True, type=Path, help="folder of the dumps")
    command.add_vocabulary(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; CUDA where there is")
    parser.add_argument("--autocast", action="store_true", help="half precision where it is enough")
    parser.add_argument(
        "--stretch-padding",
        action="store_true",
        help="catseg: outputs stretched over the image's padding, as the released code does",
    )
    parser.add_argument(
        "--batch",
        default=1,
        type=command.at_least(1),
        help="images of a keyframe at a time; all 6 of nuScenes fill a GPU better",
    )
    command.add_shard(parser)
    parser.add_argument("--check", action="store_true", help="verify the dump, write nothing")
    options = parser.parse_args(arguments)
    if not options.check and options.teacher is None:
        parser.error(f"give --teacher: {', '.join(teacher_names())}")
    return options


def training_command(options: argparse.Namespace, teacher: str, tables: NuScenesTables) -> str:
    """The command that trains on what was dumped: the recipe's own splits where they are there.

    A set smaller than a batch is one batch.
    """
    recipe = next_steps.recipe_of("tmp", teacher)
    config = load_config(recipe)
    fields: dict[str, Any] = {
        "data.root": options.data,
        "data.version": options.version,
        "data.dumps": options.output,
        "data.vocabulary": options.vocabulary,
        **next_steps.rig_fields(tables.rig, config.data),
    }
    dumped = tables.keyframes(options.split).tokens()
    if not all(
        _within(split, tables, dumped) for split in (config.data.train_split, config.data.val_split)
    ):
        fields |= {"data.train_split": options.split, "data.val_split": ""}
        if len(dumped) < config.batch_size:
            # Epochs of one step each would be over at once.
            fields |= {"batch_size": len(dumped), "total_steps": STEPS_OF_A_SMALL_SET}
            if len(dumped) % config.sweeps_per_shard:
                fields["sweeps_per_shard"] = len(dumped)
    name = "-".join([options.data.resolve().name, options.output.resolve().name, options.split])
    words, _ = next_steps.training(recipe, fields, name)
    return words + " --devices=1" * ("batch_size" in fields)


def _within(split: str, tables: NuScenesTables, tokens: Sequence[str]) -> bool:
    """Whether a dataset has a split, and all of it is among these keyframes."""
    try:
        return set(tables.keyframes(split).tokens()) <= set(tokens)
    except InputError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Dump or check; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: dump(options))


def dump(options: argparse.Namespace) -> int:
    """Dump or check what the options say; returns the exit status."""
    # What a scheduler says is of the work: a dump is verified as a whole.
    shard = command.shard_of(options, {} if options.check else os.environ)
    vocabulary = load_vocabulary(options.vocabulary)
    tables = open_tables(options)
    everything = tables.keyframes(options.split)
    keyframes = shard.of(everything)
    if shard.total > 1:
        print(f"Shard {shard}: {len(keyframes)} of {len(everything)} keyframes.")
    if options.check:
        return check(options, keyframes, vocabulary, tables)
    print(f"Loading the teacher {options.teacher!r}.", flush=True)
    teacher = create_teacher(
        options.teacher,
        vocabulary,
        TeacherOptions(
            tuple(options.weights), options.device, options.autocast, options.stretch_padding
        ),
    )
    result = dump_keyframes(teacher, keyframes, options.output, vocabulary, batch=options.batch)
    return finish(options, shard, result, tables)


def check(
    options: argparse.Namespace,
    keyframes: Sequence[Keyframe],
    vocabulary: Vocabulary,
    tables: NuScenesTables,
) -> int:
    """Verify the dumps; returns the exit status."""
    output, dumps = options.output, open_dumps(options.output, vocabulary)
    problems = find_problems(dumps, keyframes)
    for problem in problems[:SHOWN_PROBLEMS]:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"All {len(keyframes)} keyframes have a complete dump in {output}.")
        if not options.shard:
            command.say_next(training_command(options, dumps.teacher, tables))
        return 0
    print(
        f"error: {len(problems)} problems with {len(keyframes)} keyframes in {output}: delete the "
        "files that are named and run the same command without --check, it does what is missing",
        file=sys.stderr,
    )
    return 1


def finish(
    options: argparse.Namespace, shard: Shard, result: DumpResult, tables: NuScenesTables
) -> int:
    """Say what was written and what comes next; returns the exit status."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"Wrote {result.written} keyframes ({readable_bytes(result.bytes)}) to {options.output}; "
        f"{result.found} were there already. {result.seconds:.2f} s an image, "
        f"{readable_bytes(peak)} of memory at most."
    )
    if result.failed:
        for failure in result.failed:
            print(f"keyframe {failure.keyframe.token}: {failure.reason}", file=sys.stderr)
        print(
            f"error: {len(result.failed)} keyframes failed twice and have no dump: mend their "
            "images and run the same command again",
            file=sys.stderr,
        )
        return 1
    if shard.total > 1:
        print("Next, once every shard is done, verify them all: with --check and without --shard")
        return 0
    command.say_next(training_command(options, options.teacher, tables))
    print(
        "To validate on other scenes, first run this command with another --split and the same "
        "--output, then name that split after --config.data.val_split="
    )
    return 0
