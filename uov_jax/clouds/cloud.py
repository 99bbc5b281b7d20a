"""A point cloud, whatever file it was read from, and how it is to be read."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, UserError

# For every direction that a file may have upward: of which of its axes, and with which sign, the
# three of a cloud are made. All are turns: left stays left.
TURNS: dict[str, tuple[tuple[int, int], ...]] = {
    "z": ((0, 1), (1, 1), (2, 1)),
    "-z": ((0, 1), (1, -1), (2, -1)),
    "y": ((0, 1), (2, -1), (1, 1)),
    "-y": ((0, 1), (2, 1), (1, -1)),
    "x": ((2, -1), (1, 1), (0, 1)),
    "-x": ((2, 1), (1, 1), (0, -1)),
}
# Metres. The middle of no sweep and of no room is so far from its origin: these are coordinates of
# a map, which in float32 are coarse, and more voxels from 0 than voxels may be.
FAR = 1000.0
OF_A_MAP = "these are coordinates of a map"


class CloudError(InputError):
    """A point cloud cannot be used; names the file, the place in it and what was expected."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are to be read; without arguments, as they are.

    Attributes:
        columns: where the columns have no names (`.bin`, `.npy`), their names in order, such as
            "x y z intensity ring _"; where they have, those that are called otherwise than usual,
            such as "intensity=amplitude". None to find them.
        scale: metres a unit of the coordinates: 0.001 for millimetres.
        up: the axis of the file that points upward: "x", "y" or "z", or "-x", "-y", "-z" for the
            opposite direction. Coordinates of a camera (y downward) have "-y".
        intensity_scale: what intensities are multiplied with.
        topic: of a ROS bag with several topics of point clouds.

    """

    columns: str | None = None
    scale: float = 1.0
    up: str = "z"
    intensity_scale: float = 1.0
    topic: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no scale and no axis."""
        for name in ("scale", "intensity_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} {value}: expected a positive number, such as 0.001")
        if self.up not in TURNS:
            raise InputError(f"up {self.up!r}: expected one of the axes {', '.join(TURNS)}")


AS_STORED = Reading()


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds, in its own units and axes.

    Attributes:
        positions: float32[N, 3] or float64[N, 3].
        intensity: numbers [N], or None.
        colors: uint8[N, 3], RGB, or None.
        form: the format, such as "PCD, binary".
        fields: names of what the file has of a point, "" for columns without names.
        notes: what was assumed or left out, each a sentence.
        amiss: errors by "intensity" and "colors", of what is there but cannot be used. Whether that
            matters decides who reads it.

    """

    positions: np.ndarray
    intensity: np.ndarray | None
    colors: np.ndarray | None
    form: str
    fields: tuple[str, ...]
    notes: tuple[str, ...] = ()
    amiss: Mapping[str, CloudError] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a cloud comes from.

    Attributes:
        place: the file; of a bag also the sweep in it.
        form: the format, such as "PCD, binary".
        fields: names of what the file has of a point, none where columns have no names.
        notes: what was assumed or left out, each a sentence.
        amiss: as `Stored` has it.
        reading: how it was read.
        lift: metres by which `xyz` is higher than that.

    """

    place: str
    form: str
    fields: tuple[str, ...]
    notes: tuple[str, ...]
    amiss: Mapping[str, CloudError] = dataclasses.field(default_factory=dict)
    reading: Reading = AS_STORED
    lift: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
    """N points in the order of their file.

    Attributes:
        name: of the file without its ending, with the number of the sweep for one of a bag.
        xyz: float32[N, 3], metres, z upward, from `offset`.
        offset: float64[3], metres, z upward: whole numbers, 0 but where coordinates are a map's.
            What has moved is `xyz`; with `offset` added it is where the file has it.
        intensity: float32[N], scaled, or None.
        colors: uint8[N, 3], RGB, or None.
        finite: bool[N]: the position is of numbers; the other rows may hold anything.
        positions: float32[N, 3] or float64[N, 3], as they are stored, to the last bit.
        source: where it comes from.

    """

    name: str
    xyz: np.ndarray
    offset: np.ndarray
    intensity: np.ndarray | None
    colors: np.ndarray | None
    finite: np.ndarray
    positions: np.ndarray
    source: Source

    def __len__(self) -> int:
        """Points, those that are not finite as well."""
        return len(self.xyz)

    def needed_intensity(self) -> np.ndarray:
        """float32[N], the intensity; CloudError where there is none."""
        if "intensity" in self.source.amiss:
            raise self.source.amiss["intensity"]
        if self.intensity is None and "intensity" in self.source.fields:
            raise CloudError(f"{self.source.place}: the intensity is no number anywhere")
        if self.intensity is None:
            raise CloudError(f"{self.source.place}: the points have no intensity{self._found()}")
        return self.intensity

    def needed_colors(self) -> np.ndarray:
        """uint8[N, 3], the colours; CloudError where there are none."""
        if "colors" in self.source.amiss:
            raise self.source.amiss["colors"]
        if self.colors is None:
            raise CloudError(f"{self.source.place}: the points have no colours{self._found()}")
        return self.colors

    def lifted(self, metres: float) -> Cloud:
        """The cloud with all its points so much higher; files still have them where they were."""
        if not metres:
            return self
        source = dataclasses.replace(self.source, lift=self.source.lift + metres)
        xyz = self.xyz + np.array([0, 0, metres], np.float32)
        return dataclasses.replace(self, xyz=xyz, source=source)

    def _found(self) -> str:
        if not self.source.fields:
            return (
                ", as its columns are understood: if they have, name all columns in their order, "
                "such as 'x y z intensity' or 'x y z red green blue' (--columns)"
            )
        return (
            f", only {', '.join(self.source.fields)}: if one of these is it, say so, such as "
            "'intensity=amplitude' or 'red=r0 green=g0 blue=b0' (--columns)"
        )


