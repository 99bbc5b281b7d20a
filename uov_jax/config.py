"""Reading a recipe file and checking what the command line changes in it."""

from __future__ import annotations

import difflib
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import expand_home

OVERRIDE = "--config."
PATHS = (
    "data.root",
    "data.dumps",
    "data.labels",
    "data.features",
    "data.text",
    "data.label_table",
    "init.checkpoint",
    "run.compilation_cache",
)
RECIPES = Path(__file__).resolve().parents[1] / "configs"  # of a checkout


def load_config(spec: str) -> ConfigDict:
    """The config of `FILE` or `FILE:VARIANT`.

    Raises:
        MissingFileError: there is no such file; lists those beside it.
        InputError: it has no `get_config`, or not that variant.

    """
    path, variant = split_spec(spec)
    if not path.is_file():
        others = ", ".join(sorted(str(p) for p in path.parent.glob("*.py") if p.stem != "common"))
        raise MissingFileError(f"{path}: no such config" + (f"; there are {others}" * bool(others)))
    root = str(path.resolve().parents[1])
    if (path.parent / "common.py").is_file() and root not in sys.path:
        sys.path.append(root)  # Recipes import what they share from `configs.common`.
    get_config = runpy.run_path(str(path)).get("get_config")
    if get_config is None:
        raise InputError(f"{path}: not a config, it defines no get_config")
    try:
        config = get_config(variant or None)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    config.lock()
    return config


def split_spec(spec: str) -> tuple[Path, str]:
    """File and variant of `FILE` or `FILE:VARIANT`; folders may have colons in their names."""
    whole = expand_home(spec)
    name, colon, variant = spec.rpartition(":")
    if whole.is_file() or not colon or "/" in variant:
        return whole, ""
    return expand_home(name), variant


def expand_homes(config: ConfigDict) -> None:
    """Put the home directory in the place of a leading ~ in the fields that are paths."""
    for name in (*PATHS, "data.vocabulary"):
        section, _, field = name.partition(".")
        if section in config and config[section].get(field, "").startswith("~"):
            config[section][field] = str(expand_home(config[section][field]))


def check_overrides(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Refuse `--config.field=value` arguments whose field the config does not have.

    Raises:
        InputError: names the field and those most like it.

    """
    known = [name for name, _ in flat_fields(config)]
    for argument in arguments:
        if not argument.startswith(OVERRIDE):
            continue
        field = argument[len(OVERRIDE) :].partition("=")[0]
        if field in known:
            continue
        last = field.rpartition(".")[2]
        near = difflib.get_close_matches(field, known, n=3, cutoff=0.6)
        near += [name for name in known if name.rpartition(".")[2] == last and name not in near]
        hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise InputError(f"{argument}: the config has no field {field!r}; {hint}")


def default_directory(spec: str) -> Path:
    """`runs/tmp_san-sim` for `configs/tmp_san.py:sim`."""
    path, variant = split_spec(spec)
    return Path("runs") / (path.stem + (f"-{variant}" if variant else ""))


def flat_fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(`data.root`, value) of every field."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat_fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
