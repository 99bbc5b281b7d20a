"""Sweeps as files of float32 columns, point after point, without a header.

Nothing in such a file says how many columns it has: read with another number, it is another cloud.
So what the columns hold is checked at every reading.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes

POSITION = ("x", "y", "z")
NEEDED = (*POSITION, "intensity")
RING, OTHER = "ring", "_"
FARTHEST = 5_000.0  # metres; no LiDAR of a vehicle measures as far as this
NEAREST = 0.01  # metres; a sweep has at least one point that is farther away
MOST_RINGS = 1024
# How files begin that are sometimes named like a sweep. At least four bytes: fewer are by chance a
# number in one sweep of a large dataset.
BEGINNINGS = {
    b"# .PCD": "a PCD file with its header",
    b"VERSION ": "a PCD file with its header",
    b"ply\n": "a PLY file",
    b"ply\r": "a PLY file",
    b"LASF": "a LAS file",
    b"\x93NUMPY": "a .npy file",
    b"PK\x03\x04": "a zip archive, such as .npz or .pth",
    b"(\xb5/\xfd": "a zstd archive",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a pointer of Git LFS in the place of the file itself",
}
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))
# What other datasets have, tried for a hint where a file contradicts its columns.
USUAL = (NEEDED, (*NEEDED, RING), (*NEEDED, OTHER), (*NEEDED, RING, OTHER), (*NEEDED, OTHER, OTHER))


@dataclasses.dataclass(frozen=True)
class SweepColumns:
    """What the columns of a dataset's sweeps hold.

    Attributes:
        names: in the order of the file: "x", "y", "z" in metres and "intensity" once each, "ring"
            (a whole number, checked, not used) at most once, "_" for whatever else.
        largest_intensity: the end of its scale, which begins at 0.

    """

    names: tuple[str, ...]
    largest_intensity: float

    def __post_init__(self) -> None:
        """Refuse columns that make no sweep."""
        named = [name for name in self.names if name != OTHER]
        if (
            not set(NEEDED) <= set(named) <= {*NEEDED, RING}
            or len(set(named)) != len(named)
            or not 0 < self.largest_intensity < np.inf
        ):
            raise InputError(
                f"columns of a sweep {' '.join(self.names)!r}, intensity up to "
                f"{self.largest_intensity}: expected x, y, z and intensity, each once, possibly "
                "ring, and _ for every other column, such as 'x y z intensity ring _'"
            )

    @property
    def text(self) -> str:
        """The names as a config or an option says them, such as "x y z intensity ring"."""
        return " ".join(self.names)

    @property
    def bytes_per_point(self) -> int:
        """4 bytes a column."""
        return 4 * len(self.names)

    def with_names(self, names: str) -> SweepColumns:
        """The same with columns as a config names them, such as "x y z intensity ring"."""
        return dataclasses.replace(self, names=tuple(names.replace(",", " ").split()))

    def wrong_size(self, size: int) -> str:
        """What is wrong with a file of so many bytes, "" if it may be a sweep."""
        if size > 0 and size % self.bytes_per_point == 0:
            return ""
        return (
            f"truncated, or of other columns: {size} bytes, expected a positive multiple of "
            f"{self.bytes_per_point} ({len(self.names)} float32 a point: {self.text})"
        )


NUSCENES_COLUMNS = SweepColumns((*NEEDED, RING), 255.0)
SEMANTICKITTI_COLUMNS = SweepColumns(NEEDED, 1.0)


def read_points(path: str | Path, columns: SweepColumns) -> np.ndarray:
    """float32[N, 4]: x, y, z in metres and the intensity as stored of every point of a sweep.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is empty, truncated, of another format, holds a number that is not finite,
            or what its columns hold cannot be what they are called.

    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such LiDAR sweep: is the archive unpacked completely?")
    content = read_bytes(path)
    if other := _other_format(content):
        raise InputError(
            f"{path}: this is {other}, expected float32 columns without a header ({columns.text})"
        )
    if wrong := columns.wrong_size(len(content)):
        raise InputError(f"{path}: {wrong}{other_columns(content, columns)}")
    table = np.frombuffer(content, "<f4").astype(np.float32).reshape(-1, len(columns.names))
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InputError(f"{path}: point {row} is not finite: {table[row].tolist()}")
    if wrong := _implausible(table, columns):
        raise InputError(f"{path}: {wrong}{other_columns(content, columns)}")
    order = [columns.names.index(name) for name in NEEDED]
    return table[:, :4] if order == [0, 1, 2, 3] else table[:, order]


def other_columns(content: bytes, columns: SweepColumns) -> str:
    """A hint: the usual columns with which the same bytes would make a sweep."""
    for names in USUAL:
        other = dataclasses.replace(columns, names=names)
        if names == columns.names or not content or other.wrong_size(len(content)):
            continue
        table = np.frombuffer(content, "<f4").reshape(-1, len(names))
        if np.isfinite(table).all() and not _implausible(table, other):
            return (
                f". With {len(names)} columns, {' '.join(names)}, it would do (config.data.columns "
                "and --columns say so)"
            )
    return ""


def _other_format(content: bytes) -> str:
    """What a file seems to be by how it begins, "" if it may be numbers."""
    for beginning, name in BEGINNINGS.items():
        if content.startswith(beginning):
            return name
    start = content[:64]
    return "a text file" if len(start) > 8 and TEXT.issuperset(start) else ""


def _implausible(table: np.ndarray, columns: SweepColumns) -> str:
    """What contradicts the columns' names, "" if nothing does."""
    farthest = 0.0
    # Column after column in memory: twice as fast.
    for name, column in zip(columns.names, np.ascontiguousarray(table.T), strict=True):
        if name in POSITION:
            distance = np.abs(column)
            farthest = max(farthest, float(distance.max()))
            wrong, expected = distance > FARTHEST, f"at most {FARTHEST:,.0f} m from the LiDAR"
        elif name == "intensity":
            wrong = (column < 0) | (column > columns.largest_intensity)
            expected = f"0 to {columns.largest_intensity:g}"
        elif name == RING:
            wrong = (column < 0) | (column > MOST_RINGS) | (column != np.floor(column))
            expected = f"a whole number 0 to {MOST_RINGS}"
        else:
            continue
        if wrong.any():
            row = int(np.argmax(wrong))
            return (
                f"{name} of point {row} is {column[row]:g} ({wrong.sum():,} such points of "
                f"{len(table):,}), expected {expected}"
            )
    if farthest < NEAREST:
        return (
            f"all {len(table):,} points lie within {NEAREST:g} m of the LiDAR: zeros, or numbers "
            "of another type"
        )
    return ""
