"""S3DIS's text files of points, x y z r g b in every line, with a few damaged bytes mended.

The release has a byte 0x10 within a line of `Area_5/hallway_6/Annotations/ceiling_1.txt`, and may
have more of its kind. A line with such bytes is read without them, or with spaces in their place,
whichever gives a point; a line that gives none is left out. Both are told.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import RoomError
from uov_jax.errors import MissingFileError
from uov_jax.files import read_bytes

ALLOWED = b"0123456789+-.eE \t\r\n"
COLUMNS = 6
MOST_BAD = 20  # lines of a file; with more it is no file of points
SHOWN = 60  # bytes of a line in a message
_STRANGE = ~np.isin(np.arange(256), np.frombuffer(ALLOWED, np.uint8))


@dataclasses.dataclass(frozen=True, eq=False)
class TextPoints:
    """The points of one file.

    Attributes:
        points: float64[N, 6], x y z in metres, r g b 0..255.
        notes: of every line that was mended or left out what was done.

    """

    points: np.ndarray
    notes: tuple[str, ...]


def read_text_points(path: Path) -> TextPoints:
    """Read a file.

    Raises:
        MissingFileError: there is no such file.
        RoomError: more than `MOST_BAD` of its lines are no points.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file of points: is S3DIS unpacked completely?")
    content = read_bytes(path)
    lines, bad = _bad_lines(content)
    if not bad.any():
        points = _numbers(content)
        # Numpy also reads two numbers without a space between them.
        if points is not None and len(points) <= len(bad):
            return TextPoints(points, ())
    if len(bad) and bad.sum() > MOST_BAD:
        first = int(np.argmax(bad))
        raise RoomError(
            f"{path}:{first + 1}: {bad.sum():,} of {len(bad):,} lines are not x y z r g b, the "
            f"first is {_shown(lines[first])}: not a file of points, or badly damaged"
        )
    return _line_by_line(path, lines)


def _bad_lines(content: bytes) -> tuple[list[bytes], np.ndarray]:
    """The lines, and bool[lines]: those with other bytes or another number of words than a point.

    Where every line is good, the lines themselves are not cut out, but [].
    """
    if not content.strip():
        return [], np.zeros(0, bool)
    data = np.frombuffer(content, np.uint8)
    space = data <= ord(" ")
    begins = ~space & np.concatenate([[True], space[:-1]])
    starts = np.concatenate([[0], np.flatnonzero(data[:-1] == ord("\n")) + 1])
    words = np.add.reduceat(begins, starts, dtype=np.int32)
    bad = (words != 0) & (words != COLUMNS)
    bad[np.searchsorted(starts, np.flatnonzero(_STRANGE[data]), "right") - 1] = True
    return (content.split(b"\n") if bad.any() else []), bad


def _numbers(content: bytes) -> np.ndarray | None:
    """float64[N, 6]; None where a word is no number or a colour is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # How numpy tells of such a word.
        try:
            numbers = np.fromstring(content.decode("ascii"), np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    if numbers.size % COLUMNS:
        return None
    points = numbers.reshape(-1, COLUMNS)
    return points if _are_points(points).all() else None


def _are_points(points: np.ndarray) -> np.ndarray:
    colors = points[:, 3:]
    return np.isfinite(points).all(axis=1) & ((colors >= 0) & (colors <= 255)).all(axis=1)


def _line_by_line(path: Path, lines: list[bytes]) -> TextPoints:
    found, notes, left_out = [], [], 0
    for number, line in enumerate(lines or read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        point = _numbers(line)
        if point is None or len(point) != 1:
            how, point = _mended(line)
            notes.append(f"{path}:{number}: {_shown(line)} {how}")
            left_out += point is None
            if left_out > MOST_BAD:
                raise RoomError(f"{path}: more than {MOST_BAD} lines that are no points: damaged")
        if point is not None:
            found.append(point)
    return TextPoints(np.concatenate(found or [np.zeros((0, COLUMNS))]), tuple(notes))


def _mended(line: bytes) -> tuple[str, np.ndarray | None]:
    """What was done with a line, and the point that it then gave."""
    for place, how in ((b"", "read without"), (b" ", "read with spaces for")):
        mended = b"".join(bytes([byte]) if byte in ALLOWED else place for byte in line)
        point = _numbers(mended)
        if mended != line and point is not None and len(point) == 1:
            return f"was {how} the bytes that are no numbers", point
    return "is no point and was left out", None


def _shown(line: bytes) -> str:
    return repr(line[:SHOWN].strip())[1:]
