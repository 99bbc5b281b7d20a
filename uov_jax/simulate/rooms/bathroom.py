"""What stands in bathrooms: toilets, washbasins, bathtubs with their curtains."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.geometry import GLASS, Mesh, Surface, box, frustum, merge, prism, tube
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import cloth, metal, white
from uov_jax.simulate.rooms.parts import basin, centered, faucet, moved, sheet
from uov_jax.simulate.rooms.storage import vanity

Generator = np.random.Generator


def toilet(generator: Generator) -> Mesh:
    """A bowl with a seat and a tank, the lid up or down."""
    skin = white("toilet", generator)
    width, depth = generator.uniform(0.35, 0.4), generator.uniform(0.64, 0.72)
    height = generator.uniform(0.38, 0.43)
    tank = generator.uniform(0.74, 0.85)
    middle = 0.2 + (depth - 0.2) / 2
    half = (depth - 0.2) / 2

    def oval(scale: float, at: float) -> list[tuple[float, float, float]]:
        angle = 2 * np.pi * np.arange(14) / 14
        x, y = scale * width / 2 * np.cos(angle), middle + scale * half * np.sin(angle)
        return [(float(a), float(b), at) for a, b in zip(x, y, strict=True)]

    parts = [
        prism(skin, oval(0.55, 0.0), oval(0.6, 0.15)),
        prism(skin, oval(0.6, 0.15), oval(1.0, height - 0.03)),
        prism(skin, oval(1.0, height - 0.03), oval(1.0, height)),
        box(skin, centered(width * 0.7), (0.04, 0.3), (0.0, height - 0.08)),
        box(skin, centered(width + 0.06), (0.0, 0.19), (height - 0.03, tank)),
        box(skin, centered(width + 0.09), (0.0, 0.2), (tank, tank + 0.03)),
    ]
    if generator.random() < 0.4:
        lid = (0.19, 0.22)
        parts.append(box(skin, centered(width), lid, (height, height + 0.42)))
    else:
        parts.append(prism(skin, oval(1.02, height), oval(1.0, height + 0.03)))
    return merge(parts)


def washbasin(generator: Generator) -> Mesh:
    """A washbasin on a cabinet, on a foot, or hanging on the wall."""
    skin, steel = white("sink", generator), metal("sink", generator)
    width, depth = generator.uniform(0.48, 0.8), 0.48
    top = generator.uniform(0.82, 0.88)
    draw = generator.random()
    low = 0.72 if draw < 0.5 else top - 0.16
    parts = basin(skin, centered(width), (0.0, depth), (low, top), 0.05)
    parts += faucet(steel, 0.04, top)
    if draw < 0.5:
        parts.append(vanity(width - 0.02, generator))
    elif draw < 0.8:
        parts.append(tube(skin, (0, 0.2, 0.0), (0, 0.2, low), 0.11, 0.09, sides=10))
    else:
        parts.append(tube(steel, (0, 0.2, 0.45), (0, 0.2, low), 0.025))
        parts.append(tube(steel, (0, 0.0, 0.47), (0, 0.2, 0.47), 0.02))
    return merge(parts)


def mirror(generator: Generator) -> Mesh:
    """A mirror for the wall over a washbasin, its lower edge at z = 0."""
    width, height = generator.uniform(0.45, 0.8), generator.uniform(0.5, 0.8)
    glass = Surface(KIND["mirror"], (0.5, 0.54, 0.56), 0, GLASS)
    return box(glass, centered(width), (0.0, 0.02), (0.0, height))


def bathtub(length: float, generator: Generator) -> Mesh:
    """A tub of some length along the wall, with its tap at one end."""
    skin, steel = white("bathtub", generator), metal("bathtub", generator)
    depth, height = generator.uniform(0.7, 0.8), generator.uniform(0.5, 0.6)
    rim = generator.uniform(0.05, 0.08)
    x = centered(length)
    inner = (x[0] + rim, x[1] - rim, rim, depth - rim)
    parts = basin(skin, x, (0.0, depth), (0.0, height), rim)
    parts.append(
        frustum(skin, (*inner[:2], rim, rim + 0.08), (*inner[:2], rim, rim + 0.01), (0.1, height))
    )
    tap = [moved(part, (0, 0, 0)) for part in faucet(steel, 0.03, height, 0.14)]
    return merge([*parts, *(moved(part, (0.3 * length, 0, 0)) for part in tap)])


def shower_curtain(length: float, depth: float, generator: Generator) -> Mesh:
    """A curtain on a rod along the open side of a bathtub, drawn to one end in part."""
    fabric = cloth("shower curtain", generator, 0.5)
    if generator.random() < 0.5:
        fabric = white("shower curtain", generator)
    top = generator.uniform(1.85, 2.0)
    share = generator.uniform(0.35, 0.85)
    x = (-length / 2, -length / 2 + share * length)
    if generator.random() < 0.5:
        x = (-x[1], -x[0])
    low = generator.uniform(0.2, 0.35)
    y = depth + 0.05
    folds = (x[1] - x[0]) * generator.uniform(4.0, 6.0)
    rod = metal("rod", generator)
    return merge(
        [
            sheet(fabric, x, (low, top), y, 0.03, folds, generator),
            tube(rod, (-length / 2, y, top + 0.02), (length / 2, y, top + 0.02), 0.012),
        ]
    )


def towel(generator: Generator) -> Mesh:
    """A towel on a bar, its lower edge at z = 0."""
    width, length = generator.uniform(0.3, 0.55), generator.uniform(0.4, 0.7)
    fabric = cloth("towel", generator, 0.8)
    bar = metal("rod", generator)
    return merge(
        [
            box(fabric, centered(width), (0.03, 0.06), (0.0, length)),
            tube(bar, (-width / 2 - 0.05, 0.045, length), (width / 2 + 0.05, 0.045, length), 0.01),
        ]
    )
