"""Cabinets, bookshelves, refrigerators and nightstands."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.geometry import Mesh, Surface, box, merge, tube
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import BOOKS, board, cloth, darker, metal, of_kind, white
from uov_jax.simulate.rooms.parts import centered, fronts

Generator = np.random.Generator


def wardrobe(generator: Generator) -> Mesh:
    """A tall cabinet with doors."""
    columns = int(generator.integers(2, 4))
    return _cabinet(
        columns * generator.uniform(0.45, 0.55),
        generator.uniform(0.52, 0.62),
        (0.06, generator.uniform(1.8, 2.15)),
        (columns, 1),
        generator,
    )


def sideboard(generator: Generator) -> Mesh:
    """A low cabinet with doors."""
    columns = int(generator.integers(2, 5))
    size = (columns * generator.uniform(0.4, 0.5), generator.uniform(0.38, 0.48))
    return _cabinet(*size, (0.06, generator.uniform(0.7, 0.95)), (columns, 1), generator)


def chest(generator: Generator) -> Mesh:
    """A cabinet of drawers, also a narrow one for files."""
    width, rows = generator.uniform(0.42, 0.95), int(generator.integers(3, 5))
    size = (width, generator.uniform(0.45, 0.58))
    return _cabinet(*size, (0.04, rows * 0.29), (1, rows), generator, False)


def wall_cabinet(width: float, generator: Generator) -> Mesh:
    """A cabinet that hangs on the wall, its lower edge at z = 0."""
    depth, height = generator.uniform(0.3, 0.38), generator.uniform(0.55, 0.75)
    columns = max(1, round(width / 0.45))
    return _cabinet(width, depth, (0.0, height), (columns, 1), generator)


def vanity(width: float, generator: Generator) -> Mesh:
    """The cabinet under a washbasin."""
    return _cabinet(width, 0.44, (0.08, 0.72), (2, 1), generator)


def _cabinet(
    width: float,
    depth: float,
    z: tuple[float, float],
    grid: tuple[int, int],
    generator: Generator,
    upright: bool = True,
) -> Mesh:
    body = board("cabinet", generator)
    front = body if generator.random() < 0.7 else darker(body, 0.85)
    handle = metal("cabinet", generator)
    x = centered(width)
    inner = (x[0] + 0.01, x[1] - 0.01)
    parts = [box(body, x, (0.0, depth - 0.02), z)]
    if z[0] > 0:
        parts.append(box(darker(body), inner, (0.02, depth - 0.06), (0.0, z[0])))
    parts += fronts(front, handle, inner, (z[0] + 0.01, z[1] - 0.01), depth - 0.02, *grid, upright)
    return merge(parts)


def bookshelf(generator: Generator) -> Mesh:
    """Open shelves, with books and boxes in them."""
    width, depth = generator.uniform(0.7, 1.3), generator.uniform(0.26, 0.34)
    height = generator.uniform(1.2, 2.15)
    shelf = board("bookshelf", generator)
    x = centered(width)
    levels = np.linspace(0.06, height - 0.02, max(4, round(height / 0.36)) + 1)
    parts = [
        box(shelf, (x[0], x[0] + 0.022), (0.0, depth), (0.0, height)),
        box(shelf, (x[1] - 0.022, x[1]), (0.0, depth), (0.0, height)),
        box(darker(shelf, 0.8), x, (0.0, 0.01), (0.0, height)),
    ]
    parts += [box(shelf, x, (0.0, depth), (level, level + 0.022)) for level in levels]
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        room = high - low - 0.03
        at = x[0] + 0.03
        while at < x[1] - 0.1:
            wide = min(generator.uniform(0.12, 0.4), x[1] - 0.03 - at)
            draw = generator.random()
            if draw < 0.7:  # a row of books is part of the shelf to those who annotate
                row = cloth("bookshelf", generator, 0.9)._replace(texture=BOOKS)
                top = low + 0.022 + room * generator.uniform(0.6, 0.95)
                back = (0.01, generator.uniform(0.6, 0.95) * depth)
                parts.append(box(row, (at, at + wide), back, (low + 0.022, top)))
            elif draw < 0.8:
                crate = cloth("box", generator)
                top = low + 0.022 + room * generator.uniform(0.4, 0.8)
                parts.append(box(crate, (at, at + wide), (0.02, 0.9 * depth), (low + 0.022, top)))
            at += wide + generator.uniform(0.01, 0.12)
    return merge(parts)


def refrigerator(generator: Generator) -> Mesh:
    """A tall box with one door over the other."""
    width, depth = generator.uniform(0.58, 0.85), generator.uniform(0.6, 0.72)
    height = generator.uniform(1.5, 1.9)
    skin = white("refrigerator", generator)
    if generator.random() < 0.5:
        skin = metal("refrigerator", generator)
    handle = metal("refrigerator", generator)
    x = centered(width)
    split = height * generator.choice([0.35, 0.66]) * generator.uniform(0.95, 1.05)
    parts = [box(darker(skin, 0.9), x, (0.02, depth - 0.07), (0.03, height))]
    parts += [tube(handle, (side, 0.2, 0.0), (side, 0.2, 0.03), 0.02) for side in (-0.2, 0.2)]
    at = x[0] + 0.06
    for z in ((0.06, split - 0.006), (split + 0.006, height)):
        parts.append(box(skin, x, (depth - 0.06, depth), z))
        middle = 0.3 * z[0] + 0.7 * z[1] if z[0] < 0.1 else 0.7 * z[0] + 0.3 * z[1]
        bar = (middle - 0.16, middle + 0.16)
        parts.append(box(handle, (at - 0.012, at + 0.012), (depth, depth + 0.045), bar))
    if generator.random() < 0.5:
        paper = Surface(KIND["rod"], tuple(generator.uniform(0.3, 0.9, 3)), 0)
        place = generator.uniform(0.0, 0.15)
        parts.append(
            box(paper, (place, place + 0.12), (depth, depth + 0.003), (height - 0.5, height - 0.33))
        )
    return merge(parts)


def nightstand(generator: Generator) -> Mesh:
    """A small cabinet beside a bed, mostly with a lamp on it."""
    width, depth = generator.uniform(0.38, 0.5), generator.uniform(0.34, 0.42)
    height = generator.uniform(0.45, 0.62)
    body = of_kind(board("cabinet", generator), "nightstand")
    handle = metal("nightstand", generator)
    x = centered(width)
    parts = [box(body, x, (0.0, depth - 0.02), (0.05, height))]
    parts += fronts(body, handle, x, (0.07, height - 0.02), depth - 0.02, 1, 2, False)
    if generator.random() < 0.7:
        shade, foot = cloth("lamp", generator, 0.2), metal("lamp", generator)
        y = depth / 2
        parts.append(tube(foot, (0, y, height), (0, y, height + 0.25), 0.02))
        bottom, top = (0, y, height + 0.22), (0, y, height + 0.42)
        parts.append(tube(shade, bottom, top, 0.15, 0.09, sides=10))
    return merge(parts)
