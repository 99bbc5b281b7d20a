"""The store of rooms: what scans of interiors are prepared into, whatever dataset they are of.

A folder with a manifest; in it one folder a room, whose arrays are memory-mapped:

    rooms.json                        dataset and classes of all rooms
    rooms/scene0000_00/coords.npy     float32 [N, 3], metres
                       colors.npy     uint8 [N, 3]
                       labels.npy     uint8 [N], only where there are labels
                       room.json      what is known of the room; a room counts as made with it
    splits/train.txt                  the names of a split's rooms, one a line
    scene_labels.txt                  "scene0000_00: bed, desk", where a person wrote them
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.contents import map_npy, parse_facts, parse_json
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE, ManifestFile, read_bytes, write_text
from uov_jax.vocabulary import Vocabulary

STORE_VERSION = 2
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
WRITTEN_SPLITS = ".of_dataset"  # in the folder of the splits: names of those of the dataset
PREPARE_AGAIN = "prepare the rooms again with scripts/prepare_rooms.py into another folder"


class RoomError(InputError):
    """A room's files cannot be used; names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class StoreManifest:
    """What all rooms of a store have in common, kept in its `rooms.json`.

    Attributes:
        dataset: "scannet", "s3dis", or the name of one's own.
        vocabulary: name of the dictionary whose evaluation classes the labels are.
        vocabulary_hash: `Vocabulary.hash` of it.
        classes: names of all classes, the first one ignored.
        settings: by name, what else decides what rooms are made of a dataset's files, such as the
            format; those of an earlier store are not known.
        format_version: of the store.

    """

    dataset: str
    vocabulary: str
    vocabulary_hash: str
    classes: tuple[str, ...]
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    format_version: int = STORE_VERSION

    def __post_init__(self) -> None:
        """Make the fields what they are once read back: JSON has lists, but no tuples."""
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "settings", json.loads(json.dumps(self.settings)))


