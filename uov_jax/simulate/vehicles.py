"""Shapes of the vehicles: x forward, y left, z up, standing on z = 0 around the origin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uov_jax.simulate.geometry import (
    GLASS,
    ROUGH,
    Color,
    Mesh,
    Surface,
    box,
    ellipsoid,
    extrude,
    frustum,
    merge,
    ring,
    tube,
    wheel,
)
from uov_jax.simulate.kinds import KIND

CAR_COLORS: tuple[Color, ...] = (
    (0.75, 0.75, 0.76),
    (0.88, 0.88, 0.87),
    (0.06, 0.06, 0.07),
    (0.30, 0.31, 0.33),
    (0.55, 0.05, 0.06),
    (0.06, 0.13, 0.42),
    (0.12, 0.30, 0.20),
    (0.78, 0.62, 0.10),
    (0.45, 0.36, 0.26),
)
LORRY_COLORS: tuple[Color, ...] = (
    (0.86, 0.86, 0.84),
    (0.10, 0.22, 0.55),
    (0.68, 0.10, 0.08),
    (0.12, 0.38, 0.18),
    (0.85, 0.62, 0.10),
    (0.35, 0.36, 0.38),
)


def _pick(colors: tuple[Color, ...], generator: np.random.Generator) -> Color:
    base = np.array(colors[generator.integers(len(colors))])
    return tuple(np.clip(base * generator.uniform(0.85, 1.1), 0.02, 0.95))


def _paint(kind: int, color: Color, generator: np.random.Generator) -> Surface:
    # Dark paint also returns less infrared, but not reliably so.
    brightness = float(np.mean(color))
    return Surface(
        kind, color, float(np.clip(0.08 + 0.35 * brightness, 0, 1)) * generator.uniform(0.7, 1.3)
    )


def _glass(kind: int) -> Surface:
    return Surface(kind, (0.05, 0.07, 0.08), 0.05, GLASS)


def _rubber(kind: int) -> Surface:
    return Surface(kind, (0.035, 0.035, 0.04), 0.03, ROUGH)


def _metal(kind: int) -> Surface:
    return Surface(kind, (0.5, 0.5, 0.52), 0.3)


def _axles(
    kind: int, at: tuple[float, ...], width: float, radius: float, tyre: float
) -> list[Mesh]:
    rubber, hub = _rubber(kind), _metal(kind)
    return [
        wheel(rubber, hub, x, side * (width / 2 - tyre / 2 + 0.015), radius, tyre)
        for x in at
        for side in (-1.0, 1.0)
    ]


def _lights(kind: int, front: float, back: float, width: float, z: float) -> list[Mesh]:
    """Head lamps, tail lamps and the number plates, which return much light to a LiDAR."""
    lamp = Surface(kind, (0.9, 0.9, 0.85), 0.6)
    tail = Surface(kind, (0.6, 0.03, 0.03), 0.7)
    plate = Surface(kind, (0.85, 0.85, 0.8), 0.95)
    y = width / 2 - 0.28
    parts = [
        box(lamp, (front - 0.05, front + 0.02), (s * y - 0.16, s * y + 0.16), (z - 0.07, z + 0.07))
        for s in (-1, 1)
    ]
    parts += [
        box(tail, (back - 0.02, back + 0.05), (s * y - 0.14, s * y + 0.14), (z - 0.06, z + 0.12))
        for s in (-1, 1)
    ]
    parts.append(box(plate, (back - 0.025, back), (-0.26, 0.26), (z - 0.25, z - 0.13)))
    parts.append(box(plate, (front, front + 0.025), (-0.26, 0.26), (z - 0.3, z - 0.18)))
    return parts


def car(generator: np.random.Generator, kind_name: str = "car") -> Mesh:
    """A saloon, hatchback, estate, sport utility vehicle or van."""
    kind = KIND[kind_name]
    length, width, height, hood, boot = (
        (4.7, 1.82, 1.45, 1.15, 0.85),
        (4.0, 1.76, 1.50, 0.95, 0.08),
        (4.75, 1.84, 1.52, 1.15, 0.10),
        (4.65, 1.92, 1.75, 1.10, 0.12),
        (5.1, 1.98, 2.00, 0.65, 0.05),
    )[generator.integers(5)]
    length, height = length * generator.uniform(0.95, 1.05), height * generator.uniform(0.97, 1.04)
    paint = _paint(kind, _pick(CAR_COLORS, generator), generator)
    front, back, half = length / 2, -length / 2, width / 2
    belt, sill, ground = 0.60 * height, 0.42 * height, 0.2
    roof = (back + boot + 0.35, front - hood - 0.75, -half + 0.22, half - 0.22)
    parts = [
        frustum(
            paint,
            (back + 0.1, front - 0.1, -half + 0.06, half - 0.06),
            (back, front, -half, half),
            (ground, sill),
        ),
        frustum(
            paint,
            (back, front, -half, half),
            (back + 0.06, front - 0.22, -half + 0.05, half - 0.05),
            (sill, belt),
        ),
        frustum(
            _glass(kind),
            (back + boot, front - hood, -half + 0.06, half - 0.06),
            roof,
            (belt, height - 0.06),
        ),
        frustum(
            paint,
            (roof[0] - 0.06, roof[1] + 0.04, roof[2] - 0.03, roof[3] + 0.03),
            (roof[0], roof[1] - 0.05, roof[2] + 0.04, roof[3] - 0.04),
            (height - 0.07, height),
        ),
        *_axles(kind, (front - 0.85, back + 0.85), width, 0.33, 0.21),
        *_lights(kind, front, back, width, 0.5 * height),
    ]
    for side in (-1, 1):
        for pillar in (roof[0] + 0.1, 0.5 * (roof[0] + roof[1])):
            parts.append(
                tube(
                    paint,
                    (pillar, side * (half - 0.07), belt),
                    (pillar, side * (half - 0.2), height - 0.06),
                    0.05,
                    sides=4,
                )
            )
        parts.append(
            box(
                paint,
                (front - hood - 0.35, front - hood - 0.2),
                (side * (half + 0.08) - 0.09, side * (half + 0.08) + 0.09),
                (belt, belt + 0.14),
            )
        )
    if kind_name in ("police_car", "ambulance"):
        blue = Surface(kind, (0.05, 0.1, 0.9), 0.5)
        middle = 0.5 * (roof[0] + roof[1])
        parts.append(
            box(blue, (middle - 0.15, middle + 0.15), (-0.5, 0.5), (height, height + 0.12))
        )
    return merge(parts)


def _cab(
    kind: int, paint: Surface, front: float, width: float, height: float, depth: float
) -> Mesh:
    """An upright lorry cab with windscreen, doors' windows and mirrors."""
    half, back = width / 2, front - depth
    mid = 0.52 * height
    dark = Surface(kind, (0.08, 0.08, 0.09), 0.06)
    parts = [
        box(paint, (back, front), (-half, half), (0.55, mid)),
        frustum(
            _glass(kind),
            (back + 0.35, front, -half, half),
            (back + 0.35, front - 0.25, -half + 0.08, half - 0.08),
            (mid, height - 0.35),
            paint,
        ),
        box(paint, (back, back + 0.36), (-half, half), (mid, height)),
        frustum(
            paint,
            (back + 0.3, front - 0.2, -half + 0.04, half - 0.04),
            (back + 0.3, front - 0.5, -half + 0.1, half - 0.1),
            (height - 0.36, height),
        ),
        box(dark, (front - 0.05, front + 0.06), (-half, half), (0.35, 0.75)),
    ]
    for side in (-1, 1):
        y = side * (half + 0.14)
        parts.append(box(dark, (front - 0.25, front - 0.12), (y - 0.1, y + 0.1), (mid, mid + 0.6)))
    return merge(parts)


