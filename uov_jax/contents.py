"""What files hold, for no more memory than they have bytes to fill: JSON, .npy, zip archives, .npz.

Whoever wrote a file may have written that terabytes follow, or so little that it unpacks to them.
All of this raises the errors of `uov_jax.files.DAMAGE`, which whoever knows the file's name turns
into one that names it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import msgspec
import numpy as np

# Bytes that an archive may unpack to, where nothing better is known of it: a network's weights.
MOST_UNPACKED = 2**32
_PIECE = 2**20  # that is unpacked at a time
_LONGEST_HEADER = 2**16  # of a .npy file; numpy's own limit is lower
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # names of fields in UTF-8, else the same
}
# What taking a JSON text's content apart raises where it is of another form than expected.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
Facts = TypeVar("Facts")


class ObjectsError(ValueError):
    """An array of Python's objects, which is a pickle."""


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text; ValueError for anything else, and for what is too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets in brackets, too deep to be read") from error


def parse_facts(facts: type[Facts], content: Any) -> Facts:
    """The dataclass whose fields a JSON object holds; ValueError where their types are others."""
    known = {field.name for field in dataclasses.fields(facts)}  # type: ignore[arg-type]
    if not isinstance(content, dict) or not set(content) <= known:
        raise ValueError(f"expected an object with the fields {', '.join(sorted(known))}")
    try:
        return msgspec.convert(content, facts)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class _NpyHeader:
    """What a .npy file says of its array, which the file has room for."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    start: int

    @classmethod
    def of(cls, content: bytes, size: int) -> _NpyHeader:
        """That of a file of `size` bytes which begins with these."""
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"a .npy file of the version {version}")
        shape, fortran_order, dtype = _HEADERS[version](file)
        room = size - file.tell()
        # Objects are pickles: numpy refuses to make them of bytes, and so does this.
        if dtype.hasobject:
            raise ObjectsError("an array of objects, expected numbers or texts")
        if not dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"an array {dtype} {list(shape)}, expected numbers or texts")
        if math.prod(shape) * dtype.itemsize > room:
            raise ValueError(f"cut off: {room} bytes for an array {dtype} {list(shape)}")
        return cls(dtype, shape, fortran_order, file.tell())


def parse_npy(content: bytes | bytearray) -> np.ndarray:
    """The array of a .npy file, over its very bytes: of a bytearray it can be written to.

    Raises:
        ValueError, or another of DAMAGE: it is no such file, cut off, or an array of objects.

    """
    header = _NpyHeader.of(bytes(content[:_LONGEST_HEADER]), len(content))
    shape, count = header.shape, math.prod(header.shape)
    if count == 0:
        return np.zeros(shape, header.dtype)
    numbers = np.frombuffer(content, header.dtype, count, header.start)
    return numbers.reshape(shape[::-1]).T if header.fortran_order else numbers.reshape(shape)


def map_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory and read-only; errors as `parse_npy`.

    Numpy's own function also opens zip archives, and reads headers of any length.
    """
    with path.open("rb") as file:
        header = _NpyHeader.of(file.read(_LONGEST_HEADER), os.fstat(file.fileno()).st_size)
    if math.prod(header.shape) == 0:  # which cannot be mapped
        return np.zeros(header.shape, header.dtype)
    order: Literal["F", "C"] = "F" if header.fortran_order else "C"
    return np.memmap(path, header.dtype, "r", header.start, header.shape, order)


def is_zip(source: bytes | Path) -> bool:
    """Whether a content, or a file, ends as zip archives do; it may be damaged."""
    try:
        return zipfile.is_zipfile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except zipfile.BadZipFile:  # It ends as one of several disks.
        return True


def unzip(archive: zipfile.ZipFile, name: str, most: int = MOST_UNPACKED) -> bytearray:
    """One file of an archive, stored or deflated, of at most so many bytes.

    Raises:
        ValueError, KeyError, or another of DAMAGE: there is none, it is damaged, or larger.

    """
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in a way that is not read here")
    if entry.file_size > most:
        raise ValueError(f"{name!r} would be {entry.file_size:,} bytes, expected at most {most:,}")
    content = bytearray()
    with archive.open(entry) as file:
        # All at once, it would be unpacked to its end, however large it says that it is.
        while piece := file.read(_PIECE):
            content += piece
    if len(content) != entry.file_size:
        raise ValueError(f"{name!r} is cut off")
    return content


def parse_npz(
    source: bytes | BinaryIO,
    names: Collection[str] | None = None,
    most: int = MOST_UNPACKED,
    *,
    without_objects: bool = False,
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by their names.

    Args:
        source: the file's content, or the file.
        names: of the arrays that are wanted, of which some may not be there; None for all.
        most: bytes that they may take together.
        without_objects: leave arrays of Python's objects out, and not the whole file.

    Raises:
        ValueError, or another of DAMAGE: it is no such file, damaged, or larger.

    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
        for entry in dict.fromkeys(archive.namelist()):
            name = entry.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            content = unzip(archive, entry, most)
            most -= len(content)
            try:
                arrays[name] = parse_npy(content)
            except ObjectsError:
                if not without_objects:
                    raise
    return arrays
