"""One simulated room: what is built of a seed and a number, ready for rays."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Mesh, Surface, box, merge
from uov_jax.simulate.rooms import materials, openings
from uov_jax.simulate.rooms.furnish import ROOM_TYPES, RoomType, hang_lamp
from uov_jax.simulate.rooms.kinds import CLASS_OF_KIND
from uov_jax.simulate.rooms.parts import normals_of, of_object
from uov_jax.simulate.rooms.placing import Placer, Thing
from uov_jax.simulate.rooms.plan import Plan, WallLine, make_plan
from uov_jax.simulate.triangles import Triangles, triangles_of

Float32 = NDArray[np.float32]
FIRST_OBJECT = 100  # below are walls, floors, doors and windows


@dataclasses.dataclass(frozen=True)
class Light:
    """A lamp or a window as a point: position [3] in metres, strength, colour."""

    position: tuple[float, float, float]
    strength: float
    color: tuple[float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedRoom:
    """A furnished room in its own frame: a corner at the origin, walls along the axes, z upward.

    Attributes:
        type: name of the type of room.
        plan: of its floor.
        mesh: of everything.
        normals: float32[F, 3], of the faces.
        triangles: the mesh ready for rays.
        things: boxes around what stands in it.
        lights: that shine on it.
        ambient: light from everywhere, 0..1.
        to_world: float64[4, 4], from its own frame to that of the scan, turned about z.

    """

    type: str
    plan: Plan
    mesh: Mesh
    normals: Float32
    triangles: Triangles
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]
    ambient: float
    to_world: NDArray[np.float64]

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes of anything in it."""
        return tuple(int(c) for c in np.unique(CLASS_OF_KIND[self.mesh.kind]) if c)


def from_world(room: SimulatedRoom) -> NDArray[np.float64]:
    """float64[4, 4]: from the frame of the scan to the room's own, the walls along the axes."""
    back = np.eye(4)
    back[:3, :3] = room.to_world[:3, :3].T
    back[:3, 3] = -back[:3, :3] @ room.to_world[:3, 3]
    return back


def room_type(number: int) -> RoomType:
    """The type of a room, by its number: all types in every round of eight."""
    return ROOM_TYPES[number % len(ROOM_TYPES)]


def make_room(seed: int, number: int) -> SimulatedRoom:
    """Build and furnish a room; seed and number decide all of it."""
    generator = np.random.default_rng([seed, number, 0])
    kind = room_type(number)
    annexe = kind.annexes[generator.integers(len(kind.annexes))]
    plan = make_plan(kind.size, annexe, kind.windows, generator)
    placer = Placer(plan, FIRST_OBJECT, generator)
    shell = _shell(plan, kind, placer, generator)
    kind.furnish(placer, generator)
    for zone in range(len(plan.zones)):
        hang_lamp(placer, zone)
    mesh = merge([*shell, *placer.meshes])
    angle, shift = generator.uniform(0, 2 * np.pi), generator.uniform(-1.0, 1.0, 2)
    to_world = np.eye(4)
    to_world[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    to_world[:2, 3] = shift
    return SimulatedRoom(
        kind.name,
        plan,
        mesh,
        normals_of(mesh),
        triangles_of(mesh),
        tuple(placer.things),
        _lights(plan, generator),
        float(generator.uniform(0.4, 0.6)),
        to_world,
    )


def _shell(
    plan: Plan, kind: RoomType, placer: Placer, generator: np.random.Generator
) -> list[Mesh]:
    """Floor, ceiling, walls with all that is in them, and curtains."""
    parts = []
    wall_paint = materials.paint("wall", generator)
    ceiling = materials.white("ceiling", generator)
    floor = _floor(kind.name in ("bathroom", "kitchen"), generator)
    for number, zone in enumerate(plan.zones):
        if number and plan.divided:
            floor = _floor(True, generator)
        x = zone.x if number == 0 or not plan.divided else (zone.x[0] - openings.WALL, zone.x[1])
        parts.append(of_object(box(floor, x, zone.y, (-0.05, 0.0)), 20 + number))
        top = (plan.height, plan.height + 0.05)
        parts.append(of_object(box(ceiling, x, zone.y, top), 30 + number))
    for number, wall in enumerate(plan.walls):
        own = wall_paint
        if kind.name == "bathroom" or (plan.divided and wall.zone == 1):
            own = materials.white("wall", generator)._replace(texture=materials.TILES)
        elif generator.random() < 0.15:
            own = materials.paint("wall", generator)
        pieces: list[Mesh] = []
        if wall.built:
            blocks = openings.wall_with(own, wall.length, plan.height, wall.openings)
            pieces.append(of_object(merge(blocks), 40 + number))
            base = materials.white("wall", generator)
            pieces += [of_object(part, 40 + number) for part in _skirting(wall, base)]
        for hole in wall.openings:
            if hole.what == "door":
                pieces += [openings.door(hole, generator), openings.behind(hole)]
            elif hole.what == "window":
                pieces.append(openings.window(hole, generator))
                if generator.random() < kind.curtains:
                    room = (0.03, wall.length - 0.03)
                    hung = openings.curtains(
                        hole, placer.next_object(), room, plan.height, generator
                    )
                    placed = wall.place(hung, 0.0)
                    low, high = placed.bounds()
                    placer.keep_free(low, high)
                    parts.append(placed)
        parts += [wall.place(piece, 0.0) for piece in pieces]
    return parts


def _skirting(wall: WallLine, base: Surface) -> list[Mesh]:
    """Thin boards at the foot of a wall, where there are no doors."""
    ends = [0.0]
    for hole in sorted(wall.openings, key=lambda o: o.x):
        if hole.z[0] == 0.0:
            ends += [hole.x[0] - 0.07, hole.x[1] + 0.07]
    ends.append(wall.length)
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [box(base, pair, (0.0, 0.008), (0.0, 0.08)) for pair in pairs if pair[1] > pair[0]]


def _floor(wet: bool, generator: np.random.Generator) -> Surface:
    if wet:
        tone = materials.paint("floor", generator)
        return materials.darker(tone, generator.uniform(0.6, 1.0))._replace(texture=materials.TILES)
    if generator.random() < 0.6:
        return materials.wood("floor", generator)._replace(texture=materials.PLANKS)
    return materials.cloth("floor", generator, 0.4)


def _lights(plan: Plan, generator: np.random.Generator) -> tuple[Light, ...]:
    warm = (1.0, float(generator.uniform(0.86, 0.98)), float(generator.uniform(0.7, 0.95)))
    lights = []
    for zone in plan.zones:
        x, y = zone.center
        lights.append(Light((x, y, plan.height - 0.2), float(generator.uniform(0.5, 0.9)), warm))
    for wall in plan.walls:
        for hole in wall.openings:
            if hole.what == "window" and len(lights) < len(plan.zones) + 1:
                inward = np.array([-wall.direction[1], wall.direction[0]])
                at = wall.start + (hole.x[0] + hole.x[1]) / 2 * wall.direction + 0.05 * inward
                up = (hole.z[0] + hole.z[1]) / 2
                strength = float(generator.uniform(0.4, 1.0))
                lights.append(Light((at[0], at[1], up), strength, (0.9, 0.97, 1.05)))
    return tuple(lights)
