"""Doors, windows and curtains, and the walls around them.

A wall stands along x from 0 to its length, the room on its side of +y, its face at y = 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from uov_jax.simulate.geometry import GLASS, Mesh, Surface, box, merge, tube
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import board, cloth, darker, metal, white
from uov_jax.simulate.rooms.parts import Pair, moved, of_object, sheet

Generator = np.random.Generator
WALL = 0.12  # metres thick


@dataclasses.dataclass(frozen=True)
class Opening:
    """A hole in a wall.

    Attributes:
        what: "door", "window", or "passage" for nothing in it.
        x: where along the wall, metres.
        z: from where to where up, metres.
        object: number of the door or window as an object.

    """

    what: str
    x: Pair
    z: Pair
    object: int = 0


def wall_with(
    surface: Surface, length: float, height: float, openings: list[Opening]
) -> list[Mesh]:
    """Blocks that make a wall, its holes left out."""
    parts, at = [], 0.0
    back = (-WALL, 0.0)
    for hole in sorted(openings, key=lambda opening: opening.x):
        if hole.x[0] > at:
            parts.append(box(surface, (at, hole.x[0]), back, (0.0, height)))
        if hole.z[0] > 0:
            parts.append(box(surface, hole.x, back, (0.0, hole.z[0])))
        parts.append(box(surface, hole.x, back, (hole.z[1], height)))
        at = hole.x[1]
    if at < length:
        parts.append(box(surface, (at, length), back, (0.0, height)))
    return parts


def door(opening: Opening, generator: Generator) -> Mesh:
    """A leaf with panels and a handle in its frame; what is behind it is nothing's."""
    leaf = board("door", generator)
    frame = leaf if generator.random() < 0.4 else white("door", generator)
    steel = metal("door", generator)
    (left, right), top = opening.x, opening.z[1]
    edge = 0.06
    parts = [
        box(frame, (left - edge, left + 0.02), (-WALL, 0.02), (0.0, top + edge)),
        box(frame, (right - 0.02, right + edge), (-WALL, 0.02), (0.0, top + edge)),
        box(frame, (left, right), (-WALL, 0.02), (top - 0.02, top + edge)),
    ]
    wide, high = right - left - 0.04, top - 0.03
    slab = [box(leaf, (0.0, wide), (-0.04, 0.0), (0.01, high))]
    relief = darker(leaf, 0.9)
    rows = int(generator.integers(0, 4))
    for row in range(rows):
        low, up = 0.12 + row * (high - 0.12) / rows, (row + 1) * (high - 0.12) / rows
        slab.append(box(relief, (0.12, wide - 0.12), (0.0, 0.008), (low, up)))
    grip = wide - 0.07
    slab.append(tube(steel, (grip, 0.0, 1.02), (grip, 0.05, 1.02), 0.012))
    slab.append(tube(steel, (grip, 0.05, 1.02), (grip - 0.11, 0.05, 1.02), 0.011))
    # Some doors are ajar.
    turn = generator.uniform(0.3, 1.2) if generator.random() < 0.3 else 0.0
    parts.append(moved(merge(slab), (left + 0.02, -0.03, 0.0), turn))
    return of_object(merge(parts), opening.object)


def behind(opening: Opening) -> Mesh:
    """What is seen through an open door: a dark board that belongs to nothing."""
    dark = Surface(KIND["unannotated"], (0.25, 0.24, 0.23), 0)
    (left, right), top = opening.x, opening.z[1]
    return box(dark, (left, right), (-WALL - 0.02, -WALL), (0.0, top))


def window(opening: Opening, generator: Generator) -> Mesh:
    """Panes in frames, set back in the wall, with a sill."""
    frame = white("window", generator)
    if generator.random() < 0.35:
        frame = board("window", generator)
    glass = Surface(KIND["window"], (0.66, 0.75, 0.84), 0, GLASS)
    (left, right), (low, high) = opening.x, opening.z
    edge = generator.uniform(0.04, 0.07)
    deep = (-0.09, -0.03)
    parts = [
        box(glass, (left, right), (-0.07, -0.06), (low, high)),
        box(frame, (left, left + edge), deep, (low, high)),
        box(frame, (right - edge, right), deep, (low, high)),
        box(frame, (left, right), deep, (low, low + edge)),
        box(frame, (left, right), deep, (high - edge, high)),
        box(frame, (left - 0.03, right + 0.03), (-0.09, 0.08), (low - 0.03, low)),
    ]
    wings = max(1, round((right - left) / 0.7))
    for number in range(1, wings):
        at = left + number * (right - left) / wings
        parts.append(box(frame, (at - edge / 2, at + edge / 2), deep, (low, high)))
    if generator.random() < 0.4:
        at = low + generator.uniform(0.4, 0.7) * (high - low)
        parts.append(box(frame, (left, right), deep, (at - 0.02, at + 0.02)))
    return of_object(merge(parts), opening.object)


def curtains(opening: Opening, number: int, room: Pair, top: float, generator: Generator) -> Mesh:
    """A curtain on each side of a window, or on one, from a rod down to the floor or the sill.

    Args:
        opening: of the window.
        number: of the curtains as an object.
        room: where along the wall they may hang.
        top: of the wall.
        generator: of all that varies.

    """
    fabric = cloth("curtain", generator, 0.6)
    rod = metal("rod", generator)
    (left, right), (low, high) = opening.x, opening.z
    foot = 0.04 if generator.random() < 0.6 else low - 0.1
    hung = min(high + generator.uniform(0.08, 0.2), top - 0.08)
    share = generator.uniform(0.15, 0.42) * (right - left)
    spread = generator.uniform(0.1, 0.3)
    sides = [(left - spread, left + share), (right - share, right + spread)]
    if generator.random() < 0.2:
        sides = sides[:1] if generator.random() < 0.5 else sides[1:]
    ends = (max(left - spread - 0.05, room[0]), min(right + spread + 0.05, room[1]))
    parts = [tube(rod, (ends[0], 0.12, hung + 0.02), (ends[1], 0.12, hung + 0.02), 0.014)]
    for side in sides:
        x = (max(side[0], room[0]), min(side[1], room[1]))
        folds = (x[1] - x[0]) * generator.uniform(5.0, 8.0)
        parts.append(sheet(fabric, x, (foot, hung), 0.12, 0.035, folds, generator))
    return of_object(merge(parts), number)
