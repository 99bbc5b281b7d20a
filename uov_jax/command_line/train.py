"""Train a network as a recipe says.

    python scripts/train.py --config configs/tmp_san.py:sim

The recipe is a file or a name: `--config tmp_san:sim` is the same.
Any field of the recipe is changed on the command line: `--config.batch_size=8`. The same command
typed again goes on from the last checkpoint of its --workdir.

On several hosts, start it on each with --coordinator=HOST:PORT --num-processes=N --process-id=I,
or with --distributed where the cluster's environment says so (Slurm, Kubernetes, TPU pods): see
docs/running.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command, next_steps
from uov_jax.command_line.recipe import add_recipe, parse_fields, read_recipe
from uov_jax.config import default_directory
from uov_jax.errors import InputError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    add_recipe(parser)
    parser.add_argument(
        "--workdir", type=Path, help="directory of the run; runs/RECIPE-VARIANT by default"
    )
    parser.add_argument("--devices", type=int, help="of this host; all by default")
    parser.add_argument(
        "--distributed", action="store_true", help="join the hosts that the environment names"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    parser.add_argument("--num-processes", type=int, help="processes of the run, one a host")
    parser.add_argument("--process-id", type=int, help="number of this process, from 0")
    parser.add_argument(
        "--join-timeout", type=float, default=300.0, help="seconds to wait until all have come"
    )
    parser.add_argument(
        "--host-timeout",
        type=float,
        default=60.0,
        help="seconds without a sign of life, after which a process counts as lost",
    )
    return parse_fields(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: train(options))


def train(options: argparse.Namespace) -> int:
    """Train what the options say; returns the exit status."""
    config = read_recipe(options)
    # Late, so that wrong arguments are answered at once.
    import jax

    from uov_jax import sparse
    from uov_jax.tasks.build import build_task
    from uov_jax.training import hosts, loop, parallel

    sparse.keep_freed_memory()  # before any thread allocates
    for name in ("join_timeout", "host_timeout"):
        if getattr(options, name) <= 0:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}={getattr(options, name)}: expected more than 0 seconds")
    if options.distributed or options.coordinator:
        parallel.start_hosts(
            options.coordinator,
            options.num_processes,
            options.process_id,
            join_timeout=options.join_timeout,
            host_timeout=options.host_timeout,
        )
    directory = options.workdir or default_directory(options.config)
    with hosts.ending_together():
        devices = parallel.choose_devices(options.devices)
        result = loop.train(build_task(config), config, directory, devices)
        if result.finished and not jax.process_index():
            following = next_steps.after_training(options.config, config, options.fields, directory)
            command.say_next(*(following or [f"look at {directory}"]))
            if next_steps.labels_clouds(config):
                command.say_predict(directory)
    return 128 + result.signal if result.signal is not None and not result.finished else 0
