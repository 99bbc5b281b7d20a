"""Frames as folders of images: OpenScene's layout, and the one for a recording of one's own.

    scannet_2d/scene0000_00/color/0.jpg, 20.jpg, ...   or .png
                            depth/0.png, ...           16 bits, millimetres; may be left out
                            pose/0.txt, ...            4 x 4, camera to world
                            intrinsics.txt             4 x 4 or 3 x 3, of the images as stored
    scannet_2d/intrinsics.txt                          for rooms without one of their own

What ScanNet's own reader exports of a recording has the same folders and, for intrinsics, a file
`intrinsic/intrinsic_color.txt`.

Names are frame numbers. The camera looks along +z, with x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.frames import Frame, check_intrinsics, check_pose
from uov_jax.datasets.image_file import image_size
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes

IMAGES = (".jpg", ".jpeg", ".png")
HOW_TO_GET = "extract them with scripts/extract_frames.py, or name the folder that holds the rooms'"


class ExtractedFrames:
    """The frames of the rooms of one folder."""

    def __init__(
        self,
        root: str | Path,
        depth_units: float = 1000.0,
        depth_missing: int = 0,
        every: int = 1,
        say: Callable[[str], object] = print,
    ) -> None:
        """Only the folder is looked at.

        Args:
            root: holds a folder for every room.
            depth_units: of depth images per metre.
            depth_missing: their number where nothing was measured, beside 0.
            every: of a room's frames the first, and every so many-th after it are taken.
            say: told once a room how many frames have no pose.

        Raises:
            MissingFileError: there is no such folder.

        """
        self.root = Path(root)
        self._units, self._missing = depth_units, depth_missing
        self._every, self._say = every, say
        self._said: set[str] = set()
        if not self.root.is_dir():
            raise MissingFileError(f"{self.root}: no folder of frames: {HOW_TO_GET}")

    def has(self, room: str) -> bool:
        """Whether there is a folder of frames of a room."""
        return (self.root / room / "color").is_dir()

    def frames(self, room: str) -> Sequence[Frame]:
        """The frames of one room by their numbers; see `FrameSource.frames`."""
        folder = self.root / room
        colors = _numbered(folder / "color", IMAGES)
        if not colors:
            raise MissingFileError(f"{folder / 'color'}: no images of the room: {HOW_TO_GET}")
        poses = _numbered(folder / "pose", (".txt",))
        depths = _numbered(folder / "depth", (".png",)) if (folder / "depth").is_dir() else None
        _same_frames(colors, poses, folder / "pose", ".txt")
        if depths is not None:
            _same_frames(colors, depths, folder / "depth", ".png")
        intrinsics = self._intrinsics(folder, next(iter(colors.values())))
        found = []
        taken = list(colors.items())[:: self._every]
        for number, color in taken:
            pose = _matrix(poses[number], (4, 4))
            if not np.isfinite(pose).all():
                continue
            check_pose(pose, str(poses[number]))
            depth = None if depths is None else depths[number]
            name = str(number)
            found.append(Frame(name, color, depth, pose, intrinsics, self._units, self._missing))
        self._tell(room, len(taken) - len(found), len(taken))
        if not found:
            raise InputError(
                f"{folder / 'pose'}: none of the {len(taken)} frames has a pose of finite numbers"
            )
        return found

    def _tell(self, room: str, left_out: int, total: int) -> None:
        if left_out and room not in self._said:
            self._said.add(room)
            self._say(
                f"{room}: {left_out} of {total} frames are left out: their poses are not finite"
            )

    def _intrinsics(self, folder: Path, image: Path) -> np.ndarray:
        own, of_all = folder / "intrinsics.txt", self.root / "intrinsics.txt"
        paths = (own, folder / "intrinsic" / "intrinsic_color.txt", of_all)
        for path in paths:
            if path.is_file():
                intrinsics = _matrix(path, (4, 4), (3, 3))[:3, :3]
                check_intrinsics(intrinsics, image_size(image), str(path))
                return intrinsics
        raise MissingFileError(
            f"{own}: no intrinsics of the room, nor {of_all} of all: a 4 x 4 matrix of the images "
            "in their stored size"
        )


def _numbered(folder: Path, endings: Sequence[str]) -> dict[int, Path]:
    """Files by the numbers that are their names, in their order; {} where there is no folder."""
    found: dict[int, Path] = {}
    for path in folder.glob("[!.]*"):
        if path.suffix.lower() not in endings:
            continue
        if not path.stem.isdecimal():
            raise InputError(f"{path}: names of frames are numbers, such as 20{path.suffix}")
        if int(path.stem) in found:
            raise InputError(f"{path}: the frame is there twice, also as {found[int(path.stem)]}")
        found[int(path.stem)] = path
    return dict(sorted(found.items()))


def _same_frames(
    colors: dict[int, Path], others: dict[int, Path], folder: Path, ending: str
) -> None:
    """Raise unless colours and others are of the same frames; names the first that is missing."""
    missing = [number for number in colors if number not in others]
    if missing:
        stem = colors[missing[0]].stem
        raise MissingFileError(
            f"{folder / (stem + ending)}: missing, though there is {colors[missing[0]]}; it is the "
            f"first of {len(missing)} among {len(colors)} frames: copy or extract them again"
        )
    alone = [number for number in others if number not in colors]
    if alone:
        raise MissingFileError(
            f"{others[alone[0]]}: no image in color belongs to it; it is the first of {len(alone)} "
            f"among {len(others)}: copy or extract them again"
        )


def _matrix(path: Path, *shapes: tuple[int, int]) -> np.ndarray:
    """float64: the matrix in a text file, of one of some shapes; infinities are numbers."""
    try:
        rows = [line.split() for line in read_bytes(path).decode("ascii").splitlines()]
        matrix = np.array([[float(word) for word in row] for row in rows if row], np.float64)
    except ValueError as error:
        raise InputError(f"{path}: not a matrix of numbers: {error}") from error
    if matrix.shape not in shapes:
        wanted = " or ".join(f"{height} x {width}" for height, width in shapes)
        raise InputError(f"{path}: expected a matrix of {wanted}, found {list(matrix.shape)}")
    return matrix
