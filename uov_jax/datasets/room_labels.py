"""Predicted labels of rooms: a text file a room, in ScanNet's numbers where its table is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scannet import read_label_table
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes
from uov_jax.vocabulary import Vocabulary


class RoomLabelFormat:
    """`SCENE.txt`: the number of a class a line, in the order of the points; 0 for none.

    That is the format of ScanNet's benchmark, whose numbers are NYU40's (3D semantic label, see
    https://kaldir.vc.in.tum.de/scannet_benchmark/documentation). The dataset's table of labels says
    which they are; without it the numbers are those of the vocabulary's classes.
    """

    benchmark_sweeps = 312
    points_per_sweep = 150_000
    bytes_per_point = 3

    def __init__(
        self, rooms: Sequence[str], vocabulary: Vocabulary, label_table: Path | None = None
    ) -> None:
        """The rooms of a split in order.

        Args:
            rooms: their names.
            vocabulary: the classes.
            label_table: ScanNet's `scannetv2-labels.combined.tsv`; None for the classes' numbers.

        Raises:
            MissingFileError: there is no such table.
            RoomError: it lacks a class, or has two numbers for one.

        """
        self.rooms = list(rooms)
        self.benchmark = "ScanNet" if label_table is not None else ""
        self.official_classes = len(vocabulary.eval_classes)
        self._numbers = np.arange(self.official_classes)
        if label_table is not None:
            self._numbers = _nyu40_numbers(label_table, vocabulary)
        self._lines = np.array([f"{number}\n" for number in self._numbers], dtype=bytes)

    def path(self, index: int) -> Path:
        """The file of a room."""
        return Path(f"{self.rooms[index]}.txt")

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """uint8[bytes]: the text of classes uint8[N]; InputError for one that there is not."""
        wrong = np.flatnonzero(classes >= len(self._lines))
        if len(wrong):
            raise InputError(
                f"class {classes[wrong[0]]} of point {wrong[0]} ({len(wrong)} such points), but "
                f"there are {len(self._lines) - 1}"
            )
        return np.frombuffer(b"".join(self._lines[classes].tolist()), np.uint8)

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: classes 0..C - 1.

        Raises:
            MissingFileError: there is no such file.
            InputError: it has another number of lines, or a number that is no class's.

        """
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file of predicted labels")
        lines = read_bytes(path).split()
        if len(lines) != num_points:
            raise InputError(f"{path}: {len(lines)} labels, but the room has {num_points} points")
        known = {b"%d" % number: index for index, number in enumerate(self._numbers)}
        classes = [known.get(line, -1) for line in lines]
        if -1 in classes:
            row = classes.index(-1)
            found = lines[row].decode("utf-8", "replace")
            raise InputError(f"{path}:{row + 1}: {found!r} is the number of no class")
        return np.array(classes, np.uint8)

    def describe(self, folder: Path) -> list[Path]:
        """Nothing: the labels are all."""
        del folder
        return []


def _nyu40_numbers(path: Path, vocabulary: Vocabulary) -> np.ndarray:
    """int64[C]: NYU40's number of every class, 0 for the ignored one."""
    found = read_label_table(path, vocabulary)
    if found.missing:
        raise RoomError(
            f"{path}: NYU40 has no class {found.missing[0]!r}, so labels of the vocabulary "
            f"{vocabulary.name!r} cannot be told in its numbers"
        )
    # A class may have two numbers where the table spells it in two ways; the first one is known.
    numbers = [np.flatnonzero(found.table == c) for c in range(1, len(vocabulary.eval_classes))]
    return np.array([0, *(int(each[0]) for each in numbers)])