def _cargo(
    kind: int,
    x: tuple[float, float],
    width: float,
    z: tuple[float, float],
    generator: np.random.Generator,
) -> Mesh:
    """A closed body, a tank, an open body with load, or a curtain-sided one."""
    half = width / 2
    paint = _paint(kind, _pick(LORRY_COLORS, generator), generator)
    trim = Surface(kind, (0.3, 0.3, 0.32), 0.25)
    style = generator.integers(4)
    if style == 0:
        middle = 0.5 * (z[0] + z[1])
        return merge(
            [
                tube(paint, (x[0], 0, middle), (x[1], 0, middle), 0.5 * (z[1] - z[0]), sides=12),
                box(trim, (x[0] + 0.3, x[1] - 0.3), (-half, half), (z[0] - 0.1, z[0] + 0.15)),
            ]
        )
    if style == 1:
        sides = z[0] + 0.75
        planks = [
            box(paint, x, (-half, -half + 0.08), (z[0], sides)),
            box(paint, x, (half - 0.08, half), (z[0], sides)),
            box(paint, (x[0], x[0] + 0.08), (-half, half), (z[0], sides)),
            box(trim, (x[1] - 0.1, x[1]), (-half, half), (z[0], z[1])),
            box(trim, x, (-half, half), (z[0] - 0.1, z[0])),
        ]
        load = Surface(kind, (0.42, 0.32, 0.2), 0.3, ROUGH)
        planks.append(
            frustum(
                load,
                (x[0] + 0.2, x[1] - 0.3, -half + 0.15, half - 0.15),
                (x[0] + 0.9, x[1] - 0.9, -half + 0.5, half - 0.5),
                (z[0], z[0] + 1.1),
            )
        )
        return merge(planks)
    ribs = [
        box(trim, (at - 0.03, at + 0.03), (-half - 0.03, half + 0.03), (z[0], z[1] + 0.02))
        for at in np.linspace(x[0] + 0.06, x[1] - 0.06, 2 if style == 2 else 6)
    ]
    return merge([box(paint, x, (-half, half), z), *ribs])


