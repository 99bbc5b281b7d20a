"""Furniture of no class of its own, and what belongs to no class at all."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.geometry import GLASS, Mesh, Surface, box, ellipsoid, merge, tube
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import (
    ART,
    SCREEN,
    board,
    cloth,
    metal,
    of_kind,
    paint,
    white,
    wood,
)
from uov_jax.simulate.rooms.parts import centered, cushion, fronts, legs, moved

Generator = np.random.Generator


def trash_can(generator: Generator) -> Mesh:
    """A bin that widens upward."""
    skin = (metal, paint)[generator.integers(2)]("otherfurniture", generator)
    radius, height = generator.uniform(0.12, 0.18), generator.uniform(0.28, 0.6)
    y = 1.2 * radius
    parts = [tube(skin, (0, y, 0.0), (0, y, height), 0.85 * radius, radius, sides=12)]
    if generator.random() < 0.4:
        parts.append(tube(skin, (0, y, height), (0, y, height + 0.05), radius, 0.5 * radius, 12))
    return merge(parts)


def radiator(generator: Generator) -> Mesh:
    """Ribs on a wall."""
    skin = white("otherfurniture", generator)
    count, height = int(generator.integers(9, 18)), generator.uniform(0.45, 0.6)
    ribs = [
        box(skin, (at - 0.025, at + 0.025), (0.05, 0.15), (0.12, 0.12 + height))
        for at in 0.065 * (np.arange(count) - (count - 1) / 2)
    ]
    width = 0.065 * count
    return merge([*ribs, box(skin, centered(width), (0.0, 0.06), (0.16, 0.08 + height))])


def washing_machine(generator: Generator) -> Mesh:
    """A white box with a round door."""
    skin = white("otherfurniture", generator)
    ring = metal("otherfurniture", generator)
    glass = Surface(KIND["otherfurniture"], (0.12, 0.13, 0.15), 0)
    return merge(
        [
            box(skin, centered(0.6), (0.02, 0.58), (0.0, 0.85)),
            box(ring, centered(0.56), (0.58, 0.595), (0.72, 0.83)),
            tube(ring, (0, 0.58, 0.42), (0, 0.61, 0.42), 0.2, sides=16),
            tube(glass, (0, 0.6, 0.42), (0, 0.62, 0.42), 0.15, sides=16),
        ]
    )


def hamper(generator: Generator) -> Mesh:
    """A basket for laundry."""
    skin = cloth("otherfurniture", generator, 0.4)
    width, height = generator.uniform(0.36, 0.5), generator.uniform(0.5, 0.7)
    return merge(
        [
            box(skin, centered(width), (0.04, 0.4), (0.0, height)),
            box(skin, centered(width + 0.03), (0.02, 0.42), (height - 0.08, height + 0.02)),
        ]
    )


def bench(generator: Generator) -> Mesh:
    """A padded bench on legs, as stands before a bed or in a hall."""
    width, height = generator.uniform(0.8, 1.3), generator.uniform(0.4, 0.48)
    seat, frame = cloth("otherfurniture", generator), wood("otherfurniture", generator)
    x = centered(width)
    return merge(
        [
            cushion(seat, x, (0.02, 0.42), (height - 0.1, height)),
            box(frame, x, (0.03, 0.41), (height - 0.15, height - 0.1)),
            *legs(frame, x, (0.03, 0.41), height - 0.15, 0.05),
        ]
    )


def television_stand(generator: Generator) -> Mesh:
    """A low stand with a television on it."""
    width, height = generator.uniform(1.1, 1.7), generator.uniform(0.4, 0.55)
    body = board("otherfurniture", generator)
    handle = metal("otherfurniture", generator)
    x = centered(width)
    parts = [box(body, x, (0.0, 0.4), (0.06, height))]
    parts += fronts(body, handle, x, (0.08, height - 0.02), 0.4, 3, 1, False)
    black = Surface(KIND["television"], (0.04, 0.04, 0.045), 0)
    screen = Surface(KIND["television"], (0.09, 0.1, 0.13), 0, SCREEN)
    screen_width = generator.uniform(0.9, min(1.3, width))
    wide = centered(screen_width)
    tall = (height + 0.08, height + 0.08 + 0.57 * screen_width)
    parts += [
        box(black, centered(0.4), (0.12, 0.32), (height, height + 0.02)),
        box(black, centered(0.06), (0.18, 0.22), (height, height + 0.2)),
        box(black, wide, (0.17, 0.22), tall),
        box(
            screen,
            (wide[0] + 0.015, wide[1] - 0.015),
            (0.22, 0.224),
            (tall[0] + 0.015, tall[1] - 0.015),
        ),
    ]
    return merge(parts)


def ladder_rack(generator: Generator) -> Mesh:
    """A coat stand: a pole with arms, and a coat on it."""
    frame = wood("otherfurniture", generator)
    coat = of_kind(cloth("otherfurniture", generator), "otherfurniture")
    parts = [tube(frame, (0, 0.25, 0.0), (0, 0.25, 1.75), 0.025)]
    for angle in 2 * np.pi * np.arange(4) / 4 + 0.3:
        c, s = np.cos(angle), np.sin(angle)
        parts.append(tube(frame, (0, 0.25, 0.15), (0.22 * c, 0.25 + 0.22 * s, 0.0), 0.02))
        parts.append(tube(frame, (0, 0.25, 1.6), (0.16 * c, 0.25 + 0.16 * s, 1.72), 0.014))
    if generator.random() < 0.7:
        parts.append(tube(coat, (0.12, 0.25, 0.75), (0.1, 0.25, 1.62), 0.16, 0.09, sides=8))
    return merge(parts)


def lamp(generator: Generator) -> Mesh:
    """A standing lamp."""
    steel, shade = metal("lamp", generator), cloth("lamp", generator, 0.2)
    height = generator.uniform(1.4, 1.7)
    return merge(
        [
            tube(steel, (0, 0.2, 0.0), (0, 0.2, 0.03), 0.14, sides=12),
            tube(steel, (0, 0.2, 0.0), (0, 0.2, height), 0.015),
            tube(shade, (0, 0.2, height - 0.2), (0, 0.2, height + 0.08), 0.19, 0.13, sides=12),
        ]
    )


def carton(generator: Generator) -> Mesh:
    """A box on the floor."""
    skin = Surface(KIND["box"], (0.55, 0.42, 0.28), 0)
    width, depth, height = generator.uniform(0.25, 0.5, 3)
    return box(skin, centered(width), (0.03, 0.03 + depth), (0.0, height))


def plant(generator: Generator) -> Mesh:
    """A plant in a pot."""
    pot = paint("plant", generator)
    leaf = Surface(KIND["plant"], (0.14, 0.34, 0.12), 0, 2)
    height = generator.uniform(0.5, 1.1)
    parts = [tube(pot, (0, 0.25, 0.0), (0, 0.25, 0.28), 0.12, 0.16, sides=10)]
    for _ in range(5):
        x, y = generator.uniform(-0.14, 0.14, 2)
        at = (x, 0.25 + y, generator.uniform(0.35, height))
        parts.append(ellipsoid(leaf, at, generator.uniform(0.08, 0.18, 3)))
    return merge(parts)


def rug(width: float, depth: float, generator: Generator) -> Mesh:
    """A mat on the floor."""
    fabric = cloth("floor mat", generator, 0.7)
    return box(fabric, centered(width), (0.0, depth), (0.0, 0.012))


def picture(generator: Generator) -> Mesh:
    """A picture in a frame, its lower edge at z = 0."""
    width, height = generator.uniform(0.35, 1.1), generator.uniform(0.3, 0.8)
    frame = board("picture", generator)
    canvas = Surface(KIND["picture"], tuple(generator.uniform(0.15, 0.85, 3)), 0, ART)
    x, edge = centered(width), generator.uniform(0.015, 0.05)
    return merge(
        [
            box(frame, x, (0.0, 0.025), (0.0, height)),
            box(canvas, (x[0] + edge, x[1] - edge), (0.025, 0.029), (edge, height - edge)),
        ]
    )


def ceiling_lamp(generator: Generator) -> Mesh:
    """A lamp that hangs a little under z = 0."""
    shade = Surface(KIND["lamp"], (0.9, 0.88, 0.8), 0, GLASS)
    radius = generator.uniform(0.12, 0.25)
    return moved(tube(shade, (0, 0, -0.12), (0, 0, 0.0), radius, 0.6 * radius, sides=12), (0, 0, 0))
