r"""Score trained networks on a split: tables, confusion matrices, pictures, predicted labels.

    python scripts/evaluate.py --config configs/tmp_san.py:sim --checkpoint runs/tmp_san-sim
    python scripts/evaluate.py --config configs/tmp_san.py --checkpoint runs/tmp_san \
        --checkpoint uov_tmp_san.pt --afi --output runs/compared

A checkpoint is a run directory (its last one is taken), the folder of one checkpoint, or a .pt,
.safetensors or .npz file. Several of them stand side by side in one table. Any field of the recipe
is changed as in training: `--config.data.root=...`; --config.run.predict_ignored=True counts
predictions of class 0 as misses, as the reference's final script does. Stop it at any time: the
same command goes on where it stopped.

Rooms are judged by words: the network, what was fused of images (config.data.features), and the
ensemble of both; without a checkpoint the features alone. Other words, such as those of another
dataset, are named with --config.data.vocabulary= and --config.data.text=, a folder of features or a
file of embeddings by the same teacher:

    python scripts/evaluate.py --config configs/esg_scannet.py --checkpoint runs/esg_scannet \
        --config.data.root=data/s3dis --config.data.vocabulary=s3dis --split area_5 \
        --config.data.features= --config.data.text=data/s3dis-words --output runs/transfer
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command
from uov_jax.command_line.recipe import add_recipe, parse_fields, read_recipe
from uov_jax.errors import InputError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    add_recipe(parser)
    parser.add_argument(
        "--checkpoint",
        type=command.path_text,
        action="append",
        default=[],
        help="run or file; may be given several times",
    )
    parser.add_argument("--split", help="of the dataset; config.data.val_split by default")
    parser.add_argument(
        "--output", type=Path, help="directory; runs/evaluate-CHECKPOINTS-SPLIT by default"
    )
    parser.add_argument(
        "--afi", action="store_true", help="judge each network also with AFI's smoothed labels"
    )
    parser.add_argument(
        "--afi-points",
        type=int,
        action="append",
        default=[],
        help="the same with this many sampled points; may be given several times",
    )
    parser.add_argument(
        "--afi-weighed",
        action="store_true",
        help="each of these also weighed with the network's probabilities (not published)",
    )
    parser.add_argument(
        "--keyframes", type=command.at_least(1), help="evenly spaced sweeps; all by default"
    )
    parser.add_argument(
        "--pictures", type=command.at_least(0), default=4, help="sweeps that are drawn"
    )
    parser.add_argument(
        "--predictions", action="store_true", help="write labels in the dataset's own format"
    )
    parser.add_argument(
        "--submission", action="store_true", help="pack them for the benchmark's server"
    )
    return parse_fields(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: evaluate(options))


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate what the options say; returns the exit status."""
    config = read_recipe(options)
    if not options.checkpoint and not config.data.get("features"):
        raise InputError("give a checkpoint: --checkpoint runs/tmp_san, or --checkpoint FILE.pt")
    # Late, so that wrong arguments are answered at once.

    from uov_jax.evaluation.evaluate import EvaluationSettings, column_names, evaluate
    from uov_jax.pictures.judged import JudgedPictures
    from uov_jax.tasks.build import build_judged_split
    from uov_jax.tasks.recipe_batches import worker_timeout

    split = options.split or config.data.val_split
    result = evaluate(
        build_judged_split(config, options.split),
        column_names(options.checkpoint),
        options.output or _directory(options.checkpoint or [config.data.features], split),
        EvaluationSettings(
            keyframes=options.keyframes,
            afi=(*[None] * options.afi, *options.afi_points),
            afi_weighed=options.afi_weighed,
            predictions=options.predictions,
            submission=options.submission,
            pictures=options.pictures,
            workers=config.data.workers,
            timeout=worker_timeout(config),
            compilation_cache=config.run.compilation_cache,
        ),
        config,
        JudgedPictures(),
    )
    return 128 + result.signal if result.signal is not None and not result.finished else 0


def _directory(checkpoints: Sequence[str], split: str) -> Path:
    """Where everything goes if nothing else is said: a place of these networks on that split."""
    from uov_jax.evaluation.evaluate import column_names
    from uov_jax.evaluation.score_files import file_name

    names = "+".join(file_name(name) for name in column_names(checkpoints))[:100]
    ending = split.replace(":", "-").removesuffix("%")
    return Path("runs") / f"evaluate-{names}-{ending}"
