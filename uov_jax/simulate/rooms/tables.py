"""Tables, desks and counters, with what stands on them."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.geometry import Mesh, Surface, box, ellipsoid, merge, prism, tube
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import (
    SCREEN,
    board,
    cloth,
    metal,
    of_kind,
    paint,
    white,
)
from uov_jax.simulate.rooms.parts import (
    Pair,
    basin,
    centered,
    faucet,
    fronts,
    legs,
    moved,
)

Generator = np.random.Generator


def dining_table(generator: Generator) -> Mesh:
    """A table to sit at: four legs, or round with one."""
    height = generator.uniform(0.71, 0.77)
    top = board("table", generator)
    if generator.random() < 0.35:
        radius = generator.uniform(0.4, 0.6)
        middle = (0.0, radius)
        return merge(
            [
                _disc(top, middle, radius, (height - 0.035, height)),
                tube(top, (*middle, 0.03), (*middle, height - 0.03), 0.05, sides=8),
                _disc(top, middle, 0.55 * radius, (0.0, 0.035)),
                *_things(middle, height, 0.5 * radius, generator),
            ]
        )
    width, depth = generator.uniform(1.0, 1.9), generator.uniform(0.7, 0.95)
    return merge(
        [
            *_board_on_legs(top, width, depth, height, generator),
            *_things((0.0, depth / 2), height, 0.3, generator),
        ]
    )


def coffee_table(generator: Generator) -> Mesh:
    """A low table before a sofa."""
    height = generator.uniform(0.35, 0.48)
    top = board("table", generator)
    if generator.random() < 0.3:
        radius = generator.uniform(0.3, 0.45)
        middle = (0.0, radius)
        parts = [_disc(top, middle, radius, (height - 0.03, height))]
        for angle in 2 * np.pi * np.arange(3) / 3:
            foot = (0.8 * radius * np.cos(angle), radius + 0.8 * radius * np.sin(angle), 0.0)
            parts.append(tube(top, foot, (foot[0] * 0.6, foot[1], height - 0.03), 0.02))
        return merge([*parts, *_things(middle, height, 0.4 * radius, generator)])
    width, depth = generator.uniform(0.8, 1.2), generator.uniform(0.5, 0.65)
    parts = _board_on_legs(top, width, depth, height, generator)
    if generator.random() < 0.5:
        shelf = centered(width - 0.1)
        parts.append(box(top, shelf, (0.05, depth - 0.05), (0.13, 0.15)))
    return merge([*parts, *_things((0.0, depth / 2), height, 0.2, generator)])


def meeting_table(generator: Generator) -> Mesh:
    """A long table on two supports."""
    height, width = generator.uniform(0.72, 0.76), generator.uniform(2.0, 2.8)
    depth = generator.uniform(0.95, 1.2)
    top = board("table", generator)
    support = metal("table", generator) if generator.random() < 0.5 else top
    parts = [box(top, centered(width), (0.0, depth), (height - 0.04, height))]
    for side in (-0.34, 0.34):
        x = (side * width - 0.05, side * width + 0.05)
        parts.append(box(support, x, (0.2, depth - 0.2), (0.03, height - 0.04)))
        parts.append(box(support, (x[0] - 0.08, x[1] + 0.08), (0.1, depth - 0.1), (0.0, 0.03)))
    return merge([*parts, *_things((0.0, depth / 2), height, 0.7, generator)])


def desk(generator: Generator) -> Mesh:
    """A desk: panels at the sides, drawers at one, a back panel, mostly a monitor."""
    width, depth = generator.uniform(1.1, 1.7), generator.uniform(0.6, 0.8)
    height = generator.uniform(0.71, 0.77)
    top = board("desk", generator)
    handle = metal("desk", generator)
    x = centered(width)
    under = height - 0.03
    parts = [box(top, x, (0.0, depth), (under, height))]
    parts.append(box(top, (x[0] + 0.03, x[1] - 0.03), (0.06, 0.08), (0.25, under)))
    sides = [(x[0] + 0.01, x[0] + 0.04), (x[1] - 0.04, x[1] - 0.01)]
    parts += [box(top, side, (0.02, depth - 0.03), (0.0, under)) for side in sides]
    if generator.random() < 0.85:
        wide = generator.uniform(0.36, 0.44)
        at = (x[1] - 0.05 - wide, x[1] - 0.05)
        at = at if generator.random() < 0.5 else (-at[1], -at[0])
        parts.append(box(top, at, (0.08, depth - 0.05), (0.06, under)))
        parts += fronts(top, handle, at, (0.06, under), depth - 0.05, 1, 3, False)
    if generator.random() < 0.8:
        for side in (0.0,) if generator.random() < 0.6 else (-0.27, 0.27):
            parts += _monitor(side + generator.uniform(-0.05, 0.05), height, generator)
    parts += _things((-0.3 * width, 0.6 * depth), height, 0.1, generator)
    if generator.random() < 0.25:
        parts.append(box(of_kind(top, "desk"), x, (0.0, 0.22), (height + 0.3, height + 0.32)))
        for side in (x[0], x[1] - 0.02):
            parts.append(box(top, (side, side + 0.02), (0.0, 0.22), (height, height + 0.32)))
    return merge(parts)


def kitchen_row(width: float, with_sink: bool, generator: Generator) -> Mesh:
    """Base cabinets under a worktop, with a sink let into it where it is wished for."""
    depth, height = generator.uniform(0.58, 0.65), generator.uniform(0.87, 0.93)
    front = board("cabinet", generator)
    top = (board if generator.random() < 0.5 else metal)("counter", generator)
    steel = metal("sink", generator) if generator.random() < 0.7 else white("sink", generator)
    x = centered(width)
    parts = [
        box(front, x, (0.02, depth - 0.08), (0.0, 0.1)),
        box(front, x, (0.01, depth - 0.04), (0.1, height - 0.2 if with_sink else height - 0.04)),
        box(top, x, (0.0, 0.02), (height, height + generator.uniform(0.08, 0.5))),
    ]
    columns = max(1, round(width / 0.5))
    doors = (0.12, height - 0.06)
    handle = metal("cabinet", generator)
    parts += fronts(front, handle, x, doors, depth - 0.04, columns, 1, True)
    z = (height - 0.04, height)
    if not with_sink:
        return merge([*parts, box(top, x, (0.0, depth), z), *_kitchen_things(x, height, generator)])
    at = generator.uniform(-0.2, 0.2) * width
    half = generator.uniform(0.22, 0.36)
    hole, front_edge = (at - half, at + half), depth - 0.1
    parts += [
        box(front, x, (depth - 0.06, depth - 0.04), (height - 0.2, height - 0.04)),
        box(top, (x[0], hole[0]), (0.0, depth), z),
        box(top, (hole[1], x[1]), (0.0, depth), z),
        box(top, hole, (0.0, 0.1), z),
        box(top, hole, (front_edge, depth), z),
        *basin(steel, hole, (0.1, front_edge), (height - 0.19, height + 0.006), 0.02),
        *(moved(part, (at, 0.0, 0.0)) for part in faucet(steel, 0.07, height, 0.24)),
    ]
    return merge([*parts, *_kitchen_things((hole[1], x[1]), height, generator)])


def bar(generator: Generator) -> Mesh:
    """A counter to stand at, panelled all round."""
    width, depth = generator.uniform(1.2, 2.0), generator.uniform(0.45, 0.6)
    height = generator.uniform(0.95, 1.1)
    top, body = board("counter", generator), board("counter", generator)
    x = centered(width)
    return merge(
        [
            box(body, (x[0] + 0.05, x[1] - 0.05), (0.06, depth - 0.1), (0.0, height - 0.05)),
            box(top, x, (0.0, depth), (height - 0.05, height)),
        ]
    )


def _disc(surface: Surface, middle: Pair, radius: float, z: Pair) -> Mesh:
    angle = 2 * np.pi * np.arange(16) / 16
    ring = np.stack([middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)], 1)
    low, high = (np.column_stack([ring, np.full(16, height)]) for height in z)
    return prism(surface, low, high)


def _board_on_legs(
    top: Surface, width: float, depth: float, height: float, generator: Generator
) -> list[Mesh]:
    x, thick = centered(width), generator.uniform(0.04, 0.08)
    foot = metal("table", generator) if generator.random() < 0.3 else top
    inset = generator.uniform(0.02, 0.08)
    inner, along = (x[0] + inset, x[1] - inset), (inset, depth - inset)
    return [
        box(top, x, (0.0, depth), (height - 0.03, height)),
        box(foot, inner, (along[0], along[0] + 0.02), (height - 0.1, height - 0.03)),
        box(foot, inner, (along[1] - 0.02, along[1]), (height - 0.1, height - 0.03)),
        *legs(foot, inner, along, height - 0.03, thick),
    ]


def _monitor(at: float, height: float, generator: Generator) -> list[Mesh]:
    black = Surface(KIND["monitor"], (0.05, 0.05, 0.06), 0)
    screen = Surface(KIND["monitor"], tuple(generator.uniform(0.1, 0.6, 3)), 0, SCREEN)
    x = (at - 0.26, at + 0.26)
    keys = (at - 0.2, at + 0.2)
    return [
        box(black, (at - 0.1, at + 0.1), (0.12, 0.3), (height, height + 0.012)),
        box(black, (at - 0.02, at + 0.02), (0.16, 0.19), (height, height + 0.2)),
        box(black, x, (0.18, 0.21), (height + 0.1, height + 0.42)),
        box(screen, (x[0] + 0.01, x[1] - 0.01), (0.21, 0.213), (height + 0.11, height + 0.41)),
        box(black, keys, (0.4, 0.53), (height, height + 0.02)),
    ]


def _things(middle: Pair, height: float, reach: float, generator: Generator) -> list[Mesh]:
    """A few books, a bowl or a plant on a table."""
    parts = []
    for _ in range(int(generator.integers(0, 4))):
        x = middle[0] + reach * generator.uniform(-1, 1)
        y = middle[1] + min(reach, 0.2) * generator.uniform(-1, 1)
        what = generator.integers(3)
        if what == 0:
            book = cloth("books", generator, 0.9)
            part = box(book, centered(0.2), centered(0.14), (0.0, generator.uniform(0.02, 0.08)))
            parts.append(moved(part, (x, y, height), generator.uniform(0, 3)))
        elif what == 1:
            pot = paint("plant", generator)
            leaf = Surface(KIND["plant"], (0.16, 0.36, 0.13), 0, 2)
            parts.append(tube(pot, (x, y, height), (x, y, height + 0.1), 0.05, 0.07))
            parts.append(ellipsoid(leaf, (x, y, height + 0.2), (0.1, 0.1, 0.12)))
        else:
            cup = paint("rod", generator)
            parts.append(tube(cup, (x, y, height), (x, y, height + 0.09), 0.04, 0.045))
    return parts


def _kitchen_things(x: Pair, height: float, generator: Generator) -> list[Mesh]:
    """A microwave, jars or a kettle on a worktop."""
    parts: list[Mesh] = []
    if x[1] - x[0] < 0.2:
        return parts
    if x[1] - x[0] > 0.7 and generator.random() < 0.5:
        at = (x[0] + x[1]) / 2
        oven = metal("box", generator)
        parts.append(box(oven, (at - 0.24, at + 0.24), (0.06, 0.42), (height, height + 0.28)))
    for _ in range(int(generator.integers(0, 4))):
        at, jar = generator.uniform(x[0] + 0.06, x[1] - 0.06), paint("rod", generator)
        parts.append(tube(jar, (at, 0.14, height), (at, 0.14, height + 0.18), 0.05, sides=8))
    return parts
