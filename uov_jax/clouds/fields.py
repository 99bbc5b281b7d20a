"""Positions, intensity and colours among fields that have names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uov_jax.clouds.cloud import CloudError, Stored, as_positions
from uov_jax.clouds.colors import byte_colors, packed_colors
from uov_jax.clouds.columns import stored_of_table
from uov_jax.datasets.lidar_file import COLORS, POSITION

# What fields are called, the first that there is being taken; capitals make no difference, and
# CloudCompare's "scalar_" before a name neither.
NAMES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in POSITION},
    "xyz": ("xyz", "points", "coords", "coord", "coordinates", "positions", "position", "pos"),
    "intensity": ("intensity", "intensities", "reflectivity", "reflectance", "remission", "i"),
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
    "colors": ("colors", "colours", "color", "colour", "rgb", "rgba"),
}
PREFIX = "scalar_"


def stored_of_fields(
    fields: Mapping[str, np.ndarray], columns: str | None, place: str, form: str
) -> Stored:
    """The points of fields that have names.

    Args:
        fields: arrays [N] by name; those of positions and colours may be [N, 3].
        columns: `Reading.columns`.
        place: for messages.
        form: the format.

    Raises:
        CloudError: there are no positions, or what was named is not there or of another form.

    """
    found = _Fields(fields, columns, place)
    amiss: dict[str, CloudError] = {}
    intensity: np.ndarray | None = None
    colors: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    try:
        intensity = found.numbers("intensity")
    except CloudError as error:
        amiss["intensity"] = error
    try:
        colors, notes = _colors(found, place)
    except CloudError as error:
        amiss["colors"] = error
    table = _axes(found, place)
    if table is None:
        table = _matrix(found, place)
        if table.shape[1] > 3 or found.rest is not None:
            more = stored_of_table(table, found.rest, place, form)
            intensity = more.intensity if intensity is None else intensity
            colors = more.colors if colors is None else colors
            table, notes = more.positions, (*notes, *more.notes)
    for name, values in (("intensities", intensity), ("colours", colors)):
        if values is not None and len(values) != len(table):
            raise CloudError(f"{place}: {len(values):,} {name}, but {len(table):,} points")
    return Stored(as_positions(table), intensity, colors, form, tuple(fields), notes, amiss)


def _axes(found: _Fields, place: str) -> np.ndarray | None:
    """[N, 3] of fields x, y and z; None where there is none of them."""
    axes = {name: found.numbers(name) for name in POSITION}
    there = [axis for axis in axes.values() if axis is not None]
    if not there:
        return None
    if len(there) < 3:
        missing = [name for name, axis in axes.items() if axis is None]
        raise CloudError(f"{place}: the points have no {', '.join(missing)}{found.told()}")
    if found.rest is not None:
        raise CloudError(
            f"{place}: its fields have names, and {found.rest!r} is a list: say only what is "
            "called otherwise than usual, such as intensity=amplitude"
        )
    if len({len(axis) for axis in there}) > 1:
        lengths = ", ".join(f"{len(axis):,}" for axis in there)
        raise CloudError(f"{place}: x, y and z of different lengths: {lengths}")
    return np.stack(there, axis=1)


def _matrix(found: _Fields, place: str) -> np.ndarray:
    """[N, C] of one field of positions, C at least 3."""
    matrix = found.get("xyz")
    if matrix is None:
        raise CloudError(f"{place}: the points have no x, y, z{found.told()}")
    if matrix.ndim != 2 or matrix.shape[1] < 3 or matrix.dtype.kind not in "fiu":
        raise CloudError(
            f"{place}: positions: expected numbers [points, 3], found {matrix.dtype} "
            f"{list(matrix.shape)}"
        )
    return matrix


def _colors(found: _Fields, place: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    channels = [found.numbers(name) for name in COLORS]
    there = [channel for channel in channels if channel is not None]
    if len(there) == len(COLORS):
        return byte_colors(there, place)
    values = found.get("colors")
    if values is None:
        return None, ()
    if values.ndim == 1:
        return packed_colors(values, place), ()
    if values.ndim != 2 or values.shape[1] not in (3, 4) or values.dtype.kind not in "fiu":
        raise CloudError(
            f"{place}: colours: expected numbers [points, 3], found {values.dtype} "
            f"{list(values.shape)}"
        )
    return byte_colors(values[:, :3], place)


class _Fields:
    """Fields, and which of them is what."""

    def __init__(self, fields: Mapping[str, np.ndarray], columns: str | None, place: str) -> None:
        self._fields, self._place = fields, place
        self._given: dict[str, str] = {}
        self.rest = columns
        if columns is not None and "=" in columns:
            self._given, self.rest = self._named(columns), None

    def get(self, meaning: str) -> np.ndarray | None:
        """The field of a meaning, None where there is none."""
        if meaning in self._given:
            return self._fields[self._given[meaning]]
        plain = {name.lower().removeprefix(PREFIX): name for name in reversed(list(self._fields))}
        for name in NAMES[meaning]:
            if name in self._fields or name in plain:
                return self._fields[name if name in self._fields else plain[name]]
        return None

    def numbers(self, meaning: str) -> np.ndarray | None:
        """The same as numbers [N]; CloudError where it is something else."""
        values = self.get(meaning)
        if values is None:
            return None
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or values.dtype.kind not in "fiu":
            raise CloudError(
                f"{self._place}: {meaning}: expected a number a point, found {values.dtype} "
                f"{list(values.shape)}"
            )
        return values

    def told(self) -> str:
        """The end of a message: what there is, and how to say which is which."""
        names = ", ".join(list(self._fields)[:20]) or "nothing"
        return f", only {names}: say which is which, such as 'x=px y=py z=pz' (--columns)"

    def _named(self, columns: str) -> dict[str, str]:
        given = {}
        for word in columns.replace(",", " ").split():
            meaning, sign, name = word.partition("=")
            if not sign or meaning not in NAMES:
                raise CloudError(
                    f"columns {columns!r}: {word!r} is not understood: expected one of "
                    f"{', '.join(NAMES)}, =, and the name of a field, such as intensity=amplitude"
                )
            if name not in self._fields:
                raise CloudError(
                    f"{self._place}: no field {name!r} to take as {meaning}, only "
                    f"{', '.join(list(self._fields)[:20])}"
                )
            given[meaning] = name
        return given
