"""The vertices of a PLY file (Stanford's polygon format), ASCII or binary; clouds written as one.

A mesh's faces are never read: they come after the vertices.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.text_table import read_rows
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
# The names that are written, as the oldest readers know them.
NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
NAMES |= {"f4": "float", "f8": "double"}
MOST_HEADER = 2**16  # bytes
NUMBER = re.compile(r"[0-9]{1,18}")


class PlyError(InputError):
    """A PLY file cannot be used; names it."""


@dataclasses.dataclass(frozen=True)
class PlyHeader:
    """What a header says of the vertices.

    Attributes:
        format: "ascii", "binary_little_endian" or "binary_big_endian".
        vertices: their number.
        dtype: of a vertex, a field for every property.
        size: bytes of the header.
        more: something else follows the vertices, such as faces.

    """

    format: str
    vertices: int
    dtype: np.dtype
    size: int
    more: bool


def read_ply_header(path: Path) -> PlyHeader:
    """The header of a file.

    Raises:
        MissingFileError: there is no such file.
        PlyError: it is no PLY file, or its vertices are not its first element.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such PLY file: is the scene downloaded completely?")
    with path.open("rb") as file:
        return _header(path, file.read(MOST_HEADER))


def read_ply(path: Path) -> np.ndarray:
    """The vertices: a structured array with a field for every property.

    Raises:
        MissingFileError: there is no such file.
        PlyError: it is no PLY file, or cut off.

    """
    header = read_ply_header(path)
    content = read_bytes(path)[header.size :]
    if header.format == "ascii" and header.vertices:
        return read_rows(
            path, content, header.vertices, header.dtype, more=header.more, error=PlyError
        )
    wanted, width = header.vertices * header.dtype.itemsize, header.dtype.itemsize
    if len(content) < wanted:
        raise PlyError(
            f"{path}: {header.vertices:,} vertices need {wanted:,} bytes, found {len(content):,}: "
            "cut off, copy or download it again"
        )
    if not header.more and len(content) >= wanted + width:
        raise PlyError(
            f"{path}: {len(content) - wanted:,} bytes follow the {header.vertices:,} vertices, and "
            "the header names nothing else: it is of another file"
        )
    found = np.frombuffer(content, header.dtype, header.vertices)
    return found.astype(header.dtype.newbyteorder("="))


def ply_bytes(
    vertices: np.ndarray, comments: Sequence[str] = (), lists: Sequence[str] = ()
) -> bytes:
    """A file of vertices, binary and little-endian.

    Args:
        vertices: structured array [N], a field of plain numbers for every property.
        comments: lines of the header.
        lists: lines of the header that declare what a mesh has besides, of which there are none.

    """
    dtype = vertices.dtype.newbyteorder("<")
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {' '.join(comment.split())}" for comment in comments]
    lines.append(f"element vertex {len(vertices)}")
    lines += [f"property {NAMES[dtype[name].str[1:]]} {name}" for name in dtype.names or ()]
    lines += [*lists, "end_header", ""]
    # Some readers take nothing else than ASCII.
    return "\n".join(lines).encode("ascii", "replace") + vertices.astype(dtype).tobytes()


def vertex_coords(vertices: np.ndarray, path: Path) -> np.ndarray:
    """float32[N, 3] of vertices; PlyError where x, y or z is missing."""
    return np.stack([_field(vertices, name, path) for name in "xyz"], axis=1).astype(np.float32)


def vertex_colors(vertices: np.ndarray, path: Path) -> np.ndarray | None:
    """uint8[N, 3], RGB of vertices; None where they have no colour; PlyError for other types."""
    names = ("red", "green", "blue")
    if not set(names) & set(vertices.dtype.names or ()):
        return None
    channels = [_field(vertices, name, path) for name in names]
    if any(channel.dtype != np.uint8 for channel in channels):
        found = ", ".join(str(channel.dtype) for channel in channels)
        raise PlyError(f"{path}: colours are {found}, expected uchar red, green and blue")
    return np.stack(channels, axis=1)


def _field(vertices: np.ndarray, name: str, path: Path) -> np.ndarray:
    known = vertices.dtype.names or ()
    if name not in known:
        raise PlyError(f"{path}: the vertices have no {name!r}, only {', '.join(known)}")
    return vertices[name]


def _header(path: Path, start: bytes) -> PlyHeader:
    end = start.find(b"end_header")
    line_end = start.find(b"\n", end)
    if start[:3] != b"ply" or end < 0 or line_end < 0:
        raise PlyError(f"{path}: not a PLY file, it begins with {start[:12]!r}")
    format_, vertices, fields, element = "", -1, [], 0
    for line in start[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        match words:
            case ["format", name, "1.0"] if name in BYTE_ORDERS:
                format_ = name
            case ["element", "vertex", count] if NUMBER.fullmatch(count) and element == 0:
                element, vertices = 1, int(count)
            case ["element", _, _] if element:
                element += 1
            case ["property", kind, name] if kind in TYPES and element == 1:
                fields.append((name, BYTE_ORDERS.get(format_, "=") + TYPES[kind]))
            case ["property", *_] if element > 1:
                pass
            case _:
                raise PlyError(
                    f"{path}: the header's line {line!r} is not understood: expected a format, "
                    "then vertices as the first element, with properties that are single numbers"
                )
    if not format_ or vertices < 0 or not fields or len(dict(fields)) != len(fields):
        raise PlyError(f"{path}: the header tells no format, or no vertices with properties")
    return PlyHeader(format_, vertices, np.dtype(fields), line_end + 1, more=element > 1)
