"""Random layouts: the streets, their cross sections and the ground painted from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uov_jax.errors import InputError
from uov_jax.simulate.ground import (
    Bands,
    CrossSection,
    Ground,
    GroundPainter,
    lane_markings,
)
from uov_jax.simulate.street import Street

LAYOUTS = ("straight", "bend", "junction", "square")
LANE, CYCLE_LANE, PARKING = 3.3, 1.5, 2.7  # widths in metres
BEHIND, AHEAD = 90.0, 110.0  # metres of street before the drive's start and after its end
MARGIN = 60.0  # metres of ground around the streets


@dataclass(frozen=True)
class Layout:
    """The plan of a scene; ``side_street`` crosses the main one at ``crossing_along``."""

    name: str
    street: Street
    section: CrossSection
    lanes: int
    side_street: Street | None
    side_section: CrossSection | None
    crossing_along: float
    square: tuple[float, float, int] | None
    ground: Ground

    @property
    def ego_beside(self) -> float:
        """Middle of the ego's lane, the outermost on the right."""
        return -self.lane_beside(self.lanes - 1)

    def lane_beside(self, lane: int) -> float:
        """Distance of the middle of a lane from the centre line, counted from the inside."""
        return self.section.median[1] / 2 + (lane + 0.5) * LANE

    @property
    def parking_beside(self) -> float:
        """Distance of the middle of the parking lanes from the centre line."""
        return self.section.half_width - PARKING / 2

    @property
    def cycle_beside(self) -> float:
        """Distance of the middle of the cycle lanes from the centre line."""
        return self.section.median[1] / 2 + self.lanes * LANE + CYCLE_LANE / 2

    def in_side_street(self, x: float, y: float, margin: float) -> bool:
        """Whether a place lies on the side street's carriageway or closer to it than ``margin``."""
        if self.side_street is None or self.side_section is None:
            return False
        _, beside = self.side_street.locate(np.array([[x]]), np.array([[y]]))
        return bool(abs(beside[0, 0]) < self.side_section.half_width + margin)


def _bands(generator: np.random.Generator, with_rail: bool) -> Bands:
    """Kerb, pavement, verge and so on of one side."""
    pave = ("paving", "slabs")[generator.integers(2)]
    kerb = ("kerb", 0.2)
    if with_rail:
        beyond = (("soil", 1.0), ("grass", float(generator.uniform(1.5, 4.0))))
        rail = ("ballast", 3.6)
        if generator.random() < 0.5:
            return (kerb, rail, (pave, float(generator.uniform(2.2, 3.2))), beyond[1])
        return (kerb, (pave, float(generator.uniform(2.2, 3.2))), rail, *beyond)
    walk = (pave, float(generator.uniform(2.4, 4.0)))
    verge = ("grass", float(generator.uniform(1.8, 4.5)))
    style = generator.integers(3)
    if style == 0:
        return (kerb, verge, walk, ("soil", 0.8))
    if style == 1:
        return (kerb, walk, verge)
    return (kerb, ("bike_path", 1.6), walk, verge)


def _main_section(generator: np.random.Generator, lanes: int) -> CrossSection:
    """A tram track runs on the median or on either side, so that one is always in sight."""
    draw = generator.random()
    rails = [False, False]
    if draw < 0.4:
        median = ("ballast", 4.0)
    else:
        median = ("grass", float(generator.uniform(2.4, 4.0)) if draw < 0.8 else 0.0)
        rails[int(generator.integers(2))] = True
    plots = ("grass", "slabs", "grass", "paving")
    return CrossSection(
        median[1] / 2 + lanes * LANE + CYCLE_LANE + PARKING,
        _bands(generator, rails[0]),
        _bands(generator, rails[1]),
        (plots[generator.integers(4)], plots[generator.integers(4)]),
        median,
    )


def _bends(
    name: str, generator: np.random.Generator, distance: float
) -> tuple[tuple[float, float, float], ...]:
    if name == "straight":
        return ()
    sign = generator.choice([-1.0, 1.0])
    if name != "bend":
        gentle = sign * generator.uniform(0.0, 1 / 400)
        return ((-40.0, distance + 60.0, gentle),)
    radius = generator.uniform(55.0, 90.0)
    begin = generator.uniform(0.0, 0.4) * distance
    end = begin + radius * generator.uniform(0.7, 1.2)
    back = end + generator.uniform(10.0, 30.0)
    return ((begin, end, sign / radius), (back, back + 40.0, -sign / 120.0))


