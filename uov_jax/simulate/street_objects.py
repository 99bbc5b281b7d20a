"""Shapes of people, cones, barriers, plants, street furniture and buildings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from uov_jax.simulate.geometry import (
    BRICK,
    FACADE,
    GLASS,
    LEAF,
    ROUGH,
    Color,
    Mesh,
    Surface,
    box,
    ellipsoid,
    frustum,
    leaves,
    merge,
    ring,
    tube,
)
from uov_jax.simulate.kinds import KIND

FACADE_STYLES = 24


def _random_color(generator: np.random.Generator, low: float, high: float) -> Color:
    return tuple(generator.uniform(low, high, 3))


def pedestrian(
    generator: np.random.Generator, kind_name: str = "adult", walking: bool = False
) -> Mesh:
    """A standing or striding person; workers wear a vest and a helmet, children are small."""
    kind = KIND[kind_name]
    height = generator.uniform(1.05, 1.35) if kind_name == "child" else generator.uniform(1.58, 1.9)
    scale = height / 1.75
    girth = generator.uniform(0.9, 1.25)
    coat = Surface(kind, _random_color(generator, 0.04, 0.65), generator.uniform(0.08, 0.5), ROUGH)
    skin = Surface(kind, (0.62, 0.44, 0.35), 0.4)
    if kind_name == "construction_worker":
        coat = Surface(kind, (0.95, 0.35, 0.02), 0.85)
    elif kind_name == "police_officer":
        coat = Surface(kind, (0.05, 0.07, 0.25), 0.3)
    trousers = Surface(
        kind, _random_color(generator, 0.03, 0.3), generator.uniform(0.08, 0.4), ROUGH
    )
    stride = 0.3 if walking else generator.uniform(0.0, 0.06)
    parts = [
        tube(coat, (0, 0, 0.82), (0, 0, 1.42), 0.17 * girth, 0.21 * girth, sides=8),
        ellipsoid(skin, (0.02, 0, 1.62), (0.11, 0.1, 0.13)),
        tube(skin, (0, 0, 1.42), (0.01, 0, 1.52), 0.06),
    ]
    for side in (-1, 1):
        foot, hand = side * stride, -side * stride
        parts += [
            tube(trousers, (foot, side * 0.1, 0.03), (0, side * 0.09, 0.86), 0.07, 0.1),
            box(
                trousers,
                (foot - 0.09, foot + 0.17),
                (side * 0.1 - 0.05, side * 0.1 + 0.05),
                (0, 0.08),
            ),
            tube(
                coat, (hand, side * 0.27 * girth, 0.85), (0, side * 0.23 * girth, 1.4), 0.05, 0.07
            ),
        ]
    if kind_name == "construction_worker":
        helmet = Surface(kind, (0.9, 0.8, 0.1), 0.5)
        parts.append(ellipsoid(helmet, (0.02, 0, 1.7), (0.15, 0.14, 0.09)))
    elif generator.random() < 0.6:
        hair = Surface(kind, _random_color(generator, 0.02, 0.25), 0.15, ROUGH)
        parts.append(ellipsoid(hair, (-0.02, 0, 1.67), (0.12, 0.11, 0.11)))
    if generator.random() < 0.35:
        bag = Surface(kind, _random_color(generator, 0.05, 0.5), 0.25)
        parts.append(box(bag, (-0.35, -0.17), (-0.16, 0.16), (1.0, 1.4)))
    mesh = merge(parts)
    return replace(mesh, vertices=mesh.vertices * scale)


def stroller(generator: np.random.Generator) -> Mesh:
    """A pushchair, a class that the evaluation ignores."""
    kind = KIND["stroller"]
    cloth = Surface(kind, _random_color(generator, 0.05, 0.5), 0.2, ROUGH)
    steel = Surface(kind, (0.3, 0.3, 0.3), 0.2)
    wheels = [
        tube(steel, (x, y, 0.12), (x, y + 0.05, 0.12), 0.12)
        for x in (-0.3, 0.35)
        for y in (-0.25, 0.2)
    ]
    handle = tube(steel, (-0.3, 0, 0.45), (-0.6, 0, 1.0), 0.03)
    return merge([box(cloth, (-0.35, 0.35), (-0.2, 0.2), (0.4, 0.75)), handle, *wheels])


def animal(generator: np.random.Generator) -> Mesh:
    """A dog, a class that the evaluation ignores."""
    kind = KIND["animal"]
    fur = Surface(kind, _random_color(generator, 0.05, 0.5), 0.3, ROUGH)
    legs = [tube(fur, (x, y, 0), (x, y, 0.35), 0.04) for x in (-0.25, 0.25) for y in (-0.1, 0.1)]
    return merge(
        [
            ellipsoid(fur, (0, 0, 0.45), (0.4, 0.15, 0.16)),
            ellipsoid(fur, (0.45, 0, 0.62), (0.16, 0.1, 0.11)),
            tube(fur, (-0.38, 0, 0.5), (-0.6, 0, 0.7), 0.03),
            *legs,
        ]
    )


def traffic_cone(generator: np.random.Generator) -> Mesh:
    """An orange cone with bright bands on a square foot."""
    kind = KIND["traffic_cone"]
    orange = Surface(kind, (0.95, 0.28, 0.03), generator.uniform(0.35, 0.6))
    band = Surface(kind, (0.92, 0.92, 0.9), 0.95)
    foot = Surface(kind, (0.1, 0.08, 0.07), 0.1)
    h = generator.uniform(0.7, 1.0)
    r = 0.17
    steps = (
        (0.0, 0.35, orange),
        (0.35, 0.55, band),
        (0.55, 0.7, orange),
        (0.7, 0.85, band),
        (0.85, 1.0, orange),
    )
    parts = [box(foot, (-0.21, 0.21), (-0.21, 0.21), (0, 0.05))]
    for low, high, surface in steps:
        parts.append(
            tube(
                surface,
                (0, 0, 0.05 + low * h),
                (0, 0, 0.05 + high * h),
                r * (1 - 0.8 * low),
                r * (1 - 0.8 * high),
                sides=10,
            )
        )
    return merge(parts)


def barrier(generator: np.random.Generator, style: int | None = None) -> Mesh:
    """A concrete barrier, a red or white water-filled one, or planks on legs; along x."""
    kind = KIND["barrier"]
    style = int(generator.integers(3)) if style is None else style
    if style == 2:
        red = Surface(kind, (0.8, 0.05, 0.04), 0.75)
        white = Surface(kind, (0.9, 0.9, 0.88), 0.9)
        steel = Surface(kind, (0.4, 0.4, 0.4), 0.3)
        parts = [
            box((red, white)[i % 2], (-1.0 + 0.4 * i, -0.6 + 0.4 * i), (-0.03, 0.03), (z, z + 0.24))
            for i in range(5)
            for z in (0.42, 0.82)
        ]
        for x in (-0.8, 0.8):
            parts.append(box(steel, (x - 0.04, x + 0.04), (-0.05, 0.05), (0.0, 1.08)))
            parts.append(box(steel, (x - 0.1, x + 0.1), (-0.35, 0.35), (0.0, 0.08)))
        return merge(parts)
    if style == 1:
        color = ((0.8, 0.12, 0.06), (0.88, 0.88, 0.86))[generator.integers(2)]
        body, width = Surface(kind, color, generator.uniform(0.4, 0.7)), 0.3
    else:
        body, width = Surface(kind, (0.55, 0.54, 0.5), generator.uniform(0.25, 0.4), ROUGH), 0.32
    low = frustum(body, (-1, 1, -width, width), (-1, 1, -width / 2, width / 2), (0.06, 0.38))
    high = frustum(body, (-1, 1, -width / 2, width / 2), (-0.98, 0.98, -0.1, 0.1), (0.38, 0.95))
    foot = box(body, (-1, 1), (-width, width), (0.0, 0.06))
    return merge([foot, low, high])


def bicycle_rack(generator: np.random.Generator) -> Mesh:
    """Four steel hoops in a row along x, a class that the evaluation ignores."""
    kind = KIND["bicycle_rack"]
    steel = Surface(kind, (0.55, 0.56, 0.58), 0.35)
    hoop = ring(steel, 0.0, 0.4, 0.06, sides=10)
    return merge(hoop.placed(0.7 * i - 1.05, 0.0, 0.0, np.pi / 2) for i in range(4))


def pushable(generator: np.random.Generator) -> Mesh:
    """A wheeled bin, a class that the evaluation ignores."""
    kind = KIND["pushable"]
    plastic = Surface(kind, ((0.05, 0.2, 0.08), (0.1, 0.1, 0.3))[generator.integers(2)], 0.15)
    return merge(
        [
            frustum(plastic, (-0.22, 0.22, -0.22, 0.22), (-0.3, 0.3, -0.27, 0.27), (0.1, 0.95)),
            box(plastic, (-0.34, 0.32), (-0.29, 0.29), (0.95, 1.05)),
            tube(plastic, (-0.25, -0.25, 0.1), (-0.25, 0.25, 0.1), 0.1),
        ]
    )


def debris(generator: np.random.Generator) -> Mesh:
    """A heap of rubble or bags, a class that the evaluation ignores."""
    kind = KIND["debris"]
    heap = Surface(kind, _random_color(generator, 0.15, 0.4), 0.2, ROUGH)
    count = int(generator.integers(3, 7))
    return merge(
        ellipsoid(
            heap,
            (*generator.uniform(-0.5, 0.5, 2), generator.uniform(0.1, 0.25)),
            generator.uniform(0.2, 0.45, 3),
        )
        for _ in range(count)
    )


def tree(generator: np.random.Generator) -> Mesh:
    """A trunk, some branches and a crown of leaves that rays pass through in places."""
    kind = KIND["tree"]
    bark = Surface(kind, (0.2, 0.15, 0.1), generator.uniform(0.15, 0.3), ROUGH)
    green = (generator.uniform(0.06, 0.16), generator.uniform(0.18, 0.32), 0.05)
    leaf = Surface(kind, green, generator.uniform(0.25, 0.55), LEAF)
    height, spread = generator.uniform(4.5, 9.5), generator.uniform(1.5, 3.2)
    fork = generator.uniform(0.3, 0.42) * height
    lean = generator.normal(0, 0.15, 2)
    top = np.array([lean[0], lean[1], fork])
    parts = [tube(bark, (0, 0, -0.2), top, generator.uniform(0.12, 0.22), 0.1, sides=7)]
    centers = []
    for _ in range(5):
        turn, out = generator.uniform(0, 2 * np.pi), generator.uniform(0.3, 0.75) * spread
        end = top + [
            out * np.cos(turn),
            out * np.sin(turn),
            generator.uniform(0.25, 0.85) * (height - fork),
        ]
        parts.append(tube(bark, top, end, 0.08, 0.03, sides=5))
        offset = generator.normal(size=(110, 3)) * np.array([0.42, 0.42, 0.3]) * spread
        centers.append(end + np.clip(offset, -1.1 * spread, 1.1 * spread))
    crown = np.concatenate(centers)
    crown = crown[crown[:, 2] > 0.75 * fork]
    parts.append(leaves(leaf, crown, generator.uniform(0.28, 0.42), generator))
    return merge(parts)


def bush(generator: np.random.Generator) -> Mesh:
    """A round shrub."""
    kind = KIND["bush"]
    green = (generator.uniform(0.06, 0.2), generator.uniform(0.16, 0.3), 0.05)
    leaf = Surface(kind, green, generator.uniform(0.25, 0.55), LEAF)
    size = generator.uniform(0.5, 1.1)
    direction = generator.normal(size=(140, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centers = direction * generator.uniform(0.5, 1.0, (140, 1)) * [size, size, 0.7 * size]
    centers[:, 2] = np.abs(centers[:, 2] + 0.5 * size)
    return leaves(leaf, centers, 0.3, generator)


def hedge(generator: np.random.Generator, length: float) -> Mesh:
    """A clipped hedge along x."""
    kind = KIND["bush"]
    green = (generator.uniform(0.05, 0.15), generator.uniform(0.16, 0.28), 0.05)
    leaf = Surface(kind, green, generator.uniform(0.25, 0.5), LEAF)
    height = generator.uniform(0.8, 1.5)
    count = int(60 * length)
    centers = generator.uniform([-length / 2, -0.4, 0.05], [length / 2, 0.4, height], (count, 3))
    return leaves(leaf, centers, 0.28, generator)


def potted_plant(generator: np.random.Generator) -> Mesh:
    """A planter, which is man-made, with a shrub in it."""
    pot = Surface(KIND["wall"], (0.45, 0.3, 0.2), 0.3, ROUGH)
    leaf = Surface(KIND["potted_plant"], (0.1, 0.25, 0.06), generator.uniform(0.3, 0.5), LEAF)
    centers = generator.normal(size=(90, 3)) * [0.3, 0.3, 0.28] + [0, 0, 1.0]
    return merge(
        [
            frustum(pot, (-0.35, 0.35, -0.35, 0.35), (-0.45, 0.45, -0.45, 0.45), (0, 0.6)),
            leaves(leaf, centers, 0.25, generator),
        ]
    )


def lamp_post(generator: np.random.Generator) -> Mesh:
    """A street lamp, its arm along +x."""
    kind = KIND["street_lamp"]
    steel = Surface(kind, (0.35, 0.37, 0.38), 0.3)
    height = generator.uniform(6.5, 9.0)
    return merge(
        [
            tube(steel, (0, 0, 0), (0, 0, 1.0), 0.13, 0.1, sides=8),
            tube(steel, (0, 0, 1.0), (0, 0, height), 0.09, 0.06, sides=8),
            tube(steel, (0, 0, height), (1.8, 0, height + 0.3), 0.05),
            box(steel, (1.5, 2.3), (-0.15, 0.15), (height + 0.2, height + 0.35)),
        ]
    )


def traffic_light(generator: np.random.Generator) -> Mesh:
    """A signal head on a pole, facing +x."""
    kind = KIND["traffic_light"]
    steel = Surface(KIND["pole"], (0.3, 0.3, 0.3), 0.3)
    black = Surface(kind, (0.04, 0.04, 0.04), 0.08)
    colors = ((0.9, 0.05, 0.03), (0.25, 0.16, 0.02), (0.03, 0.2, 0.08))
    lamps = [
        box(Surface(kind, color, 0.4), (0.2, 0.24), (-0.1, 0.1), (z, z + 0.2))
        for color, z in zip(colors, (3.2, 2.92, 2.64), strict=True)
    ]
    head = box(black, (-0.05, 0.2), (-0.18, 0.18), (2.55, 3.5))
    return merge([tube(steel, (-0.12, 0, 0), (-0.12, 0, 3.6), 0.07), head, *lamps])


def sign(generator: np.random.Generator) -> Mesh:
    """A road sign on a pole, facing +x; its sheet returns much light."""
    kind = KIND["sign"]
    steel = Surface(KIND["pole"], (0.45, 0.45, 0.46), 0.35)
    color = ((0.05, 0.15, 0.6), (0.85, 0.85, 0.85), (0.75, 0.05, 0.05), (0.8, 0.65, 0.05))[
        generator.integers(4)
    ]
    sheet = Surface(kind, color, 1.0)
    z = generator.uniform(2.1, 2.6)
    if generator.random() < 0.5:
        plate = tube(
            sheet, (0.05, 0, z), (0.08, 0, z), 0.36, sides=int(generator.choice([3, 8, 16]))
        )
    else:
        plate = box(sheet, (0.05, 0.08), (-0.35, 0.35), (z - 0.35, z + 0.35))
    return merge([tube(steel, (0, 0, 0), (0, 0, z + 0.4), 0.04), plate])


def billboard(generator: np.random.Generator) -> Mesh:
    """A poster on two legs, facing +x."""
    kind = KIND["billboard"]
    poster = Surface(kind, _random_color(generator, 0.1, 0.8), 0.4)
    frame = Surface(kind, (0.15, 0.15, 0.15), 0.15)
    return merge(
        [
            box(poster, (-0.06, 0.06), (-1.1, 1.1), (0.8, 2.6)),
            box(frame, (-0.05, 0.05), (-1.2, 1.2), (0.7, 2.7)),
            box(frame, (-0.05, 0.05), (-0.9, -0.8), (0, 0.8)),
            box(frame, (-0.05, 0.05), (0.8, 0.9), (0, 0.8)),
        ]
    )


def bus_shelter(generator: np.random.Generator) -> Mesh:
    """A glazed shelter, open towards -y."""
    kind = KIND["bus_shelter"]
    steel = Surface(kind, (0.25, 0.26, 0.28), 0.25)
    glass = Surface(kind, (0.35, 0.42, 0.42), 0.06, GLASS)
    posts = [
        box(steel, (x - 0.05, x + 0.05), (y - 0.05, y + 0.05), (0, 2.4))
        for x in (-1.9, 1.9)
        for y in (-0.6, 0.6)
    ]
    seat = Surface(KIND["bench"], (0.4, 0.28, 0.15), 0.3)
    return merge(
        [
            *posts,
            box(steel, (-2.1, 2.1), (-0.9, 0.75), (2.4, 2.52)),
            box(glass, (-1.85, 1.85), (0.58, 0.62), (0.2, 2.3)),
            box(glass, (-1.92, -1.88), (-0.5, 0.55), (0.2, 2.3)),
            box(seat, (-1.4, 1.4), (0.15, 0.5), (0.42, 0.5)),
        ]
    )


def bench(generator: np.random.Generator) -> Mesh:
    """A wooden bench along x, facing -y."""
    wood = Surface(KIND["bench"], (0.38, 0.25, 0.13), 0.35, ROUGH)
    legs = [box(wood, (x - 0.05, x + 0.05), (-0.25, 0.2), (0, 0.42)) for x in (-0.7, 0.7)]
    back = box(wood, (-0.9, 0.9), (0.2, 0.27), (0.42, 0.9))
    return merge([box(wood, (-0.9, 0.9), (-0.25, 0.25), (0.42, 0.5)), back, *legs])


def trash_bin(generator: np.random.Generator) -> Mesh:
    """A round litter bin."""
    surface = Surface(KIND["trash_bin"], _random_color(generator, 0.08, 0.4), 0.25)
    return tube(surface, (0, 0, 0), (0, 0, 0.9), 0.25, 0.28, sides=10)


def hydrant(generator: np.random.Generator) -> Mesh:
    """A fire hydrant."""
    red = Surface(KIND["hydrant"], (0.7, 0.06, 0.04), 0.35)
    return merge(
        [
            tube(red, (0, 0, 0), (0, 0, 0.7), 0.12, sides=8),
            tube(red, (0, -0.22, 0.5), (0, 0.22, 0.5), 0.07),
            ellipsoid(red, (0, 0, 0.72), (0.13, 0.13, 0.1)),
        ]
    )


def electric_box(generator: np.random.Generator) -> Mesh:
    """A street cabinet."""
    surface = Surface(KIND["electric_box"], (0.4, 0.43, 0.4), 0.3)
    return box(surface, (-0.5, 0.5), (-0.2, 0.2), (0, generator.uniform(1.0, 1.5)))


def bollard(generator: np.random.Generator) -> Mesh:
    """A short post."""
    surface = Surface(KIND["pole"], (0.25, 0.25, 0.26), 0.3)
    return tube(surface, (0, 0, 0), (0, 0, 0.9), 0.07, sides=8)


def fence(generator: np.random.Generator, length: float, style: int) -> Mesh:
    """A fence along x: steel pickets (0), planks (1) or a wall (2)."""
    if style == 2:
        wall = Surface(KIND["wall"], (0.5, 0.36, 0.28), 0.35, BRICK)
        coping = Surface(KIND["wall"], (0.55, 0.54, 0.5), 0.35)
        height = generator.uniform(1.0, 1.9)
        half = length / 2
        return merge(
            [
                box(wall, (-half, half), (-0.12, 0.12), (-0.2, height)),
                box(coping, (-half, half), (-0.16, 0.16), (height, height + 0.08)),
            ]
        )
    gap, width, height = (0.5, 0.04, 1.2) if style == 0 else (0.34, 0.26, 1.5)
    color: Color = (0.12, 0.14, 0.13) if style == 0 else (0.4, 0.29, 0.18)
    surface = Surface(KIND["fence"], color, 0.3, ROUGH if style else 0)
    at = np.arange(-length / 2 + gap / 2, length / 2, gap)
    parts = [box(surface, (x - width / 2, x + width / 2), (-0.02, 0.02), (0, height)) for x in at]
    for z in (0.2, height - 0.2):
        parts.append(box(surface, (-length / 2, length / 2), (-0.035, 0.035), (z - 0.04, z + 0.04)))
    return merge(parts)


BUILDING_COLORS: tuple[Color, ...] = (
    (0.55, 0.30, 0.22),
    (0.72, 0.66, 0.55),
    (0.78, 0.76, 0.72),
    (0.50, 0.50, 0.52),
    (0.62, 0.52, 0.38),
    (0.35, 0.37, 0.42),
    (0.70, 0.55, 0.45),
)


def building(generator: np.random.Generator, width: float, depth: float) -> Mesh:
    """A block along x whose front faces -y, from y = 0 back to y = ``depth``.

    Plinth, facade with windows drawn by the renderer, cornice, roof or gable, door steps, canopies,
    balconies or pilasters: chosen at random so that no two houses are alike.
    """
    kind = KIND["building"]
    color = BUILDING_COLORS[generator.integers(len(BUILDING_COLORS))]
    reflectivity = generator.uniform(0.2, 0.5)
    style = FACADE + int(generator.integers(FACADE_STYLES))
    facade = Surface(kind, color, reflectivity, style)
    stone = Surface(kind, tuple(0.7 * np.array(color) + 0.1), reflectivity, ROUGH)
    roof = Surface(kind, (0.2, 0.18, 0.17), 0.2, ROUGH)
    half, floors = width / 2, int(generator.choice([1, 1, 2, 2, 3, 4, 5, 7]))
    height = 3.4 * floors + generator.uniform(0.3, 1.0)
    parts = [
        box(facade, (-half, half), (0, depth), (0.6, height)),
        box(stone, (-half - 0.06, half + 0.06), (-0.1, depth), (-0.2, 0.7)),
        box(stone, (-half - 0.2, half + 0.2), (-0.3, depth), (height - 0.1, height + 0.3)),
    ]
    if floors < 4 and generator.random() < 0.6:
        ridge = depth / 2
        parts.append(
            frustum(
                roof,
                (-half, half, -0.2, depth),
                (-half + 0.4, half - 0.4, ridge - 0.1, ridge + 0.1),
                (height + 0.3, height + 3.5),
            )
        )
    parts += _doorway(generator, kind, stone, width)
    ornament = generator.integers(4)
    bays = np.arange(-half + 2.5, half - 1.5, generator.uniform(3.5, 5.0))
    if ornament == 0:
        for x in bays:
            for floor in range(1, min(floors, 5)):
                parts += _balcony(kind, stone, float(x), 3.4 * floor)
    elif ornament == 1:
        parts += [box(stone, (x - 0.3, x + 0.3), (-0.35, 0), (0, height)) for x in bays]
    elif ornament == 2:
        cloth = Surface(kind, _random_color(generator, 0.1, 0.7), 0.4)
        parts += [
            frustum(
                cloth,
                (x - 1.3, x + 1.3, -1.2, 0.0),
                (x - 1.3, x + 1.3, -0.05, 0.0),
                (2.6, 3.2),
            )
            for x in bays
        ]
    return merge(parts)


def _doorway(generator: np.random.Generator, kind: int, stone: Surface, width: float) -> list[Mesh]:
    step = Surface(KIND["low_stairs"], (0.5, 0.49, 0.46), generator.uniform(0.3, 0.5), ROUGH)
    wood = Surface(kind, _random_color(generator, 0.05, 0.35), 0.3)
    x = float(generator.uniform(-0.3, 0.3) * width)
    reach = float(generator.uniform(1.2, 2.2))
    return [
        box(wood, (x - 0.6, x + 0.6), (-0.13, 0.0), (0.45, 2.7)),
        box(step, (x - reach, x + reach), (-1.5, 0), (0, 0.15)),
        box(step, (x - reach + 0.3, x + reach - 0.3), (-1.1, 0), (0.15, 0.3)),
        box(step, (x - reach + 0.6, x + reach - 0.6), (-0.7, 0), (0.3, 0.45)),
        box(stone, (x - 1.0, x + 1.0), (-1.0, 0.0), (2.8, 2.95)),
    ]


def _balcony(kind: int, stone: Surface, x: float, z: float) -> list[Mesh]:
    rail = Surface(kind, (0.2, 0.2, 0.2), 0.25)
    bars = [
        box(rail, (x + d - 0.03, x + d + 0.03), (-1.1, -1.05), (z, z + 1.0))
        for d in np.arange(-1.2, 1.25, 0.4)
    ]
    return [
        box(stone, (x - 1.3, x + 1.3), (-1.15, 0), (z - 0.15, z)),
        box(rail, (x - 1.3, x + 1.3), (-1.12, -1.05), (z + 0.95, z + 1.02)),
        *bars,
    ]
