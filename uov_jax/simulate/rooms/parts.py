"""Parts that furniture is made of.

Pieces have their back at y = 0 and their front towards +y, their middle at x = 0 and their feet at
z = 0; lengths are in metres.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Mesh, Surface, box, merge, prism, tube

Pair = tuple[float, float]


def centered(width: float) -> Pair:
    """From half a width left of the middle to half a width right of it."""
    return (-width / 2, width / 2)


def legs(surface: Surface, x: Pair, y: Pair, height: float, thick: float) -> list[Mesh]:
    """Four square legs within a rectangle."""
    return [
        box(surface, side, end, (0.0, height))
        for side in ((x[0], x[0] + thick), (x[1] - thick, x[1]))
        for end in ((y[0], y[0] + thick), (y[1] - thick, y[1]))
    ]


def fronts(
    surface: Surface,
    handle: Surface,
    x: Pair,
    z: Pair,
    y: float,
    columns: int,
    rows: int,
    upright: bool,
) -> list[Mesh]:
    """Doors or drawers of a front at y, each with a gap around it and a handle."""
    parts = []
    wide, high = (x[1] - x[0]) / columns, (z[1] - z[0]) / rows
    for column in range(columns):
        for row in range(rows):
            left, low = x[0] + column * wide, z[0] + row * high
            parts.append(
                box(
                    surface,
                    (left + 0.008, left + wide - 0.008),
                    (y, y + 0.018),
                    (low + 0.008, low + high - 0.008),
                )
            )
            if upright:
                at = left + (wide - 0.05 if column % 2 == 0 else 0.05)
                bar = ((at - 0.008, at + 0.008), (low + 0.35 * high, low + 0.65 * high))
            else:
                at = left + wide / 2
                bar = ((at - 0.07, at + 0.07), (low + 0.7 * high, low + 0.7 * high + 0.016))
            parts.append(box(handle, bar[0], (y + 0.018, y + 0.045), bar[1]))
    return parts


def sheet(
    surface: Surface,
    x: Pair,
    z: Pair,
    y: float,
    depth: float,
    folds: float,
    generator: np.random.Generator,
) -> Mesh:
    """Hanging cloth in folds `depth` deep around y, wider folds at its foot."""
    count = max(6, round(folds * 8))
    along = np.linspace(x[0], x[1], count + 1)
    phase = generator.uniform(0, 2 * np.pi)
    sway = phase + 2 * np.pi * folds * np.linspace(0, 1, count + 1)
    sway += 0.5 * np.sin(2.3 * sway)
    low, high = y + depth * np.sin(sway), y + 0.6 * depth * np.sin(sway)
    thick = 0.012
    strips = []
    for i in range(count):
        strips.append(
            prism(
                surface,
                [
                    (along[i], low[i], z[0]),
                    (along[i + 1], low[i + 1], z[0]),
                    (along[i + 1], low[i + 1] + thick, z[0]),
                    (along[i], low[i] + thick, z[0]),
                ],
                [
                    (along[i], high[i], z[1]),
                    (along[i + 1], high[i + 1], z[1]),
                    (along[i + 1], high[i + 1] + thick, z[1]),
                    (along[i], high[i] + thick, z[1]),
                ],
            )
        )
    return merge(strips)


def basin(surface: Surface, x: Pair, y: Pair, z: Pair, rim: float) -> list[Mesh]:
    """A trough: four walls as thick as the rim, and a floor."""
    floor = z[0] + 0.25 * (z[1] - z[0])
    return [
        box(surface, (x[0], x[0] + rim), y, z),
        box(surface, (x[1] - rim, x[1]), y, z),
        box(surface, (x[0] + rim, x[1] - rim), (y[0], y[0] + rim), z),
        box(surface, (x[0] + rim, x[1] - rim), (y[1] - rim, y[1]), z),
        box(surface, (x[0] + rim, x[1] - rim), (y[0] + rim, y[1] - rim), (z[0], floor)),
    ]


def faucet(surface: Surface, y: float, z: float, size: float = 0.16) -> list[Mesh]:
    """A tap that stands at y and reaches forward."""
    return [
        tube(surface, (0, y, z), (0, y, z + size), 0.014),
        tube(surface, (0, y, z + size), (0, y + 0.8 * size, z + 0.8 * size), 0.012),
    ]


def cushion(surface: Surface, x: Pair, y: Pair, z: Pair) -> Mesh:
    """A block with slanting edges."""
    inset = min(0.25 * (z[1] - z[0]), 0.05)
    middle = (z[0] + z[1]) / 2

    def ring(by: float, height: float) -> list[tuple[float, float, float]]:
        return [
            (x[0] + by, y[0] + by, height),
            (x[1] - by, y[0] + by, height),
            (x[1] - by, y[1] - by, height),
            (x[0] + by, y[1] - by, height),
        ]

    return merge(
        [
            prism(surface, ring(inset, z[0]), ring(0.0, middle)),
            prism(surface, ring(0.0, middle), ring(inset, z[1])),
        ]
    )


def moved(mesh: Mesh, by: Sequence[float], yaw: float = 0.0) -> Mesh:
    """A mesh turned about z, then moved; its faces keep their objects."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return dataclasses.replace(mesh, vertices=mesh.vertices @ turn + np.asarray(by, np.float64))


def of_object(mesh: Mesh, number: int) -> Mesh:
    """The mesh with all its faces part of one object."""
    return dataclasses.replace(mesh, instance=np.full(len(mesh.faces), number, np.int32))


def normals_of(mesh: Mesh) -> NDArray[np.float32]:
    """float32[F, 3]: outward unit normals."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return (normal / length).astype(np.float32)
