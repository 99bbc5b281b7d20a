"""The commands that commands print as the next ones: none of them may lead into an error."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from uov_jax.checkpoints.run import has_checkpoint, is_free
from uov_jax.command_line.dataset import rig_words
from uov_jax.config import (
    OVERRIDE,
    default_directory,
    find_recipe,
    flat_fields,
    load_config,
)
from uov_jax.datasets.keyframe import NUSCENES_RIG, Rig, rig_of

# A run is bound to what they hold, not to where they are.
TEACHERS_DATA = ("data.dumps", "data.features", "data.labels")


def script(name: str, *arguments: object) -> str:
    """A command as it is typed in a checkout; `typed.as_typed` makes the console's of it."""
    return shlex.join(["python", f"scripts/{name}.py", *map(str, arguments)])


def recipe_of(stage: str, teacher: str) -> str:
    """The recipe of a stage for a teacher, the one of SAN where the teacher has none."""
    name = f"configs/{stage}_{teacher}.py"
    return name if find_recipe(Path(name)) else f"configs/{stage}_san.py"


def rig_fields(rig: Rig, data: ConfigDict) -> dict[str, Any]:
    """The fields of a recipe for a rig, with room for what more cameras than nuScenes' see.

    Args:
        rig: of the dataset.
        data: the recipe's own section.

    """
    fields: dict[str, Any] = {
        "data.lidar": rig.lidar,
        "data.cameras": rig.cameras,
        "data.columns": rig.columns.text,
    }
    more = len(rig.cameras) / len(NUSCENES_RIG.cameras)
    for name in ("pairs", "superpoints"):
        if name in data and more > 1:
            smallest, largest = data[name]
            fields[f"data.{name}"] = (smallest, math.ceil(more * largest))
    return fields


def training(
    recipe: str, fields: Mapping[str, Any], name: str, own: bool = False
) -> tuple[str, Path]:
    """The command that trains a recipe with some fields changed, and the directory of its run.

    A run is bound to its data and to most fields. With others than the recipe's it gets a directory
    of its own, so that the plain recipe's stays free for the plain command.

    Args:
        recipe: `RECIPE:VARIANT`.
        fields: values by name; those that the recipe has already are left out.
        name: ends the name of a directory of its own, such as "mini_train".
        own: the data are not the recipe's, though no field says so.

    """
    known = dict(flat_fields(load_config(recipe)))
    changed = {field: value for field, value in fields.items() if str(value) != str(known[field])}
    directory = default_directory(recipe)
    words = ["--config", recipe]
    # Others may be of another teacher, or of other settings of the same.
    own = own or any(not is_free(f) or f in TEACHERS_DATA for f in changed)
    if own:
        ending = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in name)
        directory = directory.with_name(f"{directory.name}-{ending.strip('-')}")
        words += ["--workdir", str(directory)]
    words += [f"{OVERRIDE}{field}={value}" for field, value in changed.items()]
    return script("train", *words), directory


def after_training(
    recipe: str, config: ConfigDict, fields: Sequence[str], directory: Path
) -> list[str]:
    """What follows a finished run.

    Args:
        recipe: as it was typed after --config.
        config: with the fields of the command line.
        fields: these, as they were typed.
        directory: of the run.

    """
    data = config.data
    pretrained = config.task == "tri_modal"
    if pretrained and not config.loss.text_weight:
        return []  # Without words there are no classes, so neither scores nor pseudo labels.
    if config.task == "ess":
        return [script("export_features", "--config", recipe, "--checkpoint", directory, *fields)]
    commands = []
    if data.val_split:
        judged = ["--config", recipe, "--checkpoint", directory, *fields]
        commands.append(script("evaluate", *judged))
    if pretrained:
        words = ["--data", data.root, "--version", data.version]
        for split in dict.fromkeys(split for split in (data.train_split, data.val_split) if split):
            words += ["--split", split]
        words += ["--dumps", data.dumps, "--output", superpoints_folder(data.dumps)]
        if data.vocabulary != "nuscenes":
            words += ["--vocabulary", data.vocabulary]
        words += rig_words(rig_of(data))
        commands.append(script("make_superpoints", *words))
    return commands


def labels_clouds(config: ConfigDict) -> bool:
    """Whether the network of a recipe labels clouds without more: it has outputs or words."""
    if config.task == "tri_modal":
        return bool(config.loss.text_weight)
    return bool(config.task != "ess")


def superpoints_folder(dumps: str | Path) -> Path:
    """Where the recipes look for the pseudo labels of `data/dumps/san`: in `superpoints` beside."""
    folder = Path(dumps)
    return folder.parent.parent / "superpoints" / folder.name


def pretraining_on(dumps: str | Path) -> Path | None:
    """The last run below `runs` that pre-trained on a folder of dumps; None if there is none."""
    found = []
    for file in Path("runs").glob("*/config.json"):
        try:
            config = json.loads(file.read_text("utf-8"))
            same = config["task"] == "tri_modal" and _same(config["data"]["dumps"], dumps)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Not of this program.
        if same and has_checkpoint(file.parent):
            found.append(file)
    return max(found, key=lambda file: file.stat().st_mtime).parent if found else None


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).resolve() == Path(other).resolve()
