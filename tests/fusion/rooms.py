"""A made-up room with posed images, written as files, and fusion by its definition in numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.datasets.frames import Frame
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures

SIZE = (24, 32)
INTRINSICS = np.array([[26.0, 0, 15.5], [0, 27.0, 11.5], [0, 0, 1]])


def looking(eye: Sequence[float], at: Sequence[float]) -> np.ndarray:
    """float64[4, 4]: camera to world, looking along +z with y down."""
    forward = np.subtract(at, eye) / np.linalg.norm(np.subtract(at, eye))
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return pose


def wall(points: int = 400, seed: int = 0) -> np.ndarray:
    """float32[N, 3] of a bumpy wall at x = 3, with some points far before and behind it."""
    rng = np.random.default_rng(seed)
    y, z = rng.uniform(-2, 2, points), rng.uniform(0, 2.5, points)
    x = 3 + rng.normal(0, 0.05, points)
    x[::10] += rng.choice([-5.5, -1.5, 2.0], len(x[::10]))
    return np.stack([x, y, z], axis=1).astype(np.float32)


def poses(number: int = 5) -> list[np.ndarray]:
    """Cameras beside each other that look at the wall; their images overlap."""
    return [looking((0, 0.3 * i - 0.5, 1.2), (3, 0.2 * i - 0.3, 1.1)) for i in range(number)]


def depth_of(pose: np.ndarray, size: tuple[int, int] = SIZE, holes: float = 0.05) -> np.ndarray:
    """uint16[H, W], millimetres to the plane x = 3, with holes."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    rays = np.stack([columns, rows, np.ones(size, int)], axis=-1) @ np.linalg.inv(INTRINSICS).T
    along = rays @ pose[:3, :3].T
    depth = (3 - pose[0, 3]) / along[..., 0]
    found = np.round(1000 * depth * rays[..., 2]).clip(0, 65535).astype(np.uint16)
    found[np.random.default_rng(5).random(size) < holes] = 0
    return found


def write_frames(
    folder: Path, cameras: Sequence[np.ndarray], *, depth: bool = True, units: float = 1000.0
) -> list[Frame]:
    """The images and depth of some cameras as files of one room."""
    frames = []
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, pose in enumerate(cameras):
        color = folder / "color" / f"{number}.png"
        shade = np.full((*SIZE, 3), 10 * number, np.uint8)
        Image.fromarray(shade).save(color)
        file = None
        if depth:
            file = folder / "depth" / f"{number}.png"
            Image.fromarray(depth_of(pose)).save(file)
        frames.append(Frame(str(number), color, file, pose, INTRINSICS, units))
    return frames


@dataclasses.dataclass
class GridTeacher:
    """Says given grids of frames by their names, and counts how often it is asked."""

    grids: dict[str, np.ndarray]
    resize: str = "nearest"
    quick: bool = False
    name: str = "grids"
    weights_hash: str = ""
    asked: list[str] = dataclasses.field(default_factory=list)
    settings: dict[str, object] = dataclasses.field(default_factory=dict)

    @property
    def embedding_size(self) -> int:
        return len(next(iter(self.grids.values())))

    def load(self, frame: Frame) -> np.ndarray:
        return self.grids[frame.name]

    def features(self, frame: Frame, loaded: np.ndarray) -> ImageFeatures:
        self.asked.append(frame.name)
        return FeatureGrid(loaded, self.resize)


def teacher_of(frames: Sequence[Frame], channels: int = 8, grid: tuple[int, int] = (6, 8)):
    """A teacher of random grids."""
    rng = np.random.default_rng(3)
    return GridTeacher(
        {f.name: rng.normal(size=(channels, *grid)).astype(np.float16) for f in frames}
    )


def pixels_by_definition(
    points: np.ndarray, frame: Frame, depth: np.ndarray | None, cut: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool[N], int[N], int[N]: whether each point is seen, and row and column of its pixel.

    One point after the other, in Python's own floats.
    """
    world_to_camera = np.linalg.inv(frame.camera_to_world)
    height, width = SIZE
    seen = np.zeros(len(points), bool)
    rows, columns = np.zeros(len(points), int), np.zeros(len(points), int)
    for i, point in enumerate(points.astype(float).tolist()):
        x, y, z = (
            sum(a * b for a, b in zip(line, [*point, 1.0], strict=True))
            for line in world_to_camera[:3].tolist()
        )
        if z == 0:
            continue
        k = frame.intrinsics
        column, row = round(k[0, 0] * x / z + k[0, 2]), round(k[1, 1] * y / z + k[1, 2])
        if not (cut <= column < width - cut and cut <= row < height - cut):
            continue
        if depth is None:
            seen[i] = z > 0
        else:
            there = float(depth[row, column]) / frame.depth_units
            measured = depth[row, column] not in (0, frame.depth_missing)
            seen[i] = measured and abs(there - z) <= tolerance * there
        rows[i], columns[i] = row, column
    return seen, rows, columns
