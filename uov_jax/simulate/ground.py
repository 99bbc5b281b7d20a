"""The ground: a fine map of materials on two levels, the carriageway and what the kerb raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Color
from uov_jax.simulate.kinds import KIND
from uov_jax.simulate.street import Street

CELL = 0.1  # metres; markings and kerbs are drawn this fine
_COARSE = 10  # the street coordinates are computed on every tenth cell and interpolated

Bytes = NDArray[np.uint8]


class Material(NamedTuple):
    """A ground cover; ``roughness`` in metres scatters LiDAR returns, ``texture`` varies colour."""

    name: str
    kind: int
    raised: bool
    color: Color
    reflectivity: float
    roughness: float
    texture: float


MATERIALS: tuple[Material, ...] = (
    Material("asphalt", KIND["road"], False, (0.17, 0.17, 0.18), 0.055, 0.006, 0.16),
    Material("patch", KIND["road"], False, (0.11, 0.11, 0.115), 0.035, 0.006, 0.16),
    Material("marking", KIND["road"], False, (0.75, 0.75, 0.72), 0.40, 0.004, 0.20),
    Material("kerb", KIND["sidewalk"], True, (0.45, 0.44, 0.42), 0.20, 0.006, 0.30),
    Material("paving", KIND["sidewalk"], True, (0.36, 0.345, 0.32), 0.15, 0.008, 0.30),
    Material("slabs", KIND["sidewalk"], True, (0.42, 0.40, 0.37), 0.19, 0.008, 0.25),
    Material("bike_path", KIND["bike_path"], True, (0.42, 0.17, 0.13), 0.11, 0.006, 0.20),
    Material("grass", KIND["grass"], True, (0.13, 0.23, 0.06), 0.28, 0.045, 0.60),
    Material("soil", KIND["soil"], True, (0.29, 0.21, 0.13), 0.20, 0.035, 0.50),
    Material("ballast", KIND["rail_track"], True, (0.20, 0.18, 0.165), 0.12, 0.030, 0.60),
)
MATERIAL: dict[str, int] = {material.name: index for index, material in enumerate(MATERIALS)}
_RAISED = np.array([material.raised for material in MATERIALS])
# Where two streets meet, the cover with the higher rank wins.
_RANK = np.array([9, 10, 11, 6, 5, 5, 5, 1, 1, 4], np.uint8)

Bands = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CrossSection:
    """What lies across a street, from its centre line to both sides.

    ``half_width`` reaches to the outer kerbs. Bands are (material, width in metres) from there
    outwards, ``plots`` what follows them on the left and on the right. ``median`` is the strip
    between the directions, of width 0 where there is none.
    """

    half_width: float
    left: Bands
    right: Bands
    plots: tuple[str, str]
    median: tuple[str, float] = ("grass", 0.0)

    def width_beyond(self, side: int) -> float:
        """Width of all bands of the left (+1) or right (-1) side."""
        return sum(width for _, width in (self.left if side > 0 else self.right))

    def band_middle(self, side: int, *materials: str) -> float | None:
        """Signed ``beside`` of a side's first band of those materials, None where it has none."""
        edge = self.half_width
        for name, width in self.left if side > 0 else self.right:
            if name in materials:
                return side * (edge + width / 2)
            edge += width
        return None

    def materials(self, beside: NDArray[np.float32]) -> Bytes:
        """Material of each distance from the centre line."""
        right = -self.half_width - np.cumsum([0.0, *(width for _, width in self.right)])
        left = self.half_width + np.cumsum([0.0, *(width for _, width in self.left)])
        half = self.median[1] / 2
        middle = [-half, -half + 0.2, half - 0.2, half] if half else []
        limits = np.concatenate([right[::-1], middle, left]).astype(np.float32)
        names = [
            self.plots[1],
            *(name for name, _ in reversed(self.right)),
            *(("asphalt", "kerb", self.median[0], "kerb", "asphalt") if half else ("asphalt",)),
            *(name for name, _ in self.left),
            self.plots[0],
        ]
        table = np.array([MATERIAL[name] for name in names], np.uint8)
        return table[np.searchsorted(limits, beside)]


