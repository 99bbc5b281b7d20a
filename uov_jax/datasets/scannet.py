"""ScanNet's raw release: meshes and their labels, split lists, the table of NYU40's classes.

    scans/scene0000_00/scene0000_00_vh_clean_2.ply          vertices with colours
                       scene0000_00_vh_clean_2.labels.ply   the same with NYU40's number of a class
    scans_test/scene0707_00/scene0707_00_vh_clean_2.ply     test scenes have no labels
    scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt
    scannetv2-labels.combined.tsv

The points are the mesh's vertices as they stand: the axis alignment in a scene's .txt file is not
applied, so that the poses of the frames fit. Facts of the format: https://github.com/ScanNet/ScanNet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.ply_file import (
    PlyError,
    read_ply,
    read_ply_header,
    vertex_colors,
    vertex_coords,
)
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scans import SPLITS, Scan, check_splits, same_name
from uov_jax.errors import MissingFileError
from uov_jax.files import read_bytes
from uov_jax.vocabulary import Vocabulary

LABEL_TABLE = "scannetv2-labels.combined.tsv"
NYU40 = range(41)  # 0 is unlabelled
NUMBER = re.compile(r"[0-9]{1,4}")
LINE_END = re.compile(r"\r\n|\r|\n")
FOLDERS = ("scans", "scans_test", ".")
SHOWN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Nyu40Classes:
    """The evaluation classes of NYU40's numbers.

    Attributes:
        table: uint8[41], class of every number, 0 for none.
        known: numbers that the file names.
        missing: classes of the vocabulary that no number has.

    """

    table: np.ndarray
    known: frozenset[int]
    missing: tuple[str, ...]


def read_label_table(path: Path, vocabulary: Vocabulary) -> Nyu40Classes:
    """The table from NYU40's numbers to evaluation classes, by the names of the classes.

    Args:
        path: `scannetv2-labels.combined.tsv`; its columns nyu40id and nyu40class are read.
        vocabulary: whose evaluation classes to find.

    Raises:
        MissingFileError: there is no such file; says where its authors publish it.
        RoomError: it has other columns, contradicts itself, or names none of the classes.

    """
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no table of ScanNet's labels: it comes with the dataset's own download "
            f"(download-scannet.py, as https://github.com/ScanNet/ScanNet tells) as {LABEL_TABLE}; "
            "name it with --label-table"
        )
    number_of = {same_name(name): n for n, name in enumerate(vocabulary.eval_classes) if n}
    names = _nyu40_names(path)
    table = np.zeros(len(NYU40), np.uint8)
    for number, name in names.items():
        table[number] = number_of.get(same_name(name), 0)
    if not table.any():
        raise RoomError(
            f"{path}: none of the classes of the vocabulary {vocabulary.name!r} is a class of NYU40"
        )
    found = set(table.tolist())
    missing = [name for n, name in enumerate(vocabulary.eval_classes) if n and n not in found]
    return Nyu40Classes(table, frozenset(names), tuple(missing))


def _nyu40_names(path: Path) -> dict[int, str]:
    """NYU40's names of classes by their numbers."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RoomError(f"{path}: not UTF-8 text: {error}") from error
    first, *rows = LINE_END.split(text)
    columns = first.split("\t")
    if not {"nyu40id", "nyu40class"} <= set(columns):
        found = ", ".join(map(repr, columns[:SHOWN]))
        raise RoomError(
            f"{path}: expected columns nyu40id and nyu40class divided by tabs, found {found}"
        )
    names: dict[int, str] = {}
    for line, words in enumerate(rows, start=2):
        row = dict(zip(columns, words.split("\t"), strict=False))
        number, name = row.get("nyu40id"), row.get("nyu40class")
        if not number or not name:
            continue  # Categories without a class of NYU40.
        if not NUMBER.fullmatch(number) or int(number) not in NYU40:
            raise RoomError(f"{path}:{line}: nyu40id is {number!r}, expected 0 to {NYU40[-1]}")
        if same_name(names.setdefault(int(number), name)) != same_name(name):
            raise RoomError(
                f"{path}:{line}: NYU40's class {number} is {name!r} here and "
                f"{names[int(number)]!r} above"
            )
    return names


def read_split_lists(folder: Path) -> dict[str, list[str]]:
    """The scenes of the splits, from `scannetv2_train.txt` and its like; those that are there.

    Raises:
        MissingFileError: there is none; says where the authors publish them.
        RoomError: a scene stands in two of them, or twice in one.

    """
    splits: dict[str, list[str]] = {}
    paths = {split: folder / f"scannetv2_{split}.txt" for split in SPLITS}
    for split, path in paths.items():
        if path.is_file():
            splits[split] = read_bytes(path).decode("utf-8", "replace").split()
    check_splits(splits, paths)
    if not splits:
        raise MissingFileError(
            f"{folder}: no scannetv2_train.txt, scannetv2_val.txt or scannetv2_test.txt: ScanNet's "
            "authors publish them in https://github.com/ScanNet/ScanNet under Tasks/Benchmark; "
            "name their folder with --split-lists"
        )
    return splits


