"""A scene: everything that stands and moves in one simulated drive, placed at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uov_jax.simulate import street_objects as objects
from uov_jax.simulate import vehicles
from uov_jax.simulate.geometry import Mesh, Surface, box, merge
from uov_jax.simulate.kinds import KIND
from uov_jax.simulate.layout import AHEAD, BEHIND, Layout, make_layout
from uov_jax.simulate.motion import CrossingTrack, EgoTrack, Motion, Still, Track
from uov_jax.simulate.street import Street

KEYFRAME_INTERVAL = 0.5  # seconds, as in nuScenes
Generator = np.random.Generator


@dataclass(frozen=True)
class SceneObject:
    """An annotated object: number, kind, the corners of its box in its own frame, its motion."""

    instance: int
    kind: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    motion: Motion
    moving: bool
    ridden: bool = False


@dataclass(frozen=True)
class Actor:
    """A moving object's shape in its own frame and its motion."""

    mesh: Mesh
    motion: Motion


@dataclass(frozen=True)
class Weather:
    """Light of a scene: direction to the sun, its strength beside the sky's, haze per metre."""

    to_sun: tuple[float, float, float]
    sun: float
    sky: float
    haze: float
    clouds: float
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything of one drive, in a local map frame in metres."""

    layout: Layout
    static: Mesh
    actors: tuple[Actor, ...]
    objects: tuple[SceneObject, ...]
    ego: EgoTrack
    weather: Weather


def make_scene(layout_name: str, generator: Generator, keyframes: int) -> Scene:
    """Invent a drive of that many keyframes, half a second apart."""
    speed = float(generator.uniform(6.0, 9.0))
    distance = speed * KEYFRAME_INTERVAL * max(keyframes, 2)
    layout = make_layout(layout_name, generator, distance)
    sway = (0.4, float(generator.uniform(0, 6)), 0.008, 0.006)
    ego = EgoTrack(layout.street, layout.ego_beside, speed, sway)
    builder = SceneBuilder(layout, generator, distance, speed)
    builder.build()
    return Scene(
        layout,
        merge(builder.static),
        tuple(builder.actors),
        tuple(builder.objects),
        ego,
        _weather(generator),
    )


def _weather(generator: Generator) -> Weather:
    azimuth, height = generator.uniform(0, 2 * np.pi), generator.uniform(0.5, 1.1)
    to_sun = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    overcast = generator.random() < 0.3
    warm = generator.uniform(-0.04, 0.06)
    return Weather(
        tuple(to_sun),
        0.25 if overcast else float(generator.uniform(1.1, 1.5)),
        1.3 if overcast else float(generator.uniform(0.55, 0.75)),
        float(generator.uniform(0.0008, 0.003)),
        1.0 if overcast else float(generator.uniform(0.2, 0.7)),
        (1.0 + warm, 1.0, 1.0 - warm),
    )


class SceneBuilder:
    """Fills a layout: first what stands, then what moves."""

    def __init__(self, layout: Layout, generator: Generator, distance: float, speed: float) -> None:
        self.layout, self.generator = layout, generator
        self.distance, self.speed = distance, speed
        self.static: list[Mesh] = []
        self.actors: list[Actor] = []
        self.objects: list[SceneObject] = []
        self._occupied: list[tuple[float, float, float]] = []

    def build(self) -> None:
        """Place everything."""
        layout = self.layout
        self._rails()
        self._parked(layout.street, layout.parking_beside, -BEHIND + 20, self.distance + 80)
        self._median()
        for side in (1, -1):
            self._pavement(side)
            self._greenery(side)
            self._buildings(
                layout.street, side, self._building_line(side), -BEHIND, self.distance + AHEAD
            )
        if layout.square is not None:
            self._square(layout.square)
        if layout.side_street is not None:
            self._side_street(layout.side_street)
        self._far_ends()
        self._traffic()
        self._walkers()

    # Placing

    def _free(self, x: float, y: float, radius: float, margin: float = 1.0) -> bool:
        if self.layout.in_side_street(x, y, margin + radius):
            return False
        return all((x - a) ** 2 + (y - b) ** 2 > (radius + r) ** 2 for a, b, r in self._occupied)

    def place(
        self,
        mesh: Mesh,
        along: float,
        beside: float,
        turn: float = 0.0,
        *,
        street: Street | None = None,
        kind: str | None = None,
        radius: float = 0.4,
        force: bool = False,
    ) -> bool:
        """Stand a shape on the ground; False where something is in the way.

        ``kind`` makes it an annotated object. ``force`` puts it there regardless.
        """
        line = street or self.layout.street
        x, y, heading = (float(value) for value in line.at(along, beside))
        own_street = street is not None and street is self.layout.side_street
        if not force and not own_street and not self._free(x, y, radius):
            return False
        self._occupied.append((x, y, radius))
        z = self.layout.ground.height_at(x, y)
        instance = 0
        if kind is not None:
            instance = self._annotate(mesh, kind, Still(x, y, z, heading + turn), False)
        self.static.append(mesh.placed(x, y, z, heading + turn, instance))
        return True

    def _annotate(
        self, mesh: Mesh, kind: str, motion: Motion, moving: bool, ridden: bool = False
    ) -> int:
        low, high = mesh.bounds()
        number = len(self.objects) + 1
        self.objects.append(
            SceneObject(number, kind, tuple(low), tuple(high), motion, moving, ridden)
        )
        return number

    def move(self, mesh: Mesh, kind: str, motion: Motion, ridden: bool = False) -> None:
        """Send an annotated object on its way."""
        instance = self._annotate(mesh, kind, motion, True, ridden)
        self.actors.append(Actor(mesh.placed(0, 0, 0, 0, instance), motion))

    # What stands

    def _building_line(self, side: int) -> float:
        section = self.layout.section
        return section.half_width + section.width_beyond(side) + 1.8

    def _rails(self) -> None:
        kind = KIND["rail_track"]
        steel = Surface(kind, (0.33, 0.29, 0.26), 0.45)
        wood = Surface(kind, (0.24, 0.2, 0.17), 0.16)
        sleeper = box(wood, (-0.13, 0.13), (-1.2, 1.2), (-0.02, 0.07))
        rail = merge(
            box(steel, (-1.02, 1.02), (y - 0.04, y + 0.04), (0.0, 0.17)) for y in (-0.72, 0.72)
        )
        layout = self.layout
        middles = [layout.section.band_middle(side, "ballast") for side in (1, -1)]
        if layout.section.median[0] == "ballast":
            middles.append(0.0)
        for middle in middles:
            if middle is None:
                continue
            for step, shape in ((0.7, sleeper), (2.0, rail)):
                for along in np.arange(-BEHIND, self.distance + AHEAD, step):
                    x, y, heading = (float(v) for v in layout.street.at(along, middle))
                    if not layout.in_side_street(x, y, 0.2):
                        self.static.append(shape.placed(x, y, layout.ground.raised, heading))

    def _parked(self, street: Street, beside: float, first: float, last: float) -> None:
        """Fill both parking lanes from one shuffled deck.

        The left side is half a deck ahead of the right one, so that no kind is far away for long.
        """
        deck = [*PARKING_DECK]
        self.generator.shuffle(deck)
        for side, card in ((-1, 0), (1, len(deck) // 2)):
            along = first
            while along < last:
                length, fill = SLOTS[deck[card % len(deck)]]
                fill(self, street, side, along + length / 2, side * beside)
                gap = float(self.generator.exponential(3.5))
                if gap > 3.0:
                    self._cone_row(street, along + length + 0.8, gap - 1.6, side * (beside - 0.9))
                along += length + gap
                card += 1

    def _cone_row(self, street: Street, along: float, length: float, beside: float) -> None:
        """Cones that keep a gap free."""
        for offset in np.arange(0.0, min(length, 6.0), 1.2):
            cone = objects.traffic_cone(self.generator)
            self.place(cone, along + offset, beside, street=street, kind="traffic_cone", radius=0.1)

    def park(self, street: Street, side: int, along: float, beside: float, kind: str) -> None:
        """One vehicle in the parking lane, headed with the traffic of its side."""
        mesh = vehicles.VEHICLES[kind](self.generator)
        turn = 0.0 if side < 0 else np.pi
        turn += self.generator.normal(0, 0.015)
        low, high = mesh.bounds()
        radius = 0.36 * float(high[0] - low[0])
        self.place(mesh, along, beside, turn, street=street, kind=kind, radius=radius)

    def cycles(self, street: Street, side: int, along: float, beside: float, kind: str) -> None:
        """Four parked cycles side by side, some in a rack."""
        shape = vehicles.bicycle if kind == "bicycle" else vehicles.motorcycle
        if kind == "bicycle":
            rack = objects.bicycle_rack(self.generator)
            self.place(rack, along, beside, street=street, kind="bicycle_rack", radius=0.1)
        for offset in (-1.35, -0.45, 0.45, 1.35):
            turn = side * np.pi / 2 + self.generator.normal(0, 0.12)
            shift = self.generator.normal(0, 0.1)
            self.place(
                shape(self.generator),
                along + offset,
                beside + shift,
                turn,
                street=street,
                kind=kind,
                radius=0.3,
            )

    def roadworks(self, street: Street, side: int, along: float, beside: float) -> None:
        """A hole in the parking lane: barriers around it, cones before it, a worker."""
        generator, style = self.generator, int(self.generator.integers(3))
        inner = beside - side * 1.1
        for offset in (-2.1, 0.0, 2.1):
            mesh = objects.barrier(generator, style)
            self.place(mesh, along + offset, inner, 0.0, street=street, kind="barrier", radius=0.2)
        for offset in (-3.2, 3.2):
            mesh = objects.barrier(generator, style)
            self.place(
                mesh, along + offset, beside, np.pi / 2, street=street, kind="barrier", radius=0.2
            )
        for offset in (-4.6, -3.9, -3.2, 3.2, 3.9, 4.6):
            shift = inner + side * 0.25 * (abs(offset) - 3.2) + generator.normal(0, 0.08)
            mesh = objects.traffic_cone(generator)
            self.place(mesh, along + offset, shift, street=street, kind="traffic_cone", radius=0.1)
        worker = objects.pedestrian(generator, "construction_worker")
        turn = generator.uniform(0, 6)
        self.place(
            worker, along - 1.0, beside, turn, street=street, kind="construction_worker", radius=0.2
        )
        heap = objects.debris(generator)
        self.place(heap, along + 1.0, beside, 0.0, street=street, kind="debris", radius=0.3)

    def construction_site(self, street: Street, side: int, along: float, beside: float) -> None:
        """A machine between barriers and cones."""
        generator, style = self.generator, int(self.generator.integers(3))
        self.park(street, side, along, beside + side * 0.1, "construction_vehicle")
        inner = beside - side * 1.55
        for offset in np.arange(-5.2, 5.3, 2.1):
            if generator.random() < 0.7:
                mesh = objects.barrier(generator, style)
                self.place(
                    mesh,
                    along + offset,
                    inner,
                    0.0,
                    street=street,
                    kind="barrier",
                    radius=0.05,
                    force=True,
                )
            else:
                for shift in (-0.6, 0.0, 0.6):
                    mesh = objects.traffic_cone(generator)
                    self.place(
                        mesh,
                        along + offset + shift,
                        inner,
                        street=street,
                        kind="traffic_cone",
                        radius=0.05,
                        force=True,
                    )
        worker = objects.pedestrian(generator, "construction_worker")
        self.place(
            worker,
            along + 5.0,
            beside,
            generator.uniform(0, 6),
            street=street,
            kind="construction_worker",
            radius=0.2,
        )

    def _pavement(self, side: int) -> None:
        """Street furniture, waiting people and leaning bicycles on the pavement."""
        generator, layout = self.generator, self.layout
        middle = layout.section.band_middle(side, "paving", "slabs")
        if middle is None:
            return
        edge = side * (layout.section.half_width + 0.7)
        to_street = -side * np.pi / 2
        for along in np.arange(-BEHIND, self.distance + AHEAD, 24.0):
            self.place(objects.lamp_post(generator), along, edge, to_street)
            facing = np.pi if side < 0 else 0.0
            self.place(objects.sign(generator), along + generator.uniform(4, 20), edge, facing)
        along = -60.0
        while along < self.distance + 60:
            along += float(generator.uniform(2.0, 5.0))
            self._furniture(side, along, middle, edge, to_street)

    def _furniture(
        self, side: int, along: float, middle: float, edge: float, to_street: float
    ) -> None:
        generator = self.generator
        choice = generator.choice(
            [
                "person",
                "person",
                "bicycle",
                "motorcycle",
                "thing",
                "thing",
                "thing",
                "child",
                "rare",
            ]
        )
        beside = middle + generator.uniform(-0.6, 0.6)
        if choice in ("person", "child"):
            kind = "adult" if choice == "person" else "child"
            if generator.random() < 0.1:
                kind = "police_officer"
            for _ in range(int(generator.integers(1, 4))):
                mesh = objects.pedestrian(generator, kind)
                shift, aside = generator.normal(0, 0.5), generator.normal(0, 0.4)
                turn = generator.uniform(0, 2 * np.pi)
                self.place(mesh, along + shift, beside + aside, turn, kind=kind, radius=0.25)
        elif choice in ("bicycle", "motorcycle"):
            turn = generator.normal(0, 0.2)
            for shift in (0.0, 2.1):
                mesh = vehicles.VEHICLES[choice](generator)
                self.place(mesh, along + shift, edge + side * 0.3, turn, kind=choice, radius=0.5)
        elif choice == "rare":
            kind, make = (
                ("animal", objects.animal),
                ("stroller", objects.stroller),
                ("pushable", objects.pushable),
            )[generator.integers(3)]
            self.place(make(generator), along, beside, generator.uniform(0, 6), kind=kind)
        else:
            thing = FURNITURE[int(generator.integers(len(FURNITURE)))]
            self.place(
                thing(generator), along, edge + side * 0.3, to_street + np.pi / 2, radius=0.7
            )

    def _greenery(self, side: int) -> None:
        """Trees and bushes on the verge, hedges and fences before the plots."""
        generator, section = self.generator, self.layout.section
        verge = section.band_middle(side, "grass")
        last = self.distance + AHEAD
        if verge is not None:
            along = -BEHIND + float(generator.uniform(0, 6))
            while along < last:
                mesh = (
                    objects.tree(generator) if generator.random() < 0.6 else objects.bush(generator)
                )
                self.place(
                    mesh,
                    along,
                    verge + generator.normal(0, 0.2),
                    generator.uniform(0, 6),
                    radius=0.7,
                )
                along += float(generator.uniform(4.0, 9.0))
        line = side * (section.half_width + section.width_beyond(side) + 0.4)
        along = -BEHIND
        while along < last:
            length = float(generator.uniform(4.0, 9.0))
            draw = generator.random()
            if draw < 0.25:
                mesh = objects.hedge(generator, length)
            elif draw < 0.5:
                mesh = objects.fence(generator, length, int(generator.integers(3)))
            else:
                along += length
                continue
            if not self._in_square(along, side):
                self.place(mesh, along + length / 2, line, radius=0.3)
            along += length + float(generator.uniform(0.5, 3.0))

    def _median(self) -> None:
        """Bushes, trees and signs on a green median."""
        material, width = self.layout.section.median
        if material != "grass" or not width:
            return
        generator, along = self.generator, -BEHIND
        while along < self.distance + AHEAD:
            along += float(generator.uniform(5.0, 14.0))
            make = (objects.tree, objects.bush, objects.bush, objects.sign)[
                int(generator.integers(4))
            ]
            self.place(make(generator), along, float(generator.normal(0, 0.2)), np.pi, radius=0.6)

    def _in_square(self, along: float, side: int) -> bool:
        square = self.layout.square
        return square is not None and square[2] == side and square[0] - 8 < along < square[1] + 8

    def _buildings(self, street: Street, side: int, line: float, first: float, last: float) -> None:
        """A row of houses with gaps; set back behind the square."""
        generator = self.generator
        turn = 0.0 if side > 0 else np.pi
        along = first
        while along < last:
            width, depth = float(generator.uniform(10, 26)), float(generator.uniform(9, 15))
            middle = along + width / 2
            setback = line + float(generator.choice([0.0, 0.0, 2.0, 5.0]))
            if street is self.layout.street and self._in_square(middle, side):
                setback = line + 31.0
            if self._footprint_free(street, middle, side, setback, width, depth):
                mesh = objects.building(generator, width, depth)
                x, y, heading = (float(v) for v in street.at(middle, side * setback))
                self.static.append(
                    mesh.placed(x, y, self.layout.ground.height_at(x, y), heading + turn)
                )
                if generator.random() < 0.7:
                    plant = objects.potted_plant(generator)
                    self.place(
                        plant, along + 1.0, side * (setback - 0.8), street=street, radius=0.3
                    )
            along += width + float(generator.choice([0.3, 3.0, 8.0, 16.0]))
            if generator.random() < 0.5:
                mesh = objects.tree(generator)
                self.place(mesh, along - 2.0, side * (setback + 3.0), street=street, radius=0.5)

    def _footprint_free(
        self, street: Street, middle: float, side: int, setback: float, width: float, depth: float
    ) -> bool:
        """Whether a house would stand clear of the other street's pavements."""
        layout = self.layout
        if layout.side_street is None or layout.side_section is None:
            return True
        other, section = (
            (layout.side_street, layout.side_section)
            if street is layout.street
            else (layout.street, layout.section)
        )
        clear = section.half_width + max(section.width_beyond(1), section.width_beyond(-1)) + 1.0
        at = middle + np.array([-0.5, -0.25, 0.0, 0.25, 0.5]) * (width + 2)
        for reach in (setback, setback + depth):
            x, y, _ = street.at(at, side * reach)
            _, beside = other.locate(x[None], y[None])
            if np.any(np.abs(beside) < clear) or len(set(np.sign(beside[0]))) > 1:
                return False
        return True

    def _square(self, square: tuple[float, float, int]) -> None:
        """Trees in rows, benches, planters and people on the square."""
        generator, (first, last, side) = self.generator, square
        line = self._building_line(side)
        for along in np.arange(first + 4, last - 2, 8.0):
            for reach in (6.0, 14.0, 22.0):
                make = objects.tree if generator.random() < 0.6 else objects.potted_plant
                self.place(make(generator), along, side * (line + reach), radius=0.6)
        for _ in range(24):
            along, reach = generator.uniform(first, last), generator.uniform(2, 27)
            draw, turn = generator.random(), generator.uniform(0, 2 * np.pi)
            if draw < 0.5:
                mesh = objects.pedestrian(generator)
                self.place(mesh, along, side * (line + reach), turn, kind="adult")
            elif draw < 0.65:
                self.place(
                    vehicles.bicycle(generator), along, side * (line + reach), turn, kind="bicycle"
                )
            else:
                make = (objects.bench, objects.trash_bin, objects.bollard)[generator.integers(3)]
                self.place(make(generator), along, side * (line + reach), turn, radius=0.9)

    def _side_street(self, street: Street) -> None:
        section, main = self.layout.side_section, self.layout.section
        assert section is not None
        clear = main.half_width + max(main.width_beyond(1), main.width_beyond(-1)) + 8.0
        for side in (1, -1):
            line = section.half_width + section.width_beyond(side) + 1.8
            for first, last in ((-100.0, -clear), (clear, 100.0)):
                self._buildings(street, side, line, first, last)
                along = first + 3.0
                while along < last - 3:
                    kind = ("car", "car", "car", "truck")[self.generator.integers(4)]
                    beside = side * (section.half_width - 1.35)
                    self.park(street, side, along + 4.0, beside, kind)
                    along += float(self.generator.uniform(8, 16))
        for heading in (1, -1):
            for along in (clear, -clear):
                light = objects.traffic_light(self.generator)
                beside = heading * (section.half_width + 0.5)
                self.place(light, along - 6 * np.sign(along), beside, street=street, radius=0.1)

    def _far_ends(self) -> None:
        """Close the view at both ends of the street, and raise a skyline behind the houses."""
        generator, street = self.generator, self.layout.street
        for along, turn in ((street.first + 2, np.pi / 2), (street.last - 2, -np.pi / 2)):
            for offset in (-34.0, 0.0, 34.0):
                mesh = objects.building(generator, 30.0, 12.0)
                x, y, heading = (float(v) for v in street.at(along, offset))
                self.static.append(mesh.placed(x, y, 0.0, heading + turn))
        for _ in range(8):
            along = float(generator.uniform(street.first, street.last))
            side = 1 if generator.random() < 0.5 else -1
            reach = float(generator.uniform(75, 110))
            mesh = objects.building(generator, float(generator.uniform(15, 40)), 12.0)
            x, y, heading = (float(v) for v in street.at(along, side * reach))
            if not self.layout.in_side_street(x, y, 25.0):
                self.static.append(mesh.placed(x, y, 0.0, heading + (0 if side > 0 else np.pi)))

    # What moves

    def _traffic(self) -> None:
        """Traffic around the ego, at about its speed so that it stays in sight."""
        generator, street, layout = self.generator, self.layout.street, self.layout
        own, speed = layout.ego_beside, self.speed
        makers = vehicles.VEHICLES

        def drive(kind: str, along: float, beside: float, velocity: float) -> None:
            track = Track(street, along, beside, velocity, turned=velocity < 0)
            self.move(makers[kind](generator), kind, track)

        lead = str(generator.choice(["truck", "bus", "construction_vehicle", "car", "bendy_bus"]))
        drive(lead, 27 + generator.uniform(0, 6), own, speed)
        drive("car", 48 + generator.uniform(0, 6), own, speed)
        drive(str(generator.choice(["car", "car", "bus", "truck"])), -22.0, own, speed)
        for lane in range(layout.lanes):
            self._oncoming(layout.lane_beside(lane))
        if layout.lanes == 2:
            inner = -layout.lane_beside(0)
            for along, kinds in ((-14.0, ["car"]), (7.0, ["car"]), (25.0, ["car", "truck", "bus"])):
                kind = str(generator.choice(kinds))
                drive(kind, along + generator.uniform(-4, 4), inner, speed + 0.5)
        for along, pace in ((8.0, 0.85), (14.0, 0.8), (-8.0, 1.0)):
            start = along + float(generator.uniform(-3, 3))
            track = Track(street, start, -layout.cycle_beside, pace * speed)
            self.move(vehicles.bicycle(generator, ridden=True), "bicycle", track, ridden=True)
        for along in (14.0, -11.0):
            start, aside = along + float(generator.uniform(-3, 3)), float(generator.uniform(-1, 1))
            track = Track(street, start, own + aside, speed)
            self.move(vehicles.motorcycle(generator, ridden=True), "motorcycle", track, ridden=True)
        for along in np.arange(10.0, 2 * self.distance + 20, 28.0):
            track = Track(street, float(along), layout.cycle_beside, -0.6 * speed, turned=True)
            self.move(vehicles.bicycle(generator, ridden=True), "bicycle", track, ridden=True)

    def _oncoming(self, beside: float) -> None:
        """A lane of traffic against the ego's direction; some lorries draw a trailer."""
        generator, street, speed = self.generator, self.layout.street, self.speed
        along = float(generator.uniform(6, 16))
        while along < 2 * self.distance + 60:
            kind = str(generator.choice(ONCOMING[0], p=ONCOMING[1]))
            track = Track(street, along, beside, -speed, turned=True)
            self.move(vehicles.VEHICLES[kind](generator), kind, track)
            if kind == "truck":
                along += 12.5
                track = Track(street, along, beside, -speed, turned=True)
                self.move(vehicles.trailer(generator), "trailer", track)
            along += float(generator.uniform(18, 34))

    def _walkers(self) -> None:
        """People walking on both pavements, and some crossing well ahead of the ego."""
        generator, layout = self.generator, self.layout
        for side in (1, -1):
            middle = layout.section.band_middle(side, "paving", "slabs")
            if middle is None:
                continue
            for along in np.arange(-20.0, self.distance + 40, 7.0):
                velocity = float(generator.choice([-1, 1]) * generator.uniform(0.9, 1.6))
                kind = str(generator.choice(["adult", "adult", "adult", "child"]))
                track = Track(
                    layout.street,
                    float(along + generator.uniform(-2, 2)),
                    middle + float(generator.uniform(-0.9, 0.9)),
                    velocity,
                    layout.ground.raised,
                    velocity < 0,
                )
                mesh = objects.pedestrian(generator, kind, walking=True)
                self.move(mesh, kind, track)
        for _ in range(3):
            side = int(generator.choice([-1, 1]))
            crossing = CrossingTrack(
                layout.street,
                self.distance + float(generator.uniform(14, 20)),
                side * layout.section.half_width,
                -side * 1.3,
            )
            self.move(objects.pedestrian(generator, "adult", walking=True), "adult", crossing)


