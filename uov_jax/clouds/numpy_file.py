"""Points in numpy's own files, `.npy` and `.npz`, without pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uov_jax.clouds.cloud import CloudError, Reading, Stored
from uov_jax.clouds.columns import stored_of_table
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.contents import ObjectsError, parse_npy, parse_npz
from uov_jax.datasets.lidar_file import other_format
from uov_jax.files import DAMAGE, read_bytes

MAGIC = b"\x93NUMPY"


def read_npy(path: Path, reading: Reading) -> Stored:
    """The points of a `.npy` file: an array [N, C], or one of named fields [N].

    Raises:
        CloudError: it is no such file, cut off, or holds something else.

    """
    content = read_bytes(path)
    if not content.startswith(MAGIC):
        raise CloudError(f"{path}: not a .npy file{_what(content)}")
    try:
        array = _native(parse_npy(content))
    except ObjectsError as wrong:
        message = f"{path}: it holds Python's objects, as a pickle: save numbers alone"
        raise CloudError(message) from wrong
    except DAMAGE as wrong:
        raise CloudError(f"{path}: not an array of numpy, or damaged: {wrong}") from wrong
    return _of_array(array, reading, str(path), "numpy")


def read_npz(path: Path, reading: Reading) -> Stored:
    """The points of a `.npz` file: arrays by name, or a single one as in a `.npy` file.

    Raises:
        CloudError: it is no such file, damaged, or holds something else.

    """
    content = read_bytes(path)
    if not content.startswith(b"PK"):
        raise CloudError(f"{path}: not an .npz file{_what(content)}")
    try:
        arrays = parse_npz(content, without_objects=True)
    except DAMAGE as wrong:
        raise CloudError(f"{path}: not an .npz of plain arrays, or damaged: {wrong}") from wrong
    arrays = {name: _native(array) for name, array in arrays.items()}
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


def _native(array: np.ndarray) -> np.ndarray:
    """In this machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _what(content: bytes) -> str:
    other = other_format(content)
    return f" but {other}" if other else ""