@dataclasses.dataclass(frozen=True)
class Loader:
    """What reads a cloud when it is called.

    Attributes:
        read: reads it.
        path: the file, or of a sweep its bag.
        stamp: a word that is another one when there is something else to be read there.
        clouds: how many it stands for; several where they cannot be told apart any more.

    """

    read: Callable[[], Cloud]
    path: Path
    stamp: str
    clouds: int = 1

    def __call__(self) -> Cloud:
        """The cloud."""
        return self.read()

    @classmethod
    def failing(cls, error: UserError, path: Path, stamp: str = "", clouds: int = 1) -> Loader:
        """What says of a cloud, when it is its turn, that it cannot be read."""
        return cls(functools.partial(_fail, error), path, stamp, clouds)


def _fail(error: UserError) -> Cloud:
    raise error


def cloud_of(stored: Stored, name: str, place: str, reading: Reading) -> Cloud:
    """A cloud in metres with z upward of what a file holds.

    Raises:
        CloudError: there is no point, or none that is finite.

    """
    if not len(stored.positions):
        raise CloudError(f"{place}: no points in it ({stored.form})")
    notes = list(stored.notes)
    xyz, offset = _in_metres(stored.positions, reading)
    finite = np.isfinite(xyz).all(axis=1)
    intensity = _scaled(stored.intensity, reading.intensity_scale)
    if intensity is not None and not np.isfinite(intensity).any():
        notes.append("the intensity is no number anywhere: taken as missing")
        intensity = None
    if not finite.any():
        raise CloudError(f"{place}: of {len(finite):,} points none has a finite position")
    if missing := len(finite) - np.count_nonzero(finite):
        notes.append(f"{missing:,} of {len(finite):,} points are not finite")
    if offset.any():
        east, north, up = (f"{metres:,.0f}" for metres in offset)
        notes.append(
            f"{OF_A_MAP}: what follows is from ({east}, {north}, {up}) on, the middle of the "
            "points, while sweeps are from their sensor on"
        )
    source = Source(place, stored.form, stored.fields, tuple(notes), stored.amiss, reading)
    return Cloud(name, xyz, offset, intensity, stored.colors, finite, stored.positions, source)


def as_positions(columns: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """float32[N, 3] or float64[N, 3], without loss, of x, y and z or of an array [N, 3]."""
    table = columns if isinstance(columns, np.ndarray) else np.stack(columns, axis=1)
    short = table.dtype.kind == "f" and table.dtype.itemsize <= 4
    small = table.dtype.kind in "iu" and table.dtype.itemsize <= 2
    return np.ascontiguousarray(table, np.float32 if short or small else np.float64)


def _in_metres(positions: np.ndarray, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, 3] and float64[3]: metres, z upward, and what was subtracted."""
    turn = TURNS[reading.up]
    turned = positions
    if reading.up != "z":
        signs = np.array([sign for _, sign in turn], positions.dtype)
        turned = positions[:, [axis for axis, _ in turn]] * signs
    with np.errstate(over="ignore", invalid="ignore"):
        if reading.scale != 1.0:
            turned = turned.astype(np.float64) * reading.scale
        offset = _offset(turned)
        if offset.any():
            turned = turned.astype(np.float64) - offset
        return np.ascontiguousarray(turned, np.float32), offset


def _offset(positions: np.ndarray) -> np.ndarray:
    """float64[3], whole metres: the middle of the points along axes where that is far, else 0."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if not len(finite):
        return np.zeros(3)
    middle = np.round(np.median(finite, axis=0)).astype(np.float64)
    return np.where(np.abs(middle) > FAR, middle, 0.0)


def _scaled(intensity: np.ndarray | None, scale: float) -> np.ndarray | None:
    if intensity is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if scale != 1.0:
            intensity = intensity.astype(np.float64) * scale
        return np.ascontiguousarray(intensity, np.float32)
