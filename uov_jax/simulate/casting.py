"""Ray casting: what every ray of a sensor meets first, the world moving meanwhile.

What stands is one set of triangles (`triangles.py`); each moving object is its own, in its own
frame, and rays are brought into that frame at the time they are sent. So nothing is rebuilt between
sensors, and each ray of a turning LiDAR sees the world of its own moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate import vehicles
from uov_jax.simulate.geometry import FACADE, GLASS, LEAF, Mesh
from uov_jax.simulate.ground import MATERIALS
from uov_jax.simulate.motion import Motion
from uov_jax.simulate.scene import Scene
from uov_jax.simulate.triangles import triangles_of

Float32 = NDArray[np.float32]
Indices = NDArray[np.int32]

GROUND_ROUGH = 5  # texture of all ground covers
BUNDLE = 32  # rays tested together; a column of the LiDAR has as many
FASTEST = 20.0  # m/s; nothing moves faster
SHADOWS_OF_MOVING = 60.0  # metres


@dataclass(frozen=True)
class Faces:
    """What every face of the world is made of; the ground's materials are the last ones.

    kind, texture uint8[F]; color float32[F, 3]; reflectivity, roughness float32[F]; instance
    int32[F]; normal float32[F, 3] outward, in the frame of the object.
    """

    kind: NDArray[np.uint8]
    texture: NDArray[np.uint8]
    color: Float32
    reflectivity: Float32
    roughness: Float32
    instance: Indices
    normal: Float32


class _Body:
    """A shape ready for casting in its own frame, with the first of its faces' numbers."""

    def __init__(self, mesh: Mesh, first_face: int, motion: Motion | None) -> None:
        self.first_face, self.motion = first_face, motion
        self.num_faces = len(mesh.faces)
        low, high = mesh.bounds()
        self.low, self.high = low.astype(np.float32), high.astype(np.float32)
        self.center = 0.5 * (self.low + self.high)
        self.radius = 0.5 * float(np.linalg.norm(high - low))
        self.triangles = triangles_of(mesh)

    def intersect(self, origins: Float32, directions: Float32) -> tuple[Float32, Indices]:
        """Distance (`FAR` for none) and face."""
        distance, face = self.triangles.intersect(origins, directions)
        face[face >= 0] += self.first_face
        return distance, face


def _normals(mesh: Mesh) -> Float32:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )


def _faces(meshes: list[Mesh]) -> Faces:
    ground = MATERIALS
    count = len(ground)

    def joined(name: str, last: list[object], dtype: type) -> np.ndarray:
        return np.concatenate([*(getattr(mesh, name) for mesh in meshes), np.asarray(last, dtype)])

    texture = joined("texture", [GROUND_ROUGH] * count, np.uint8)
    roughness = np.where(texture == LEAF, np.float32(0.02), np.float32(0.0))
    roughness[-count:] = [material.roughness for material in ground]
    return Faces(
        joined("kind", [material.kind for material in ground], np.uint8),
        texture,
        joined("color", [material.color for material in ground], np.float32),
        joined("reflectivity", [material.reflectivity for material in ground], np.float32),
        roughness,
        joined("instance", [0] * count, np.int32),
        np.concatenate(
            [
                *(_normals(mesh) for mesh in meshes),
                np.tile(np.array([0, 0, 1], np.float32), (count, 1)),
            ]
        ),
    )


class _Bundles:
    """Runs of consecutive rays, each with one of its rays and how far the others stray from it."""

    def __init__(self, origins: Float32, directions: Float32) -> None:
        self._count = len(origins)
        first = np.arange(0, self._count, BUNDLE)
        last = np.minimum(first + BUNDLE, self._count) - 1
        middle = (first + last) // 2
        self._origin, self._direction = origins[middle], directions[middle]
        self._stray = _spread(origins, first)
        self._turn = _spread(directions, first)

    def near(
        self, body: _Body, rotation: Float32, translation: Float32, slack: float
    ) -> NDArray[np.intp]:
        """Indices of the rays of all bundles that may meet a body, ``slack`` metres around it."""
        offset = rotation @ body.center + translation - self._origin
        along = np.einsum("ij,ij->i", offset, self._direction)
        square = np.einsum("ij,ij->i", offset, offset)
        width = self._stray + self._turn * np.sqrt(square) + np.float32(slack)
        reach = body.radius + width
        chosen = np.flatnonzero((square - along * along < reach * reach) & (along > -reach))
        origin = (self._origin[chosen] - translation) @ rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / (self._direction[chosen] @ rotation)
            one = (body.low - width[chosen, None] - origin) * inverse
            other = (body.high + width[chosen, None] - origin) * inverse
        enter = np.fmax.reduce(np.fmin(one, other), axis=1)
        leave = np.fmin.reduce(np.fmax(one, other), axis=1)
        chosen = chosen[(enter <= leave) & (leave >= 0)]
        rays = (chosen[:, None] * BUNDLE + np.arange(BUNDLE)).ravel()
        return rays[: int(np.searchsorted(rays, self._count))]

    def sight(self) -> tuple[Float32, Float32, float]:
        """A cone around all rays: apex, direction and the cosine of its half angle, less a bit."""
        axis = self._direction.mean(axis=0)
        size = float(np.linalg.norm(axis))
        if size < 0.2:
            return self._origin[0], self._direction[0], -1.0
        cosine = float((self._direction @ (axis / size)).min())
        return self._origin[0], axis / size, cosine