def _without_settings(content: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a store of version 1, which kept no settings and no stamps of files."""
    return {**content, "settings": {}, "format_version": STORE_VERSION}


MANIFEST = ManifestFile(
    name="rooms.json",
    facts=StoreManifest,
    version=STORE_VERSION,
    what="prepared rooms",
    how_to_get="make them with scripts/prepare_rooms.py, or scripts/simulate_rooms.py",
    how_to_renew=PREPARE_AGAIN,
    error=RoomError,
    earlier={1: _without_settings},
)


@dataclasses.dataclass(frozen=True, eq=False)
class Room:
    """One scan of an interior. Arrays are read-only views of files until they are used.

    Attributes:
        name: of the room, also that of its folder.
        coords: float32[N, 3], metres, z upward.
        colors: uint8[N, 3], RGB.
        labels: uint8[N], class of every point, 0 for none; None for a room without labels.

    """

    name: str
    coords: np.ndarray
    colors: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        """Number of points."""
        return len(self.coords)


class RoomStore:
    """A folder of prepared rooms.

    Attributes:
        root: the folder.
        manifest: what all rooms have in common.

    """

    def __init__(self, root: str | os.PathLike[str], vocabulary: Vocabulary | None = None) -> None:
        """Read the manifest.

        Args:
            root: the folder.
            vocabulary: whose classes the labels must be; None takes those of the store.

        Raises:
            MissingFileError: there is no store.
            RoomError: its manifest cannot be used, or its classes are others.

        """
        self.root = Path(root)
        self.manifest = MANIFEST.read(self.root)
        if vocabulary is not None and vocabulary.hash != self.manifest.vocabulary_hash:
            raise RoomError(
                f"{self.root / MANIFEST.name}: rooms with labels of the vocabulary "
                f"{self.manifest.vocabulary!r}, not of {vocabulary.name!r}: give that one, or "
                f"{PREPARE_AGAIN}"
            )
        self._scene_labels: dict[str, tuple[int, ...]] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, the first one ignored."""
        return self.manifest.classes

    def splits(self) -> list[str]:
        """Names of the splits."""
        return sorted(path.stem for path in (self.root / "splits").glob("[!.]*.txt"))

    def split(self, name: str) -> list[str]:
        """Names of a split's rooms, every one of which is there.

        Raises:
            InputError: there is no such split, it names no room, or one more than once.
            MissingFileError: rooms of it were not prepared; counts them.

        """
        path = self.root / "splits" / f"{name}.txt"
        if name not in self.splits():
            known = ", ".join(map(repr, self.splits())) or "none"
            raise InputError(f"{path}: no split {name!r} in this store, there are {known}")
        text = read_bytes(path).decode("utf-8", "replace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if not names:
            raise RoomError(f"{path}: the split names no room")
        twice = [room for room, number in Counter(names).items() if number > 1]
        if twice:
            raise RoomError(f"{path}: the split names {twice[0]} more than once")
        missing = [room for room in names if not self.has(room)]
        if missing:
            raise MissingFileError(
                f"{self.root}: {len(missing)} of {len(names)} rooms of {name!r} were not "
                f"prepared, the first is {missing[0]}: finish scripts/prepare_rooms.py"
            )
        return names

    def names(self) -> list[str]:
        """All prepared rooms, sorted."""
        found = (self.root / "rooms").glob("[!.]*/room.json")
        return sorted(path.parent.name for path in found)

    def chosen(self, splits: Sequence[str] | None) -> list[str]:
        """The rooms of some splits, each once, or all of the store for None.

        Raises:
            InputError: there are none, or no such split.
            MissingFileError: as `split`.

        """
        rooms = self.names() if splits is None else [r for name in splits for r in self.split(name)]
        if not rooms:
            raise InputError(f"{self.root}: the store has no rooms: prepare some first")
        return list(dict.fromkeys(rooms))

    def has(self, name: str) -> bool:
        """Whether a room was prepared."""
        return bool(NAME.fullmatch(name)) and self._facts_path(name).is_file()

    def has_labels(self, name: str) -> bool:
        """Whether a room has labels of its points."""
        return (self.root / "rooms" / name / "labels.npy").is_file()

    def room(self, name: str) -> Room:
        """One room, its arrays mapped into memory.

        Raises:
            MissingFileError: there is no such room.
            RoomError: a file of it is damaged, or they do not fit each other.

        """
        if not self.has(name):
            raise MissingFileError(
                f"{self._facts_path(name)}: no such room; prepare it with scripts/prepare_rooms.py"
            )
        points = self.facts(name).points
        coords = self._array(name, "coords", np.dtype(np.float32), (points, 3))
        colors = self._array(name, "colors", np.dtype(np.uint8), (points, 3))
        labels = None
        if self.has_labels(name):
            labels = self._array(name, "labels", np.dtype(np.uint8), (points,))
        return Room(name, coords, colors, labels)

    def facts(self, name: str) -> RoomFacts:
        """What is known of a room without its arrays."""
        return read_facts(self._facts_path(name))

    def identity(self, rooms: Sequence[str]) -> str:
        """sha256 of what is known of some rooms and of their true labels, in hexadecimal.

        Labels are read, a byte a point; coordinates and colours, fifteen times as much, are not.
        Errors as `room`.
        """
        found = hashlib.sha256(json.dumps(dataclasses.asdict(self.manifest)).encode())
        for name in rooms:
            # Not where and when its files lay on a disk.
            facts = dataclasses.replace(self.facts(name), source="", stamp="")
            found.update(f"\n{name}: {json.dumps(dataclasses.asdict(facts))}".encode())
            if self.has_labels(name):
                labels = self._array(name, "labels", np.dtype(np.uint8), (facts.points,))
                found.update(np.ascontiguousarray(labels).data)
        return found.hexdigest()

    def scene_classes(self, name: str) -> tuple[int, ...]:
        """The classes that a room has: as `scene_labels.txt` says, else those of its points.

        Raises:
            RoomError: neither says; or the file names a class or room that is not known.

        """
        if self._scene_labels is None:
            path = self.root / "scene_labels.txt"
            self._scene_labels = (
                read_scene_labels(path, self.classes, self._known()) if path.is_file() else {}
            )
        if name in self._scene_labels:
            return self._scene_labels[name]
        found = self.facts(name).classes
        if found is None:
            raise RoomError(
                f"{self._facts_path(name)}: the room has no labels, and "
                f"{self.root / 'scene_labels.txt'} does not name it: write a line "
                f"'{name}: {', '.join(self.classes[1:3])}' there with the classes it has"
            )
        return found

    def _known(self) -> set[str]:
        """All rooms that are there or, since they stand in a split, are still to come."""
        texts = (
            read_bytes(path).decode("utf-8", "replace")
            for path in (self.root / "splits").glob("[!.]*.txt")
        )
        return {*self.names(), *(name for text in texts for name in text.split())}

    def _facts_path(self, name: str) -> Path:
        return self.root / "rooms" / name / "room.json"

    def _array(self, room: str, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        path = self.root / "rooms" / room / f"{name}.npy"
        return map_array(path, dtype, shape, PREPARE_AGAIN)


@dataclasses.dataclass(frozen=True)
class RoomFacts:
    """What is known of a room without its arrays, kept in its `room.json`.

    Attributes:
        points: their number.
        classes: evaluation classes that its labels have, None where there are no labels.
        source: the file that it was made from, for people.
        world_to_room: 16 numbers, row by row, of the matrix from the coordinates that a dataset's
            camera poses are in to those of the points; () where they are the same, or where nothing
            is known of it.
        stamp: changes with the files that it was made from; "" where nothing is known of them.

    """

    points: int
    classes: tuple[int, ...] | None
    source: str = ""
    world_to_room: tuple[float, ...] = ()
    stamp: str = ""

    def __post_init__(self) -> None:
        """Make the fields what they are once read back: JSON has lists, but no tuples."""
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "world_to_room", tuple(self.world_to_room))


def read_facts(path: Path) -> RoomFacts:
    """The facts of a room from its `room.json`; RoomError if they are none."""
    try:
        return parse_facts(RoomFacts, parse_json(read_bytes(path)))
    except ValueError as error:
        raise RoomError(f"{path}: not the facts of a room: {error}") from error


class RoomWriter:
    """Makes a store, or goes on with one of the same facts; several processes may.

    Attributes:
        root: the folder.
        num_classes: of the vocabulary, the ignored one among them.

    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        dataset: str,
        vocabulary: Vocabulary,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Write the manifest, or check the one that is there.

        Raises:
            RoomError: the folder holds rooms of another dataset, vocabulary or setting.

        """
        self.root = Path(root)
        self.num_classes = len(vocabulary.eval_classes)
        manifest = StoreManifest(
            dataset, vocabulary.name, vocabulary.hash, vocabulary.eval_classes, dict(settings or {})
        )
        MANIFEST.create(self.root, manifest)

    def has(self, name: str) -> bool:
        """Whether a room is there already, whole."""
        return self._facts_path(name).is_file()

    def is_current(self, name: str, stamp: str) -> bool:
        """Whether a room is there, whole, and was made from files of a stamp, as far as is known.

        One with damaged facts counts as not there.
        """
        if not self.has(name):
            return False
        try:
            return read_facts(self._facts_path(name)).stamp in ("", stamp)
        except RoomError:
            return False

    def write(
        self,
        name: str,
        coords: np.ndarray,
        colors: np.ndarray,
        labels: np.ndarray | None,
        source: str = "",
        world_to_room: np.ndarray | None = None,
        stamp: str = "",
    ) -> None:
        """Write one room, whole or not at all.

        Args:
            name: letters, digits, "_", "-" and "." alone.
            coords: float32[N, 3], metres, z upward, at least one point.
            colors: uint8[N, 3].
            labels: uint8[N], 0 for none, or None.
            source: the file it was read from.
            world_to_room: float64[4, 4], see `RoomFacts`; None for nothing to say.
            stamp: of the files it was read from, see `RoomFacts`.

        Raises:
            RoomError: the arrays are none of that; names the room.

        """
        _check_room(name, coords, colors, labels, self.num_classes, source)
        arrays = {"coords": coords, "colors": colors}
        classes = None
        if labels is not None:
            arrays["labels"] = labels
            classes = tuple(int(c) for c in np.unique(labels) if c)
        matrix = () if world_to_room is None else tuple(map(float, np.ravel(world_to_room)))
        facts = RoomFacts(len(coords), classes, source, matrix, stamp)
        text = json.dumps(dataclasses.asdict(facts), indent=1)
        write_arrays(self.root / "rooms" / name, arrays, {"room.json": text})

    def write_split(self, name: str, rooms: Iterable[str]) -> None:
        """Write the names of a split's rooms."""
        write_text(self.root / "splits" / f"{name}.txt", "\n".join(rooms))

    def write_splits(self, splits: Mapping[str, Sequence[str]]) -> list[str]:
        """Write all splits of a dataset; those that an earlier call wrote do not stay beside them.

        Splits that a person wrote into the store under other names do.

        Returns:
            What changed of splits that were there, each a sentence.

        """
        folder = self.root / "splits"
        told = []
        known = folder / WRITTEN_SPLITS
        before = read_bytes(known).decode().split("\n") if known.is_file() else []
        for name in sorted({*filter(None, before)} - {*splits}):
            (folder / f"{name}.txt").unlink(missing_ok=True)
            told.append(f"the split {name!r} is none of the dataset's any more: removed")
        for name, rooms in splits.items():
            path = folder / f"{name}.txt"
            old = read_bytes(path).decode("utf-8", "replace").split() if path.is_file() else None
            self.write_split(name, rooms)
            if old not in (None, list(rooms)):
                told.append(f"the split {name!r} has {len(rooms)} rooms, others than before")
        write_text(known, "\n".join(splits))
        return told

    def _facts_path(self, name: str) -> Path:
        return self.root / "rooms" / name / "room.json"


def read_scene_labels(
    path: Path, classes: Sequence[str], rooms: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Scene-level labels that a person wrote: a line `ROOM: class, class` for every room.

    Args:
        path: UTF-8 text; empty lines and those that begin with # say nothing.
        classes: names of all classes, the first one ignored.
        rooms: names of all rooms.

    Returns:
        Evaluation classes by the room's name, sorted.

    Raises:
        RoomError: a line of another form, a room twice, or a name that is no class or no room;
            names the line.

    """
    number_of = {name: number for number, name in enumerate(classes) if number}
    found: dict[str, tuple[int, ...]] = {}
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RoomError(f"{path}: not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        room, colon, rest = (part.strip() for part in line.partition(":"))
        names = [name.strip() for name in rest.split(",") if name.strip()]
        if not colon or not room or not names:
            raise RoomError(f"{path}:{number}: expected 'ROOM: class, class', found {line!r}")
        unknown = [name for name in names if name not in number_of]
        if unknown:
            raise RoomError(
                f"{path}:{number}: {unknown[0]!r} is none of the classes {', '.join(number_of)}"
            )
        if room not in rooms:
            near = difflib.get_close_matches(room, sorted(rooms), n=3, cutoff=0.6)
            meant = f", is {' or '.join(near)} meant?" if near else ""
            raise RoomError(f"{path}:{number}: {room!r} is none of the {len(rooms)} rooms{meant}")
        if room in found:
            raise RoomError(f"{path}:{number}: the room {room} stands here a second time")
        found[room] = tuple(sorted({number_of[name] for name in names}))
    return found


def map_array(
    path: Path, dtype: np.dtype, shape: Sequence[int | None], how_to_renew: str
) -> np.ndarray:
    """An array of a .npy file, mapped into memory and read-only.

    Args:
        path: the file.
        dtype: that it must have.
        shape: that it must have; None where any number will do.
        how_to_renew: what to do about one that cannot be used.

    Raises:
        MissingFileError: there is no such file.
        RoomError: it is damaged, or holds something else.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: missing: {how_to_renew}")
    try:
        array = map_npy(path)
    except DAMAGE as error:
        raise RoomError(f"{path}: damaged ({error}): {how_to_renew}") from error
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join("any" if number is None else f"{number}" for number in shape)
        raise RoomError(
            f"{path}: expected {dtype} [{wanted}], found {array.dtype} {list(array.shape)}: "
            f"{how_to_renew}"
        )
    return array


def write_arrays(
    folder: Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None
) -> None:
    """Write a folder of .npy files and texts, whole or not at all; one of that name is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        for name, text in (texts or {}).items():
            write_text(temporary / name, text)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished_rooms(root: Path, names: Sequence[str]) -> None:
    """Remove what killed writers left in a store of rooms that are this process's to write."""
    wanted = set(names)
    for folder in (root / "rooms").glob(".*.tmp"):
        if folder.name[1:].removesuffix(".tmp").rpartition(".")[0] in wanted:
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(
    name: str,
    coords: np.ndarray,
    colors: np.ndarray,
    labels: np.ndarray | None,
    num_classes: int,
    source: str,
) -> None:
    where = source or f"room {name}"
    if not NAME.fullmatch(name):
        raise RoomError(f"{where}: {name!r} is no name for a room: letters, digits, _, - and .")
    number = len(coords)
    if not number:
        raise RoomError(f"{where}: the room has no points")
    expected: dict[str, tuple[np.ndarray, type[np.generic], tuple[int, ...]]] = {
        "coords": (coords, np.float32, (number, 3)),
        "colors": (colors, np.uint8, (number, 3)),
    }
    if labels is not None:
        expected["labels"] = (labels, np.uint8, (number,))
    for what, (array, dtype, shape) in expected.items():
        if array.dtype != dtype or array.shape != shape:
            raise RoomError(
                f"{where}: {what}: expected {np.dtype(dtype)} {list(shape)}, found {array.dtype} "
                f"{list(array.shape)}"
            )
    finite = np.isfinite(coords).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise RoomError(f"{where}: point {row} is at {coords[row].tolist()}, which is no place")
    if labels is not None and labels.max() >= num_classes:
        row = int(np.argmax(labels >= num_classes))
        raise RoomError(
            f"{where}: point {row} has the label {labels[row]}, expected 0 to {num_classes - 1}"
        )