class ScanNetRooms:
    """The scenes of the raw release that are in one of the split lists."""

    def __init__(
        self,
        root: str | Path,
        vocabulary: Vocabulary,
        label_table: Path | None = None,
        split_lists: Path | None = None,
    ) -> None:
        """Read the lists and the table, and look which scenes are there.

        Args:
            root: holds `scans` and, with test scenes, `scans_test`; or the scenes' folders.
            vocabulary: the classes.
            label_table: the file of `read_label_table`; None looks for it in `root`.
            split_lists: the folder of `read_split_lists`; None takes `root`.

        Raises:
            MissingFileError: scenes, table or lists are not there.
            RoomError: as for these.

        """
        self.root = Path(root)
        self._classes = read_label_table(label_table or self.root / LABEL_TABLE, vocabulary)
        lists = read_split_lists(split_lists or self.root)
        here = _scenes(self.root)
        if not here:
            raise MissingFileError(
                f"{self.root}: no ScanNet here, expected a folder scans with scene0000_00 and the "
                "like in it, each with its _vh_clean_2.ply"
            )
        self._splits = {s: [name for name in names if name in here] for s, names in lists.items()}
        self._splits = {split: names for split, names in self._splits.items() if names}
        self._split_of = {name: split for split, names in self._splits.items() for name in names}
        self._folders = {name: here[name] for name in self._split_of}
        if not self._folders:
            raise RoomError(
                f"{self.root}: none of its {len(here)} scenes stands in a split list, the first is "
                f"{min(here)}"
            )
        self.notes = list(self._notes(lists, here))

    @property
    def settings(self) -> Mapping[str, object]:
        """The table from NYU40's numbers to classes, whatever file it is written in."""
        table = hashlib.sha256(self._classes.table.tobytes()).hexdigest()
        return {"format": "scannet", "label_table": table}

    def names(self) -> list[str]:
        """All scenes that are there and in a list."""
        return list(self._folders)

    def splits(self) -> Mapping[str, Sequence[str]]:
        """The scenes of the lists that are there."""
        return self._splits

    def expected_points(self, name: str) -> int:
        """As the mesh's header says; 0 where that cannot be read, which `read` is to tell."""
        try:
            return read_ply_header(self._mesh(name)).vertices
        except (PlyError, MissingFileError):
            return 0

    def files(self, name: str) -> list[Path]:
        """The mesh and its labels."""
        return [self._mesh(name), self._labels(name)]

    def read(self, name: str) -> Scan:
        """One scene; test scenes have no labels."""
        path = self._mesh(name)
        vertices = read_ply(path)
        coords, colors = vertex_coords(vertices, path), vertex_colors(vertices, path)
        if colors is None:
            raise PlyError(f"{path}: the vertices have no colours, which ScanNet's meshes have")
        labels_path = self._labels(name)
        if self._split_of[name] == "test" and not labels_path.is_file():
            return Scan(coords, colors, None, str(path))
        numbers, notes = self._numbers(labels_path, len(coords))
        return Scan(coords, colors, self._classes.table[numbers], str(path), notes)

    def _mesh(self, name: str) -> Path:
        return self._folders[name] / f"{name}_vh_clean_2.ply"

    def _labels(self, name: str) -> Path:
        return self._folders[name] / f"{name}_vh_clean_2.labels.ply"

    def _numbers(self, path: Path, points: int) -> tuple[np.ndarray, tuple[str, ...]]:
        """NYU40's number of every point, and what is to be said of them."""
        vertices = read_ply(path)
        if "label" not in (vertices.dtype.names or ()):
            raise PlyError(f"{path}: the vertices have no 'label', NYU40's number of their class")
        if len(vertices) != points:
            raise PlyError(f"{path}: {len(vertices):,} labels, but the mesh has {points:,} points")
        numbers = vertices["label"].astype(np.int64)
        strange = ~np.isin(numbers, [0, *self._classes.known])
        if not strange.any():
            return numbers, ()
        which = ", ".join(map(str, np.unique(numbers[strange])[:SHOWN]))
        numbers[strange] = 0
        return numbers, (
            f"{path}: {np.count_nonzero(strange):,} points have labels that the table does not "
            f"name ({which}): they get no class",
        )

    def _notes(self, lists: Mapping[str, Sequence[str]], here: Mapping[str, Path]) -> Iterable[str]:
        if self._classes.missing:
            yield (
                "no class of NYU40 is called as these, which no point will have: "
                f"{', '.join(self._classes.missing)}"
            )
        for split, names in lists.items():
            absent = [name for name in names if name not in here]
            if absent:
                yield (
                    f"{len(absent)} of {len(names)} scenes of {split!r} are not in {self.root} and "
                    f"not in the split, the first is {absent[0]}"
                )
        unlisted = [name for name in here if name not in self._split_of]
        if unlisted:
            yield f"{len(unlisted)} scenes are in no list and left out, such as {unlisted[0]}"


def _scenes(root: Path) -> dict[str, Path]:
    """The folders of scenes by their names."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("scene*_*")):
            if path.is_dir():
                found.setdefault(path.name, path)
    return found
