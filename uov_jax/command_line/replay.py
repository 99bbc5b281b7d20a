"""Run again the step at which a training stopped because its loss was not finite.

    python scripts/replay.py runs/tmp_san

It names the first module of the network with an output that is not finite, and what else is not.
The run keeps the state before the step, and its batch; the recipe is the run's, with its data where
they were, or where --config.data.root=... says.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command
from uov_jax.command_line.recipe import change_fields, parse_fields


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "folder", type=Path, help="directory of the run, or its folder not_finite/step_N"
    )
    return parse_fields(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: replay(options))


def replay(options: argparse.Namespace) -> None:
    """Run the step again and print what is found."""
    # Late, so that wrong arguments are answered at once.
    from uov_jax import compilation
    from uov_jax.tasks.build import build_task
    from uov_jax.training import broken_step, parallel

    folder = broken_step.find_broken_step(options.folder)
    facts = broken_step.read_facts(folder)
    config = change_fields(broken_step.recipe_of(folder), options.fields)
    compilation.use_cache(config.run.compilation_cache)
    devices = parallel.choose_devices(facts.devices)
    task = build_task(config)
    print(
        f"Step {facts.step:,} of the run with seed {facts.seed}, where {facts.what} was "
        f"{facts.value}, on {facts.devices} device{'s' * (facts.devices > 1)}:",
        flush=True,
    )
    found = broken_step.run_again(task, config.seed, folder, parallel.Parallel(devices))
    print("\n".join(found.lines()))
