"""Fusion of views, the teacher aside, beside a loop over frames: `python -m benchmarks.fusion`.

A made-up room of 100,000 points is looked at by cameras of 320 x 240 pixels with depth; features
have 768 numbers. A frame is: project all points, test their depth, add the features of the pixels
that see one to the points' sums. The loop does that in PyTorch on all cores (in numpy where there
is none): features [C, H, W] in half precision, rows gathered for visible points alone. Its quickest
way of adding, `index_add_`, stands beside the plain `sums[rows] += ...` of published code. Results
are compared before anything is timed. The engine takes patches and masks as they are; the loop's
[C, H, W] is made of them beforehand, which is not timed.

Then a recording of 1,000 frames is fused from files, depth images decoded, and the memory of the
process is looked at after each.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import installed, report
from benchmarks.timing import interleaved
from uov_jax import processors
from uov_jax.datasets.frames import Frame
from uov_jax.fusion.features import FeatureManifest, FeatureWriter
from uov_jax.fusion.fuse import fuse_room
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures, MaskFeatures
from uov_jax.fusion.views import OPENSCENE_VIEWS, seen_points

POINTS, SIZE, CHANNELS = 100_000, (240, 320), 768
PATCHES = (32, 42)  # of MaskCLIP at a shorter side of 448 pixels
MASKS = 40
ROOM = np.array([6.0, 5.0, 2.7])  # metres
INTRINSICS = np.array([[288.9, 0, 159.5], [0, 288.9, 119.5], [0, 0, 1]])
POSES = 8
FRAMES, WARM = 1000, 100
SEEN = OPENSCENE_VIEWS


@dataclasses.dataclass(frozen=True)
class View:
    """A camera in the room: its frame, without files, and uint16 depth in millimetres."""

    frame: Frame
    depth: np.ndarray


def room_points(points: int) -> np.ndarray:
    """float32[N, 3] on the six sides of a room, as many on each square metre."""
    rng = np.random.default_rng(0)
    area = np.array([np.prod(np.delete(ROOM, axis)) for axis in (0, 0, 1, 1, 2, 2)])
    side = rng.choice(6, points, p=area / area.sum())
    found = rng.uniform(0, ROOM, (points, 3))
    found[np.arange(points), side // 2] = ROOM[side // 2] * (side % 2)
    return found.astype(np.float32)


def cameras(number: int, size: tuple[int, int] = SIZE) -> list[View]:
    """Views from the middle of the room in all directions, a little downward."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    intrinsics = INTRINSICS * [[size[1] / SIZE[1]], [size[0] / SIZE[0]], [1]]
    rays = np.stack([columns, rows, np.ones(size)], axis=-1) @ np.linalg.inv(intrinsics).T
    views = []
    for i in range(number):
        turn = 2 * np.pi * i / number
        forward = np.array([np.cos(turn), np.sin(turn), -0.3]) / np.hypot(1, 0.3)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        eye = ROOM * [0.5, 0.5, 0.6] + 0.5 * np.array([np.sin(turn), np.cos(turn), 0])
        pose[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
        along = rays @ pose[:3, :3].T
        with np.errstate(divide="ignore"):
            distance = np.where(along > 0, (ROOM - eye) / along, -eye / along).min(axis=-1)
        depth = np.round(1000 * distance).astype(np.uint16)
        views.append(View(Frame(str(i), Path("c"), Path("d"), pose, intrinsics), depth))
    return views


class Ours:
    """The engine: sums and numbers of views of all points, over some frames."""

    def __init__(self, points: np.ndarray, channels: int) -> None:
        """Begin with zeros."""
        self.points = points
        self.sums = np.zeros((len(points), channels), np.float32)
        self.counts = np.zeros(len(points), np.int64)

    def add(self, views: Sequence[View], features: ImageFeatures) -> None:
        """Add what frames say, all the same."""
        for view in views:
            seen = seen_points(self.points, view.frame, view.depth.shape, view.depth, SEEN)
            rows = features.add_to(self.sums, seen, view.depth.shape)
            self.counts[rows] += 1


class NumpyLoop:
    """The loop in numpy, for machines without PyTorch."""

    def __init__(self, points: np.ndarray, channels: int) -> None:
        """Begin with zeros."""
        self.points = points.astype(np.float64)
        self.sums = np.zeros((len(points), channels), np.float32)
        self.counts = np.zeros(len(points), np.int64)

    def add(self, views: Sequence[View], features: np.ndarray) -> None:
        """Add what frames say: float16 [C, H, W], of each the same."""
        for view in views:
            matrix = np.linalg.inv(view.frame.camera_to_world)
            x, y, z = matrix[:3, :3] @ self.points.T + matrix[:3, 3:]
            (fx, _, cx), (_, fy, cy), _ = view.frame.intrinsics
            column, row = np.round(x * fx / z + cx), np.round(y * fy / z + cy)
            rows = np.flatnonzero(_inside(row, column, view.depth.shape))
            v, u = row[rows].astype(np.int64), column[rows].astype(np.int64)
            depth = view.depth[v, u] / view.frame.depth_units
            near = np.abs(depth - z[rows]) <= SEEN.depth_tolerance * depth
            rows, v, u = rows[near], v[near], u[near]
            self.sums[rows] += features[:, v, u].T
            self.counts[rows] += 1


class TorchLoop:
    """The loop in PyTorch, on all cores."""

    def __init__(self, points: np.ndarray, channels: int, quick: bool) -> None:
        """Begin with zeros; `quick` adds by `index_add_`."""
        import torch

        self._torch: Any = torch
        torch.set_num_threads(processors.available())
        self.quick = quick
        self.points = torch.from_numpy(points.astype(np.float64)).T.contiguous()
        self._sums = torch.zeros(len(points), channels)
        self._counts = torch.zeros(len(points), dtype=torch.int64)

    @property
    def sums(self) -> np.ndarray:
        """float32[N, C]."""
        return self._sums.numpy()

    @property
    def counts(self) -> np.ndarray:
        """int64[N]."""
        return self._counts.numpy()

    def add(self, views: Sequence[View], features: np.ndarray) -> None:
        """Add what frames say: float16 [C, H, W], of each the same."""
        torch = self._torch
        planes = torch.from_numpy(features)
        for view in views:
            matrix = torch.from_numpy(np.linalg.inv(view.frame.camera_to_world))
            x, y, z = matrix[:3, :3] @ self.points + matrix[:3, 3:]
            (fx, _, cx), (_, fy, cy), _ = view.frame.intrinsics.tolist()
            column, row = torch.round(x * fx / z + cx), torch.round(y * fy / z + cy)
            rows = torch.nonzero(_inside(row, column, view.depth.shape))[:, 0]
            v, u = row[rows].long(), column[rows].long()
            stored = torch.from_numpy(view.depth.astype(np.float64))
            depth = stored[v, u] / view.frame.depth_units
            near = torch.abs(depth - z[rows]) <= SEEN.depth_tolerance * depth
            rows, v, u = rows[near], v[near], u[near]
            found = planes[:, v, u].T
            if self.quick:
                self._sums.index_add_(0, rows, found.float())
            else:
                self._sums[rows] += found
            self._counts[rows] += 1


def _inside(row: Any, column: Any, size: tuple[int, ...]) -> Any:
    cut = SEEN.cut
    return (row >= cut) & (row < size[0] - cut) & (column >= cut) & (column < size[1] - cut)


def features_of_kinds(
    channels: int, size: tuple[int, int]
) -> Iterator[tuple[str, ImageFeatures, np.ndarray]]:
    """Kinds of features: as the engine takes them, and the same as float16 [C, H, W]."""
    rng = np.random.default_rng(1)

    def half(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(np.float16)

    full = half(channels, *size)
    yield "features of every pixel", FeatureGrid(full), full
    grid = half(channels, *PATCHES)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, PATCHES, strict=True))
    spread = np.ascontiguousarray(grid[:, rows[:, None], columns])
    yield "patches", FeatureGrid(grid, "nearest"), spread
    v, u = np.mgrid[: size[0], : size[1]]
    masks = (1 + v * 5 // size[0] * (MASKS // 5) + u * (MASKS // 5) // size[1]).astype(np.uint16)
    embeddings = half(MASKS, channels)
    spread = np.ascontiguousarray(embeddings.T[:, masks - 1])
    yield "masks", MaskFeatures(masks, embeddings), spread


def speed(
    points: int = POINTS,
    channels: int = CHANNELS,
    size: tuple[int, int] = SIZE,
    poses: int = POSES,
    repeats: int = 5,
) -> Iterator[report.Row]:
    """Frames per second of every kind of features."""
    coords, views = room_points(points), cameras(poses, size)
    torch = installed.usable("torch")
    for kind, features, full in features_of_kinds(channels, size):
        loops: dict[str, tuple[Any, Any]] = {report.OURS: (Ours(coords, channels), features)}
        if torch:
            loops["torch, +="] = TorchLoop(coords, channels, quick=False), full
            loops["torch, index_add_"] = TorchLoop(coords, channels, quick=True), full
        else:
            loops["numpy"] = NumpyLoop(coords, channels), full
        for loop, given in loops.values():
            loop.add(views, given)
        _require_equal({name: loop for name, (loop, _) in loops.items()})
        share = loops[report.OURS][0].counts.sum() / poses / points

        def call(loop: Any, given: Any) -> Callable[[], None]:
            return lambda: loop.add(views, given)

        timed = interleaved({name: call(*loop) for name, loop in loops.items()}, repeats)
        what = f"{kind}, {poses} frames, each sees {share:.0%} of {points:,} points"
        yield report.compared(what, timed, poses, "frame/s")


def _require_equal(loops: dict[str, Any]) -> None:
    first = loops[report.OURS]
    for name, loop in loops.items():
        np.testing.assert_array_equal(first.counts, loop.counts, name)
        # Sums of a few halves in float32, in the same order.
        np.testing.assert_allclose(first.sums, loop.sums, rtol=1e-6, atol=1e-6, err_msg=name)


@dataclasses.dataclass
class PassingTeacher:
    """Patches of chance for every frame, made anew."""

    embedding_size: int
    name: str = "chance"
    weights_hash: str = ""
    quick: bool = False
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def load(self, frame: Frame) -> np.ndarray:
        """Made by the threads that read ahead, as an image would be decoded."""
        rng = np.random.default_rng(int(frame.name))
        return rng.standard_normal((self.embedding_size, *PATCHES), np.float32).astype(np.float16)

    def features(self, frame: Frame, loaded: np.ndarray) -> ImageFeatures:
        """A grid."""
        return FeatureGrid(loaded)


def recording(
    folder: Path,
    frames: int = FRAMES,
    points: int = POINTS,
    channels: int = CHANNELS,
    size: tuple[int, int] = SIZE,
) -> Iterator[report.Row]:
    """Memory and time of a long recording, from depth images to the written room."""
    views = []
    for view in cameras(POSES, size):
        paths = [folder / f"{what}{view.frame.name}.png" for what in ("color", "depth")]
        Image.new("RGB", size[::-1]).save(paths[0])
        Image.fromarray(view.depth).save(paths[1])
        views.append(dataclasses.replace(view.frame, color=paths[0], depth=paths[1]))
    every = [dataclasses.replace(views[i % POSES], name=str(i)) for i in range(frames)]
    teacher = PassingTeacher(channels)
    facts = FeatureManifest(teacher.name, "", channels, "made up", "", "")
    writer = FeatureWriter(folder / "features", facts, np.eye(1, channels))
    resident: list[int] = []
    start = time.perf_counter()
    with writer.open("room") as writing:
        fuse_room(
            room_points(points), every, teacher, writing, step=lambda: resident.append(_resident())
        )
    seconds = time.perf_counter() - start
    name = f"a recording of {frames:,} frames from files, patches"
    yield report.Row(name, 1e3 * seconds, 0.0, frames / seconds, "frame/s")
    warm = min(WARM, frames // 2)
    for what, amount in (
        (f"memory at frame {warm}", resident[warm - 1]),
        (f"most memory from there to frame {frames:,}", max(resident[warm - 1 :])),
    ):
        yield report.Row(what, None, 0.0, amount / 1e6, "MB")


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion", description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS, help="of the room")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the recording")
    parser.add_argument("--repeats", type=int, default=5, help="of every call")
    options = parser.parse_args()
    processors.limit_libraries()
    print(", ".join(f"{key} {value}" for key, value in report.machine().items()))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in (
            *speed(options.points, repeats=options.repeats),
            *recording(Path(folder), options.frames, options.points),
        ):
            rows.append(row)
    print(report.markdown(rows))


if __name__ == "__main__":
    main()
