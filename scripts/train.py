"""Train a task from a recipe: `python scripts/train.py --config configs/tmp_san.py:sim`.

Any field of the recipe is changed on the command line: `--config.batch_size=8`. The same command
typed again goes on from the last checkpoint of its --workdir.

On several hosts, start it on each with --coordinator=HOST:PORT --num_processes=N --process_id=I,
or with --distributed where the cluster's environment says so (Slurm, TPU pods).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # Recipes import configs.common from a checkout.

from uov_jax.training.command_line import config_spec, parse  # noqa: E402
from uov_jax.training.config import default_directory  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, FILE or FILE:VARIANT.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; runs/RECIPE-VARIANT by default."
)
DEVICES = flags.DEFINE_integer("devices", None, "Number of this host's devices; all by default.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the hosts that the environment names.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run, one a host.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main(arguments: Sequence[str]) -> None:
    """Train what the config says."""
    if len(arguments) > 1:
        sys.exit(f"Not understood: {' '.join(arguments[1:])}")
    # Late, so that wrong arguments are answered at once.
    from uov_jax.tasks import build_task
    from uov_jax.training import loop, parallel
    from uov_jax.training.errors import message_for_user

    if DISTRIBUTED.value or COORDINATOR.value:
        parallel.start_hosts(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    directory = Path(WORKDIR.value or default_directory(config_spec(sys.argv) or ""))
    try:
        devices = parallel.choose_devices(DEVICES.value)
        task = build_task(CONFIG.value)
        result = loop.train(task, CONFIG.value, directory, devices)
    except (FileNotFoundError, ImportError, ValueError) as error:
        message = message_for_user(error)
        if message is None:
            raise
        sys.exit(message)
    if result.signal is not None and not result.finished:
        sys.exit(128 + result.signal)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
