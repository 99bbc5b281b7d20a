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

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # Recipes import configs.common from a checkout.

from uov_jax.training.config import check_overrides, default_directory, load_config  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, FILE or FILE:VARIANT.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; runs/RECIPE-VARIANT by default."
)
DEVICES = flags.DEFINE_integer("devices", None, "Number of this host's devices; all by default.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the hosts that the environment names.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run, one a host.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def parse(arguments: Sequence[str]) -> list[str]:
    """Parse the command line; ends with one message about a wrong config or field."""
    spec = config_spec(arguments)
    if any(argument.lstrip("-") in ("help", "helpshort", "helpfull") for argument in arguments):
        return app.parse_flags_with_usage(list(arguments))
    if spec is None:
        sys.exit("Give a recipe: --config configs/tmp_san.py, or --config configs/tmp_san.py:sim")
    try:
        check_overrides(load_config(spec), arguments)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    logging.set_verbosity(logging.WARNING)
    return app.parse_flags_with_usage(list(arguments))


def config_spec(arguments: Sequence[str]) -> str | None:
    """The value of --config as it was typed."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            return value if equals else next(iter(arguments[index + 1 :]), None)
    return None


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
