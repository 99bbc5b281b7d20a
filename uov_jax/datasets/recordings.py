"""Rooms of one's own: point clouds as files, with frames in the layout of `extracted_frames.py`.

    rooms/kitchen.ply        vertices x y z, red green blue (uchar), and maybe label
    rooms/office.npz         coords [N, 3], colors uint8 [N, 3], and maybe labels [N]
    rooms/train.txt          names of a split's rooms, one a line; without such files all are "all"
    rooms/scene_labels.txt   "kitchen: table, chair": which classes each room has

Coordinates are metres with z upward, in the coordinates that the frames' poses are in. Labels are
evaluation classes, 0 for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.contents import parse_npz
from uov_jax.datasets.ply_file import (
    PlyError,
    read_ply,
    read_ply_header,
    vertex_colors,
    vertex_coords,
)
from uov_jax.datasets.rooms import NAME, RoomError
from uov_jax.datasets.scans import GREY, Scan, check_splits, plain_coords
from uov_jax.errors import MissingFileError
from uov_jax.files import DAMAGE, read_bytes
from uov_jax.vocabulary import Vocabulary

ALL = "all"
SCENE_LABELS = "scene_labels.txt"
BYTES_PER_POINT = 15  # of an .npz
SHOWN = 5


class Recordings:
    """The rooms of a folder."""

    settings: Mapping[str, object] = {"format": "recording"}

    def __init__(self, root: str | Path, vocabulary: Vocabulary) -> None:
        """Look for the files.

        Args:
            root: the folder.
            vocabulary: of the labels.

        Raises:
            MissingFileError: there are none, or a split names one that is not there.
            RoomError: a room is there twice, or in two of the lists train, val and test.

        """
        self.root, self._vocabulary = Path(root), vocabulary
        self.notes: list[str] = []
        self._paths: dict[str, Path] = {}
        for path in sorted(self.root.glob("[!.]*")):
            if path.suffix not in (".ply", ".npz") or not path.is_file():
                continue
            if path.stem in self._paths:
                raise RoomError(f"{path}: the room is there already as {self._paths[path.stem]}")
            if not NAME.fullmatch(path.stem):
                raise RoomError(
                    f"{path}: {path.stem!r} is no name for a room: letters, digits, _, - and ."
                )
            self._paths[path.stem] = path
        if not self._paths:
            raise MissingFileError(f"{self.root}: no .ply or .npz files of rooms in this folder")
        self._splits = self._read_splits()

    def names(self) -> list[str]:
        """All rooms."""
        return list(self._paths)

    def splits(self) -> Mapping[str, Sequence[str]]:
        """The rooms of every list, or all."""
        return self._splits or {ALL: self.names()}

    def expected_points(self, name: str) -> int:
        """As a PLY's header says, or by the size of the file."""
        path = self._paths[name]
        if path.suffix == ".ply":
            try:
                return read_ply_header(path).vertices
            except PlyError:
                return 0
        return path.stat().st_size // BYTES_PER_POINT

    def files(self, name: str) -> list[Path]:
        """The file of a room."""
        return [self._paths[name]]

    def read(self, name: str) -> Scan:
        """One room."""
        path = self._paths[name]
        coords, colors, numbers = _of_ply(path) if path.suffix == ".ply" else _of_npz(path)
        notes: tuple[str, ...] = ()
        if colors is None:
            colors = np.full(coords.shape, GREY, np.uint8)
            notes = (f"{path}: no colours, grey stands for them",)
        labels = None if numbers is None else self._labels(numbers, path)
        return Scan(coords, colors, labels, str(path), notes)

    def _labels(self, numbers: np.ndarray, path: Path) -> np.ndarray:
        most = len(self._vocabulary.eval_classes) - 1
        right = numbers.ndim == 1 and numbers.dtype.kind in "iufb"
        if not right or not np.isin(numbers, np.arange(most + 1)).all():
            some = numbers.ravel()[:SHOWN].tolist()
            raise RoomError(
                f"{path}: labels: expected a whole number from 0 (none) to {most} a point, the "
                f"classes of {self._vocabulary.name!r}; found {numbers.dtype} "
                f"{list(numbers.shape)}, beginning with {some}"
            )
        return numbers.astype(np.uint8)

    def _read_splits(self) -> dict[str, list[str]]:
        splits = {}
        paths = {path.stem: path for path in sorted(self.root.glob("[!.]*.txt"))}
        for path in paths.values():
            if path.name == SCENE_LABELS:
                continue
            names = read_bytes(path).decode("utf-8", "replace").split()
            absent = [name for name in names if name not in self._paths]
            if absent:
                raise MissingFileError(
                    f"{path}: the split names {len(absent)} rooms that are not in {self.root}, the "
                    f"first is {absent[0]}"
                )
            if names:
                splits[path.stem] = names
        check_splits(splits, paths)
        return splits


def _of_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    vertices = read_ply(path)
    has_label = "label" in (vertices.dtype.names or ())
    numbers = vertices["label"] if has_label else None
    return vertex_coords(vertices, path), vertex_colors(vertices, path), numbers


def _of_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    try:
        arrays = parse_npz(read_bytes(path), ("coords", "colors", "labels"))
    except DAMAGE as error:
        raise RoomError(f"{path}: not an .npz of plain arrays, or damaged: {error}") from error
    if "coords" not in arrays:
        raise RoomError(f"{path}: no array coords in it, float [points, 3] in metres")
    coords = plain_coords(arrays["coords"], str(path))
    return coords, arrays.get("colors"), arrays.get("labels")
