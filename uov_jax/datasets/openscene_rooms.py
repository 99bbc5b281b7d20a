"""Rooms as OpenScene publishes them preprocessed: of ScanNet, ScanNet200, Matterport and Replica.

A `.pth` file is a pickle of numpy arrays: coordinates [N, 3] in metres, colours [N, 3] in -1..1,
and, but for test scenes, labels [N] that count the classes from 0, 255 or -100 for none. Colours
may be the number 0, which means that there are none.

    scannet_3d/train/scene0000_00_vh_clean_2.pth
    scannet_3d/val/...

Facts of the format: https://github.com/pengsongyou/openscene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scans import (
    GREY,
    SPLITS,
    Scan,
    check_coords,
    classes_of_numbers,
    plain_coords,
)
from uov_jax.errors import MissingFileError
from uov_jax.pickled import read_pickled
from uov_jax.vocabulary import Vocabulary

ENDINGS = ("_vh_clean_2",)  # that names of files have beyond those of their rooms
NO_CLASS = (255, -100)
BYTES_PER_POINT = 45  # float32 coordinates and colours, float64 labels; bytes as Latin-1 text
BEYOND = 1e-3  # colours may be beyond -1 and 1 by so much, from rounding
ALL = "all"  # the split of rooms that are in no folder of a split


class OpenSceneRooms:
    """The rooms of one folder of OpenScene's, such as `scannet_3d`."""

    settings: Mapping[str, object] = {"format": "openscene"}

    def __init__(self, root: str | Path, vocabulary: Vocabulary) -> None:
        """Look for the files.

        Args:
            root: holds `train`, `val` or `test`, or the files themselves.
            vocabulary: its evaluation classes are those that the labels number, in their order.

        Raises:
            MissingFileError: there are no such files.
            RoomError: they are of outdoor sweeps, or a room is in two splits.

        """
        self.root, self.vocabulary = Path(root), vocabulary
        self.notes: list[str] = []
        if self.root.name.lower().startswith("nuscenes"):
            raise RoomError(
                f"{self.root}: sweeps of nuScenes, not rooms: their labels are of other classes "
                "and their points have no colour; read the dataset itself, as README.md says"
            )
        folders = {split: self.root / split for split in SPLITS if (self.root / split).is_dir()}
        self._paths: dict[str, Path] = {}
        self._splits: dict[str, list[str]] = {}
        for split, folder in (folders or {ALL: self.root}).items():
            for path in sorted(folder.glob("[!.]*.pth")):
                name = room_name(path)
                if name in self._paths:
                    raise RoomError(f"{path}: the room is there already as {self._paths[name]}")
                self._paths[name] = path
                self._splits.setdefault(split, []).append(name)
        if not self._paths:
            raise MissingFileError(
                f"{self.root}: no .pth files in it, nor in train, val or test below it: name the "
                "folder that holds OpenScene's preprocessed points, such as scannet_3d"
            )

    def names(self) -> list[str]:
        """All rooms."""
        return list(self._paths)

    def splits(self) -> Mapping[str, Sequence[str]]:
        """The rooms of every folder."""
        return self._splits

    def expected_points(self, name: str) -> int:
        """By the size of the file."""
        return self._paths[name].stat().st_size // BYTES_PER_POINT

    def files(self, name: str) -> list[Path]:
        """The file of a room."""
        return [self._paths[name]]

    def read(self, name: str) -> Scan:
        """One room; see `read_openscene`."""
        return read_openscene(self._paths[name], self.vocabulary)


def room_name(path: Path) -> str:
    """The name of a file's room: "scene0000_00" of `scene0000_00_vh_clean_2.pth`."""
    name = path.stem
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def read_openscene(path: Path, vocabulary: Vocabulary) -> Scan:
    """The room of a `.pth` file. Nothing of the file is run.

    Args:
        path: the file.
        vocabulary: as for `OpenSceneRooms`.

    Raises:
        MissingFileError: there is no such file.
        PickleError: it is no pickle, or damaged.
        RoomError: it holds something else than two or three arrays, or labels of other classes.

    """
    stored, colors, numbers = openscene_arrays(path)
    coords = plain_coords(stored, str(path))
    notes: tuple[str, ...] = ()
    if colors is None:
        colors = np.full(coords.shape, GREY, np.uint8)
        notes = (f"{path}: no colours, grey stands for them",)
    labels = None
    if numbers is not None:
        classes = len(vocabulary.eval_classes) - 1
        labels = classes_of_numbers(numbers, classes, NO_CLASS, str(path))
        if len(labels) != len(coords):
            raise RoomError(f"{path}: {len(labels):,} labels, but {len(coords):,} points")
    return Scan(coords, colors, labels, str(path), notes)


def openscene_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What a `.pth` file holds. Nothing of the file is run.

    Returns:
        Coordinates, numbers [N, 3]; colours uint8[N, 3], None where there are none; labels as they
        are stored, None where there are none.

    Raises:
        As `read_openscene`, but for labels.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file of OpenScene's preprocessed points")
    found = read_pickled(path)
    if found.left_out:
        raise RoomError(
            f"{path}: expected a pickle of arrays, found {'; '.join(found.left_out[:3])}: nothing "
            "of it was run; get the file from where OpenScene publishes it"
        )
    parts = found.content
    if not isinstance(parts, tuple | list) or len(parts) not in (2, 3):
        what = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
        raise RoomError(
            f"{path}: expected coordinates, colours and, but for test scenes, labels; found {what}"
        )
    arrays = [np.asarray(part) for part in parts]
    check_coords(arrays[0], str(path))
    colors = None
    if arrays[1].ndim > 0 or arrays[1] != 0:
        colors = _bytes_of_colors(arrays[1], len(arrays[0]), path)
    return arrays[0], colors, arrays[2] if len(arrays) == 3 else None


def _bytes_of_colors(colors: np.ndarray, points: int, path: Path) -> np.ndarray:
    if colors.shape != (points, 3) or colors.dtype.kind != "f":
        raise RoomError(
            f"{path}: colours: expected fractions [{points}, 3] or the number 0, found "
            f"{colors.dtype} {list(colors.shape)}"
        )
    if points and not (np.abs(colors) <= 1 + BEYOND).all():
        row = int(np.argmin((np.abs(colors) <= 1 + BEYOND).all(axis=1)))
        raise RoomError(
            f"{path}: point {row} has the colour {colors[row].tolist()}, expected -1 to 1"
        )
    bright = (colors.astype(np.float64) + 1) * 127.5
    return np.rint(np.clip(bright, 0, 255)).astype(np.uint8)
