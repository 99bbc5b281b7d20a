"""Convert teacher dumps between the reference's format (.png, .json, .pt) and the native one.

Example, the reference's dumps of SAN for nuScenes:

    python scripts/convert_dump.py --input SAN_superpixels --output data/dumps/san \
        --teacher san --data data/nuscenes

The direction follows from what --input holds. Stop it at any time: the same command goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from uov_jax.data.convert_dump import to_native, to_reference
from uov_jax.data.dump import DumpFolder
from uov_jax.data.nuscenes import NuScenesTables
from uov_jax.data.reference_dump import ReferenceDumpFolder, open_dumps
from uov_jax.readable import readable_bytes
from uov_jax.vocabulary import load_vocabulary


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, type=Path, help="folder of dumps of either kind")
    parser.add_argument("--output", required=True, type=Path, help="folder of the other kind")
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of its tables")
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    parser.add_argument("--vocabulary", default="nuscenes", help="name or file of the dictionary")
    parser.add_argument(
        "--teacher", default="", help="who made them: the reference's files do not say"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    options = parse(arguments)
    try:
        vocabulary = load_vocabulary(options.vocabulary)
        keyframes = NuScenesTables(options.data, options.version).keyframes(options.split)
        source = open_dumps(options.input, vocabulary)
        if isinstance(source, DumpFolder):
            result = to_reference(source, keyframes, options.output, vocabulary)
        else:
            folder = ReferenceDumpFolder(options.input, vocabulary, options.teacher)
            result = to_native(folder, keyframes, options.output, vocabulary)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"Wrote {result.written} keyframes ({readable_bytes(result.bytes)}) to {options.output}; "
        f"{result.found} were there already."
    )
    print(
        "Next, verify them: python scripts/dump_teacher.py --check "
        f"--data {options.data} --version {options.version} --split {options.split} "
        f"--output {options.output} --vocabulary {options.vocabulary}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
