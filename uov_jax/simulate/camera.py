"""Images of the simulated cameras, and the true kind and object under every pixel."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from uov_jax.simulate.casting import GROUND_ROUGH, World, window_cells
from uov_jax.simulate.geometry import BRICK, FACADE, GLASS, LEAF, PLAIN, ROUGH
from uov_jax.simulate.ground import MATERIALS
from uov_jax.simulate.kinds import KIND
from uov_jax.simulate.scene import Weather
from uov_jax.simulate.sensors import CameraModel

Float32 = NDArray[np.float32]

RAY_STEP = 2  # one ray for each block of 2 x 2 pixels
_NOISE_SIZE = 512
_FINE = ((8, 0.5), (32, 0.35), (128, 0.3), (512, 0.35))


@dataclass(frozen=True)
class View:
    """What a camera sees, at one value a ray: a block of `RAY_STEP` pixels square.

    color uint8[h, w, 3]; kind uint8[h, w]; instance int32[h, w], 0 for no annotated object;
    depth float32[h, w], metres along the optical axis, infinite for the sky.
    """

    color: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    instance: NDArray[np.int32]
    depth: Float32


@functools.lru_cache(maxsize=2)
def noise_tile(octaves: tuple[tuple[int, float], ...] = _FINE) -> Float32:
    """float32[512, 512]: smooth noise of several sizes, mean 0, about -1..1, repeating.

    ``octaves`` are (cells across the tile, weight).
    """
    generator = np.random.default_rng(5)
    total = np.zeros((_NOISE_SIZE, _NOISE_SIZE), np.float32)
    for cells, weight in octaves:
        coarse = generator.normal(size=(cells, cells)).astype(np.float32)
        coarse = np.pad(coarse, ((0, 1), (0, 1)), mode="wrap")
        position = np.arange(_NOISE_SIZE) * cells / _NOISE_SIZE
        low, part = position.astype(int), (position % 1).astype(np.float32)
        part = part * part * (3 - 2 * part)
        rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
        total += weight * (rows[:, low] * (1 - part) + rows[:, low + 1] * part)
    return total


def _texture_strength() -> Float32:
    """How much the noise varies the colour of each texture number."""
    table = np.full(256, 0.10, np.float32)
    table[PLAIN], table[LEAF], table[ROUGH], table[GLASS], table[BRICK] = 0.04, 0.35, 0.25, 0.1, 0.2
    return table


_TEXTURE_STRENGTH = _texture_strength()
_LEVELS = 2048


def _tone_curve() -> NDArray[np.uint8]:
    """From linear light in 0..2 to pixel values, bright light rolled off."""
    light = np.linspace(0, 2, _LEVELS)
    return (255 * (1 - np.exp(-1.35 * light)) ** (1 / 1.9)).astype(np.uint8)


_TONE = _tone_curve()
_HAZE = np.array([0.56, 0.61, 0.66], np.float32)


@functools.lru_cache(maxsize=16)
def _pixel_rays(model: CameraModel, width: int, height: int) -> Float32:
    """float32[h * w, 3]: unit directions in the camera's frame through every block's middle."""
    intrinsic = model.intrinsic(width / 1600)
    middle = 0.5 * (RAY_STEP - 1)
    u = (np.arange(width // RAY_STEP) * RAY_STEP + middle - intrinsic[0, 2]) / intrinsic[0, 0]
    v = (np.arange(height // RAY_STEP) * RAY_STEP + middle - intrinsic[1, 2]) / intrinsic[1, 1]
    rays = np.stack([*np.meshgrid(u, v), np.ones((len(v), len(u)))], axis=-1).reshape(-1, 3)
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def look(world: World, model: CameraModel, width: int, height: int, time: float) -> View:
    """Take a picture ``time`` seconds into the scene, for an image of width x height pixels."""
    rotation, translation = world.scene.ego.pose(time)
    camera_to_map = rotation @ model.rotation()
    local = _pixel_rays(model, width, height)
    directions = local @ camera_to_map.T.astype(np.float32)
    position = (rotation @ np.array(model.position) + translation).astype(np.float32)
    origins = np.broadcast_to(position, directions.shape)
    distance, face = world.cast(origins, directions, np.array([time]))
    shape = (height // RAY_STEP, width // RAY_STEP)
    sky = np.flatnonzero(face < 0)
    distance[sky], face[sky] = 1.0, 0  # shaded like any face, then painted over
    points = directions * distance[:, None]
    points += position
    light = _shade(world, face, points, directions, shape, time)
    weather = world.scene.weather
    haze = 1 - np.exp(-weather.haze * distance)
    light += (_HAZE - light) * haze[:, None]
    light[sky] = _sky(directions[sky], weather)
    kind = world.faces.kind[face]
    instance = world.faces.instance[face]
    depth = distance * local[:, 2]
    kind[sky], instance[sky], depth[sky] = KIND["sky"], 0, np.inf
    light *= _LEVELS / 2
    np.clip(light, 0, _LEVELS - 1, out=light)
    return View(
        _TONE[light.astype(np.int16)].reshape(*shape, 3),
        kind.reshape(shape),
        instance.reshape(shape),
        depth.reshape(shape),
    )


def _sky(directions: Float32, weather: Weather) -> Float32:
    """Blue above, pale at the horizon, with clouds; a glow around the sun."""
    up = np.clip(directions[:, 2], 0.02, 1.0)
    blue, pale = np.array([0.22, 0.40, 0.72], np.float32), np.array([0.72, 0.78, 0.84], np.float32)
    mix = np.exp(-4.0 * up)[:, None]
    base = blue * (1 - mix) + pale * mix
    x = (directions[:, 0] / (up + 0.15) * 60).astype(np.int32) % _NOISE_SIZE
    y = (directions[:, 1] / (up + 0.15) * 60).astype(np.int32) % _NOISE_SIZE
    cloud = np.clip(noise_tile(((8, 1.0), (16, 0.5), (48, 0.15)))[y, x] * 0.5, -1, 1)
    cloud = np.clip(cloud + 1.6 * weather.clouds - 0.8, 0, 1)[:, None]
    glow = np.clip(directions @ np.array(weather.to_sun, np.float32), 0, 1)[:, None] ** 60
    white = np.array([0.88, 0.89, 0.90], np.float32)
    return base * (1 - cloud) + white * cloud + np.float32(0.3) * glow


def _shade(
    world: World,
    face: NDArray[np.int32],
    points: Float32,
    directions: Float32,
    shape: tuple[int, int],
    time: float,
) -> Float32:
    """Linear colour of lit points."""
    faces, weather = world.faces, world.scene.weather
    normals = world.normals_at(time)
    toward = normals @ np.array(weather.to_sun, np.float32)
    leafy = faces.texture == LEAF
    toward = np.where(leafy, 0.35 + 0.4 * np.abs(toward), np.clip(toward, 0, 1))
    tint = np.array(weather.tint, np.float32)
    sky_share = np.where(leafy, 0.6, 0.65 + 0.35 * normals[:, 2]).astype(np.float32)
    ambient = (
        faces.color * (sky_share[:, None] * np.array([0.92, 1.0, 1.1], np.float32)) * weather.sky
    )
    direct = faces.color * (toward[:, None] * tint * weather.sun)
    sunny = _in_sun(world, face, points, normals, toward, shape, time)
    both = np.concatenate([ambient, ambient + direct]).astype(np.float32)
    color = both[face + np.where(sunny, np.int32(len(ambient)), np.int32(0))]
    color *= _texture(world, face, points)[:, None]
    _draw_windows(world, face, points, normals, directions, color, weather)
    return color


def _in_sun(
    world: World,
    face: NDArray[np.int32],
    points: Float32,
    normals: Float32,
    toward: Float32,
    shape: tuple[int, int],
    time: float,
) -> NDArray[np.bool_]:
    """Whether the sun reaches each point.

    One shadow ray serves a block of two by two points where they lie on the same face. Leaves are
    lit or not at random: what they do to each other would need most rays and shows least.
    """
    sunny = toward[face] > 0.02
    leafy = world.faces.texture[face] == LEAF
    sunny &= ~leafy | ((face * 40503) % 97 < 55)
    if world.scene.weather.sun < 0.5:
        return sunny
    index = np.arange(len(face), dtype=np.int32).reshape(shape)
    corner = index[: shape[0] // 2 * 2 : 2, : shape[1] // 2 * 2 : 2]
    served_by = index.copy()
    for row in (0, 1):
        for column in (0, 1):
            own = index[row : shape[0] // 2 * 2 : 2, column : shape[1] // 2 * 2 : 2]
            same = face[own] == face[corner]
            served_by[row : shape[0] // 2 * 2 : 2, column : shape[1] // 2 * 2 : 2] = np.where(
                same, corner, own
            )
    served = served_by.ravel()
    asked = np.flatnonzero((served == index.ravel()) & sunny & ~leafy)
    to_sun = np.array(world.scene.weather.to_sun, np.float32)
    lifted = points[asked] + 0.03 * normals[face[asked]]
    sunny[asked] = ~world.shadowed(lifted, to_sun, time, points[len(points) // 2])
    return np.where(leafy, sunny, sunny[served])


def _texture(world: World, face: NDArray[np.int32], points: Float32) -> Float32:
    """Factor on the colour, by noise fixed to the map."""
    strength = _TEXTURE_STRENGTH[world.faces.texture]
    strength[world.first_ground_face :] = [material.texture for material in MATERIALS]
    ground = world.faces.texture[face] == GROUND_ROUGH
    scale = np.where(ground, np.float32(22.0), np.float32(30.0))
    x = ((points[:, 0] + 0.37 * points[:, 2]) * scale).astype(np.int32) % _NOISE_SIZE
    y = ((points[:, 1] + 0.71 * points[:, 2]) * scale).astype(np.int32) % _NOISE_SIZE
    return np.clip(1.0 + strength[face] * noise_tile()[y, x], 0.2, 2.0)


def _draw_windows(
    world: World,
    face: NDArray[np.int32],
    points: Float32,
    normals: Float32,
    directions: Float32,
    color: Float32,
    weather: Weather,
) -> None:
    """Windows and courses of facades, bricks of walls, reflections of glass; in place."""
    texture = world.faces.texture[face]
    facade = np.flatnonzero(texture >= FACADE)
    if len(facade):
        own = face[facade]
        inside, number = window_cells(points[facade], normals[own], texture[facade])
        pane, which = facade[inside], number[inside]
        mirrored = np.where((which % 7)[:, None] == 0, np.float32(0.5), np.float32(0.16))
        bluish = np.array([0.55, 0.68, 0.8], np.float32) * weather.sky
        shade = (
            0.5
            + 0.5
            * ((which.astype(np.int64) * 2654435761 >> 7) & 255)[:, None].astype(np.float32)
            / 255
        )
        color[pane] = mirrored * bluish * shade
        wall = facade[~inside]
        course = np.abs(np.mod(points[wall, 2], 3.4) - 0.1) < 0.12
        color[wall[course]] *= 0.72
    brick = np.flatnonzero(texture == BRICK)
    if len(brick):
        row = np.floor(points[brick, 2] / 0.12)
        run = points[brick, 0] + points[brick, 1] + 0.14 * (row % 2)
        joint = (np.mod(points[brick, 2], 0.12) < 0.02) | (np.mod(run, 0.28) < 0.02)
        color[brick[joint]] *= 0.7
    glass = np.flatnonzero(texture == GLASS)
    if len(glass):
        normal = normals[face[glass]]
        gaze = directions[glass]
        mirror = gaze - 2 * np.einsum("ij,ij->i", gaze, normal)[:, None] * normal
        brightness = np.clip(mirror[:, 2:3] * 0.5 + 0.25, 0.03, 0.6)
        color[glass] += brightness * np.array([0.42, 0.5, 0.58], np.float32) * weather.sky * 0.8


def encode_pixels(color: NDArray[np.uint8], generator: np.random.Generator) -> Image.Image:
    """The full image: every block enlarged, and the sensor's grain added."""
    size = (color.shape[1] * RAY_STEP, color.shape[0] * RAY_STEP)
    full = Image.fromarray(color).resize(size, Image.Resampling.BILINEAR)
    tile = _grain()
    left, top = (int(generator.integers(0, tile.size[i] - size[i])) for i in (0, 1))
    grain = tile.crop((left, top, left + size[0], top + size[1]))
    return ImageChops.add(full, grain, 1.0, -128)


@functools.lru_cache(maxsize=1)
def _grain() -> Image.Image:
    """Grey noise around 128."""
    noise = np.random.default_rng(9).normal(128, 2.5, (1024, 1800))
    return Image.fromarray(np.rint(noise).astype(np.uint8)).convert("RGB")
