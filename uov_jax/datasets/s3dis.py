"""S3DIS, version 1.2: rooms of six areas, a text file for every object in them.

    Area_1/office_1/Annotations/chair_1.txt      x y z r g b
    Area_1/Area_1_alignmentAngle.txt             office_1 90; in the unaligned release alone

There are two releases, `Stanford3dDataset_v1.2_Aligned_Version`, in which every room is turned so
that its walls lie along the axes, and `Stanford3dDataset_v1.2`, whose rooms stand as in the
building, which is what the poses of 2D-3D-S's images are in. Either is read as it stands; the store
keeps the matrix from the building to the room. For that, the aligned release needs the angles of
the other one. Rooms are turned by minus the angle about the vertical axis through the middle of
their bounding box, as public preprocessing does it; the authors do not say which middle they took,
so prepare the unaligned release where you have it and look at images.

Facts of the dataset: http://buildingparser.stanford.edu/dataset.html. A class is the beginning of a
file's name; stairs, and whatever else is no class, are clutter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.s3dis_text import read_text_points
from uov_jax.datasets.scans import Scan, same_name
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes
from uov_jax.vocabulary import Vocabulary

AREAS = tuple(f"Area_{number}" for number in range(1, 7))
HELD_OUT = "Area_5"
ALIGNED, UNALIGNED = "aligned", "unaligned"
OTHERS = "clutter"
OBJECT = re.compile(r"([A-Za-z]+)(?:_\d+)?\.txt")
BYTES_PER_POINT = 31  # of a line


class S3DISRooms:
    """The rooms of the areas that are there."""

    def __init__(
        self,
        root: str | Path,
        vocabulary: Vocabulary,
        held_out: str = HELD_OUT,
        release: str | None = None,
        angles: Path | None = None,
    ) -> None:
        """Look which rooms are there, and read the angles.

        Args:
            root: holds Area_1 and its like.
            vocabulary: the classes, clutter among them.
            held_out: the area of the split val; train has all others.
            release: "aligned" or "unaligned"; None tells it by the folder's name, and else takes
                the aligned one, which has no angles.
            angles: root of the unaligned release, or a folder of the angles' files; None takes
                `root`.

        Raises:
            MissingFileError: there are no areas, or the angles that were named are not there.
            InputError: no such area, the release cannot be told, or an angle cannot be used.

        """
        self.root, self._vocabulary = Path(root), vocabulary
        self._folders = {
            f"{area}_{folder.parent.name}": folder
            for area in AREAS
            for folder in sorted((self.root / area).glob("*/Annotations"))
        }
        if not self._folders:
            raise MissingFileError(
                f"{self.root}: no S3DIS here, expected Area_1/office_1/Annotations and the like "
                "(Stanford3dDataset_v1.2_Aligned_Version)"
            )
        if held_out not in AREAS:
            raise InputError(
                f"no area {held_out!r} to hold out, expected one of {', '.join(AREAS)}"
            )
        self._held_out = held_out
        self._angles = read_angles(angles or self.root, required=angles is not None)
        self.release = release or _told_by_name(self.root, bool(self._angles) and angles is None)
        self.notes = list(self._told())

    @property
    def settings(self) -> Mapping[str, object]:
        """The release, and the angles where a room's turn is told by them."""
        settings = {"format": "s3dis", "release": self.release}
        if self.release == ALIGNED:
            angles = json.dumps(sorted(self._angles.items()))
            known = hashlib.sha256(angles.encode()).hexdigest()
            settings["angles"] = known if self._angles else "none"
        return settings

    def names(self) -> list[str]:
        """All rooms, such as "Area_5_office_1"."""
        return list(self._folders)

    def splits(self) -> Mapping[str, Sequence[str]]:
        """Rooms of the area that is held out, and the others."""
        held_out = [name for name in self._folders if name.startswith(f"{self._held_out}_")]
        train = [name for name in self._folders if name not in set(held_out)]
        return {split: names for split, names in (("train", train), ("val", held_out)) if names}

    def expected_points(self, name: str) -> int:
        """By the sizes of the files."""
        total = sum(path.stat().st_size for path in _object_files(self._folders[name]))
        return total // BYTES_PER_POINT

    def files(self, name: str) -> list[Path]:
        """The files of a room's objects."""
        return _object_files(self._folders[name])

    def read(self, name: str) -> Scan:
        """One room: its objects one after the other, in the order of their files' names."""
        folder = self._folders[name]
        paths = _object_files(folder)
        if not paths:
            raise MissingFileError(f"{folder}: no text file of an object in the room")
        points, labels = [], []
        notes: list[str] = []
        others: Counter[str] = Counter()
        for path in paths:
            found = read_text_points(path)
            notes += found.notes
            number, known = self._class(path)
            if not known:
                others[path.name] += len(found.points)
            points.append(found.points)
            labels.append(np.full(len(found.points), number, np.uint8))
        notes += [
            f"{folder / file}: {count:,} points of no class of their own are {OTHERS}"
            for file, count in others.items()
        ]
        cloud = np.concatenate(points)
        coords = cloud[:, :3].astype(np.float32)
        colors = np.rint(cloud[:, 3:]).astype(np.uint8)
        matrix = self._world_to_room(name, cloud[:, :3])
        return Scan(coords, colors, np.concatenate(labels), str(folder), tuple(notes), matrix)

    def _class(self, path: Path) -> tuple[int, bool]:
        """The class of an object's file, and whether it has its own."""
        classes = {same_name(c): n for n, c in enumerate(self._vocabulary.eval_classes) if n}
        match = OBJECT.fullmatch(path.name)
        number = classes.get(same_name(match[1])) if match else None
        return (classes.get(OTHERS, 0), False) if number is None else (number, True)

    def _world_to_room(self, name: str, points: np.ndarray) -> np.ndarray | None:
        if self.release == UNALIGNED:
            return np.eye(4)
        if name not in self._angles or not len(points):
            return None
        return alignment(points, self._angles[name])

    def _told(self) -> list[str]:
        """What is to be said of the release."""
        told = [f"taken as the {self.release} release"]
        without = [name for name in self._folders if name not in self._angles]
        if self.release == ALIGNED and without:
            told.append(
                f"{len(without)} of {len(self._folders)} rooms have no alignment angle, so images "
                "of 2D-3D-S cannot be used with them: give the unaligned release, or its folder "
                "as --angles"
            )
        return told