def make_layout(name: str, generator: np.random.Generator, distance: float) -> Layout:
    """Plan the surroundings of a drive of ``distance`` metres.

    Raises:
        InputError: ``name`` is not one of `LAYOUTS`.

    """
    if name not in LAYOUTS:
        raise InputError(f"unknown layout {name!r}, expected one of {', '.join(LAYOUTS)}")
    street = Street(-BEHIND, distance + AHEAD, _bends(name, generator, distance))
    lanes = int(generator.integers(1, 3))
    section = _main_section(generator, lanes)
    side_street, side_section = None, None
    crossing_along = float(generator.uniform(0.35, 0.65) * distance + 8.0)
    if name == "junction":
        x, y, heading = (float(value) for value in street.at(crossing_along, 0.0))
        turn = heading + np.pi / 2 + float(generator.uniform(-0.15, 0.15))
        side_street = Street(-100.0, 100.0, (), (x, y, turn))
        bands = _bands(generator, False), _bands(generator, False)
        side_section = CrossSection(LANE + CYCLE_LANE + PARKING, *bands, ("grass", "grass"))
    square = None
    if name == "square":
        side = 1 if generator.random() < 0.5 else -1
        middle = float(generator.uniform(0.3, 0.7) * distance)
        square = (middle - 24.0, middle + 24.0, side)
    raised = float(generator.uniform(0.10, 0.17))
    painter = GroundPainter.covering(street.extent(MARGIN))
    _paint(
        painter,
        street,
        section,
        lanes,
        side_street,
        side_section,
        crossing_along,
        square,
        generator,
    )
    return Layout(
        name,
        street,
        section,
        lanes,
        side_street,
        side_section,
        crossing_along,
        square,
        painter.finished(raised),
    )


def _paint(
    painter: GroundPainter,
    street: Street,
    section: CrossSection,
    lanes: int,
    side_street: Street | None,
    side_section: CrossSection | None,
    crossing_along: float,
    square: tuple[float, float, int] | None,
    generator: np.random.Generator,
) -> None:
    along, beside = painter.coordinates(street)
    painter.cover(section.materials(beside))
    marks = lane_markings(
        along, np.abs(beside) - np.float32(section.median[1] / 2), lanes, LANE, CYCLE_LANE
    )
    if square is not None:
        first, last, side = square
        edge = section.half_width + section.width_beyond(side)
        reach = side * beside
        painter.paint(
            (along > first) & (along < last) & (reach > edge) & (reach < edge + 30), "slabs"
        )
    _paint_patches(painter, street, along, beside, section.half_width, generator)
    zebras = [float(generator.uniform(-60, -30)), crossing_along + 45.0]
    if side_street is not None and side_section is not None:
        side_along, side_beside = painter.coordinates(side_street)
        painter.cover(side_section.materials(side_beside))
        half = side_section.half_width
        junction = (np.abs(side_beside) < half) & (np.abs(beside) < section.half_width)
        marks |= lane_markings(side_along, np.abs(side_beside), 1, LANE, CYCLE_LANE) & (
            np.abs(side_beside) < half
        )
        marks &= ~junction
        zebras += [crossing_along - half - 4.0, crossing_along + half + 4.0]
    painter.paint(marks, "marking")
    for at in zebras:
        _paint_crossing(painter, street, along, beside, at, section.half_width)


def _paint_crossing(
    painter: GroundPainter,
    street: Street,
    along: np.ndarray,
    beside: np.ndarray,
    at: float,
    half_width: float,
) -> None:
    """A zebra crossing 3.5 m long, in place of the lane markings."""
    x, y, _ = (float(value) for value in street.at(at, 0.0))
    window = painter.window(x, y, half_width + 5.0)
    inside = (np.abs(along[window] - at) < 2.5) & (np.abs(beside[window]) < half_width)
    stripes = (np.abs(along[window] - at) < 1.75) & (np.mod(beside[window], 1.0) < 0.5)
    painter.paint(inside & ~stripes, "asphalt", window)
    painter.paint(inside & stripes, "marking", window)


def _paint_patches(
    painter: GroundPainter,
    street: Street,
    along: np.ndarray,
    beside: np.ndarray,
    half_width: float,
    generator: np.random.Generator,
) -> None:
    """Repairs of the carriageway in a darker asphalt."""
    for _ in range(14):
        at = float(generator.uniform(street.first + 5, street.last - 5))
        middle = float(generator.uniform(-half_width, half_width))
        length, width = generator.uniform(1.0, 9.0), generator.uniform(0.5, 2.5)
        x, y, _ = (float(value) for value in street.at(at, middle))
        window = painter.window(x, y, 7.0)
        inside = np.abs(along[window] - at) < length / 2
        inside &= np.abs(beside[window] - middle) < width / 2
        painter.paint(inside & (np.abs(beside[window]) < half_width - 0.1), "patch", window)
