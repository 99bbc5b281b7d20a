"""Sweeps as files of float32 columns, point after point, without a header.

Nothing in such a file says how many columns it has: read with another number, it is another cloud.
So what the columns hold is checked at every reading.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import ABSENT, read_bytes
from uov_jax.host import engine

POSITION = ("x", "y", "z")
NEEDED = (*POSITION, "intensity")
RING, OTHER = "ring", "_"
COLORS = ("red", "green", "blue")
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
    b"\x89MCAP": "a ROS 2 bag",
    b"SQLite format 3": "an SQLite database, such as a ROS 2 bag",
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
class Columns:
    """What the columns of a file hold.

    Attributes:
        names: in the order of the file: "x", "y", "z" in metres, "intensity", "ring" (a whole
            number, checked, not used), "red", "green", "blue" (0 to 255), "_" for whatever else.

    """

    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The names as a config or an option says them, such as "x y z intensity ring"."""
        return " ".join(self.names)

    @property
    def bytes_per_point(self) -> int:
        """4 bytes a column."""
        return 4 * len(self.names)

    def wrong_size(self, size: int) -> str:
        """What is wrong with a file of so many bytes, "" if it may be of these columns."""
        if size > 0 and size % self.bytes_per_point == 0:
            return ""
        return (
            f"truncated, or of other columns: {size} bytes, expected a positive multiple of "
            f"{self.bytes_per_point} ({len(self.names)} float32 a point: {self.text})"
        )


@dataclasses.dataclass(frozen=True)
class SweepColumns(Columns):
    """What the columns of a dataset's sweeps hold.

    Attributes:
        names: as `Columns` says; the position and the intensity once each, the ring at most once.
        largest_intensity: the end of its scale, which begins at 0.

    """

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

    def ranges(self) -> tuple[list[tuple[float, float]], list[bool], list[bool]]:
        """Of every column the numbers that it may hold; whether they are whole; if it is a place.

        What `implausible` says in words.
        """
        limits = dict.fromkeys(POSITION, (-FARTHEST, FARTHEST))
        limits |= {"intensity": (0.0, self.largest_intensity), RING: (0.0, float(MOST_RINGS))}
        finite = float(np.finfo(np.float32).max)
        return (
            [limits.get(name, (-finite, finite)) for name in self.names],
            [name == RING for name in self.names],
            [name in POSITION for name in self.names],
        )

    def with_names(self, names: str) -> SweepColumns:
        """The same with columns as a config names them, such as "x y z intensity ring"."""
        return dataclasses.replace(self, names=column_names(names))


def column_names(text: str) -> tuple[str, ...]:
    """Names as a config or an option says them, separated by spaces or commas."""
    return tuple(text.replace(",", " ").split())


NUSCENES_COLUMNS = SweepColumns((*NEEDED, RING), 255.0)
SEMANTICKITTI_COLUMNS = SweepColumns(NEEDED, 1.0)


def read_points(path: str | Path, columns: SweepColumns) -> np.ndarray:
    """float32[N, 4]: x, y, z in metres and the intensity as stored of every point of a sweep.

    An array that is not to be written to.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is empty, truncated, of another format, holds a number that is not finite,
            or what its columns hold cannot be what they are called.

    """
    path = Path(path)
    try:
        content = read_bytes(path)
    except ABSENT as error:
        raise MissingFileError(
            f"{path}: no such LiDAR sweep: is the archive unpacked completely?"
        ) from error
    if other := other_format(content):
        raise InputError(
            f"{path}: this is {other}, expected float32 columns without a header ({columns.text})"
        )
    if wrong := columns.wrong_size(len(content)):
        raise InputError(f"{path}: {wrong}{other_columns(content, columns)}")
    table = np.frombuffer(content, "<f4").astype(np.float32, copy=False)
    table = table.reshape(-1, len(columns.names))
    if not engine().is_plausible_sweep(table, *columns.ranges(), NEAREST):
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
            raise InputError(f"{path}: point {row} is not finite: {table[row].tolist()}")
        if wrong := implausible(table, columns, columns.largest_intensity):
            raise InputError(f"{path}: {wrong}{other_columns(content, columns)}")
    order = [columns.names.index(name) for name in NEEDED]
    return table[:, :4] if order == [0, 1, 2, 3] else np.take(table, order, axis=1)


def other_columns(content: bytes, columns: SweepColumns) -> str:
    """A hint: the usual columns with which the same bytes would make a sweep."""
    for names in USUAL:
        other = dataclasses.replace(columns, names=names)
        if names == columns.names or not content or other.wrong_size(len(content)):
            continue
        table = np.frombuffer(content, "<f4").reshape(-1, len(names))
        if np.isfinite(table).all() and not implausible(table, other, other.largest_intensity):
            return (
                f". With {len(names)} columns, {' '.join(names)}, it would do (config.data.columns "
                "and --columns say so)"
            )
    return ""


def other_format(content: bytes) -> str:
    """What a file seems to be by how it begins, "" if it may be numbers."""
    for beginning, name in BEGINNINGS.items():
        if content.startswith(beginning):
            return name
    start = content[:64]
    return "a text file" if len(start) > 8 and TEXT.issuperset(start) else ""


def implausible(
    table: np.ndarray, columns: Columns, largest_intensity: float, metres: bool = True
) -> str:
    """What contradicts the columns' names, "" if nothing does.

    Args:
        table: float32[N, columns], at least one row, all finite.
        columns: what it should hold.
        largest_intensity: the end of its scale, which begins at 0.
        metres: of positions, from the LiDAR; False where any number may be one.

    """
    farthest = 0.0
    # Column after column in memory: twice as fast.
    for name, column in zip(columns.names, np.ascontiguousarray(table.T), strict=True):
        if name in POSITION and metres:
            distance = np.abs(column)
            farthest = max(farthest, float(distance.max()))
            wrong, expected = distance > FARTHEST, f"at most {FARTHEST:,.0f} m from the LiDAR"
        elif name == "intensity":
            wrong = (column < 0) | (column > largest_intensity)
            expected = f"0 to {largest_intensity:g}"
        elif name == RING:
            wrong = (column < 0) | (column > MOST_RINGS) | (column != np.floor(column))
            expected = f"a whole number 0 to {MOST_RINGS}"
        elif name in COLORS:
            wrong = (column < 0) | (column > 255) | (column != np.floor(column))
            expected = "a whole number 0 to 255"
        else:
            continue
        if wrong.any():
            row = int(np.argmax(wrong))
            return (
                f"{name} of point {row} is {column[row]:g} ({wrong.sum():,} such points of "
                f"{len(table):,}), expected {expected}"
            )
    if metres and farthest < NEAREST:
        return (
            f"all {len(table):,} points lie within {NEAREST:g} m of the LiDAR: zeros, or numbers "
            "of another type"
        )
    return ""
