"""What furniture is made of: colours of wood, cloth, paint, and textures fixed in space.

Many classes share a material, so that colour hints at a class as it does in real rooms: a toilet is
white, but so are doors, cabinets and refrigerators.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import GLASS, PLAIN, ROUGH, Color, Surface
from uov_jax.simulate.rooms.kinds import KIND

Float32 = NDArray[np.float32]

# Textures beside those of `geometry.py`.
WOOD, TILES, ART, BOOKS, PLANKS, SCREEN = 5, 6, 7, 8, 9, 10

_WOODS = (
    (0.62, 0.44, 0.27),
    (0.45, 0.29, 0.17),
    (0.74, 0.58, 0.38),
    (0.30, 0.19, 0.12),
    (0.82, 0.70, 0.53),
    (0.52, 0.25, 0.14),
)


def wood(kind: str, generator: np.random.Generator) -> Surface:
    """One of some woods, a little lighter or darker."""
    return Surface(KIND[kind], _varied(_WOODS[generator.integers(len(_WOODS))], generator), 0, WOOD)


def cloth(kind: str, generator: np.random.Generator, vivid: float = 0.55) -> Surface:
    """Cloth of any hue; greys, blues and browns are the most frequent."""
    hue = generator.choice([generator.random(), generator.normal(0.6, 0.05), 0.08])
    rgb = colorsys.hsv_to_rgb(
        float(hue) % 1.0, float(vivid * generator.random()), float(generator.uniform(0.15, 0.8))
    )
    return Surface(KIND[kind], _varied(rgb, generator), 0, ROUGH)


def white(kind: str, generator: np.random.Generator) -> Surface:
    """White or cream paint, or ceramics."""
    light = generator.uniform(0.72, 0.9)
    return Surface(KIND[kind], (light, light * 0.985, light * generator.uniform(0.88, 0.99)), 0)


def paint(kind: str, generator: np.random.Generator) -> Surface:
    """Pale paint of any hue, as on walls."""
    rgb = colorsys.hsv_to_rgb(
        float(generator.random()),
        float(0.35 * generator.random() ** 2),
        float(generator.uniform(0.6, 0.9)),
    )
    return Surface(KIND[kind], rgb, 0)


def metal(kind: str, generator: np.random.Generator) -> Surface:
    """Grey metal or black lacquer."""
    light = generator.choice([0.08, 0.35, 0.55]) * generator.uniform(0.8, 1.2)
    return Surface(KIND[kind], (light, light, light * 1.03), 0)


def board(kind: str, generator: np.random.Generator) -> Surface:
    """What cupboards, doors and tables are made of: wood, or painted wood."""
    made = (wood, wood, white, metal)[generator.choice(4, p=[0.4, 0.2, 0.3, 0.1])]
    return made(kind, generator)


def darker(surface: Surface, factor: float = 0.6) -> Surface:
    """The same a little darker."""
    red, green, blue = surface.color
    return surface._replace(color=(red * factor, green * factor, blue * factor))


def of_kind(surface: Surface, kind: str) -> Surface:
    """The same material as part of something else."""
    return surface._replace(kind=KIND[kind])


def _varied(rgb: tuple[float, float, float], generator: np.random.Generator) -> Color:
    factor = generator.uniform(0.8, 1.2)
    red, green, blue = (min(0.95, value * factor * generator.uniform(0.95, 1.05)) for value in rgb)
    return red, green, blue


def textured(
    color: Float32, texture: NDArray[np.uint8], points: Float32, normals: Float32, noise: Float32
) -> Float32:
    """Albedo of points.

    Args:
        color: float32[N, 3], of the faces that they lie on.
        texture: uint8[N], of these faces.
        points: float32[N, 3], metres, in the room's own frame.
        normals: float32[N, 3], of the faces.
        noise: float32[S, S], repeating, of mean 0.

    Returns:
        float32[N, 3].

    """
    across, up = _flat(points, normals)
    albedo = color.copy()
    _speckle(albedo, texture == PLAIN, across, up, noise, 0.03, 40.0)
    _speckle(albedo, texture == ROUGH, across, up, noise, 0.14, 170.0)
    for grain, stretch in ((WOOD, 9.0), (PLANKS, 7.0)):
        some = np.flatnonzero(texture == grain)
        albedo[some] *= _grain(across[some], up[some], stretch, noise)[:, None]
    some = np.flatnonzero(texture == PLANKS)
    joint = np.mod(up[some], 0.14) < 0.008
    albedo[some[joint]] *= 0.6
    some = np.flatnonzero(texture == TILES)
    joint = (np.mod(across[some], 0.2) < 0.01) | (np.mod(up[some], 0.2) < 0.01)
    albedo[some[joint]] *= 0.7
    for blocks, cell in ((ART, (0.11, 0.09)), (BOOKS, (0.035, 10.0))):
        some = np.flatnonzero(texture == blocks)
        albedo[some] = _blocks(color[some], across[some], up[some], cell)
    some = np.flatnonzero(texture == GLASS)
    albedo[some] *= np.clip(0.55 + 0.35 * up[some], 0.4, 1.3)[:, None]
    return np.clip(albedo, 0.02, 0.97)


def _flat(points: Float32, normals: Float32) -> tuple[Float32, Float32]:
    """Coordinates within a face: along the floor's x and y, or around the walls and up."""
    level = np.abs(normals[:, 2]) > 0.7
    along_x = np.abs(normals[:, 1]) > np.abs(normals[:, 0])
    across = np.where(level | along_x, points[:, 0], points[:, 1])
    up = np.where(level, points[:, 1], points[:, 2])
    return across, up


def _speckle(
    albedo: Float32,
    where: NDArray[np.bool_],
    across: Float32,
    up: Float32,
    noise: Float32,
    strength: float,
    scale: float,
) -> None:
    some = np.flatnonzero(where)
    size = len(noise)
    row = (up[some] * scale).astype(np.int32) % size
    column = (across[some] * scale).astype(np.int32) % size
    albedo[some] *= (1 + np.float32(strength) * noise[row, column])[:, None]


def _grain(across: Float32, up: Float32, stretch: float, noise: Float32) -> Float32:
    size = len(noise)
    row = (up * 25.0 * stretch).astype(np.int32) % size
    column = (across * 25.0).astype(np.int32) % size
    return 1 + np.float32(0.13) * noise[row, column]


def _blocks(color: Float32, across: Float32, up: Float32, cell: tuple[float, float]) -> Float32:
    """Patches of many colours, fixed in space, around the face's own."""
    column = np.floor(across / cell[0]).astype(np.int64)
    row = np.floor(up / cell[1]).astype(np.int64)
    mixed = ((column * 73856093) ^ (row * 19349663)) & 0xFFFFFF
    rgb = np.stack([(mixed * step >> 7) & 255 for step in (7, 13, 29)], axis=1) / 255.0
    return (0.45 * color + 0.55 * (0.08 + 0.75 * rgb)).astype(np.float32)