def truck(generator: np.random.Generator) -> Mesh:
    """A pickup, a box van lorry, a tanker or an open lorry."""
    kind = KIND["truck"]
    paint = _paint(kind, _pick(LORRY_COLORS, generator), generator)
    if generator.random() < 0.2:
        return _pickup(kind, paint)
    length, width = generator.uniform(6.5, 9.5), generator.uniform(2.2, 2.5)
    height, front = generator.uniform(2.7, 3.6), length / 2
    cab_depth, cab_height = generator.uniform(1.6, 2.1), generator.uniform(2.4, 2.9)
    frame = Surface(kind, (0.06, 0.06, 0.07), 0.05)
    at = (front - 1.0, -front + 1.3) + ((-front + 2.5,) if length > 8 else ())
    return merge(
        [
            _cab(kind, paint, front, width - 0.1, cab_height, cab_depth),
            _cargo(kind, (-front, front - cab_depth - 0.15), width, (1.05, height), generator),
            box(frame, (-front + 0.1, front - 0.2), (-0.5, 0.5), (0.6, 1.05)),
            *_axles(kind, at, width, 0.48, 0.3),
            *_lights(kind, front + 0.05, -front, width, 0.95),
        ]
    )


def _pickup(kind: int, paint: Surface) -> Mesh:
    half, front, back = 0.95, 2.7, -2.7
    return merge(
        [
            box(paint, (back, front), (-half, half), (0.4, 0.75)),
            frustum(
                paint,
                (0.9, front, -half, half),
                (0.9, front - 0.2, -half + 0.06, half - 0.06),
                (0.75, 1.12),
            ),
            frustum(
                _glass(kind),
                (-0.6, 1.6, -half + 0.04, half - 0.04),
                (-0.5, 0.8, -half + 0.2, half - 0.2),
                (0.75, 1.8),
                paint,
            ),
            box(paint, (back, -0.6), (half - 0.08, half), (0.75, 1.15)),
            box(paint, (back, -0.6), (-half, -half + 0.08), (0.75, 1.15)),
            box(paint, (back, back + 0.08), (-half, half), (0.75, 1.15)),
            *_axles(kind, (1.7, -1.7), 1.9, 0.4, 0.26),
            *_lights(kind, front, back, 1.9, 0.85),
        ]
    )