Slot = Callable[[SceneBuilder, Street, int, float, float], None]


def _vehicle_slot(*kinds: str) -> Slot:
    def fill(builder: SceneBuilder, street: Street, side: int, along: float, beside: float) -> None:
        kind = kinds[int(builder.generator.integers(len(kinds)))]
        builder.park(street, side, along, beside, kind)

    return fill


def _cycle_slot(kind: str) -> Slot:
    return lambda builder, *place: builder.cycles(*place, kind)


# Name: length of the slot in metres and what fills it.
SLOTS: dict[str, tuple[float, Slot]] = {
    "car": (5.8, _vehicle_slot("car")),
    "bus_or_truck": (12.8, _vehicle_slot("bus", "truck")),
    "trailer": (12.6, _vehicle_slot("trailer")),
    "motorcycles": (4.2, _cycle_slot("motorcycle")),
    "bicycles": (4.2, _cycle_slot("bicycle")),
    "roadworks": (10.0, SceneBuilder.roadworks),
    "construction_site": (12.6, SceneBuilder.construction_site),
}
PARKING_DECK = (
    "bicycles",
    "car",
    "roadworks",
    "trailer",
    "motorcycles",
    "construction_site",
    "car",
    "bus_or_truck",
)
ONCOMING = (["car", "truck", "bus", "police_car", "ambulance"], [0.66, 0.16, 0.08, 0.05, 0.05])
FURNITURE: Sequence[Callable[[Generator], Mesh]] = (
    objects.bench,
    objects.trash_bin,
    objects.hydrant,
    objects.electric_box,
    objects.bollard,
    objects.bus_shelter,
    objects.billboard,
    objects.potted_plant,
)