def alignment(aligned: np.ndarray, degrees: float) -> np.ndarray:
    """float64[4, 4]: from the building to an aligned room, found from the room's points.

    With R the turn by minus the angle and c the middle of the unaligned room's bounding box,
    aligned = R (unaligned - c) + c. With m the middle of the box of the points turned back about
    the origin, R^-1 aligned = unaligned - c + R^-1 c, so that m = c - c + R^-1 c and c = R m.

    Args:
        aligned: float[N, 3], points of the aligned room.
        degrees: its angle in the dataset's file.

    """
    turn = _about_z(-degrees)
    turned_back = aligned @ turn  # R^-1 p for rows p
    middle = (turned_back.min(axis=0) + turned_back.max(axis=0)) / 2
    center = turn @ middle
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = center - turn @ center
    return matrix


def _about_z(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def read_angles(folder: Path, required: bool = False) -> dict[str, float]:
    """Degrees by room, such as "Area_5_office_1", of the files below or in a folder.

    Raises:
        MissingFileError: there are none, and they are required.
        InputError: a line is no room and angle; names it.

    """
    angles: dict[str, float] = {}
    for area in AREAS:
        name = f"{area}_alignmentAngle.txt"
        for path in (folder / area / name, folder / name):
            if path.is_file():
                angles |= _angles_of(path, area)
                break
    if required and not angles:
        raise MissingFileError(
            f"{folder}: no Area_1/Area_1_alignmentAngle.txt or the like: they come with the "
            "unaligned release, Stanford3dDataset_v1.2"
        )
    return angles


def _angles_of(path: Path, area: str) -> dict[str, float]:
    angles = {}
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            room, angle = line.split()
            angles[f"{area}_{room}"] = float(angle)
        except ValueError as error:
            raise InputError(f"{path}:{number}: expected a room and degrees: {line!r}") from error
    return angles


def _told_by_name(root: Path, has_angles: bool) -> str:
    name = root.resolve().name.lower()
    if name.startswith("stanford3ddataset"):
        return ALIGNED if "aligned" in name else UNALIGNED
    if has_angles:
        raise InputError(
            f"{root}: the name does not tell which release it is, and there are alignment angles: "
            "--release unaligned for Stanford3dDataset_v1.2, aligned for its Aligned_Version"
        )
    return ALIGNED


def _object_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.txt"))
