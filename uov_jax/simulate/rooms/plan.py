"""Floor plans: one or two rectangles, the walls around them, doors and windows in these."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Mesh
from uov_jax.simulate.rooms.openings import WALL, Opening
from uov_jax.simulate.rooms.parts import Pair, moved

Generator = np.random.Generator
DOOR_HEIGHT = 2.03
CORNER = 0.25  # metres that openings stay away from the ends of a wall


@dataclasses.dataclass
class WallLine:
    """One wall, from a start along a direction, its room to the left.

    start, direction float64[2]; length in metres; zone that it bounds; openings in it. A wall that
    is the back of another is not built.
    """

    start: NDArray[np.float64]
    direction: NDArray[np.float64]
    length: float
    zone: int
    built: bool = True
    openings: list[Opening] = dataclasses.field(default_factory=list)

    @property
    def yaw(self) -> float:
        """Angle of its direction."""
        return float(np.arctan2(self.direction[1], self.direction[0]))

    def place(self, mesh: Mesh, along: float, away: float = 0.0, up: float = 0.0) -> Mesh:
        """A mesh that has its back at y = 0, so far along the wall and away from it."""
        inward = np.array([-self.direction[1], self.direction[0]])
        x, y = self.start + along * self.direction + away * inward
        return moved(mesh, (x, y, up), self.yaw)

    def free(self, x: Pair, spare: float = 0.15) -> bool:
        """Whether no opening is there."""
        return all(x[1] + spare < o.x[0] or o.x[1] + spare < x[0] for o in self.openings)


@dataclasses.dataclass(frozen=True)
class Zone:
    """A rectangle of the floor: x and y from where to where, metres."""

    x: Pair
    y: Pair

    @property
    def center(self) -> tuple[float, float]:
        """Its middle."""
        return (self.x[0] + self.x[1]) / 2, (self.y[0] + self.y[1]) / 2

    def holds(self, low: NDArray[np.float64], high: NDArray[np.float64], spare: float) -> bool:
        """Whether a box of the floor lies in it, or strays from it by no more than that."""
        return bool(
            low[0] >= self.x[0] - spare
            and low[1] >= self.y[0] - spare
            and high[0] <= self.x[1] + spare
            and high[1] <= self.y[1] + spare
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """A floor plan: its rectangles, the height of its ceiling in metres, and its walls."""

    zones: tuple[Zone, ...]
    height: float
    walls: tuple[WallLine, ...]
    divided: bool


def make_plan(size: tuple[Pair, Pair], annexe: str, windows: Pair, generator: Generator) -> Plan:
    """Draw a floor plan with a door and windows.

    Args:
        size: least and most metres of either side of the main rectangle.
        annexe: "" for none, "corner" for an L, "room" for a second room behind a passage.
        windows: least and most of them.
        generator: of all that varies.

    """
    width, depth = (generator.uniform(*limits) for limits in size)
    height = generator.uniform(2.4, 2.9)
    corners = [(0.0, 0.0), (width, 0.0), (width, depth), (0.0, depth)]
    zones = [Zone((0.0, width), (0.0, depth))]
    inner: list[WallLine] = []
    owner = [0, 0, 0, 0]
    if annexe:
        wide = generator.uniform(1.9, 2.6)
        deep = (
            generator.uniform(2.0, 2.7)
            if annexe == "room"
            else generator.uniform(0.45, 0.7) * depth
        )
        deep = min(deep, depth - 0.6)
        far = width + wide
        corners = [(0.0, 0.0), (far, 0.0), (far, deep), (width, deep), (width, depth), (0.0, depth)]
        owner = [0, 1, 1, 0, 0, 0]
        start = width + WALL if annexe == "room" else width
        zones.append(Zone((start, far), (0.0, deep)))
        if annexe == "room":
            inner = _passage(width, deep, generator)
    walls = []
    for number, zone in enumerate(owner):
        a, b = np.array(corners[number]), np.array(corners[(number + 1) % len(corners)])
        length = float(np.linalg.norm(b - a))
        walls.append(WallLine(a, (b - a) / length, length, zone))
    # A second room has its passage.
    entered = (0,) if inner else (0, 1)
    _open(walls, height, round(generator.uniform(*windows)), entered, generator)
    return Plan(tuple(zones), height, tuple(walls + inner), bool(inner))


def _passage(width: float, deep: float, generator: Generator) -> list[WallLine]:
    """Both sides of the wall between two rooms, with a passage in it."""
    wide = generator.uniform(0.8, 0.95)
    left = generator.uniform(CORNER, deep - CORNER - wide)
    up, down = np.array([0.0, 1.0]), np.array([0.0, -1.0])
    near = WallLine(np.array([width, 0.0]), up, deep, 0)
    far = WallLine(np.array([width + WALL, deep]), down, deep, 1, built=False)
    near.openings.append(Opening("passage", (left, left + wide), (0.0, DOOR_HEIGHT)))
    ends = (deep - left - wide, deep - left)
    far.openings.append(Opening("passage", ends, (0.0, DOOR_HEIGHT)))
    return [near, far]


def _open(
    walls: list[WallLine],
    height: float,
    windows: int,
    entered: tuple[int, ...],
    generator: Generator,
) -> None:
    """Put a door, and so many windows where there is room, into the outer walls.

    Doors are in the walls of the zones `entered` alone.
    """
    wished = ["door"] + ["window"] * windows
    if generator.random() < 0.3:
        wished.append("door")
    for number, what in enumerate(wished, start=1):
        for _ in range(30):
            wall = walls[generator.integers(len(walls))]
            if what == "door" and wall.zone not in entered:
                continue
            wide = generator.uniform(0.8, 0.95) if what == "door" else generator.uniform(0.8, 2.0)
            spare = wall.length - wide - 2 * CORNER
            if spare <= 0:
                continue
            left = CORNER + spare * generator.random()
            if not wall.free((left, left + wide), 0.4):
                continue
            z = (0.0, DOOR_HEIGHT)
            if what == "window":
                z = (generator.uniform(0.8, 1.1), min(generator.uniform(1.9, 2.3), height - 0.15))
            wall.openings.append(Opening(what, (left, left + wide), z, number))
            break