def _coach(kind: int, paint: Surface, x: tuple[float, float], height: float) -> list[Mesh]:
    half = 1.26
    pillars = np.arange(x[0] + 1.2, x[1] - 0.6, 1.5)
    return [
        box(paint, x, (-half, half), (0.35, 1.25)),
        box(_glass(kind), (x[0] + 0.02, x[1] - 0.02), (-half + 0.03, half - 0.03), (1.25, 2.45)),
        box(paint, x, (-half, half), (2.45, height - 0.1)),
        frustum(
            paint,
            (x[0], x[1], -half, half),
            (x[0] + 0.2, x[1] - 0.2, -half + 0.2, half - 0.2),
            (height - 0.1, height),
        ),
        *(
            box(paint, (at - 0.06, at + 0.06), (-half, half), (1.2, 2.5))
            for at in (*pillars, x[0] + 0.06, x[1] - 0.06)
        ),
    ]


def bus(generator: np.random.Generator) -> Mesh:
    """A rigid city bus with a row of windows."""
    kind = KIND["bus"]
    length, height = generator.uniform(10.0, 12.0), generator.uniform(2.95, 3.3)
    paint = _paint(kind, _pick(LORRY_COLORS, generator), generator)
    x = (-length / 2, length / 2)
    unit = Surface(kind, (0.7, 0.7, 0.7), 0.3)
    return merge(
        [
            *_coach(kind, paint, x, height),
            box(unit, (-2.5, -0.5), (-0.7, 0.7), (height, height + 0.25)),
            *_axles(kind, (x[1] - 2.6, x[0] + 3.1), 2.5, 0.48, 0.3),
            *_lights(kind, x[1], x[0], 2.5, 0.8),
        ]
    )


def bendy_bus(generator: np.random.Generator) -> Mesh:
    """An articulated bus: two sections and a bellows."""
    kind = KIND["bendy_bus"]
    paint = _paint(kind, _pick(LORRY_COLORS, generator), generator)
    bellows = Surface(kind, (0.08, 0.08, 0.08), 0.06, ROUGH)
    return merge(
        [
            *_coach(kind, paint, (-0.5, 8.5), 3.1),
            *_coach(kind, paint, (-8.5, -1.7), 3.1),
            box(bellows, (-1.75, -0.45), (-1.1, 1.1), (0.5, 2.95)),
            *_axles(kind, (6.0, 1.0, -5.8), 2.5, 0.48, 0.3),
            *_lights(kind, 8.5, -8.5, 2.5, 0.8),
        ]
    )


def trailer(generator: np.random.Generator) -> Mesh:
    """A semi-trailer on its legs, or a small one with a drawbar."""
    kind = KIND["trailer"]
    steel = Surface(kind, (0.12, 0.12, 0.13), 0.1)
    if generator.random() < 0.3:
        length = generator.uniform(3.5, 5.0)
        front = length / 2
        return merge(
            [
                _cargo(kind, (-front, front), 2.0, (0.6, generator.uniform(2.1, 2.6)), generator),
                tube(steel, (front, 0.4, 0.5), (front + 1.2, 0.0, 0.5), 0.06),
                tube(steel, (front, -0.4, 0.5), (front + 1.2, 0.0, 0.5), 0.06),
                tube(steel, (front + 1.1, 0, 0.0), (front + 1.1, 0, 0.6), 0.04),
                *_axles(kind, (-0.4, 0.4), 2.1, 0.33, 0.22),
                *_lights(kind, front, -front, 2.0, 0.55),
            ]
        )
    length = generator.uniform(8.0, 11.5)
    front = length / 2
    legs = [
        box(steel, (front - 2.6, front - 2.4), (s * 0.8 - 0.1, s * 0.8 + 0.1), (0.0, 1.2))
        for s in (-1, 1)
    ]
    return merge(
        [
            _cargo(kind, (-front, front), 2.5, (1.25, generator.uniform(3.3, 3.9)), generator),
            box(steel, (-front, front - 1.0), (-0.5, 0.5), (0.85, 1.25)),
            *legs,
            *_axles(kind, (-front + 1.0, -front + 2.2, -front + 3.4), 2.5, 0.5, 0.32),
            *_lights(kind, front, -front, 2.5, 1.0),
        ]
    )