def _spread(rows: Float32, first: NDArray[np.intp]) -> Float32:
    """Diagonal of the box around each bundle's rows; 0 where all rows are one and the same."""
    if rows.strides[0] == 0:
        return np.zeros(len(first), np.float32)
    extent = np.maximum.reduceat(rows, first) - np.minimum.reduceat(rows, first)
    return np.linalg.norm(extent, axis=1)


def _in_cone(offset: Float32, axis: Float32, cosine: float, radius: float) -> bool:
    """Whether a ball, seen from a cone's apex, may reach into the cone."""
    distance = float(np.linalg.norm(offset))
    if distance <= radius or cosine <= -0.99:
        return True
    angle = np.arccos(np.clip(float(offset @ axis) / distance, -1.0, 1.0))
    return bool(angle < np.arccos(cosine) + np.arcsin(radius / distance) + 0.1)


class World:
    """A scene ready for casting."""

    def __init__(self, scene: Scene) -> None:
        ego = vehicles.ego()
        shapes = [
            (scene.static, None),
            *((a.mesh, a.motion) for a in scene.actors),
            (ego, scene.ego),
        ]
        self.scene = scene
        self.faces = _faces([mesh for mesh, _ in shapes])
        bodies, first = [], 0
        for mesh, motion in shapes:
            bodies.append(_Body(mesh, first, motion))
            first += len(mesh.faces)
        self.static, self.moving = bodies[0], bodies[1:]
        self.first_ground_face = first
        self._time: float | None = None
        self._posed: list[tuple[_Body, tuple[Float32, Float32]]] = []

    def cast(
        self, origins: Float32, directions: Float32, times: NDArray[np.float64]
    ) -> tuple[Float32, Indices]:
        """What rays meet first.

        Args:
            origins: float32[N, 3] in the map frame; one row broadcast is the quickest.
            directions: float32[N, 3] of unit length.
            times: float64[N] or float64[1], seconds at which the rays are sent.

        Returns:
            distance float32[N] in metres, `FAR` where there is only sky; face int32[N], -1 there.

        """
        distance, face = self.static.intersect(origins, directions)
        down = np.flatnonzero(directions[:, 2] < -1e-4)
        depth, material = self.scene.layout.ground.cast(origins[down], directions[down])
        nearer = np.flatnonzero(depth < distance[down])
        distance[down[nearer]] = depth[nearer]
        face[down[nearer]] = self.first_ground_face + material[nearer].astype(np.int32)
        bundles = _Bundles(origins, directions)
        apex, axis, cosine = bundles.sight()
        slack = 0.5 * float(np.ptp(times)) * FASTEST
        for body, (rotation, translation) in self._poses(float(times.mean())):
            center = rotation @ body.center + translation
            if not _in_cone(center - apex, axis, cosine, body.radius + slack + 0.5):
                continue
            rays = bundles.near(body, rotation, translation, slack)
            if len(rays):
                moved = self._in_frame(body, origins, directions, times, rays)
                depth, number = body.intersect(*moved)
                nearer = np.flatnonzero(depth < distance[rays])
                distance[rays[nearer]] = depth[nearer]
                face[rays[nearer]] = number[nearer]
        return distance, face

    def shadowed(
        self, points: Float32, to_light: Float32, time: float, eye: Float32
    ) -> NDArray[np.bool_]:
        """Whether something stands between points and a light far away in one direction.

        Moving things cast shadows up to `SHADOWS_OF_MOVING` metres from ``eye``.
        """
        directions = np.broadcast_to(to_light, points.shape)
        blocked = self.static.triangles.blocks(points, directions)
        bundles = _Bundles(points, directions)
        times = np.array([time])
        for body, (rotation, translation) in self._poses(time):
            center = rotation @ body.center + translation
            if np.linalg.norm(center - eye) > SHADOWS_OF_MOVING:
                continue
            rays = bundles.near(body, rotation, translation, 0.0)
            rays = rays[~blocked[rays]]
            if len(rays):
                moved = self._in_frame(body, points, directions, times, rays)
                blocked[rays] |= body.triangles.blocks(*moved)
        return blocked

    def normals_at(self, time: float) -> Float32:
        """float32[F, 3]: normals of all faces in the map frame at a time."""
        normal = self.faces.normal.copy()
        for body, (rotation, _) in self._poses(time):
            part = slice(body.first_face, body.first_face + body.num_faces)
            normal[part] = normal[part] @ rotation.T
        return normal

    def _poses(self, time: float) -> list[tuple[_Body, tuple[Float32, Float32]]]:
        """The moving bodies with their rotation and translation at a time."""
        if self._time != time:
            self._posed = []
            for body in self.moving:
                assert body.motion is not None
                rotation, translation = body.motion.pose(time)
                pose = rotation.astype(np.float32), translation.astype(np.float32)
                self._posed.append((body, pose))
            self._time = time
        return self._posed

    @staticmethod
    def _in_frame(
        body: _Body,
        origins: Float32,
        directions: Float32,
        times: NDArray[np.float64],
        rays: NDArray[np.intp],
    ) -> tuple[Float32, Float32]:
        """The chosen rays in a body's frame, each at its own time."""
        assert body.motion is not None
        if len(times) > 1:
            rotation, translation = body.motion.pose(times[rays])
            local = np.einsum("nij,ni->nj", rotation, origins[rays] - translation)
            turned = np.einsum("nij,ni->nj", rotation, directions[rays].astype(np.float64))
            return local.astype(np.float32), turned.astype(np.float32)
        rotation, translation = body.motion.pose(times[0])
        turn, shift = rotation.astype(np.float32), translation.astype(np.float32)
        return _turned(origins, rays, shift, turn), _turned(directions, rays, 0 * shift, turn)


