"""Putting things into a room so that none stands in another, or before a door."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Mesh, merge
from uov_jax.simulate.rooms.parts import moved, of_object
from uov_jax.simulate.rooms.plan import Plan, WallLine

Generator = np.random.Generator
TRIES = 100
DOOR_SWING = 0.75  # metres before a door that stay free
SPARE = 0.01  # metres between things


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a thing stands: its frame's origin and angle, its size [x, y, z] there, its wall."""

    position: tuple[float, float, float]
    yaw: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    wall: WallLine | None = None
    along: float = 0.0


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something that was placed: its number as an object, and the box [3], [3] around it."""

    number: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Placer:
    """A room as it fills.

    Attributes:
        plan: of the floor.
        meshes: of everything placed, in the room's frame.
        things: the same as boxes.

    """

    def __init__(self, plan: Plan, first_object: int, generator: Generator) -> None:
        self.plan, self.generator = plan, generator
        self.meshes: list[Mesh] = []
        self.things: list[Thing] = []
        self._next = first_object
        self._kept_free = [box for wall in plan.walls for box in _before_openings(wall)]

    def put(
        self, mesh: Mesh, place: tuple[float, float, float], yaw: float, soft: bool = False
    ) -> bool:
        """Put a mesh somewhere, if nothing is there; whether it was.

        Args:
            mesh: in its own frame.
            place: of its origin.
            yaw: it is turned by, about z.
            soft: it may lie before doors and under things, as a rug.

        """
        placed = moved(mesh, place, yaw)
        low, high = placed.bounds()
        if not any(zone.holds(low, high, 0.001) for zone in self.plan.zones):
            return False
        if high[2] > self.plan.height:
            return False
        if not soft and not self._is_free(low, high):
            return False
        self.meshes.append(of_object(placed, self._next))
        if not soft:
            self.things.append(Thing(self._next, low, high))
        self._next += 1
        return True

    def on_wall(
        self, mesh: Mesh, wall: WallLine, along: float, up: float = 0.0, away: float = SPARE
    ) -> Place | None:
        """Put a mesh with its back to a wall; None where there is no room."""
        low, high = mesh.bounds()
        if along + low[0] < 0.005 or along + high[0] > wall.length - 0.005:
            return None
        inward = np.array([-wall.direction[1], wall.direction[0]])
        x, y = wall.start + along * wall.direction + away * inward
        if not self.put(mesh, (x, y, up), wall.yaw):
            return None
        return Place((x, y, up), wall.yaw, low, high, wall, along)

    def somewhere_on_wall(
        self,
        make: Callable[[Generator], Mesh],
        up: float = 0.0,
        zone: int | None = None,
        corner: bool = False,
    ) -> Place | None:
        """Put a thing against any wall; None if there is no room for it.

        Args:
            make: makes it, anew for every try.
            up: metres above the floor.
            zone: of the plan that it must be in.
            corner: at one end of the wall.

        """
        walls = [wall for wall in self.plan.walls if zone in (None, wall.zone)]
        share = np.array([wall.length for wall in walls])
        for _ in range(TRIES):
            mesh = make(self.generator)
            low, high = mesh.bounds()
            wall = walls[self.generator.choice(len(walls), p=share / share.sum())]
            first, last = 0.01 - low[0], wall.length - 0.01 - high[0]
            if first > last:
                continue
            along = (
                self.generator.choice([first, last])
                if corner
                else self.generator.uniform(first, last)
            )
            if place := self.on_wall(mesh, wall, float(along), up):
                return place
        return None

    def freely(
        self, make: Callable[[Generator], Mesh], zone: int = 0, spare: float = 0.5
    ) -> Place | None:
        """Put a thing into the middle of a zone, away from its walls."""
        here = self.plan.zones[zone]
        for _ in range(TRIES):
            mesh = make(self.generator)
            low, high = mesh.bounds()
            yaw = float(self.generator.integers(4)) * np.pi / 2
            turned_low, turned_high = moved(mesh, (0, 0, 0), yaw).bounds()
            first = np.array([here.x[0], here.y[0]]) + spare - turned_low[:2]
            last = np.array([here.x[1], here.y[1]]) - spare - turned_high[:2]
            if (first > last).any():
                continue
            x, y = self.generator.uniform(first, last)
            if self.put(mesh, (x, y, 0.0), yaw):
                return Place((x, y, 0.0), yaw, low, high)
        return None

    def beside(
        self, mesh: Mesh, place: Place, at: Sequence[float], yaw: float, soft: bool = False
    ) -> bool:
        """Put a mesh at a point [x, y] of a placed thing's frame; whether there was room."""
        c, s = np.cos(place.yaw), np.sin(place.yaw)
        x = place.position[0] + c * at[0] - s * at[1]
        y = place.position[1] + s * at[0] + c * at[1]
        return self.put(mesh, (x, y, 0.0), place.yaw + yaw, soft)

    def merged(self) -> Mesh:
        """Everything that was placed."""
        return merge(self.meshes)

    def next_object(self) -> int:
        """A number for an object that is placed by others."""
        self._next += 1
        return self._next - 1

    def keep_free(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        """Nothing is to be put there."""
        self._kept_free.append((low, high))

    def _is_free(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
        boxes = [(thing.low, thing.high) for thing in self.things] + self._kept_free
        return not any(
            (low + 1e-6 < other_high).all() and (high - 1e-6 > other_low).all()
            for other_low, other_high in boxes
        )


def _before_openings(wall: WallLine) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """What stays free: the way through doors, and the light of windows."""
    inward = np.array([-wall.direction[1], wall.direction[0]])
    boxes = []
    for hole in wall.openings:
        reach = 0.2 if hole.what == "window" else DOOR_SWING
        a = wall.start + (hole.x[0] - 0.08) * wall.direction
        b = wall.start + (hole.x[1] + 0.08) * wall.direction + reach * inward
        low = np.array([*np.minimum(a, b), hole.z[0] - 0.05])
        high = np.array([*np.maximum(a, b), hole.z[1] + 0.08])
        boxes.append((low, high))
    return boxes
