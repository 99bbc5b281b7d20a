"""Reading a recipe file and checking what the command line changes in it."""

from __future__ import annotations

import contextlib
import difflib
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
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
# The package's recipes lie in it where it is installed (`setup.py` puts them there), and in the
# folder beside it in a checkout.
FOLDER = "configs"
PACKAGE = Path(__file__).resolve().parent
RECIPES = PACKAGE / "recipes" if (PACKAGE / "recipes").is_dir() else PACKAGE.parent / FOLDER


def load_config(spec: str) -> ConfigDict:
    """The config of `RECIPE` or `RECIPE:VARIANT`, a file or a name as `find_recipe` takes them.

    Raises:
        MissingFileError: there is no such recipe; lists those that there are.
        InputError: it has no `get_config`, or not that variant.

    """
    recipe, variant = split_spec(spec)
    path = find_recipe(recipe)
    if path is None:
        others = ", ".join(_beside(recipe))
        raise MissingFileError(
            f"{recipe}: no such config" + (f"; there are {others}" * bool(others))
        )
    with _sharing(path.resolve().parent):
        get_config = runpy.run_path(str(path)).get("get_config")
        if get_config is None:
            raise InputError(f"{path}: not a config, it defines no get_config")
        try:
            config: ConfigDict = get_config(variant or None)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
    config.lock()
    return config


def find_recipe(recipe: Path) -> Path | None:
    """The file of a recipe that is named by its path or, as `tmp_san`, by its name.

    A name is looked for in the folder `configs` here, as in a checkout, then among the package's
    own. So is a path in `configs` that is not there: commands that name it are good anywhere.
    """
    if recipe.is_file():
        return recipe
    if recipe.parent not in (Path(), Path(FOLDER)):
        return None
    file = f"{recipe.name.removesuffix('.py')}.py"
    places = (Path(FOLDER, file), RECIPES / file)
    return next((place for place in places if place.is_file()), None)


def _beside(recipe: Path) -> list[str]:
    """The recipes where one was looked for: paths of its folder, else names."""
    files = [] if recipe.parent == Path() else _recipes_in(recipe.parent)
    if files or recipe.parent not in (Path(), Path(FOLDER)):
        return [str(file) for file in files]
    return sorted({file.stem for folder in (Path(FOLDER), RECIPES) for file in _recipes_in(folder)})


def _recipes_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.py") if file.stem != "common")


@contextlib.contextmanager
def _sharing(folder: Path) -> Iterator[None]:
    """Let a recipe import `configs.common`: of its own folder, else of the package's recipes.

    For as long as it is run. Another folder's of that name, or one imported before, is not meant.
    """

    def taken() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == FOLDER]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    shared = ModuleType(FOLDER)
    shared.__path__ = [str(folder), str(RECIPES)]
    sys.modules[FOLDER] = shared
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)


def split_spec(spec: str) -> tuple[Path, str]:
    """Recipe and variant of `RECIPE:VARIANT`; folders may have colons in their names."""
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
    """`runs/tmp_san-sim` for `configs/tmp_san.py:sim` and for `tmp_san:sim`."""
    path, variant = split_spec(spec)
    return Path("runs") / (path.stem + (f"-{variant}" if variant else ""))


def flat_fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(`data.root`, value) of every field."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat_fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
