"""Arrays out of numpy's own files, without pickles, and never larger than the files say truly."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError
from uov_jax.files import DAMAGE

MAGIC = b"\x93NUMPY"
MOST_GROWTH = 1032  # of deflated bytes
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # names of fields in UTF-8, else the same
}


def npy_array(content: bytes, place: str, error: type[InputError]) -> np.ndarray | None:
    """The array of a `.npy` file in this machine's byte order; None for one of Python's objects.

    Args:
        content: of the file.
        place: for messages.
        error: what is raised.

    Raises:
        InputError (`error`): it is no such file, or of another length than its header says.

    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = HEADERS[version](file)
        if dtype.hasobject:
            return None
        wanted, found = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
        if wanted != found:
            raise ValueError(f"{dtype} {list(shape)} needs {wanted:,} bytes, found {found:,}")
        array = np.frombuffer(content, dtype, math.prod(shape), file.tell())
        array = array.reshape(shape, order="F" if fortran else "C")
    except DAMAGE as wrong:
        raise error(f"{place}: not an array of numpy, or cut off: {wrong}") from wrong
    return array.astype(dtype.newbyteorder("="), copy=False)


def npz_arrays(content: bytes, path: Path, error: type[InputError]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name; those of Python's objects are left out.

    Args:
        content: of the file.
        path: for messages.
        error: what is raised.

    Raises:
        InputError (`error`): it is no such file, or damaged.

    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                if entry.file_size > MOST_GROWTH * max(entry.compress_size, 1):
                    raise ValueError(
                        f"{entry.filename} is said to be {entry.file_size:,} bytes, which "
                        f"{entry.compress_size:,} compressed ones cannot become"
                    )
                name = entry.filename.removesuffix(".npy")
                array = npy_array(archive.read(entry), f"{path}, array {name}", error)
                if array is not None:
                    arrays[name] = array
    except error:
        raise
    except DAMAGE as wrong:
        raise error(f"{path}: not an .npz of plain arrays, or damaged: {wrong}") from wrong
    return arrays
