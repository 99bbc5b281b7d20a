"""Command lines with a recipe: `--config RECIPE:VARIANT --config.field=value`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from uov_jax.config import OVERRIDE, check_overrides, expand_homes, load_config
from uov_jax.errors import InputError

EXAMPLES = "--config configs/tmp_san.py, or --config configs/tmp_san.py:sim"


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The option that names the recipe."""
    parser.add_argument(
        "--config",
        metavar="RECIPE[:VARIANT]",
        help="the recipe, a file or a name; any of its fields is changed by --config.FIELD=VALUE",
    )


def parse_fields(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Parse a command line; `fields` are the `--config.FIELD=VALUE` arguments in it."""
    options, others = parser.parse_known_args(arguments)
    wrong = [argument for argument in others if not argument.startswith(OVERRIDE)]
    if wrong:
        parser.error(f"not understood: {' '.join(wrong)}")
    options.fields = others
    return options


def read_recipe(options: argparse.Namespace) -> ConfigDict:
    """The recipe of `--config` with its fields as the command line changes them.

    Raises:
        InputError: there is no recipe given, no such variant, no such field, or a value is not of
            the field's type.
        MissingFileError: there is no such file.

    """
    if options.config is None:
        raise InputError(f"give a recipe: {EXAMPLES}")
    config = load_config(options.config)
    return change_fields(config, options.fields)


def change_fields(config: ConfigDict, fields: Sequence[str]) -> ConfigDict:
    """A recipe with fields changed by `--config.FIELD=VALUE` arguments; errors as `read_recipe`."""
    check_overrides(config, fields)
    values = flags.FlagValues()
    line = ["", *fields]
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=line
        )
        values(line)
    except flags.Error as error:
        raise InputError(str(error)) from error
    changed: ConfigDict = holder.value
    expand_homes(changed)
    return changed
