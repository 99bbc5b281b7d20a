"""Which scenes a split of nuScenes holds: the official ones, SLidR's, and a dataset's own."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from uov_jax.contents import parse_json
from uov_jax.errors import InputError
from uov_jax.files import read_bytes


@functools.cache
def official_splits() -> dict[str, tuple[str, ...]]:
    """Scene names by split.

    `train`, `val`, `test`, `mini_train`, `mini_val`, `train_detect` and `train_track` are those of
    nuscenes-devkit 1.2.0 (`nuscenes.utils.splits`). `verify` are the 100 training scenes that SLidR
    holds out for choosing hyper-parameters and `parametrize` the other 600
    (`CUSTOM_SPLIT` in `downstream/dataloader_nuscenes.py` of valeoai/SLidR).
    """
    file = resources.files("uov_jax.datasets").joinpath("nuscenes_splits.json")
    numbers = json.loads(file.read_text("utf-8"))
    numbers["parametrize"] = sorted(set(numbers["train"]) - set(numbers["verify"]))
    return {
        split: tuple(f"scene-{number:04d}" for number in members)
        for split, members in numbers.items()
    }


def read_own_splits(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a dataset's own `splits.json`: an object of split name to list of scene names.

    Returns an empty dictionary where there is no such file; InputError if it is malformed.
    """
    if not path.is_file():
        return {}
    try:
        content = parse_json(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of split name to scene names")
    for split, members in content.items():
        if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
            raise InputError(f"{path}: split {split!r} is not a list of scene names: {members!r}")
    return {split: tuple(members) for split, members in content.items()}


def scenes_of_split(
    split: str | Sequence[str], scenes: Sequence[str], own: dict[str, tuple[str, ...]], place: str
) -> list[str]:
    """The scenes of a split that a dataset has, in the dataset's order.

    Args:
        split: name of a split of the dataset's own or an official one, possibly with a share:
            "train:1%" keeps every 100th scene of the split (the 100th, 200th, ... in the order of
            the scene table, as SLidR's `dataset_skip_step`), "train:25%" every 4th; the name of a
            scene; or scene names.
        scenes: names of all scenes of the dataset, in the order of its scene table.
        own: the dataset's own splits; they win over official ones of the same name.
        place: what messages name the dataset.

    Raises:
        InputError: unknown split, impossible share, or nothing left; the message lists what is.

    """
    if not isinstance(split, str):
        missing = [name for name in split if name not in set(scenes)]
        if missing or not split:
            raise InputError(
                f"{place}: {len(missing)} of {len(split)} requested scenes are not in its scene "
                f"table: {', '.join(missing[:5])}"
            )
        wanted = set(split)
        return [name for name in scenes if name in wanted]
    name, _, share = split.partition(":")
    known = official_splits() | own
    if split in scenes:
        return [split]
    if name not in known:
        raise InputError(f"{place}: unknown split {name!r}, known are {', '.join(sorted(known))}")
    members = set(known[name])
    found = [scene for scene in scenes if scene in members]
    if not found:
        raise InputError(
            f"{place}: it has none of the {len(members)} scenes of the split {name!r} "
            f"({', '.join(known[name][:3])}, ...), but {', '.join(scenes[:3])}, ...: is this the "
            "right version folder?"
        )
    step = step_of_share(share, split)
    if step > len(found):
        raise InputError(
            f"{place}: {split!r} keeps every {step}th scene, but {name!r} has {len(found)} here"
        )
    return found[step - 1 :: step]


def step_of_share(share: str, split: str) -> int:
    """Every how many-th member a share such as "1%" keeps; 1 for ""; InputError for others."""
    if not share:
        return 1
    percent = share.removesuffix("%")
    if share.endswith("%") and percent.isdecimal() and int(percent) and 100 % int(percent) == 0:
        return 100 // int(percent)
    raise InputError(
        f"split {split!r}: the share must be 1%, 2%, 4%, 5%, 10%, 20%, 25%, 50% or 100%, "
        f"found {share!r}"
    )
