"""Report on a teacher's dumps: masks, words, points covered, purity, and pictures.

For example:

    python scripts/report_dump.py --dumps data/dumps/san --data data/nuscenes --output report

Prints a summary and writes it with a table of all words and pictures of some keyframes. Purity and
the share of right words need the dataset's point labels (lidarseg).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from uov_jax.data.dump import DumpSource
from uov_jax.data.dump_statistics import DumpStatistics
from uov_jax.data.nuscenes import Keyframe, NuScenesTables
from uov_jax.data.reference_dump import open_dumps
from uov_jax.evaluation.mask_pictures import draw_masks
from uov_jax.vocabulary import Vocabulary, load_vocabulary


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dumps", required=True, type=Path, help="folder of dumps of either kind")
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of its tables")
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    parser.add_argument("--output", required=True, type=Path, help="folder of the report")
    parser.add_argument("--vocabulary", default="nuscenes", help="name or file of the dictionary")
    parser.add_argument(
        "--keyframes", type=int, help="only so many, evenly spread over the split; all by default"
    )
    parser.add_argument("--pictures", default=4, type=int, help="keyframes to draw")
    options = parser.parse_args(arguments)
    if options.pictures < 0 or (options.keyframes is not None and options.keyframes < 1):
        parser.error("--keyframes: expected at least 1, --pictures: at least 0")
    return options


def spread(keyframes: Sequence[Keyframe], count: int) -> list[Keyframe]:
    """So many of the keyframes, evenly spread; all if there are no more."""
    if count >= len(keyframes):
        return list(keyframes)
    return [keyframes[i * len(keyframes) // count] for i in range(count)]


def report(
    dumps: DumpSource,
    keyframes: Sequence[Keyframe],
    vocabulary: Vocabulary,
    output: Path,
    pictures: int,
) -> list[str]:
    """Write the report; returns its summary."""
    output.mkdir(parents=True, exist_ok=True)
    drawn = {keyframe.token for keyframe in spread(keyframes, pictures)}
    statistics = DumpStatistics(vocabulary)
    for keyframe in tqdm(keyframes, unit="keyframe", desc="report"):
        dump = dumps.read(keyframe)
        statistics.add(keyframe, dump)
        if keyframe.token in drawn:
            draw_masks(keyframe, dump, vocabulary, output / f"{keyframe.token}.jpg")
    lines = [f"Teacher {dumps.teacher!r}, {dumps.root}", *statistics.lines()]
    statistics.write_words(output / "words.csv")
    (output / "summary.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Report; returns the exit status."""
    options = parse(arguments)
    try:
        vocabulary = load_vocabulary(options.vocabulary)
        keyframes = NuScenesTables(options.data, options.version).keyframes(options.split)
        if options.keyframes is not None:
            keyframes = spread(keyframes, options.keyframes)
        dumps = open_dumps(options.dumps, vocabulary)
        dumps.check(keyframes)
        lines = report(dumps, keyframes, vocabulary, options.output, options.pictures)
    except KeyboardInterrupt:
        print("\nStopped; nothing but pictures was written.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    count = min(options.pictures, len(keyframes))
    print(f"Wrote summary.txt, words.csv and {count} pictures to {options.output}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
