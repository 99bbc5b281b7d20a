r"""Score trained networks on a split: tables, confusion matrices, pictures, predicted labels.

    python scripts/evaluate.py --config configs/tmp_san.py:sim --checkpoint runs/tmp_san-sim
    python scripts/evaluate.py --config configs/tmp_san.py --checkpoint runs/tmp_san \
        --checkpoint uov_tmp_san.pt --afi --output runs/compared

A checkpoint is a run directory (its last one is taken), the folder of one checkpoint, or a .pt,
.safetensors or .npz file. Several of them stand side by side in one table. Any field of the recipe
is changed as in training: `--config.data.root=...`; --config.run.predict_ignored=True counts
predictions of class 0 as misses, as the reference's final script does. Stop it at any time: the
same command goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # Recipes import configs.common from a checkout.

from uov_jax.training.command_line import config_spec, parse  # noqa: E402
from uov_jax.training.config import default_directory  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, FILE or FILE:VARIANT.")
CHECKPOINT = flags.DEFINE_multi_string("checkpoint", [], "Run directory or file; may be repeated.")
SPLIT = flags.DEFINE_string("split", None, "Of the dataset; config.data.val_split by default.")
OUTPUT = flags.DEFINE_string("output", None, "Directory; runs/evaluate-RECIPE-SPLIT by default.")
AFI = flags.DEFINE_bool("afi", False, "Judge each network also with AFI's smoothed labels.")
AFI_POINTS = flags.DEFINE_multi_integer(
    "afi_points", [], "The same with this many sampled points; may be repeated."
)
KEYFRAMES = flags.DEFINE_integer("keyframes", None, "Evenly spaced sweeps; all by default.")
PICTURES = flags.DEFINE_integer("pictures", 4, "Sweeps that are drawn.")
PREDICTIONS = flags.DEFINE_bool("predictions", False, "Write labels in the dataset's own format.")
SUBMISSION = flags.DEFINE_bool("submission", False, "Pack them for the benchmark's server.")


def main(arguments: Sequence[str]) -> None:
    """Evaluate what the flags say."""
    if len(arguments) > 1:
        sys.exit(f"Not understood: {' '.join(arguments[1:])}")
    if not CHECKPOINT.value:
        sys.exit("Give a checkpoint: --checkpoint runs/tmp_san, or --checkpoint FILE.pt")
    # Late, so that wrong arguments are answered at once.
    from uov_jax.tasks.evaluate import EvaluationSettings, column_names, evaluate
    from uov_jax.tasks.evaluation import build_evaluation
    from uov_jax.training.errors import message_for_user

    config = CONFIG.value
    logging.set_verbosity(logging.ERROR)  # Orbax warns of a file that only its newest format has.
    try:
        result = evaluate(
            build_evaluation(config, SPLIT.value),
            column_names(CHECKPOINT.value),
            directory(),
            EvaluationSettings(
                keyframes=KEYFRAMES.value,
                afi=(*[None] * AFI.value, *AFI_POINTS.value),
                predictions=PREDICTIONS.value,
                submission=SUBMISSION.value,
                pictures=PICTURES.value,
                workers=config.data.workers,
                compilation_cache=config.run.compilation_cache,
            ),
            config,
        )
    except (FileNotFoundError, ImportError, ValueError) as error:
        message = message_for_user(error)
        if message is None:
            raise
        sys.exit(message)
    if result.signal is not None and not result.finished:
        sys.exit(128 + result.signal)


def directory() -> Path:
    """Where everything goes."""
    if OUTPUT.value:
        return Path(OUTPUT.value)
    split = (SPLIT.value or CONFIG.value.data.val_split).replace(":", "-").removesuffix("%")
    recipe = default_directory(config_spec(sys.argv) or "").name
    return Path("runs") / f"evaluate-{recipe}-{split}"


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
