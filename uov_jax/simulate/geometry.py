"""Triangle meshes of the simulated world, built from prisms, tubes, rings and leaves."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Color = tuple[float, float, float]

PLAIN, LEAF, ROUGH, GLASS, BRICK = 0, 1, 2, 3, 4
FACADE = 16  # facades use texture numbers from here on, one per style


class Surface(NamedTuple):
    """What a face is made of; colour is an albedo in 0..1, reflectivity at the LiDAR's 905 nm."""

    kind: int
    color: Color
    reflectivity: float
    texture: int = PLAIN


@dataclass(frozen=True)
class Mesh:
    """Triangles with outward normals and what each is made of.

    vertices float64[V, 3] in metres, faces int32[F, 3]; per face kind uint8, color float32[F, 3],
    reflectivity float32, texture uint8, instance int32 (0: part of no annotated object).
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    kind: NDArray[np.uint8]
    color: NDArray[np.float32]
    reflectivity: NDArray[np.float32]
    texture: NDArray[np.uint8]
    instance: NDArray[np.int32]

    def placed(self, x: float, y: float, z: float, yaw: float, instance: int = 0) -> Mesh:
        """The mesh turned by ``yaw`` about z, then moved; with ``instance`` on every face."""
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return replace(
            self,
            vertices=self.vertices @ turn + np.array([x, y, z]),
            instance=np.full(len(self.faces), instance, np.int32),
        )

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)


def _mesh(vertices: ArrayLike, faces: ArrayLike, surface: Surface) -> Mesh:
    triangles = np.asarray(faces, np.int32).reshape(-1, 3)
    count = len(triangles)
    color = np.empty((count, 3), np.float32)
    color[:] = surface.color
    return Mesh(
        np.asarray(vertices, np.float64).reshape(-1, 3),
        triangles,
        np.full(count, surface.kind, np.uint8),
        color,
        np.full(count, surface.reflectivity, np.float32),
        np.full(count, surface.texture, np.uint8),
        np.zeros(count, np.int32),
    )


def merge(meshes: Iterable[Mesh]) -> Mesh:
    """All meshes as one, faces in the given order."""
    parts = list(meshes)
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(
            [part.faces + np.int32(start) for part, start in zip(parts, starts, strict=False)]
        ),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("kind", "color", "reflectivity", "texture", "instance")
        ),
    )


@functools.lru_cache(maxsize=32)
def _prism_faces(n: int) -> NDArray[np.int32]:
    """Faces of a prism over rings of n corners: 2n sides, then both caps as fans."""
    this, following = np.arange(n), (np.arange(n) + 1) % n
    fan = np.stack([np.zeros(n - 2, int), np.arange(1, n - 1), np.arange(2, n)], axis=1)
    return np.concatenate(
        [
            np.stack([this, following, following + n], axis=1),
            np.stack([this, following + n, this + n], axis=1),
            fan[:, ::-1],
            fan + n,
        ]
    ).astype(np.int32)


def prism(side: Surface, bottom: ArrayLike, top: ArrayLike, cap: Surface | None = None) -> Mesh:
    """A solid between two convex rings of equal length, each [n, 3].

    The rings run counter-clockwise seen from the top. ``cap`` is the surface of both ends.
    """
    vertices = np.concatenate([np.asarray(bottom, np.float64), np.asarray(top, np.float64)])
    n = len(vertices) // 2
    mesh = _mesh(vertices, _prism_faces(n), side)
    if cap is not None:
        mesh.kind[2 * n :] = cap.kind
        mesh.color[2 * n :] = cap.color
        mesh.reflectivity[2 * n :] = cap.reflectivity
        mesh.texture[2 * n :] = cap.texture
    return mesh


def frustum(
    side: Surface,
    bottom: tuple[float, float, float, float],
    top: tuple[float, float, float, float],
    z: tuple[float, float],
    cap: Surface | None = None,
) -> Mesh:
    """A block whose level ends are the rectangles (x0, x1, y0, y1) ``bottom`` and ``top``."""

    def ring(rectangle: tuple[float, float, float, float], height: float) -> list[Color]:
        x0, x1, y0, y1 = rectangle
        return [(x0, y0, height), (x1, y0, height), (x1, y1, height), (x0, y1, height)]

    return prism(side, ring(bottom, z[0]), ring(top, z[1]), cap)


def box(
    surface: Surface, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]
) -> Mesh:
    """An upright block between the given limits."""
    return frustum(surface, (*x, *y), (*x, *y), z)


def extrude(
    side: Surface,
    profile: Sequence[tuple[float, float]],
    y: tuple[float, float],
    cap: Surface | None = None,
) -> Mesh:
    """A convex (x, z) profile, counter-clockwise seen from the right, drawn from y[0] to y[1]."""
    outline = np.asarray(profile, np.float64)

    def ring(at: float) -> NDArray[np.float64]:
        return np.stack([outline[:, 0], np.full(len(outline), at), outline[:, 1]], axis=1)

    return prism(side, ring(y[1]), ring(y[0]), cap)


def _perpendicular(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y, z = axis.tolist()
    first = np.array([-y, x, 0.0]) if abs(z) < 0.9 else np.array([0.0, -z, y])
    first /= np.sqrt(first @ first)
    a, b, c = first.tolist()
    return first, np.array([y * c - z * b, z * a - x * c, x * b - y * a])


@functools.lru_cache(maxsize=32)
def _circle(sides: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def tube(
    surface: Surface,
    start: ArrayLike,
    end: ArrayLike,
    radius: float,
    end_radius: float | None = None,
    sides: int = 6,
    cap: Surface | None = None,
) -> Mesh:
    """A round bar, cone or disc from ``start`` to ``end``."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = b - a
    axis /= np.sqrt(axis @ axis)
    u, v = _perpendicular(axis)
    circle = _circle(sides) @ np.stack([u, v])
    last = radius if end_radius is None else max(end_radius, 1e-4)
    return prism(surface, a + radius * circle, b + last * circle, cap)


