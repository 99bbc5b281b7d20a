"""Beds, chairs and sofas."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.geometry import Mesh, box, frustum, merge, tube
from uov_jax.simulate.rooms.materials import board, cloth, darker, metal, of_kind, white, wood
from uov_jax.simulate.rooms.parts import centered, cushion, legs, moved

Generator = np.random.Generator


def bed(generator: Generator) -> Mesh:
    """A bed for one or two, its head at the wall."""
    width = generator.choice([0.9, 1.2, 1.5, 1.8]) * generator.uniform(0.97, 1.03)
    length = generator.uniform(1.95, 2.15)
    seat = generator.uniform(0.26, 0.4)
    top = seat + generator.uniform(0.16, 0.26)
    frame = board("bed", generator)
    linen = white("bed", generator) if generator.random() < 0.6 else cloth("bed", generator)
    blanket = cloth("bed", generator, 0.7)
    x = centered(width)
    parts = [
        box(frame, x, (0.05, length), (0.1, seat)),
        *legs(frame, x, (0.05, length), 0.1, 0.07),
        cushion(linen, (x[0] + 0.02, x[1] - 0.02), (0.06, length - 0.02), (seat, top)),
    ]
    head = generator.uniform(0.75, 1.2)
    parts.append(box(frame, (x[0] - 0.03, x[1] + 0.03), (0.0, 0.05), (0.0, head)))
    if generator.random() < 0.35:
        parts.append(box(frame, x, (length, length + 0.04), (0.0, top + 0.1)))
    start = generator.uniform(0.5, 1.0)
    hang = generator.uniform(0.1, 0.22)
    parts.append(
        frustum(
            blanket,
            (x[0] - 0.02, x[1] + 0.02, start, length),
            (x[0] - 0.01, x[1] + 0.01, start, length - 0.01),
            (top - hang, top + 0.035),
        )
    )
    if generator.random() < 0.6:
        parts.append(
            cushion(
                of_kind(blanket, "bed"),
                (x[0], x[1]),
                (start, start + 0.3),
                (top, top + 0.08),
            )
        )
    count = 2 if width > 1.3 else 1
    for number in range(count):
        at = x[0] + (number + 0.5) * width / count
        pillow = (
            white("pillow", generator) if generator.random() < 0.6 else cloth("pillow", generator)
        )
        parts.append(cushion(pillow, (at - 0.3, at + 0.3), (0.1, 0.48), (top + 0.01, top + 0.15)))
    return merge(parts)


def dining_chair(generator: Generator) -> Mesh:
    """Four legs, a seat and a back."""
    width, depth = generator.uniform(0.4, 0.5), generator.uniform(0.4, 0.5)
    seat, back = generator.uniform(0.42, 0.48), generator.uniform(0.8, 1.02)
    frame = (wood if generator.random() < 0.7 else metal)("chair", generator)
    soft = cloth("chair", generator) if generator.random() < 0.5 else frame
    x = centered(width)
    parts = [
        *legs(frame, x, (0.0, depth), seat, 0.035),
        box(soft, x, (0.0, depth), (seat, seat + 0.045)),
        box(frame, (x[0], x[0] + 0.035), (0.0, 0.035), (seat, back)),
        box(frame, (x[1] - 0.035, x[1]), (0.0, 0.035), (seat, back)),
    ]
    if generator.random() < 0.5:
        parts.append(box(soft, x, (0.005, 0.03), (seat + 0.14, back)))
    else:
        count = int(generator.integers(2, 5))
        for number in range(count):
            low = seat + 0.1 + (back - seat - 0.1) * number / count
            parts.append(box(frame, x, (0.008, 0.028), (low, low + 0.06)))
    return merge(parts)


def office_chair(generator: Generator) -> Mesh:
    """A star of five feet, a column, a padded seat and back, often arms."""
    soft = cloth("chair", generator, 0.4)
    soft = darker(soft, 0.5) if generator.random() < 0.6 else soft
    steel = metal("chair", generator)
    seat = generator.uniform(0.43, 0.52)
    center = 0.32
    parts = []
    for angle in 2 * np.pi * np.arange(5) / 5 + generator.uniform(0, 1):
        foot = (0.29 * np.cos(angle), center + 0.29 * np.sin(angle), 0.06)
        parts.append(tube(steel, (0, center, 0.1), foot, 0.025, 0.018, sides=5))
        parts.append(tube(darker(steel), (foot[0], foot[1], 0.0), foot, 0.028, sides=6))
    back = seat + generator.uniform(0.45, 0.65)
    parts += [
        tube(steel, (0, center, 0.08), (0, center, seat), 0.028),
        cushion(soft, centered(0.48), (center - 0.22, center + 0.26), (seat, seat + 0.09)),
        cushion(soft, centered(0.44), (center - 0.3, center - 0.22), (seat + 0.14, back)),
        box(steel, centered(0.06), (center - 0.26, center - 0.22), (seat, seat + 0.2)),
    ]
    if generator.random() < 0.7:
        for side in (-0.27, 0.27):
            x = (side - 0.03, side + 0.03)
            parts.append(box(steel, x, (center - 0.1, center + 0.14), (seat + 0.2, seat + 0.24)))
            parts.append(box(steel, x, (center, center + 0.04), (seat, seat + 0.2)))
    return merge(parts)


def armchair(generator: Generator) -> Mesh:
    """A padded chair with arms."""
    return _padded("chair", generator.uniform(0.75, 0.95), 1, generator)


def sofa(generator: Generator) -> Mesh:
    """A sofa for two or three, now and then with a long seat at one end."""
    seats = int(generator.integers(2, 4))
    width = seats * generator.uniform(0.66, 0.8) + 0.3
    return _padded("sofa", width, seats, generator)


def _padded(kind: str, width: float, seats: int, generator: Generator) -> Mesh:
    depth = generator.uniform(0.78, 0.98)
    seat, back = generator.uniform(0.4, 0.47), generator.uniform(0.74, 0.95)
    arm, arm_height = generator.uniform(0.1, 0.22), generator.uniform(0.54, 0.66)
    soft = cloth(kind, generator)
    x = centered(width)
    inner = (x[0] + arm, x[1] - arm)
    parts = [
        box(darker(soft, 0.85), x, (0.05, depth - 0.03), (0.07, seat - 0.13)),
        *legs(wood(kind, generator), x, (0.06, depth - 0.04), 0.07, 0.05),
        frustum(soft, (*x, 0.0, 0.24), (x[0], x[1], 0.02, 0.16), (0.08, back)),
        cushion(soft, (x[0], inner[0]), (0.02, depth), (0.08, arm_height)),
        cushion(soft, (inner[1], x[1]), (0.02, depth), (0.08, arm_height)),
    ]
    step = (inner[1] - inner[0]) / seats
    for number in range(seats):
        own = (inner[0] + number * step + 0.005, inner[0] + (number + 1) * step - 0.005)
        parts.append(cushion(soft, own, (0.22, depth), (seat - 0.13, seat)))
        parts.append(cushion(soft, own, (0.16, 0.34), (seat, back - 0.04)))
        if generator.random() < 0.4:
            pillow = cloth("pillow", generator, 0.8)
            middle = (own[0] + own[1]) / 2
            part = cushion(pillow, centered(0.4), centered(0.13), (0.0, 0.38))
            parts.append(moved(part, (middle, 0.42, seat), generator.uniform(-0.3, 0.3)))
    if kind == "sofa" and generator.random() < 0.3:
        long = (inner[1] - step, x[1]) if generator.random() < 0.5 else (x[0], inner[0] + step)
        parts.append(cushion(soft, long, (depth, depth + 0.6), (0.08, seat)))
    return merge(parts)
