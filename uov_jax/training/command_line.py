"""Command lines with a recipe: `--config FILE:VARIANT --config.field=value`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import app, logging

from uov_jax.training.config import check_overrides, load_config


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