def _turned(rows: Float32, rays: NDArray[np.intp], shift: Float32, turn: Float32) -> Float32:
    """The chosen rows, less ``shift``, times a matrix; one row may stand for all."""
    if rows.strides[0] == 0:
        return np.broadcast_to(_turned(rows[:1].copy(), rays[:1] * 0, shift, turn), (len(rays), 3))
    return np.matmul(rows[rays] - shift, turn, dtype=np.float32)


# Facades: one row per style: bay width, window width, floor height, sill, window height (metres).
def facade_styles(count: int) -> Float32:
    """float32[count, 5]: the windows of every facade style."""
    generator = np.random.default_rng(17)
    bay = generator.uniform(2.2, 4.2, count)
    return np.stack(
        [
            bay,
            bay * generator.uniform(0.35, 0.8, count),
            np.full(count, 3.4),
            generator.uniform(0.5, 1.1, count),
            generator.uniform(1.3, 2.4, count),
        ],
        axis=1,
    ).astype(np.float32)


FACADE_WINDOWS = facade_styles(24)


def window_cells(
    points: Float32, normals: Float32, textures: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], Indices]:
    """Where on a facade points lie: whether in a window, and a number of the window.

    Args:
        points: float32[N, 3] on faces with a facade texture.
        normals: float32[N, 3] of those faces.
        textures: uint8[N], `FACADE` plus the style.

    """
    bay, width, floor, sill, height = FACADE_WINDOWS[textures - FACADE].T
    across = (normals[:, 0] * points[:, 1] - normals[:, 1] * points[:, 0]) / bay
    up = points[:, 2] / floor
    column, row = np.floor(across), np.floor(up)
    u, v = (across - column) * bay, (up - row) * floor
    inside = (np.abs(u - bay / 2) < width / 2) & (v > sill) & (v < sill + height)
    inside &= np.abs(normals[:, 2]) < 0.5
    number = (column * 37 + row * 101).astype(np.int32)
    return inside, number


def is_glass(textures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether faces are window panes of vehicles or shelters."""
    return textures == GLASS
