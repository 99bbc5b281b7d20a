"""Multi-view fusion of one room: what the images that see a point say of it, averaged.

The feature of a point is the sum of its pixels' features over the views that see it, divided by
their number: summed in float32, kept in half precision (OpenScene, arXiv 2211.15654). Images pass
one by one. In memory are a few of them that are read ahead, and the sums; where those of all points
would be more than a budget, points take turns, and what the teacher said of each frame waits in a
temporary folder for the next turn instead of being computed again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uov_jax import processors
from uov_jax.datasets.frames import Frame, stored_depth
from uov_jax.datasets.image_file import image_size
from uov_jax.errors import InputError
from uov_jax.fusion.features import ROWS_AT_ONCE, WritingRoom
from uov_jax.fusion.frame_features import read_features, write_features
from uov_jax.fusion.image_features import (
    FeatureGrid,
    ImageFeatures,
    ImageTeacher,
    MaskFeatures,
    Resize,
)
from uov_jax.fusion.views import OPENSCENE_VIEWS, SeenPoints, ViewSettings, seen_points

MEMORY = 2_000_000_000  # bytes for the sums: 650,000 points of 768 numbers
MOST_FRAMES = np.iinfo(np.uint16).max
READERS = 4  # threads that read frames ahead, on as many processors


class FusedRoom(NamedTuple):
    """What became of a room: its points, those that are seen, its frames, those that see any."""

    points: int
    visible: int
    frames: int
    used: int


@dataclasses.dataclass(frozen=True)
class _Look:
    """What a frame sees of some points, with what its teacher needs of its files."""

    frame: Frame
    size: tuple[int, int]
    seen: SeenPoints
    loaded: Any


def fuse_room(
    coords: np.ndarray,
    frames: Sequence[Frame],
    teacher: ImageTeacher,
    writing: WritingRoom,
    *,
    views: ViewSettings = OPENSCENE_VIEWS,
    memory: int = MEMORY,
    step: Callable[[], object] = lambda: None,
) -> FusedRoom:
    """Fuse one room and write its features. Results do not depend on memory or threads.

    Args:
        coords: float32[N, 3], metres, in the coordinates of the frames' poses.
        frames: that may see it. Those that see no point are not shown to the teacher.
        teacher: of the images.
        writing: takes views and features of the points.
        views: when a point is seen.
        memory: bytes that sums may take.
        step: called after each frame, of every turn.

    Raises:
        MissingFileError, InputError: a frame's files are missing, or cannot be used; names one.

    """
    if len(frames) > MOST_FRAMES:
        raise InputError(
            f"{len(frames)} frames of one room, expected at most {MOST_FRAMES}: take every n-th"
        )
    at_once = max(1, memory // (4 * teacher.embedding_size))
    turns = turns_of(len(coords), teacher.embedding_size, memory)
    visible, used = 0, np.zeros(len(frames), bool)
    with _keeping(teacher, turns, writing.scratch) as source:
        for start in range(0, len(coords), at_once):
            part = np.ascontiguousarray(coords[start : start + at_once])
            sums = np.zeros((len(part), teacher.embedding_size), np.float32)
            counts = np.zeros(len(part), np.uint16)
            with contextlib.closing(_ahead(part, frames, source, views)) as looks:
                for number, look in enumerate(looks):
                    if look is not None:
                        used[number] |= _add(sums, counts, look, source)
                    step()
            visible += int(np.count_nonzero(counts))
            writing.append(counts, _means(sums, counts))
            del sums
    return FusedRoom(len(coords), visible, len(frames), int(used.sum()))


def turns_of(points: int, embedding_size: int, memory: int = MEMORY) -> int:
    """How many times the frames of a room of so many points are gone through."""
    at_once = max(1, memory // (4 * embedding_size))
    return -(-points // at_once)


def _add(sums: np.ndarray, counts: np.ndarray, look: _Look, teacher: ImageTeacher) -> bool:
    """Add what one frame says; whether it says anything of these points."""
    try:
        features = _in_half(teacher.features(look.frame, look.loaded))
        described = features.add_to(sums, look.seen, look.size)
    except InputError as error:
        place = str(look.frame.color)
        raise error if place in str(error) else InputError(f"{place}: {error}") from error
    counts[described] += 1  # each point once
    return len(described) > 0


def _means(sums: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """float16[v, D]: the means of the points that are seen, some at a time."""
    visible = np.flatnonzero(counts)
    with np.errstate(over="ignore"):  # the writer refuses what is infinite then
        for start in range(0, len(visible), ROWS_AT_ONCE):
            rows = visible[start : start + ROWS_AT_ONCE]
            yield (sums[rows] / counts[rows, None].astype(np.float32)).astype(np.float16)


def _look(
    points: np.ndarray, frame: Frame, teacher: ImageTeacher, views: ViewSettings
) -> _Look | None:
    """What a frame sees; None where that is nothing. Called by other threads."""
    depth = None if frame.depth is None else stored_depth(frame)
    size = image_size(frame.color) if depth is None else depth.shape
    seen = seen_points(points, frame, size, depth, views, threads=1)
    return _Look(frame, size, seen, teacher.load(frame)) if len(seen) else None


def _ahead(
    points: np.ndarray, frames: Sequence[Frame], teacher: ImageTeacher, views: ViewSettings
) -> Generator[_Look | None]:
    """What every frame sees, in order, some of them looked at ahead."""
    readers = min(READERS, processors.available())
    waiting: collections.deque[Future[_Look | None]] = collections.deque()
    with ThreadPoolExecutor(readers) as pool:
        try:
            for frame in frames:
                waiting.append(pool.submit(_look, points, frame, teacher, views))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _keeping(teacher: ImageTeacher, turns: int, scratch: Path) -> Iterator[ImageTeacher]:
    """The teacher, or one that keeps what it says where frames are gone through several times."""
    if turns == 1 or teacher.quick:
        yield teacher
        return
    with tempfile.TemporaryDirectory(prefix="frames-", dir=scratch) as folder:
        yield _KeepingTeacher(teacher, Path(folder))


class _KeepingTeacher:
    """A teacher that is asked once of every frame, and then read from a file."""

    quick = True

    def __init__(self, teacher: ImageTeacher, folder: Path) -> None:
        self.name, self.weights_hash = teacher.name, teacher.weights_hash
        self.embedding_size, self.settings = teacher.embedding_size, teacher.settings
        self._teacher, self._folder = teacher, folder
        # By the frames themselves, whose names may come twice.
        self._kept: dict[int, tuple[Path, Resize]] = {}

    def load(self, frame: Frame) -> Any:
        if id(frame) in self._kept:
            path, resize = self._kept[id(frame)]
            return read_features(path, self.embedding_size, resize)
        return self._teacher.load(frame)

    def features(self, frame: Frame, loaded: Any) -> ImageFeatures:
        if id(frame) in self._kept:
            kept: ImageFeatures = loaded
            return kept
        found = _in_half(self._teacher.features(frame, loaded))
        path = write_features(self._folder / str(len(self._kept)), found)
        self._kept[id(frame)] = path, found.resize if isinstance(found, FeatureGrid) else "nearest"
        return found


def _in_half(features: ImageFeatures) -> ImageFeatures:
    """Features rounded to half precision, as files have them: turns or not, the result is one."""
    with np.errstate(over="ignore"):  # what is infinite then is refused where it is added
        if isinstance(features, FeatureGrid) and features.planes.dtype != np.float16:
            return dataclasses.replace(features, planes=features.planes.astype(np.float16))
        if isinstance(features, MaskFeatures) and features.embeddings.dtype != np.float16:
            return dataclasses.replace(features, embeddings=features.embeddings.astype(np.float16))
    return features