def construction_vehicle(generator: np.random.Generator) -> Mesh:
    """An excavator, a wheel loader or a roller."""
    kind = KIND["construction_vehicle"]
    yellow = _paint(
        kind, ((0.85, 0.55, 0.05), (0.80, 0.30, 0.05))[generator.integers(2)], generator
    )
    dark = Surface(kind, (0.07, 0.07, 0.07), 0.08, ROUGH)
    maker = (_excavator, _excavator, _loader, _roller)[generator.integers(4)]
    return maker(kind, yellow, dark, generator)


def _operator_cab(
    kind: int,
    paint: Surface,
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
) -> list[Mesh]:
    posts = [box(paint, (px - 0.05, px + 0.05), (py - 0.05, py + 0.05), z) for px in x for py in y]
    return [
        box(_glass(kind), (x[0] + 0.03, x[1] - 0.03), (y[0] + 0.03, y[1] - 0.03), z),
        box(paint, (x[0] - 0.08, x[1] + 0.08), (y[0] - 0.08, y[1] + 0.08), (z[1], z[1] + 0.12)),
        *posts,
    ]


def _excavator(kind: int, paint: Surface, dark: Surface, generator: np.random.Generator) -> Mesh:
    track = [(-1.6, 0.0), (1.6, 0.0), (1.95, 0.4), (1.6, 0.8), (-1.6, 0.8), (-1.95, 0.4)]
    reach = generator.uniform(0.85, 1.1)
    elbow = (3.3 * reach, 0.0, generator.uniform(3.4, 4.4))
    wrist = (4.9 * reach, 0.0, generator.uniform(1.2, 2.2))
    shovel = [(-0.6, -0.5), (0.2, -0.6), (0.45, 0.0), (0.1, 0.35)]
    return merge(
        [
            extrude(dark, track, (-1.4, -0.85)),
            extrude(dark, track, (0.85, 1.4)),
            box(dark, (-0.9, 0.9), (-0.9, 0.9), (0.45, 1.0)),
            box(paint, (-1.8, 1.0), (-1.3, 1.3), (1.0, 1.6)),
            box(paint, (-2.1, -0.5), (-1.3, 1.3), (1.0, 2.2)),
            *_operator_cab(kind, paint, (-0.2, 1.1), (0.3, 1.25), (1.6, 2.8)),
            tube(paint, (0.8, -0.2, 1.6), elbow, 0.28, 0.22, sides=4),
            tube(paint, elbow, wrist, 0.22, 0.16, sides=4),
            tube(dark, (0.9, -0.2, 1.2), (2.2 * reach, -0.1, 2.8), 0.09),
            extrude(dark, [(x + wrist[0], z + wrist[2] - 0.3) for x, z in shovel], (-0.55, 0.55)),
        ]
    )


def _loader(kind: int, paint: Surface, dark: Surface, generator: np.random.Generator) -> Mesh:
    lift = generator.uniform(0.3, 1.3)
    shovel = [(2.6, lift), (3.7, lift), (3.5, lift + 0.25), (2.9, lift + 1.1), (2.6, lift + 1.0)]
    return merge(
        [
            box(paint, (-3.0, -0.7), (-1.0, 1.0), (0.9, 2.0)),
            box(paint, (-0.7, 1.6), (-0.6, 0.6), (0.8, 1.5)),
            *_operator_cab(kind, paint, (-0.9, 0.5), (-0.75, 0.75), (1.6, 3.1)),
            tube(paint, (0.6, 0.75, 1.7), (2.8, 0.75, lift + 0.6), 0.16, sides=4),
            tube(paint, (0.6, -0.75, 1.7), (2.8, -0.75, lift + 0.6), 0.16, sides=4),
            extrude(dark, shovel, (-1.35, 1.35)),
            tube(dark, (-2.2, 0.5, 2.0), (-2.2, 0.5, 2.9), 0.08),
            *_axles(kind, (-1.9, 1.3), 2.6, 0.75, 0.55),
        ]
    )


