"""Scans of rooms in the formats of their datasets: what a reader of one gives to the store."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from uov_jax.datasets.rooms import RoomError

SPLITS = ("train", "val", "test")
GREY = 128  # of points without colour: 0 as networks see colours, c / 127.5 - 1
# "refridgerator" is how NYU40's table spells it.
SPELLINGS = {"refridgerator": "refrigerator"}


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """One room as a dataset has it, in the store's types.

    Attributes:
        coords: float32[N, 3], metres, z upward.
        colors: uint8[N, 3], RGB.
        labels: uint8[N], evaluation class, 0 for none; None for a room without labels.
        source: the file or folder that it was read from.
        notes: what was repaired, replaced or left out, each a sentence that names its place.
        world_to_room: float64[4, 4], see `RoomFacts.world_to_room`.

    """

    coords: np.ndarray
    colors: np.ndarray
    labels: np.ndarray | None
    source: str
    notes: tuple[str, ...] = ()
    world_to_room: np.ndarray | None = None


class ScanSource(Protocol):
    """The rooms of one dataset."""

    @property
    def notes(self) -> Sequence[str]:
        """What is to be said of all rooms: what of the dataset is not here, or has no class."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What decides, beside the vocabulary and the rooms' files, what is read of them."""
        ...

    def names(self) -> list[str]:
        """All rooms that are there."""
        ...

    def splits(self) -> Mapping[str, Sequence[str]]:
        """The rooms of every split by its name, of those that are there."""
        ...

    def expected_points(self, name: str) -> int:
        """About how many points a room has, without reading them."""
        ...

    def files(self, name: str) -> Sequence[Path]:
        """The files that a room is read from; some may not be there."""
        ...

    def read(self, name: str) -> Scan:
        """One room.

        Raises:
            MissingFileError: a file of it is not there.
            InputError: a file cannot be used; names it.

        """
        ...


def check_splits(splits: Mapping[str, Sequence[str]], paths: Mapping[str, Path]) -> None:
    """Refuse lists of rooms that would let a network be judged on what it learnt.

    Args:
        splits: the rooms of every split by its name. Those of other names than `SPLITS` may share
            rooms with others, such as a small part to try things out on.
        paths: the file of each.

    Raises:
        RoomError: a room stands twice in a list, or in two of `SPLITS`; names the file.

    """
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        twice = [name for name, number in Counter(names).items() if number > 1]
        if twice:
            raise RoomError(f"{paths[split]}: {twice[0]} stands in this list more than once")
        for name in names if split in SPLITS else ():
            if split_of.setdefault(name, split) != split:
                raise RoomError(
                    f"{paths[split]}: {name} stands in the list of {split_of[name]!r} too"
                )


def same_name(name: str) -> str:
    """A class's name without what tables write differently: capitals, spaces, a misspelling."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return SPELLINGS.get(plain, plain)


def plain_coords(coords: np.ndarray, where: str) -> np.ndarray:
    """float32[N, 3] of coordinates of any type of numbers; RoomError for another shape."""
    check_coords(coords, where)
    return np.ascontiguousarray(coords, np.float32)


def check_coords(coords: np.ndarray, where: str) -> None:
    """RoomError unless these are numbers [N, 3]."""
    if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype.kind not in "fiu":
        raise RoomError(
            f"{where}: coordinates: expected numbers [points, 3], found {coords.dtype} "
            f"{list(coords.shape)}"
        )


def classes_of_numbers(
    numbers: np.ndarray, num_classes: int, ignored: Sequence[int], where: str
) -> np.ndarray:
    """uint8[N]: evaluation classes of labels that count the classes from 0.

    Args:
        numbers: [N], whole numbers of any type.
        num_classes: evaluation classes, the ignored one left out.
        ignored: labels of no class, besides.
        where: for messages.

    Raises:
        RoomError: a label is neither; names the first such point.

    """
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiub":
        raise RoomError(
            f"{where}: labels: expected a number a point, found {numbers.dtype} "
            f"{list(numbers.shape)}"
        )
    none = np.isin(numbers, ignored)
    valid = none | ((numbers >= 0) & (numbers < num_classes) & (numbers == np.floor(numbers)))
    if not valid.all():
        row = int(np.argmin(valid))
        raise RoomError(
            f"{where}: point {row} has the label {numbers[row]}, expected 0 to {num_classes - 1} "
            f"or {' or '.join(map(str, ignored))} for none: rooms with other classes need their "
            "own --vocabulary"
        )
    classes = np.zeros(len(numbers), np.uint8)
    classes[~none] = numbers[~none].astype(np.uint8) + np.uint8(1)
    return classes