def wheel(rubber: Surface, hub: Surface, x: float, y: float, radius: float, width: float) -> Mesh:
    """A disc wheel standing on the ground at (x, y), its axle along y."""
    inside, outside = y - width / 2, y + width / 2
    return merge(
        [
            tube(rubber, (x, inside, radius), (x, outside, radius), radius, sides=14),
            tube(
                hub, (x, inside - 0.01, radius), (x, outside + 0.01, radius), 0.6 * radius, sides=8
            ),
        ]
    )


def ring(surface: Surface, x: float, radius: float, thickness: float, sides: int = 14) -> Mesh:
    """A thin wheel without a disc, standing on the ground at x in the plane y = 0."""
    angle = 2 * np.pi * np.arange(sides + 1) / sides
    points = np.stack(
        [x + radius * np.cos(angle), np.zeros(sides + 1), radius + radius * np.sin(angle)], axis=1
    )
    return merge(
        tube(surface, points[i], points[i + 1], thickness / 2, sides=4) for i in range(sides)
    )


def ellipsoid(surface: Surface, center: ArrayLike, radii: ArrayLike) -> Mesh:
    """A coarse ball: three stacked rings and two tips."""
    c, r = np.asarray(center, np.float64), np.asarray(radii, np.float64)
    angle = 2 * np.pi * np.arange(8) / 8
    levels = np.array([-1.0, -0.7, 0.0, 0.7, 1.0])
    widths = np.array([0.25, 0.72, 1.0, 0.72, 0.25])
    rings = [
        c
        + r
        * np.stack(
            [width * np.cos(angle), width * np.sin(angle), np.full(8, level)],
            axis=1,
        )
        for level, width in zip(levels, widths, strict=True)
    ]
    return merge(prism(surface, low, high) for low, high in zip(rings[:-1], rings[1:], strict=True))


def leaves(
    surface: Surface,
    centers: NDArray[np.float64],
    size: float,
    generator: np.random.Generator,
) -> Mesh:
    """Randomly turned square leaves around ``centers`` [n, 3], of varied brightness."""
    n = len(centers)
    u = generator.normal(size=(n, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(u, generator.normal(size=(n, 3)))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    half = 0.5 * size * generator.uniform(0.6, 1.4, (n, 1))
    corners = np.stack(
        [
            centers - half * u - half * v,
            centers + half * u - half * v,
            centers + half * u + half * v,
            centers - half * u + half * v,
        ],
        axis=1,
    )
    first = 4 * np.arange(n)[:, None]
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    mesh = _mesh(corners, faces, surface)
    shade = np.tile(generator.uniform(0.65, 1.3, (n, 1)), (2, 1)).astype(np.float32)
    return replace(mesh, color=mesh.color * shade)