def _roller(kind: int, paint: Surface, dark: Surface, generator: np.random.Generator) -> Mesh:
    steel = _metal(kind)
    radius = generator.uniform(0.6, 0.75)
    return merge(
        [
            tube(steel, (1.6, -1.0, radius), (1.6, 1.0, radius), radius, sides=16),
            tube(steel, (-1.6, -1.0, radius), (-1.6, 1.0, radius), radius, sides=16),
            box(paint, (-2.0, -0.5), (-0.9, 0.9), (1.0, 1.7)),
            box(paint, (-1.0, 1.9), (-0.75, 0.75), (1.2, 1.55)),
            box(paint, (1.0, 1.9), (-1.1, 1.1), (1.35, 1.5)),
            *_operator_cab(kind, paint, (-0.5, 0.8), (-0.8, 0.8), (1.55, 2.8)),
            box(dark, (-0.4, 0.2), (-0.3, 0.3), (1.5, 2.1)),
        ]
    )


def _rider(
    kind: int, seat: float, x: float, generator: np.random.Generator, helmet: bool
) -> list[Mesh]:
    """A person astride; nuScenes counts the rider as part of the vehicle."""
    cloth = Surface(kind, tuple(generator.uniform(0.05, 0.6, 3)), generator.uniform(0.1, 0.5))
    legs = Surface(kind, tuple(generator.uniform(0.03, 0.3, 3)), generator.uniform(0.1, 0.4))
    head = (
        Surface(kind, tuple(generator.uniform(0.1, 0.8, 3)), 0.3)
        if helmet
        else Surface(kind, (0.6, 0.42, 0.33), 0.35)
    )
    parts = [
        tube(cloth, (x, 0, seat), (x + 0.25, 0, seat + 0.55), 0.17, 0.2),
        ellipsoid(head, (x + 0.33, 0, seat + 0.78), (0.13, 0.11, 0.15)),
    ]
    for side in (-1, 1):
        parts += [
            tube(
                cloth,
                (x + 0.22, side * 0.2, seat + 0.5),
                (x + 0.62, side * 0.24, seat + 0.25),
                0.055,
            ),
            tube(legs, (x, side * 0.12, seat), (x + 0.38, side * 0.16, seat - 0.12), 0.08),
            tube(
                legs,
                (x + 0.38, side * 0.16, seat - 0.12),
                (x + 0.2, side * 0.15, seat - 0.55),
                0.065,
            ),
        ]
    return parts


def motorcycle(generator: np.random.Generator, ridden: bool = False) -> Mesh:
    """A motorcycle or a scooter."""
    kind = KIND["motorcycle"]
    paint = _paint(kind, _pick(CAR_COLORS, generator), generator)
    rubber, metal = _rubber(kind), _metal(kind)
    dark = Surface(kind, (0.05, 0.05, 0.05), 0.07)
    scooter = generator.random() < 0.35
    radius = 0.25 if scooter else 0.32
    rear, front = -0.65, 0.7
    parts = [
        tube(rubber, (x, -0.07, radius), (x, 0.07, radius), radius, sides=12) for x in (rear, front)
    ]
    parts += [
        tube(metal, (front, 0.1, radius), (front - 0.28, 0.1, 0.95), 0.035),
        tube(metal, (front, -0.1, radius), (front - 0.28, -0.1, 0.95), 0.035),
        tube(dark, (front - 0.32, -0.38, 1.02), (front - 0.32, 0.38, 1.02), 0.03),
        ellipsoid(Surface(kind, (0.85, 0.85, 0.8), 0.7), (front - 0.18, 0, 0.85), (0.1, 0.12, 0.1)),
        box(dark, (rear - 0.15, 0.05), (-0.14, 0.14), (0.72, 0.82)),
    ]
    if scooter:
        parts += [
            box(paint, (rear - 0.2, -0.05), (-0.2, 0.2), (0.35, 0.74)),
            box(paint, (-0.1, 0.4), (-0.2, 0.2), (0.22, 0.32)),
            frustum(paint, (0.36, 0.5, -0.22, 0.22), (0.3, 0.4, -0.2, 0.2), (0.25, 0.95)),
        ]
    else:
        parts += [
            ellipsoid(paint, (0.15, 0, 0.85), (0.3, 0.17, 0.15)),
            box(metal, (-0.25, 0.3), (-0.2, 0.2), (0.25, 0.65)),
            tube(metal, (0.1, -0.17, 0.3), (-0.75, -0.2, 0.4), 0.06),
            tube(dark, (-0.2, 0.15, 0.4), (rear, 0.12, radius), 0.05),
            tube(dark, (-0.2, -0.15, 0.4), (rear, -0.12, radius), 0.05),
        ]
    if generator.random() < 0.4:
        parts.append(box(dark, (rear - 0.35, rear + 0.05), (-0.22, 0.22), (0.84, 1.15)))
    if ridden:
        parts += _rider(kind, 0.85, -0.3, generator, helmet=True)
    return merge(parts)


