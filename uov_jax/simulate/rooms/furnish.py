"""What stands in which type of room. Every room has some of its type's things, none has all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from uov_jax.simulate.geometry import Mesh
from uov_jax.simulate.rooms import bathroom, other, seats, storage, tables
from uov_jax.simulate.rooms.parts import Pair
from uov_jax.simulate.rooms.placing import Place, Placer

Generator = np.random.Generator


@dataclasses.dataclass(frozen=True)
class RoomType:
    """One type of room: least and most metres of its sides, of its windows, and its furniture.

    `annexes` are drawn from: "" for a rectangle, "corner" for an L, "room" for a second room.
    """

    name: str
    size: tuple[Pair, Pair]
    windows: Pair
    annexes: tuple[str, ...]
    curtains: float
    furnish: Callable[[Placer, Generator], None]


def _maybe(placer: Placer, share: float, make: Callable[[Generator], Mesh], zone: int = 0) -> None:
    if placer.generator.random() < share:
        placer.somewhere_on_wall(make, zone=zone)


def _pictures(placer: Placer, most: int, zone: int = 0) -> None:
    for _ in range(int(placer.generator.integers(0, most + 1))):
        up = placer.generator.uniform(1.15, 1.5)
        placer.somewhere_on_wall(other.picture, up, zone)


def _under_window(placer: Placer, zone: int = 0) -> None:
    """A radiator under a window."""
    for wall in placer.plan.walls:
        for hole in wall.openings:
            if hole.what == "window" and wall.zone == zone:
                along = (hole.x[0] + hole.x[1]) / 2
                if placer.on_wall(other.radiator(placer.generator), wall, along):
                    return


def _rug(placer: Placer, zone: int = 0) -> None:
    x, y = placer.plan.zones[zone].center
    width, depth = placer.generator.uniform(1.2, 2.2), placer.generator.uniform(0.9, 1.6)
    mesh = other.rug(width, depth, placer.generator)
    placer.put(mesh, (x, y - depth / 2, 0.0), 0.0, soft=True)


def hang_lamp(placer: Placer, zone: int) -> None:
    """Hang a lamp in the middle of a zone."""
    x, y = placer.plan.zones[zone].center
    placer.put(other.ceiling_lamp(placer.generator), (x, y, placer.plan.height), 0.0, soft=True)


def _chair_before(
    placer: Placer, place: Place, make: Callable[[Generator], Mesh], x: float
) -> bool:
    """A chair before a placed thing, turned to it more or less."""
    g = placer.generator
    chair = make(g)
    away = place.high[1] + chair.bounds()[1][1] + g.uniform(0.03, 0.25)
    return placer.beside(chair, place, (x, away), np.pi + g.uniform(-0.35, 0.35))


def _chairs_around(placer: Placer, place: Place, make: Callable[[Generator], Mesh]) -> None:
    g = placer.generator
    model = int(g.integers(1 << 30))  # the chairs of one table are alike
    low, high = place.low, place.high
    width, depth = high[0] - low[0], high[1] - low[1]
    count = max(1, int(width / 0.62))
    spots = []
    for number in range(count):
        x = low[0] + (number + 0.5) * width / count
        spots += [((x, high[1]), np.pi), ((x, low[1]), 0.0)]
    middle = low[1] + depth / 2
    spots += [((high[0], middle), np.pi / 2), ((low[0], middle), -np.pi / 2)]
    for (x, y), yaw in spots:
        if g.random() < 0.3:
            continue
        chair = make(np.random.default_rng(model))
        away = chair.bounds()[1][1] + g.uniform(0.02, 0.2)
        toward = np.array([-np.sin(yaw), np.cos(yaw)])
        at = np.array([x, y]) - away * toward
        placer.beside(chair, place, at, yaw + g.uniform(-0.12, 0.12))


def _workplace(placer: Placer, zone: int = 0) -> None:
    place = placer.somewhere_on_wall(tables.desk, zone=zone)
    if place and placer.generator.random() < 0.9:
        make = seats.office_chair if placer.generator.random() < 0.75 else seats.dining_chair
        _chair_before(placer, place, make, placer.generator.uniform(-0.2, 0.2))


def _beds(placer: Placer) -> None:
    g = placer.generator
    place = placer.somewhere_on_wall(seats.bed, zone=0)
    if not place or not place.wall:
        return
    for side in (-1, 1):
        if g.random() < 0.6:
            mesh = storage.nightstand(g)
            reach = place.high[0] + mesh.bounds()[1][0] + g.uniform(0.03, 0.12)
            placer.on_wall(mesh, place.wall, place.along + side * reach)


def bedroom(placer: Placer, generator: Generator) -> None:
    """Bed, wardrobe, perhaps a workplace."""
    _beds(placer)
    _maybe(placer, 0.75, storage.wardrobe)
    if generator.random() < 0.45:
        _workplace(placer)
    _maybe(placer, 0.35, storage.chest)
    _maybe(placer, 0.4, storage.bookshelf)
    _maybe(placer, 0.25, seats.armchair)
    _maybe(placer, 0.3, other.bench)
    if generator.random() < 0.5:
        _under_window(placer)
    _maybe(placer, 0.3, other.trash_can)
    _maybe(placer, 0.3, other.lamp)
    _maybe(placer, 0.3, other.carton)
    _pictures(placer, 2)
    if generator.random() < 0.5:
        _rug(placer)


def kitchen(placer: Placer, generator: Generator) -> None:
    """Worktops with a sink, cabinets, a refrigerator, mostly a table."""
    _kitchen_wall(placer, 0)
    if generator.random() < 0.4:
        width = generator.uniform(0.9, 1.8)
        placer.somewhere_on_wall(lambda g: tables.kitchen_row(width, False, g), zone=0)
    if generator.random() < 0.75 and (place := placer.freely(tables.dining_table, spare=0.6)):
        _chairs_around(placer, place, seats.dining_chair)
    elif generator.random() < 0.6:
        placer.freely(tables.bar, spare=0.7)
    _maybe(placer, 0.6, other.trash_can)
    _maybe(placer, 0.35, other.washing_machine)
    _maybe(placer, 0.25, storage.sideboard)
    if generator.random() < 0.4:
        _under_window(placer)
    _pictures(placer, 1)


def _kitchen_wall(placer: Placer, zone: int) -> None:
    g = placer.generator

    def row(generator: Generator) -> Mesh:
        return tables.kitchen_row(generator.uniform(1.3, 2.6), True, generator)

    place = placer.somewhere_on_wall(row, zone=zone)
    if place and place.wall:
        width = place.high[0] - place.low[0]
        if g.random() < 0.75:
            share = g.uniform(0.4, 1.0)
            mesh = storage.wall_cabinet(share * width, g)
            along = place.along + g.choice([-0.5, 0.5]) * (1 - share) * width
            placer.on_wall(mesh, place.wall, float(along), g.uniform(1.42, 1.55))
        for side in (-1, 1):
            mesh = storage.refrigerator(g)
            reach = place.high[0] + mesh.bounds()[1][0] + 0.03
            if placer.on_wall(mesh, place.wall, place.along + side * reach):
                return
    placer.somewhere_on_wall(storage.refrigerator, zone=zone)


def office(placer: Placer, generator: Generator) -> None:
    """Workplaces, shelves, cabinets for files."""
    for _ in range(int(generator.integers(1, 4))):
        _workplace(placer)
    for _ in range(int(generator.integers(1, 3))):
        _maybe(placer, 0.7, storage.bookshelf)
    _maybe(placer, 0.5, storage.chest)
    _maybe(placer, 0.3, seats.sofa)
    _maybe(placer, 0.35, storage.wardrobe)
    _maybe(placer, 0.6, other.trash_can)
    _maybe(placer, 0.25, other.ladder_rack)
    if generator.random() < 0.5:
        _under_window(placer)
    _maybe(placer, 0.3, other.plant)
    _maybe(placer, 0.4, other.carton)
    _pictures(placer, 2)


def bath(placer: Placer, generator: Generator) -> None:
    """A bathroom as a room of its own."""
    _bath_in(placer, generator, 0)


def _bath_in(placer: Placer, generator: Generator, zone: int) -> None:
    if zone or generator.random() < 0.85:
        length = generator.uniform(1.35, 1.6)

        def tub_of_length(generator: Generator) -> Mesh:
            return bathroom.bathtub(length, generator)

        tub = placer.somewhere_on_wall(tub_of_length, zone=zone, corner=True)
        tub = tub or placer.somewhere_on_wall(tub_of_length, zone=zone)
        if tub and tub.wall and generator.random() < 0.9:
            mesh = bathroom.shower_curtain(length - 0.02, tub.high[1], generator)
            placer.on_wall(mesh, tub.wall, tub.along)
    placer.somewhere_on_wall(bathroom.toilet, zone=zone)
    place = placer.somewhere_on_wall(bathroom.washbasin, zone=zone)
    if place and place.wall and generator.random() < 0.7:
        placer.on_wall(bathroom.mirror(generator), place.wall, place.along, 1.15)
    _maybe(placer, 0.35, storage.chest, zone)
    _maybe(placer, 0.3, other.washing_machine, zone)
    _maybe(placer, 0.4, other.hamper, zone)
    _maybe(placer, 0.5, other.trash_can, zone)
    for _ in range(int(generator.integers(0, 3))):
        placer.somewhere_on_wall(bathroom.towel, generator.uniform(0.8, 1.2), zone)
    if generator.random() < 0.3:
        _under_window(placer, zone)


def living_room(placer: Placer, generator: Generator) -> None:
    """Sofas around a low table, a television, shelves."""
    _seating(placer, generator)
    _maybe(placer, 0.7, other.television_stand)
    for _ in range(int(generator.integers(0, 3))):
        _maybe(placer, 0.8, seats.armchair)
    _maybe(placer, 0.7, storage.bookshelf)
    _maybe(placer, 0.4, storage.sideboard)
    _maybe(placer, 0.35, seats.sofa)
    if generator.random() < 0.4 and (place := placer.freely(tables.dining_table)):
        _chairs_around(placer, place, seats.dining_chair)
    _maybe(placer, 0.4, other.lamp)
    _maybe(placer, 0.4, other.plant)
    if generator.random() < 0.4:
        _under_window(placer)
    _pictures(placer, 3)
    if generator.random() < 0.6:
        _rug(placer)


def _seating(placer: Placer, generator: Generator) -> None:
    place = placer.somewhere_on_wall(seats.sofa, zone=0)
    if place and generator.random() < 0.8:
        table = tables.coffee_table(generator)
        away = place.high[1] + generator.uniform(0.3, 0.5)
        placer.beside(table, place, (generator.uniform(-0.2, 0.2), away), 0.0)


def meeting_room(placer: Placer, generator: Generator) -> None:
    """A long table with chairs."""
    make = seats.office_chair if generator.random() < 0.5 else seats.dining_chair
    if place := placer.freely(tables.meeting_table, spare=0.75):
        _chairs_around(placer, place, make)
    elif place := placer.freely(tables.dining_table, spare=0.6):
        _chairs_around(placer, place, make)
    _maybe(placer, 0.5, storage.sideboard)
    _maybe(placer, 0.4, other.trash_can)
    _maybe(placer, 0.4, other.ladder_rack)
    _maybe(placer, 0.3, other.plant)
    _maybe(placer, 0.3, storage.bookshelf)
    if generator.random() < 0.35:
        placer.somewhere_on_wall(tables.bar, zone=0)
    if generator.random() < 0.5:
        _under_window(placer)
    _pictures(placer, 3)


def studio(placer: Placer, generator: Generator) -> None:
    """A bed, a kitchen wall and a seat in one room."""
    _kitchen_wall(placer, len(placer.plan.zones) - 1)
    _beds(placer)
    if generator.random() < 0.8:
        _seating(placer, generator)
    if generator.random() < 0.4:
        _workplace(placer)
    _maybe(placer, 0.4, storage.wardrobe)
    _maybe(placer, 0.4, storage.bookshelf)
    _maybe(placer, 0.4, other.trash_can)
    _maybe(placer, 0.3, other.lamp)
    _pictures(placer, 2)


def hotel_room(placer: Placer, generator: Generator) -> None:
    """A bedroom with a bathroom behind a passage."""
    _bath_in(placer, generator, 1)
    _beds(placer)
    if generator.random() < 0.5:
        _workplace(placer)
    _maybe(placer, 0.5, storage.wardrobe)
    _maybe(placer, 0.4, other.television_stand)
    _maybe(placer, 0.4, seats.armchair)
    _maybe(placer, 0.3, other.bench)
    _maybe(placer, 0.4, seats.sofa)
    _pictures(placer, 2)


ROOM_TYPES: tuple[RoomType, ...] = (
    RoomType("bedroom", ((3.2, 4.6), (3.0, 4.4)), (1, 2), ("", "", "corner"), 0.7, bedroom),
    RoomType("kitchen", ((3.2, 4.6), (2.8, 4.2)), (0.2, 1.8), ("", "", "corner"), 0.3, kitchen),
    RoomType("office", ((3.4, 5.2), (3.2, 4.8)), (1, 2.4), ("", "", "corner"), 0.3, office),
    RoomType("bathroom", ((2.5, 3.3), (2.3, 3.0)), (0, 0.9), ("",), 0.2, bath),
    RoomType("living room", ((4.0, 5.4), (3.6, 4.8)), (1, 2.4), ("", "corner"), 0.7, living_room),
    RoomType("meeting room", ((4.0, 5.6), (3.8, 4.8)), (1, 2.4), ("", ""), 0.35, meeting_room),
    RoomType("studio", ((4.2, 5.2), (3.8, 4.6)), (1, 2), ("corner", ""), 0.6, studio),
    RoomType("hotel room", ((3.4, 4.4), (3.2, 4.2)), (0.2, 1.8), ("room",), 0.7, hotel_room),
)
