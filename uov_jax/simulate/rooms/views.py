"""What a camera sees of a simulated room: colour, depth, and what is truly there."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uov_jax.simulate.camera import noise_tile
from uov_jax.simulate.geometry import GLASS
from uov_jax.simulate.numpy_triangles import FAR
from uov_jax.simulate.rooms.kinds import KIND
from uov_jax.simulate.rooms.materials import SCREEN, textured
from uov_jax.simulate.rooms.room import SimulatedRoom

Float32 = NDArray[np.float32]
Generator = np.random.Generator
WIDTH, HEIGHT = 320, 240
DEPTH_UNITS = 1000.0  # per metre, as ScanNet's
FARTHEST = 8.0  # metres that the depth camera reaches


def intrinsics(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.float64]:
    """float64[3, 3]: those of ScanNet's 640 x 480 images, adapted as OpenScene does."""
    focal = 577.870605
    return np.array(
        [
            [focal * (height * 640 // 480) / 640, 0.0, 319.5 * (width - 1) / 639],
            [0.0, focal * height / 480, 239.5 * (height - 1) / 479],
            [0.0, 0.0, 1.0],
        ]
    )


@dataclasses.dataclass(frozen=True)
class View:
    """What one camera sees, for every pixel [h, w].

    color float32[h, w, 3] in 0..1, of linear light; depth float32[h, w], metres along the optical
    axis; kind uint8[h, w]; object int32[h, w]; slant float32[h, w], cosine of the angle at which
    the surface is seen; texture uint8[h, w]; face int32[h, w].
    """

    color: Float32
    depth: Float32
    kind: NDArray[np.uint8]
    object: NDArray[np.int32]
    slant: Float32
    texture: NDArray[np.uint8]
    face: NDArray[np.int32]


@functools.lru_cache(maxsize=4)
def _pixel_rays(width: int, height: int) -> Float32:
    """float32[h * w, 3]: unit directions through the pixels' middles."""
    matrix = intrinsics(width, height)
    u = (np.arange(width) - matrix[0, 2]) / matrix[0, 0]
    v = (np.arange(height) - matrix[1, 2]) / matrix[1, 1]
    rays = np.stack([*np.meshgrid(u, v), np.ones((height, width))], axis=-1).reshape(-1, 3)
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def look(
    room: SimulatedRoom, pose: NDArray[np.float64], width: int = WIDTH, height: int = HEIGHT
) -> View:
    """What a camera at a pose [4, 4] (camera to room) sees."""
    distance, face, directions, local = _cast(room, pose, width, height)
    points = directions * distance[:, None] + pose[:3, 3].astype(np.float32)
    shape = (height, width)
    slant = -np.einsum("ij,ij->i", directions, room.normals[face])
    return View(
        light_of(room, face, points).reshape(*shape, 3),
        (distance * local[:, 2]).reshape(shape),
        room.mesh.kind[face].reshape(shape),
        room.mesh.instance[face].reshape(shape),
        np.abs(slant).reshape(shape),
        room.mesh.texture[face].reshape(shape),
        face.reshape(shape),
    )


def depth_of(
    room: SimulatedRoom, pose: NDArray[np.float64], width: int = WIDTH, height: int = HEIGHT
) -> Float32:
    """float32[h, w]: the true depth alone, metres along the optical axis."""
    distance, _, _, local = _cast(room, pose, width, height)
    return (distance * local[:, 2]).reshape(height, width)


def _cast(
    room: SimulatedRoom, pose: NDArray[np.float64], width: int, height: int
) -> tuple[Float32, NDArray[np.int32], Float32, Float32]:
    local = _pixel_rays(width, height)
    directions = local @ pose[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
    distance, face = room.triangles.intersect(origins, directions)
    # Between two blocks a ray may slip out of the room: it is taken for one that meets nothing.
    face = np.where(distance < FAR, face, 0)
    return np.minimum(distance, np.float32(100.0)), face, directions, local


def light_of(room: SimulatedRoom, face: NDArray[np.int32], points: Float32) -> Float32:
    """float32[N, 3]: linear colour of lit points [N, 3] on faces [N], shadows included."""
    mesh, normals = room.mesh, room.normals[face]
    albedo = textured(mesh.color[face], mesh.texture[face], points, normals, noise_tile())
    up = normals[:, 2]
    total = np.empty((len(points), 3), np.float32)
    total[:] = (room.ambient * (0.85 + 0.15 * up))[:, None]
    lifted = points + 0.004 * normals
    for light in room.lights:
        toward = np.array(light.position, np.float32) - lifted
        away = np.linalg.norm(toward, axis=1)
        toward /= np.maximum(away, 1e-3)[:, None]
        facing = np.einsum("ij,ij->i", toward, normals)
        strength = light.strength * np.clip(facing, 0, 1) / (0.4 + 0.16 * away * away)
        lit = np.flatnonzero(strength > 0.02)
        # The lamp's own shade, or the window's own pane, is no hindrance.
        source, way = lifted[lit] + toward[lit] * away[lit, None], -toward[lit]
        source += way * np.float32(0.3)
        met, _ = room.triangles.intersect(source, way)
        strength[lit[met < away[lit] - 0.3 - 0.02]] *= 0.15
        total += strength[:, None] * np.array(light.color, np.float32)
    bright = np.isin(mesh.texture[face], (GLASS, SCREEN)) & (mesh.kind[face] != KIND["mirror"])
    total[bright] = np.maximum(total[bright], 0.9)
    return albedo * total


def developed(light: Float32, exposure: float = 1.0) -> NDArray[np.uint8]:
    """Pixel values of linear light, bright light rolled off."""
    value = (1 - np.exp(-1.6 * exposure * light)) ** (1 / 1.8)
    return np.clip(255 * value, 0, 255).astype(np.uint8)


def photograph(view: View, generator: Generator) -> Image.Image:
    """The picture of a view: its own exposure, and the sensor's grain."""
    exposure = generator.uniform(0.85, 1.2)
    pixels = developed(view.color, exposure).astype(np.float32)
    pixels += generator.normal(0, 3.0, (*pixels.shape[:2], 1)).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def measured_depth(view: View, generator: Generator) -> NDArray[np.uint16]:
    """uint16[h, w]: the depth image of a view in 1 / `DEPTH_UNITS` m, 0 where nothing was measured.

    Noise grows with the square of the distance, to millimetres; glass, dark gloss, grazing
    surfaces, borders of things and what is far away leave holes.
    """
    depth, shape = view.depth, view.depth.shape
    noise = 0.0014 * depth**2 * _smooth(generator.normal(size=shape).astype(np.float32))
    noisy = depth + noise
    lost = (depth > FARTHEST) | (depth < 0.35)
    lost |= (view.slant < 0.12) & (generator.random(shape) < 0.8)
    lost |= np.isin(view.texture, (GLASS, SCREEN)) & _blotches(shape, 0.5, generator)
    edge = np.zeros(shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis)) > 0.15
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 0)
        edge |= np.pad(step, pad)
        pad[axis] = (0, 1)
        edge |= np.pad(step, pad)
    lost |= edge & (generator.random(shape) < 0.7)
    lost |= _blotches(shape, 0.02, generator)
    values = np.rint(np.clip(noisy, 0, 60.0) * DEPTH_UNITS).astype(np.uint16)
    values[lost] = 0
    return values


def _smooth(noise: Float32) -> Float32:
    """Noise of neighbours joined two by two, of the variance it had."""
    for axis in (0, 1):
        noise = (noise + np.roll(noise, 1, axis)) / np.float32(np.sqrt(2))
    return noise


def _blotches(shape: tuple[int, ...], share: float, generator: Generator) -> NDArray[np.bool_]:
    """Patches of some ten pixels that cover about so much of an image."""
    coarse = generator.normal(size=(shape[0] // 10 + 1, shape[1] // 10 + 1)).astype(np.float32)
    image = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    smooth = np.asarray(image)
    return smooth > np.quantile(smooth, 1 - share)
