"""The vertices of a PLY file (Stanford's polygon format), ASCII or binary.

A mesh's faces are never read: they come after the vertices.
"""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE, read_bytes

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
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

    """

    format: str
    vertices: int
    dtype: np.dtype
    size: int


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
    text = header.format == "ascii"
    wanted = header.vertices * (1 if text else header.dtype.itemsize)
    if len(content) < wanted and not (text and not content.strip()):
        raise PlyError(
            f"{path}: {header.vertices:,} vertices need {wanted:,} bytes, found {len(content):,}: "
            "cut off, copy or download it again"
        )
    if text:
        return _ascii_vertices(path, content, header)
    found = np.frombuffer(content, header.dtype, header.vertices)
    return found.astype(header.dtype.newbyteorder("="))


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
    return PlyHeader(format_, vertices, np.dtype(fields), line_end + 1)


def _ascii_vertices(path: Path, content: bytes, header: PlyHeader) -> np.ndarray:
    names = header.dtype.names or ()
    if not header.vertices:
        return np.empty(0, header.dtype)
    if not content.strip():
        raise PlyError(f"{path}: the file ends with its header: cut off, copy it again")
    try:
        numbers = np.loadtxt(io.BytesIO(content), np.float64, max_rows=header.vertices, ndmin=2)
    except DAMAGE as error:
        raise PlyError(f"{path}: vertices that are no numbers: {error}") from error
    if numbers.shape != (header.vertices, len(names)):
        raise PlyError(
            f"{path}: expected {header.vertices:,} vertices of {len(names)} numbers, found "
            f"{list(numbers.shape)}: cut off, or the header is of another file"
        )
    found = np.empty(header.vertices, header.dtype)
    for column, name in enumerate(names):
        values, dtype = numbers[:, column], header.dtype[name]
        if dtype.kind in "iu":
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            if not ((least <= values) & (values <= most)).all():
                raise PlyError(f"{path}: a vertex has a {name!r} that is not {least} to {most}")
        found[name] = values.astype(dtype)
    return found
