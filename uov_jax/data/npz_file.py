"""Compact npz files: arrays stored or deflated, equal contents giving equal bytes."""

from __future__ import annotations

import io
import lzma
import os
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

# What zipfile, zlib, numpy and json raise on a damaged file.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    OSError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], stored: Collection[str] = ()) -> int:
    """Write an npz under a temporary name and rename it; nothing incomplete carries the final name.

    Args:
        path: the file.
        arrays: by name; they are deflated
        stored: but for these.

    Returns:
        The size of the file in bytes.

    """

    def write(file: BinaryIO) -> None:
        # np.savez compresses all or nothing and writes the clock into the file.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(entry, buffer.getbuffer())

    return write_atomically(path, write)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Let `write` fill a file of a temporary name, give it the final one; its size in bytes."""
    # The name is unique, so that two writers of one file do not mix; numbers of processes are not,
    # on several hosts.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


def byte_planes(values: np.ndarray, planes: int) -> np.ndarray:
    """uint8[planes, n]: 16-bit numbers as planes of like bytes, which compress better."""
    return np.stack([(values >> (8 * plane)).astype(np.uint8) for plane in range(planes)])


def from_byte_planes(planes: np.ndarray) -> np.ndarray:
    """uint16[n]: the numbers of `byte_planes`; ValueError for anything else."""
    if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) not in (1, 2):
        raise ValueError(f"byte planes of {planes.dtype} {planes.shape} do not make 16-bit numbers")
    values = planes[0].astype(np.uint16)
    if len(planes) == 2:
        values |= planes[1].astype(np.uint16) << np.uint16(8)
    return values
