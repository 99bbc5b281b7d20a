"""PCD files of the Point Cloud Library: ASCII, binary and compressed.

Facts of the format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from pathlib import Path

import numpy as np

from uov_jax.clouds.cloud import CloudError, Reading, Stored
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.clouds.lzf import decompress_lzf
from uov_jax.datasets.lidar_file import other_format
from uov_jax.datasets.ply_file import NUMBER
from uov_jax.datasets.text_table import read_rows
from uov_jax.files import read_bytes

TYPES = {"F": ("f", (4, 8)), "I": ("i", (1, 2, 4, 8)), "U": ("u", (1, 2, 4, 8))}
ENCODINGS = ("ascii", "binary", "binary_compressed")
ENTRIES = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS")
PADDING = "_"  # the name of fields that hold nothing
MOST_HEADER = 2**16  # bytes
MOST_BYTES = 2**20  # of a point


@dataclasses.dataclass(frozen=True)
class _Header:
    points: int
    dtype: np.dtype
    encoding: str
    size: int  # of the header, in bytes


def read_pcd(path: Path, reading: Reading) -> Stored:
    """The points of a PCD file.

    Where it was seen from (VIEWPOINT) is not used: points are in the sensor's own coordinates.

    Raises:
        CloudError: it is no PCD file, cut off, or its header is of another file.

    """
    content = read_bytes(path)
    header = _header(path, content)
    body = content[header.size :]
    form = f"PCD, {header.encoding}"
    if not header.points:
        raise CloudError(f"{path}: no points in it, says its header ({form})")
    if header.encoding == "ascii":
        found = read_rows(path, body, header.points, header.dtype, more=False, error=CloudError)
        _no_packed_nan(found)
    elif header.encoding == "binary":
        found = _binary(path, body, header)
    else:
        found = _compressed(path, body, header)
    fields = {name: found[name] for name in found.dtype.names or () if not name.startswith(PADDING)}
    return stored_of_fields(fields, reading.columns, str(path), form)


def _binary(path: Path, body: bytes, header: _Header) -> np.ndarray:
    wanted, width = header.points * header.dtype.itemsize, header.dtype.itemsize
    if not wanted <= len(body) < wanted + width:
        raise CloudError(
            f"{path}: {header.points:,} points of {width} bytes need {wanted:,}, found "
            f"{len(body):,}: cut off, or the header is of another file"
        )
    return np.frombuffer(body, header.dtype, header.points)


def _compressed(path: Path, body: bytes, header: _Header) -> np.ndarray:
    """Structured [N]: compressed are all numbers of the first field, then of the second, ..."""
    if len(body) < 8:
        raise CloudError(f"{path}: the file ends where its compressed points begin: cut off")
    packed, size = struct.unpack("<2I", body[:8])
    wanted = header.points * header.dtype.itemsize
    if size != wanted:
        raise CloudError(
            f"{path}: {header.points:,} points need {wanted:,} bytes, and its compressed points "
            f"are {size:,}: the header is of another file"
        )
    if len(body) < 8 + packed:
        raise CloudError(
            f"{path}: {packed:,} bytes of compressed points, found {len(body) - 8:,}: cut off"
        )
    try:
        content = decompress_lzf(body[8 : 8 + packed], size)
    except ValueError as error:
        raise CloudError(f"{path}: the compressed points are damaged: {error}") from error
    found = np.empty(header.points, header.dtype)
    place = 0
    for name in header.dtype.names or ():
        column = found[name]
        column[...] = np.frombuffer(content, column.dtype, column.size, place).reshape(column.shape)
        place += column.nbytes
    return found


def _no_packed_nan(found: np.ndarray) -> None:
    """Make colours black that a text calls nan: their bits are lost, and would be some colour."""
    for name in ("rgb", "rgba"):
        if name in (found.dtype.names or ()) and found.dtype[name].kind == "f":
            found[name][np.isnan(found[name])] = 0


def _header(path: Path, content: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    place = 0
    while "DATA" not in entries:
        end = content.find(b"\n", place, MOST_HEADER)
        line = content[place : max(end, 0)].decode("ascii", "replace").strip()
        name, *words = line.split() or [""]
        if end < 0 or not (name in (*ENTRIES, "DATA", "") or name.startswith("#")):
            raise CloudError(
                f"{path}: not a PCD file{_what(content)}, or one whose header is damaged at byte "
                f"{place}: expected its lines from VERSION to DATA"
            )
        if name and not name.startswith("#"):
            entries[name] = words
        place = end + 1
    missing = [name for name in ("FIELDS", "SIZE", "TYPE") if not entries.get(name)]
    if missing:
        raise CloudError(f"{path}: the header has no {', '.join(missing)}")
    (encoding,) = entries["DATA"] if len(entries["DATA"]) == 1 else ("",)
    if encoding not in ENCODINGS:
        raise CloudError(
            f"{path}: DATA {' '.join(entries['DATA'])!r}, expected one of {', '.join(ENCODINGS)}"
        )
    return _Header(_points(path, entries), _dtype(path, entries), encoding, place)


def _what(content: bytes) -> str:
    other = other_format(content)
    return f" but {other}" if other and not content.startswith((b"# .PCD", b"VERSION")) else ""


def _points(path: Path, entries: dict[str, list[str]]) -> int:
    def number(name: str) -> int | None:
        words = entries.get(name)
        if words is None:
            return None
        if len(words) != 1 or not NUMBER.fullmatch(words[0]):
            raise CloudError(f"{path}: {name} {' '.join(words)!r}, expected a whole number")
        return int(words[0])

    width, height, points = number("WIDTH"), number("HEIGHT"), number("POINTS")
    sized = None if width is None else width * (1 if height is None else height)
    if points is None and sized is None:
        raise CloudError(f"{path}: the header has neither POINTS nor WIDTH")
    if points is not None and sized is not None and points != sized:
        raise CloudError(
            f"{path}: the header says POINTS {points:,}, but WIDTH times HEIGHT is {sized:,}"
        )
    found = points if points is not None else sized
    assert found is not None
    return found


def _dtype(path: Path, entries: dict[str, list[str]]) -> np.dtype:
    names, sizes, types = (entries[name] for name in ("FIELDS", "SIZE", "TYPE"))
    counts = entries.get("COUNT") or ["1"] * len(names)
    if not len(names) == len(sizes) == len(types) == len(counts):
        raise CloudError(
            f"{path}: FIELDS, SIZE, TYPE and COUNT have {len(names)}, {len(sizes)}, {len(types)} "
            f"and {len(counts)} entries, expected as many of each"
        )
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    for column, (name, size, kind, count) in enumerate(
        zip(names, sizes, types, counts, strict=True)
    ):
        code, known = TYPES.get(kind, ("", ()))
        right = NUMBER.fullmatch(size) and int(size) in known and NUMBER.fullmatch(count)
        if not right or not 0 < int(count) * int(size) <= MOST_BYTES // len(names):
            raise CloudError(
                f"{path}: field {name!r} of TYPE {kind}, SIZE {size}, COUNT {count}: expected F of "
                "4 or 8 bytes, I or U of 1, 2, 4 or 8, and a count of 1 or more"
            )
        unique = f"{PADDING}{column}" if name == PADDING else name
        fields.append((unique, f"<{code}{size}", () if count == "1" else (int(count),)))
    twice = [name for name, number in Counter(field[0] for field in fields).items() if number > 1]
    if twice:
        raise CloudError(f"{path}: the header has the field {twice[0]!r} twice")
    return np.dtype(fields)
