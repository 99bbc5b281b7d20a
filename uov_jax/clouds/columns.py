"""Points as columns that have no names: `.bin` files, and plain arrays of numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from uov_jax.clouds.cloud import CloudError, Reading, Stored, as_positions
from uov_jax.clouds.colors import byte_colors
from uov_jax.datasets.lidar_file import (
    COLORS,
    NEEDED,
    OTHER,
    POSITION,
    RING,
    Columns,
    column_names,
    implausible,
    other_format,
)
from uov_jax.files import read_bytes

# What is tried where nobody says what the columns are. Without an intensity nothing would tell
# positions of three columns from any other numbers, so a file must have four at least.
USUAL = tuple(
    Columns(names)
    for names in (
        NEEDED,
        (*NEEDED, OTHER),
        (*NEEDED, OTHER, OTHER),
        (*POSITION, *COLORS),
    )
)
LARGEST_INTENSITY = 65535.0  # of any sensor
UNITS = {"millimetres": 0.001, "centimetres": 0.01}  # metres
NO_POINT = "no point is finite"
KNOWN = (*POSITION, "intensity", RING, *COLORS, OTHER)


def read_columns(path: Path, reading: Reading) -> Stored:
    """The points of a `.bin` file: float32 columns without a header.

    Where the columns are not named, the usual ones are tried on what the file holds.

    Raises:
        CloudError: it is empty, of another format, of other columns, or nothing tells its columns.

    """
    content = read_bytes(path)
    if other := other_format(content):
        raise CloudError(
            f"{path}: this is {other}, not float32 columns, as files called .bin are: give it the "
            "ending of its format"
        )

    def wrong(columns: Columns, scale: float | None = reading.scale) -> str:
        return columns.wrong_size(len(content)) or _wrong(_floats(content, columns), columns, scale)

    if reading.columns is None:
        usual = [columns for columns in USUAL if not columns.wrong_size(len(content))] or USUAL
        if all(map(wrong, usual)):
            for unit, scale in UNITS.items():
                if fit := [columns for columns in usual if not wrong(columns, scale)]:
                    which = "" if len(fit) == 1 else " and the right --columns"
                    raise CloudError(
                        f"{path}: no cloud in metres, but maybe {_either(fit)} in {unit}: if so, "
                        f"give --scale {scale:g}{which}"
                    )
        columns = _only_usual(usual, wrong, f"{path}: {len(content):,} bytes")
        notes: tuple[str, ...] = (f"columns taken as {columns.text}",)
    else:
        # Who names the columns may have another unit, or coordinates of a map.
        columns, notes = named_columns(reading.columns, str(path)), ()
        if says := wrong(columns, None):
            fit = [other for other in USUAL if not wrong(other)]
            hint = f"; with the columns {_either(fit)} it would do" if fit else ""
            raise CloudError(f"{path}: {says}{hint}")
    return _stored(_floats(content, columns), columns, str(path), "float32 columns", notes)


def stored_of_table(table: np.ndarray, columns: str | None, place: str, form: str) -> Stored:
    """The points of an array [N, C] of numbers.

    Args:
        table: at least three columns.
        columns: their names as `Reading` has them, None to try the usual ones of so many.
        place: for messages.
        form: the format.

    Raises:
        CloudError: the columns are of another number, or nothing tells what they are.

    """
    count = table.shape[1]
    if not len(table):
        raise CloudError(f"{place}: no points in it ({form})")
    if columns is not None:
        named = named_columns(columns, place)
        if len(named.names) != count:
            raise CloudError(
                f"{place}: {count} columns, but {len(named.names)} are named: {named.text}"
            )
        return _stored(table, named, place, form, ())
    if count == len(POSITION):
        return _stored(table, Columns(POSITION), place, form, ())

    def wrong(columns: Columns) -> str:
        return _wrong(table, columns, None)

    usual = [columns for columns in USUAL if len(columns.names) == count]
    found = _only_usual(usual, wrong, f"{place}: {count} columns")
    return _stored(table, found, place, form, (f"columns taken as {found.text}",))


def named_columns(text: str, place: str) -> Columns:
    """Columns as an option says them; CloudError where they are none."""
    names = column_names(text)
    twice = [name for name, number in Counter(names).items() if number > 1 and name != OTHER]
    colors = set(COLORS) & set(names)
    if (
        twice
        or not set(POSITION) <= set(names) <= set(KNOWN)
        or (colors and len(colors) < len(COLORS))
    ):
        raise CloudError(
            f"{place}: its columns have no names, and {text!r} names none: expected x, y and z and "
            "maybe intensity, ring, red green blue, each once, and _ for every other column, in "
            "the order of the file, such as 'x y z intensity _'"
        )
    return Columns(names)


def _only_usual(usual: Sequence[Columns], wrong: Callable[[Columns], str], what: str) -> Columns:
    """The one of the usual columns that nothing speaks against."""
    says = {columns.text: wrong(columns) for columns in usual}
    fit = [columns for columns in usual if not says[columns.text]]
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise CloudError(
            f"{what}: nothing tells whether the columns are {_either(fit)}: name them (--columns)"
        )
    if {*says.values()} == {NO_POINT}:
        raise CloudError(f"{what}: {NO_POINT}")
    reasons = "; ".join(f"as '{text}', {reason}" for text, reason in says.items())
    raise CloudError(
        f"{what}: none of the usual columns{f' ({reasons})' if reasons else ''}: name them all in "
        "their order (--columns 'x y z intensity _'), and the unit, if it is not the metre "
        "(--scale 0.001)"
    )


def _either(columns: Sequence[Columns]) -> str:
    return " or ".join(f"'{each.text}'" for each in columns)


def _floats(content: bytes, columns: Columns) -> np.ndarray:
    """float32[N, C], the columns of a whole file."""
    return np.frombuffer(content, "<f4").reshape(-1, len(columns.names))


def _wrong(table: np.ndarray, columns: Columns, scale: float | None) -> str:
    """What contradicts columns, "" if nothing does.

    Args:
        table: the columns.
        columns: what they should be.
        scale: metres a unit of positions; None where any number may be a position.

    """
    used = [column for column, name in enumerate(columns.names) if name != OTHER]
    shown = Columns(tuple(columns.names[column] for column in used))
    table = table[:, used].astype(np.float64)
    finite = np.isfinite(table).all(axis=1)
    if not finite.any():
        return NO_POINT
    table[~finite] = 0  # They contradict nothing.
    if scale is not None:
        table[:, [shown.names.index(name) for name in POSITION]] *= scale
    return implausible(table, shown, LARGEST_INTENSITY, metres=scale is not None)


def _stored(
    table: np.ndarray, columns: Columns, place: str, form: str, notes: tuple[str, ...]
) -> Stored:
    def column(name: str) -> np.ndarray:
        return table[:, columns.names.index(name)]

    positions = as_positions(table[:, [columns.names.index(name) for name in POSITION]])
    intensity = column("intensity") if "intensity" in columns.names else None
    colors = None
    if COLORS[0] in columns.names:
        colors, more = byte_colors([column(name) for name in COLORS], place)
        notes = (*notes, *more)
    return Stored(positions, intensity, colors, form, (), notes)
