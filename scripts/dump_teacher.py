"""Run a 2D teacher over the images of a dataset and write its masks and embeddings.

Example, on nuScenes' mini set:

    python scripts/dump_teacher.py --teacher slic --data data/nuscenes --version v1.0-mini \
        --split mini_train --output dumps/slic

Stop it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from uov_jax.data.dump_keyframes import dump_keyframes, readable_bytes
from uov_jax.data.nuscenes import NuScenesTables
from uov_jax.teachers import create_teacher, teacher_names
from uov_jax.vocabulary import load_vocabulary


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True, choices=teacher_names())
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of its tables")
    parser.add_argument("--split", default="train", help='such as train, val, "train:1%%"')
    parser.add_argument("--output", required=True, type=Path, help="folder of the dumps")
    parser.add_argument("--vocabulary", default="nuscenes", help="name or file of the dictionary")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Dump; returns the exit status."""
    options = parse(arguments)
    try:
        vocabulary = load_vocabulary(options.vocabulary)
        keyframes = NuScenesTables(options.data, options.version).keyframes(options.split)
        teacher = create_teacher(options.teacher, vocabulary)
        result = dump_keyframes(teacher, keyframes, options.output, vocabulary)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (FileNotFoundError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"Wrote {result.written} keyframes ({readable_bytes(result.bytes)}) to {options.output}; "
        f"{result.found} were there already."
    )
    print(
        f"Next, pre-train on them: python scripts/train.py --config "
        f"configs/tmp_{options.teacher}.py --workdir runs/tmp_{options.teacher} "
        f"--config.data.root={options.data} --config.data.version={options.version} "
        f"--config.data.train_split={options.split} --config.data.dumps={options.output} "
        "--config.data.val_split=\n"
        "To validate on other scenes, first run this command with another --split and the same "
        "--output, then name that split after --config.data.val_split="
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
