"""Run a 2D teacher over the images of a dataset and write its masks and embeddings.

Example, on nuScenes' mini set:

    python scripts/dump_teacher.py --teacher slic --data data/nuscenes --version v1.0-mini \
        --split mini_train --output dumps/slic

Stop it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # Recipes import configs.common from a checkout.

from uov_jax.data.dump_keyframes import dump_keyframes, readable_bytes  # noqa: E402
from uov_jax.data.nuscenes import NuScenesTables  # noqa: E402
from uov_jax.teachers import create_teacher, teacher_names  # noqa: E402
from uov_jax.training.config import load_config  # noqa: E402
from uov_jax.vocabulary import load_vocabulary  # noqa: E402

STEPS_OF_A_SMALL_SET = 400


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


def training_command(options: argparse.Namespace, keyframes: int) -> str:
    """The command that trains on what was dumped; a set smaller than a batch is one batch."""
    recipe = f"configs/tmp_{options.teacher}.py"
    fields = {
        "data.root": options.data,
        "data.version": options.version,
        "data.train_split": options.split,
        "data.dumps": options.output,
        "data.val_split": "",
    }
    parts = ["python", "scripts/train.py", "--config", recipe]
    parts += ["--workdir", f"runs/tmp_{options.teacher}"]
    parts += [f"--config.{name}={value}" for name, value in fields.items()]
    if options.vocabulary != "nuscenes":
        parts.append(f"--config.data.vocabulary={options.vocabulary}")
    if keyframes < load_config(str(ROOT / recipe)).batch_size:
        # Epochs of one step each would be over at once.
        parts += ["--devices=1", f"--config.batch_size={keyframes}"]
        parts.append(f"--config.total_steps={STEPS_OF_A_SMALL_SET}")
    return shlex.join(parts)


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
        f"Next, pre-train on them: {training_command(options, len(keyframes))}\n"
        "To validate on other scenes, first run this command with another --split and the same "
        "--output, then name that split after --config.data.val_split="
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