def bicycle(generator: np.random.Generator, ridden: bool = False) -> Mesh:
    """A bicycle: two thin wheels, a diamond frame, some with a basket or a child's seat."""
    kind = KIND["bicycle"]
    paint = _paint(kind, _pick(CAR_COLORS, generator), generator)
    rubber, dark = _rubber(kind), Surface(kind, (0.06, 0.05, 0.05), 0.08)
    spokes = Surface(kind, (0.4, 0.4, 0.42), 0.25)
    radius = generator.uniform(0.3, 0.35)
    rear, front = -0.52, 0.54
    crank, seat, head = (0.0, 0.0, 0.3), (-0.2, 0.0, 0.8), (0.35, 0.0, 0.85)
    parts = [ring(rubber, x, radius, 0.07) for x in (rear, front)]
    for x in (rear, front):
        for angle in np.arange(4) * np.pi / 4 + 0.2:
            along = 0.95 * radius * np.array([np.cos(angle), 0.0, np.sin(angle)])
            hub = np.array([x, 0.0, radius])
            parts.append(tube(spokes, hub - along, hub + along, 0.012, sides=3))
    axle = (rear, 0.0, radius)
    for start, end in ((crank, seat), (crank, head), (seat, head), (axle, crank), (axle, seat)):
        parts.append(tube(paint, start, end, 0.032, sides=5))
    parts += [
        tube(paint, (front, 0.0, radius), (0.33, 0.0, 1.0), 0.03, sides=5),
        tube(dark, (0.3, -0.3, 1.02), (0.3, 0.3, 1.02), 0.025),
        box(dark, (-0.36, -0.1), (-0.08, 0.08), (0.88, 0.95)),
        tube(dark, (-0.2, 0, 0.8), (-0.23, 0, 0.9), 0.025),
        box(dark, (rear - 0.2, rear + 0.3), (-0.07, 0.07), (0.7, 0.74)),
        box(dark, (-0.08, 0.08), (-0.12, 0.12), (0.22, 0.36)),
    ]
    if generator.random() < 0.5:
        basket = Surface(kind, (0.35, 0.27, 0.18), 0.25, ROUGH)
        parts.append(box(basket, (0.42, 0.75), (-0.18, 0.18), (0.78, 1.02)))
    if generator.random() < 0.35:
        seat_shell = Surface(kind, tuple(generator.uniform(0.1, 0.7, 3)), 0.3)
        parts.append(box(seat_shell, (rear - 0.15, rear + 0.2), (-0.16, 0.16), (0.74, 1.15)))
    if ridden:
        parts += _rider(kind, 0.95, -0.25, generator, helmet=bool(generator.random() < 0.5))
    return merge(parts)


def ego() -> Mesh:
    """What the sensors may see of the car that carries them, in the ego frame (rear axle).

    The roof and the mount lie below the LiDAR, the tail reaches into the rear camera's lower
    border.
    """
    kind = KIND["ego"]
    paint = Surface(kind, (0.6, 0.62, 0.65), 0.05)
    return merge(
        [
            frustum(paint, (0.05, 1.5, -0.46, 0.46), (0.15, 1.4, -0.42, 0.42), (1.44, 1.53)),
            tube(paint, (0.94, 0, 1.6), (0.94, 0, 1.64), 0.36, sides=12),
            box(paint, (-0.95, -0.9), (-0.6, 0.6), (1.0, 1.115)),
        ]
    )


VEHICLES: dict[str, Callable[[np.random.Generator], Mesh]] = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "bendy_bus": bendy_bus,
    "trailer": trailer,
    "construction_vehicle": construction_vehicle,
    "motorcycle": motorcycle,
    "bicycle": bicycle,
    "police_car": lambda generator: car(generator, "police_car"),
    "ambulance": lambda generator: car(generator, "ambulance"),
}
