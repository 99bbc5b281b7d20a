"""Report on a teacher's dumps: masks, words, points covered, purity, and pictures.

For example:

    python scripts/report_dump.py --dumps data/dumps/san --data data/nuscenes --output report

Prints a summary and writes it with a table of all words and pictures of some keyframes. Purity and
the share of right words need the dataset's point labels (lidarseg).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command
from uov_jax.command_line.dataset import add_dataset, open_tables
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes import true_classes
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpSource
from uov_jax.dumps.reference import open_dumps
from uov_jax.dumps.statistics import DumpStatistics
from uov_jax.errors import decoration
from uov_jax.evaluation.judging import evenly_spaced
from uov_jax.files import write_text
from uov_jax.pictures.masks import draw_masks
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.vocabulary import Vocabulary, load_vocabulary


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--dumps", required=True, type=Path, help="folder of dumps of either kind")
    add_dataset(parser)
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    parser.add_argument("--output", required=True, type=Path, help="folder of the report")
    command.add_vocabulary(parser)
    parser.add_argument(
        "--keyframes",
        type=command.at_least(1),
        help="evenly spread over the split; all by default",
    )
    parser.add_argument("--pictures", default=4, type=command.at_least(0), help="keyframes to draw")
    return parser.parse_args(arguments)


def report(
    dumps: DumpSource,
    keyframes: Sequence[Keyframe],
    vocabulary: Vocabulary,
    output: Path,
    pictures: int,
) -> tuple[list[str], list[Path]]:
    """Write the report; returns its summary, and the pictures that could be drawn."""
    output.mkdir(parents=True, exist_ok=True)
    drawn = {keyframe.token for keyframe in evenly_spaced(keyframes, pictures)}
    statistics = DumpStatistics(vocabulary)
    written: list[Path] = []
    for keyframe in Bar(keyframes, unit="keyframe", desc="report"):
        dump = dumps.read(keyframe)
        cameras, sweep = matching_cameras(keyframe, dump), keyframe.points()
        points = point_superpoints(pair_points(sweep, keyframe), cameras, len(sweep))
        groups, truth = points.groups, true_classes(keyframe, len(sweep), vocabulary)
        statistics.add(
            cameras, points.words(), points.seen, groups.pair_point, groups.pair_superpoint, truth
        )
        if keyframe.token in drawn:
            picture = output / f"{keyframe.token}.jpg"
            with decoration(f"The picture {picture}", Bar.write):
                draw_masks(keyframe, dump, vocabulary, picture)
                written.append(picture)
    lines = [f"Teacher {dumps.teacher!r}, {dumps.root}", *statistics.lines()]
    statistics.write_words(output / "words.csv")
    write_text(output / "summary.txt", "\n".join(lines))
    return lines, written


def main(arguments: Sequence[str] | None = None) -> int:
    """Report; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: report_on(options), stopped="Nothing but pictures was written.")


def report_on(options: argparse.Namespace) -> None:
    """Report on what the options say."""
    vocabulary = load_vocabulary(options.vocabulary)
    keyframes: Sequence[Keyframe] = open_tables(options).keyframes(options.split)
    if options.keyframes is not None:
        keyframes = evenly_spaced(keyframes, options.keyframes)
    dumps = open_dumps(options.dumps, vocabulary)
    dumps.check(keyframes)
    lines, pictures = report(dumps, keyframes, vocabulary, options.output, options.pictures)
    print("\n".join(lines))
    print(f"Wrote summary.txt, words.csv and {len(pictures)} pictures to {options.output}.")
    command.say_next(f"look at {options.output}")