@dataclass(frozen=True)
class Ground:
    """A raster of materials; ``raised`` metres lie between the carriageway (z = 0) and the rest."""

    x0: float
    y0: float
    material: Bytes
    raised: float

    def material_at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Bytes:
        """Material under map positions; beyond the raster its border goes on."""
        rows, columns = self.material.shape
        column = np.clip(((x - self.x0) / CELL).astype(np.int32), 0, columns - 1)
        row = np.clip(((y - self.y0) / CELL).astype(np.int32), 0, rows - 1)
        return self.material[row, column]

    def height_at(self, x: float, y: float) -> float:
        """Height of the ground in metres."""
        return self.raised if _RAISED[self.material_at(np.array([x]), np.array([y]))[0]] else 0.0

    def cast(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Bytes]:
        """Distance along rays that point down, and the material there.

        A ray that passes over the carriageway above the kerb and below it over raised ground has
        met the face of the kerb.
        """
        slope = directions[:, 2]
        distance = (np.float32(self.raised) - origins[:, 2]) / slope
        material = self.material_at(
            origins[:, 0] + distance * directions[:, 0], origins[:, 1] + distance * directions[:, 1]
        )
        low = np.flatnonzero(~_RAISED[material])
        below = -origins[low, 2] / slope[low]
        there = self.material_at(
            origins[low, 0] + below * directions[low, 0],
            origins[low, 1] + below * directions[low, 1],
        )
        kerb = _RAISED[there]
        material[low] = np.where(kerb, np.uint8(MATERIAL["kerb"]), there)
        distance[low] = np.where(kerb, 0.5 * (distance[low] + below), below)
        return distance, material


def _interpolation(fine: int, coarse: int) -> NDArray[np.float32]:
    """Matrix [fine, coarse] that interpolates linearly between every ``_COARSE``-th value."""
    position = np.arange(fine) / _COARSE
    low = np.minimum(position.astype(int), coarse - 2)
    weight = position - low
    matrix = np.zeros((fine, coarse), np.float32)
    matrix[np.arange(fine), low] = 1 - weight
    matrix[np.arange(fine), low + 1] = weight
    return matrix


@dataclass
class GroundPainter:
    """Draws streets, markings and areas onto the raster of a ground."""

    x0: float
    y0: float
    rows: int
    columns: int

    def __post_init__(self) -> None:
        """Start from an empty sheet of grass."""
        self.material = np.full((self.rows, self.columns), MATERIAL["grass"], np.uint8)

    @classmethod
    def covering(cls, extent: tuple[float, float, float, float]) -> GroundPainter:
        """A painter for the area x0, x1, y0, y1."""
        x0, x1, y0, y1 = extent
        return cls(x0, y0, int((y1 - y0) / CELL) + 1, int((x1 - x0) / CELL) + 1)

    def coordinates(self, street: Street) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Along and beside of every cell, each float32[rows, columns]."""
        rows, columns = self.rows // _COARSE + 2, self.columns // _COARSE + 2
        step = CELL * _COARSE
        y, x = np.mgrid[0:rows, 0:columns] * step
        along, beside = street.locate(x + self.x0 + CELL / 2, y + self.y0 + CELL / 2)
        down, across = _interpolation(self.rows, rows), _interpolation(self.columns, columns).T
        return (
            down @ along.astype(np.float32) @ across,
            down @ beside.astype(np.float32) @ across,
        )

    def cover(self, layer: Bytes) -> None:
        """Lay a street's covers over what is there; the higher rank wins."""
        self.material = np.where(_RANK[layer] >= _RANK[self.material], layer, self.material)

    def paint(
        self,
        where: NDArray[np.bool_],
        material: str,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Set the material of some cells of a window."""
        self.material[window][where] = MATERIAL[material]

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within ``reach`` metres of a place."""
        row, column, size = (y - self.y0) / CELL, (x - self.x0) / CELL, reach / CELL
        return (
            slice(max(0, int(row - size)), max(0, int(row + size))),
            slice(max(0, int(column - size)), max(0, int(column + size))),
        )

    def finished(self, raised: float) -> Ground:
        """The ground as painted."""
        return Ground(self.x0, self.y0, self.material, raised)


def lane_markings(
    along: NDArray[np.float32],
    from_median: NDArray[np.float32],
    lanes: int,
    lane_width: float,
    cycle_lane: float,
) -> NDArray[np.bool_]:
    """Cells of the centre line, dashed lane lines and the borders of the cycle lanes.

    ``from_median`` is the distance from the border of the median, or from the centre line.
    """
    dashes = np.mod(along, 9.0) < 3.0
    marks = np.abs(from_median) < 0.07
    for lane in range(1, lanes):
        marks |= (np.abs(from_median - lane * lane_width) < 0.06) & dashes
    edge = lanes * lane_width
    marks |= np.abs(from_median - edge) < 0.07
    marks |= (np.abs(from_median - edge - cycle_lane) < 0.06) & (np.mod(along, 3.0) < 1.5)
    return marks
