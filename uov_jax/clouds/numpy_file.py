"""Points in numpy's own files, `.npy` and `.npz`, without pickles."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from uov_jax.clouds.cloud import CloudError, Reading, Stored
from uov_jax.clouds.columns import stored_of_table
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.datasets.lidar_file import other_format
from uov_jax.files import DAMAGE, read_bytes

MAGIC = b"\x93NUMPY"
MOST_GROWTH = 1032  # of deflated bytes
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # names of fields in UTF-8, else the same
}


def read_npy(path: Path, reading: Reading) -> Stored:
    """The points of a `.npy` file: an array [N, C], or one of named fields [N].

    Raises:
        CloudError: it is no such file, cut off, or holds something else.

    """
    content = read_bytes(path)
    if not content.startswith(MAGIC):
        raise CloudError(f"{path}: not a .npy file{_what(content)}")
    array = _array(content, str(path))
    if array is None:
        raise CloudError(f"{path}: it holds Python's objects, as a pickle: save numbers alone")
    return _of_array(array, reading, str(path), "numpy")


def read_npz(path: Path, reading: Reading) -> Stored:
    """The points of a `.npz` file: arrays by name, or a single one as in a `.npy` file.

    Raises:
        CloudError: it is no such file, damaged, or holds something else.

    """
    content = read_bytes(path)
    if not content.startswith(b"PK"):
        raise CloudError(f"{path}: not an .npz file{_what(content)}")
    arrays = _arrays(content, path)
    if len(arrays) == 1 and "=" not in (reading.columns or ""):
        (array,) = arrays.values()
        if array.dtype.names or array.ndim == 2:
            return _of_array(array, reading, str(path), "numpy, zip")
    return stored_of_fields(arrays, reading.columns, str(path), "numpy, zip")


def _of_array(array: np.ndarray, reading: Reading, place: str, form: str) -> Stored:
    if array.dtype.names:
        if array.ndim != 1:
            raise CloudError(f"{place}: points in an array {list(array.shape)}, expected [points]")
        fields = {name: array[name] for name in array.dtype.names}
        return stored_of_fields(fields, reading.columns, place, form)
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "fiu":
        raise CloudError(
            f"{place}: an array of {array.dtype} {list(array.shape)}, expected numbers [points, "
            "columns] with three columns or more"
        )
    return stored_of_table(array, reading.columns, place, form)


def _array(content: bytes, place: str) -> np.ndarray | None:
    """The array of a `.npy` file in this machine's byte order; None for one of Python's objects."""
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
        raise CloudError(f"{place}: not an array of numpy, or cut off: {wrong}") from wrong
    return array.astype(dtype.newbyteorder("="), copy=False)


def _arrays(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name; those of Python's objects are left out."""
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
                array = _array(archive.read(entry), f"{path}, array {name}")
                if array is not None:
                    arrays[name] = array
    except CloudError:
        raise
    except DAMAGE as wrong:
        raise CloudError(f"{path}: not an .npz of plain arrays, or damaged: {wrong}") from wrong
    return arrays


def _what(content: bytes) -> str:
    other = other_format(content)
    return f" but {other}" if other else ""
