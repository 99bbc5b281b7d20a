"""Rows of numbers as text, as PLY and PCD files may hold them, into the fields of an array."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError
from uov_jax.files import DAMAGE


def read_rows(
    path: Path,
    content: bytes,
    rows: int,
    dtype: np.dtype,
    *,
    more: bool,
    error: type[InputError],
) -> np.ndarray:
    """Points of a text: one a line, numbers separated by spaces.

    Args:
        path: of the file, for messages.
        content: the text after the header.
        rows: the points that the header says there are, at least 1.
        dtype: of a point: fields of numbers, several of them for a field with a shape.
        more: something else may follow the rows, which is not looked at.
        error: what is raised.

    Returns:
        Structured array [rows].

    Raises:
        InputError (`error`): there are fewer or more rows, something is no number, or a number is
            none of its field's type.

    """
    names = dtype.names or ()
    widths = [math.prod(dtype[name].shape) for name in names]
    if not content.strip():
        raise error(f"{path}: the file ends with its header: cut off, copy it again")
    # A digit and a space each, before a table of that size is made.
    if 2 * rows * sum(widths) > len(content) + 1:
        raise error(
            f"{path}: {rows:,} points of {sum(widths)} numbers do not fit into {len(content):,} "
            "bytes of text: cut off, or the header is of another file"
        )
    try:
        numbers = np.loadtxt(
            io.BytesIO(content), np.float64, max_rows=rows if more else None, ndmin=2
        )
    except DAMAGE as wrong:
        raise error(f"{path}: points that are no numbers: {wrong}") from wrong
    if numbers.shape != (rows, sum(widths)):
        raise error(
            f"{path}: expected {rows:,} points of {sum(widths)} numbers, found "
            f"{list(numbers.shape)}: cut off, or the header is of another file"
        )
    found = np.empty(rows, dtype)
    column = 0
    for name, width in zip(names, widths, strict=True):
        values, kind = numbers[:, column : column + width], dtype[name].base
        column += width
        if kind.kind in "iu":
            least, most = np.iinfo(kind).min, np.iinfo(kind).max
            if not ((least <= values) & (values <= most)).all():
                raise error(f"{path}: a point has a {name!r} that is not {least} to {most}")
        with np.errstate(over="ignore"):  # Beyond float32: infinite, as in the file's own type.
            found[name] = values.astype(kind).reshape(found[name].shape)
    return found
