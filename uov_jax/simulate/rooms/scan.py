"""The scan of a simulated room: points of the surfaces that a camera on its way around saw."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.rooms.kinds import CLASS_OF_KIND, KINDS, NYU40_OF_KIND
from uov_jax.simulate.rooms.room import SimulatedRoom
from uov_jax.simulate.rooms.views import depth_of, developed, intrinsics, light_of

Float32 = NDArray[np.float32]
Generator = np.random.Generator
CHOICE = 1.8  # seen points to choose one from
NOISE = 0.003  # metres
CANNOT_BE_SEEN = 0.03  # metres behind what a camera sees, and the same per 3 m of distance
DEPTH_WIDTH, DEPTH_HEIGHT = 160, 120
STEEPEST = 0.08  # cosine under which a camera sees nothing of a surface


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """The points of a room.

    Attributes:
        coords: float32[N, 3], metres, in the frame of the scan.
        colors: uint8[N, 3].
        labels: uint8[N], classes 1 to 20, 0 for none.
        nyu40: uint16[N], NYU's label.
        objects: int32[N], number of the object within the room.

    """

    coords: Float32
    colors: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    nyu40: NDArray[np.uint16]
    objects: NDArray[np.int32]


def scan_room(
    room: SimulatedRoom, poses: NDArray[np.float64], density: int, generator: Generator
) -> Scan:
    """Scan what cameras at poses [n, 4, 4] (camera to room) see.

    Points lie about evenly on the seen surfaces, as the vertices of ScanNet's meshes do.

    Args:
        room: to scan.
        poses: more of them than there are frames: a scanner films all the way.
        density: about so many points.
        generator: of all that varies.

    """
    depths = [depth_of(room, pose, DEPTH_WIDTH, DEPTH_HEIGHT) for pose in poses]

    def drawn(count: int) -> tuple[Float32, NDArray[np.int32]]:
        points, face = _surface_points(room, count, generator)
        seen = np.zeros(count, bool)
        for pose, depth in zip(poses, depths, strict=True):
            rest = np.flatnonzero(~seen)
            seen[rest] = visible(pose, depth, points[rest], room.normals[face[rest]])
        return points[seen], face[seen]

    # Most of all surfaces is inside of walls and furniture: how much, the first draw tells.
    wanted = round(CHOICE * density)
    points, face = drawn(2 * wanted)
    if 0 < len(points) < wanted:
        more = drawn(2 * wanted * (wanted - len(points)) // len(points))
        points, face = np.concatenate([points, more[0]]), np.concatenate([face, more[1]])
    kept = _evenly(points, density, generator)
    points, face = points[kept], face[kept]
    light = light_of(room, face, points)
    light *= generator.normal(1.0, 0.04, (len(points), 1)).astype(np.float32)
    kind = room.mesh.kind[face]
    noisy = points + generator.normal(0, NOISE, points.shape)
    world = noisy @ room.to_world[:3, :3].T + room.to_world[:3, 3]
    return Scan(
        world.astype(np.float32),
        developed(light),
        CLASS_OF_KIND[kind],
        NYU40_OF_KIND[kind],
        room.mesh.instance[face] * np.int32(len(KINDS)) + kind,
    )


def visible(
    pose: NDArray[np.float64], depth: Float32, points: Float32, normals: Float32
) -> NDArray[np.bool_]:
    """bool[N]: the points [N, 3] that a camera sees, by the true depth [h, w] under each."""
    matrix = intrinsics(DEPTH_WIDTH, DEPTH_HEIGHT)
    offset = points - pose[:3, 3].astype(np.float32)
    away = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    ahead = offset @ pose[:3, 2].astype(np.float32)
    facing = -np.einsum("ij,ij->i", offset, normals) > STEEPEST * away
    found = np.flatnonzero(facing & (ahead > 0.2))
    z = ahead[found]
    beside = offset[found] @ pose[:3, :2].astype(np.float32)
    u = np.rint(matrix[0, 0] * beside[:, 0] / z + matrix[0, 2])
    v = np.rint(matrix[1, 1] * beside[:, 1] / z + matrix[1, 2])
    inside = (u >= 0) & (u < DEPTH_WIDTH) & (v >= 0) & (v < DEPTH_HEIGHT)
    found, z = found[inside], z[inside]
    before = depth[v[inside].astype(np.intp), u[inside].astype(np.intp)]
    result = np.zeros(len(points), bool)
    result[found] = z - before < CANNOT_BE_SEEN * (1 + z / 3)
    return result


def _surface_points(
    room: SimulatedRoom, count: int, generator: Generator
) -> tuple[Float32, NDArray[np.int32]]:
    """Points drawn evenly from all faces that a camera could face, and the face of each."""
    mesh = room.mesh
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    cumulative = np.cumsum(area)
    drawn = np.sort(generator.random(count)) * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, drawn), len(area) - 1).astype(np.int32)
    first, second = np.sqrt(generator.random(len(face))), generator.random(len(face))
    weights = np.stack([1 - first, first * (1 - second), first * second], axis=1)
    corners = mesh.vertices[mesh.faces[face]]
    return np.einsum("nk,nkd->nd", weights, corners).astype(np.float32), face


def _evenly(points: Float32, count: int, generator: Generator) -> NDArray[np.intp]:
    """About so many of the points, no two of them in one cell of a grid."""
    if len(points) <= count:
        return np.arange(len(points))
    small, large = 0.001, 0.5
    kept = np.arange(len(points))
    for _ in range(12):
        size = np.sqrt(small * large)
        cells = np.floor(points / size).astype(np.int64)
        code = (cells[:, 0] * 1_000_003 + cells[:, 1]) * 1_000_003 + cells[:, 2]
        _, kept = np.unique(code, return_index=True)
        small, large = (size, large) if len(kept) > count else (small, size)
        if abs(len(kept) - count) < 0.01 * count:
            break
    return generator.permutation(kept)
