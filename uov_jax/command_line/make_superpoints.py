"""Turn a teacher's dumps into pseudo labels: the superpoint of every LiDAR point, and its word.

Example, on the simulated drive:

    python scripts/make_superpoints.py --data data/sim --version v1.0-sim --split sim_train \
        --split sim_val --dumps data/sim/dumps/simulated --output data/sim/superpoints/simulated

It writes one file a keyframe, for annotation-free training, and where the dataset has true labels
it tells how many of the points are labelled and right. Stop it at any time: the same command goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command, next_steps
from uov_jax.command_line.dataset import add_dataset, open_tables, rig_of_options
from uov_jax.config import load_config
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.dumps.reference import open_dumps
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.purity import Purity
from uov_jax.files import write_text
from uov_jax.readable import readable_bytes
from uov_jax.superpoints.make import (
    NATIVE_BYTES,
    NPY_BYTES,
    KeyframeResult,
    make_superpoints,
    prepare,
)
from uov_jax.vocabulary import Vocabulary, load_vocabulary

HELD_OUT = re.compile(r"(^|_)(val|verify)\b")
SIMULATED = "simulated"  # the simulator's teacher


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    add_dataset(parser)
    parser.add_argument(
        "--split", action="append", help="such as train; may be given several times (train, val)"
    )
    parser.add_argument(
        "--dumps", required=True, type=Path, help="the teacher's dumps, ours or the reference's"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the pseudo labels")
    parser.add_argument(
        "--format",
        default="native",
        choices=("native", "npy"),
        help="npy: int32 superpoint number * 100 + raw label, as the reference writes it",
    )
    command.add_vocabulary(parser)
    parser.add_argument("--workers", type=command.at_least(1), default=2, help="processes")
    options = parser.parse_args(arguments)
    options.split = options.split or ["train", "val"]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pseudo labels; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: label(options))


def label(options: argparse.Namespace) -> None:
    """Make the pseudo labels that the options say."""
    vocabulary = load_vocabulary(options.vocabulary)
    dumps = open_dumps(options.dumps, vocabulary)
    tables = open_tables(options)
    keyframes = [keyframe for split in options.split for keyframe in tables.keyframes(split)]
    keyframes = list({keyframe.token: keyframe for keyframe in keyframes}.values())
    folder = prepare(keyframes, dumps, vocabulary, options.output, options.format)
    todo = sum(keyframe not in folder for keyframe in keyframes)
    size = todo * (NPY_BYTES if options.format == "npy" else NATIVE_BYTES)
    print(
        f"{todo} of {len(keyframes)} keyframes to label with the masks of "
        f"{dumps.teacher!r}: about {readable_bytes(size)} into {options.output}"
    )
    results = make_superpoints(keyframes, dumps, vocabulary, folder, options.workers)
    report(options.output, keyframes, results, vocabulary)
    command.say_next(training_command(options, dumps.teacher))


def report(
    output: Path,
    keyframes: list[Keyframe],
    results: Iterable[KeyframeResult],
    vocabulary: Vocabulary,
) -> None:
    """Go through the results, then say what was written and how right it is."""
    names = vocabulary.eval_classes
    matrix = ConfusionMatrix(len(names), names)
    size = points = labelled = judged = written = 0
    for result in Bar(results, total=len(keyframes), unit="keyframe"):
        written += bool(result.bytes)
        size += result.bytes
        points += result.points
        labelled += result.labelled
        if result.counts is not None:
            judged += 1
            matrix.counts += result.counts
    share = labelled / points
    print(
        f"Wrote {written} keyframes ({readable_bytes(size)}); "
        f"{len(keyframes) - written} were there before. {share:.1%} of "
        f"{points:,} points have a label of an evaluated class."
    )
    if not judged:
        print("The dataset has no true labels, so nothing is known of how many are right.")
        return
    purity = Purity(matrix)
    unlabelled = len(keyframes) - judged
    if unlabelled:
        print(f"{unlabelled} of {len(keyframes)} keyframes have no true labels: not in this table.")
    print(f"Against the true labels of {judged} keyframes, in % (see {output / 'purity.csv'}):")
    print(purity.table())
    print(
        f"{purity.total_coverage:.1%} of the points with a true class are labelled, "
        f"{purity.total_right:.1%} of those right."
    )
    write_text(output / "purity.csv", purity.to_csv())
    write_text(output / "purity_confusion.csv", matrix.to_csv())


def training_command(options: argparse.Namespace, teacher: str) -> str:
    """The command that trains on the labels, from a pre-training on the same dumps if there is one.

    The recipe's own splits where these were labelled, else those that were.
    """
    simulated = teacher == SIMULATED
    recipe = next_steps.recipe_of("annotation_free", teacher) + ":sim" * simulated
    data = load_config(recipe).data
    fields = {"data.root": options.data, "data.labels": options.output}
    fields |= {"data.version": options.version, "data.vocabulary": options.vocabulary}
    fields |= next_steps.rig_fields(rig_of_options(options), data)
    if not {data.train_split, data.val_split} <= set(options.split):
        held_out = [split for split in options.split if HELD_OUT.search(split)]
        others = [split for split in options.split if split not in held_out]
        fields["data.train_split"] = (others or held_out)[0]
        fields["data.val_split"] = held_out[0] if others and held_out else ""
    pretraining = next_steps.pretraining_on(options.dumps)
    fields["init.checkpoint"] = "" if pretraining is None else pretraining
    if pretraining is None:
        print(
            f"No run below runs/ has pre-trained on {options.dumps}: from random weights, then, "
            "or from those that --config.init.checkpoint= names."
        )
    name = f"{options.data.resolve().name}-{options.output.resolve().name}"
    return next_steps.training(recipe, fields, name)[0]
