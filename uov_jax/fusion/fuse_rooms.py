"""Fusion of many rooms: resumable room by room, with progress, and told beforehand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from uov_jax.bar import Bar
from uov_jax.datasets.frames import FrameSource
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError, UserError
from uov_jax.files import file_sizes
from uov_jax.fusion.feature_rows import FeatureError
from uov_jax.fusion.features import FeatureWriter, WritingRoom, expected_bytes
from uov_jax.fusion.frames_identity import frames_identity
from uov_jax.fusion.fuse import MEMORY, FusedRoom, fuse_room, turns_of
from uov_jax.fusion.image_features import ImageTeacher
from uov_jax.fusion.openscene import OpenSceneFeatures
from uov_jax.fusion.views import OPENSCENE_VIEWS, ViewSettings
from uov_jax.readable import readable_bytes

HOPELESS = 10  # rooms that fail one after the other: something is wrong with all
OTHERS = 3  # rooms of other processes that are compared where none of one's own is there
# Makes a room, and adds to what is kept of it.
Make = Callable[[str, WritingRoom, dict[str, object]], FusedRoom]


class FailedRoom(NamedTuple):
    """A room that has no features, and why."""

    room: str
    reason: str


class FusionResult(NamedTuple):
    """What `fuse_rooms` did.

    written: rooms, by name. found: rooms that were there already. bytes: written now. seconds: per
    frame. failed: rooms without features.
    """

    written: dict[str, FusedRoom]
    found: int
    bytes: int
    seconds: float
    failed: tuple[FailedRoom, ...]


def fuse_rooms(
    store: RoomStore,
    rooms: Sequence[str],
    source: FrameSource,
    teacher: ImageTeacher,
    writer: FeatureWriter,
    *,
    views: ViewSettings = OPENSCENE_VIEWS,
    memory: int = MEMORY,
    say: Callable[[str], None] = print,
) -> FusionResult:
    """Write the features of the rooms that have none yet; one that fails is reported and left out.

    Args:
        store: of the rooms.
        rooms: names.
        source: of their frames.
        teacher: of the images.
        writer: of the folder.
        views: when a point is seen.
        memory: bytes that sums may take.
        say: takes a line of what is about to happen, or went wrong.

    Raises:
        InputError: too many rooms failed one after the other.
        FeatureError: rooms that are there were fused from other frames.

    """

    def fuse(name: str, writing: WritingRoom, about: dict[str, object]) -> FusedRoom:
        room, frames = store.room(name), source.frames(name)
        about["source"] = frames_identity(frames, teacher)
        turns = turns_of(len(room), teacher.embedding_size, memory)
        with Bar(total=turns * len(frames), unit="frame", desc=name, leave=False, delay=2) as bar:
            return fuse_room(
                room.coords,
                frames,
                teacher,
                writing,
                views=views,
                memory=memory,
                step=bar.update,
            )

    def source_of(name: str) -> str:
        return frames_identity(source.frames(name), teacher)

    _check_sources(rooms, writer, source_of, "frames", say)
    return _write_each(store, rooms, writer, fuse, say, memory)


def import_rooms(
    store: RoomStore,
    rooms: Sequence[str],
    published: OpenSceneFeatures,
    writer: FeatureWriter,
    say: Callable[[str], None] = print,
) -> FusionResult:
    """Write OpenScene's features of the rooms as those of `fuse_rooms`, which see for the rest."""

    def take(name: str, writing: WritingRoom, about: dict[str, object]) -> FusedRoom:
        about["source"] = published.identity(name)
        views, features = published.read(name, store.facts(name).points)
        writing.append(views, features)
        return FusedRoom(len(views), len(features), 0, 0)

    _check_sources(rooms, writer, published.identity, "published files", say)
    return _write_each(store, rooms, writer, take, say, 0)


def _check_sources(
    rooms: Sequence[str],
    writer: FeatureWriter,
    source_of: Callable[[str], str],
    what: str,
    say: Callable[[str], None],
) -> None:
    """FeatureError if rooms that are there were made of something else than they would be now.

    All of `rooms`; where none of them is there, a few of those that other processes wrote. What was
    made and has no source any more is not compared.
    """
    there = [room for room in rooms if writer.has(room)]
    there = there or writer.rooms()[:OTHERS]
    unknown = 0
    for room in Bar(there, unit="room", desc=f"comparing {what}", leave=False, delay=2):
        before = writer.source(room)
        if before is None:
            unknown += 1
            continue
        try:
            now = source_of(room)
        except UserError:
            continue
        if now != before:
            raise FeatureError(
                f"{writer.root / room}: the room was made of other {what} than it has now, and no "
                "folder holds two fusions: name those that it was made of, or another --output; "
                "or delete the room's folder to have it made again"
            )
    if unknown:
        say(f"{unknown} rooms were there before it was kept which {what} they are of.")


def _write_each(
    store: RoomStore,
    rooms: Sequence[str],
    writer: FeatureWriter,
    make: Make,
    say: Callable[[str], None],
    memory: int,
) -> FusionResult:
    waiting = [room for room in rooms if not writer.has(room)]
    writer.remove_unfinished(waiting)
    say(_plan(store, waiting, len(rooms) - len(waiting), writer, memory))
    written: dict[str, FusedRoom] = {}
    failed: list[FailedRoom] = []
    in_a_row, start = 0, time.perf_counter()
    with Bar(total=len(waiting), unit="room", disable=not waiting) as bar:
        for room in waiting:
            about: dict[str, object] = {}
            try:
                with writer.open(room, about) as writing:
                    result = make(room, writing, about)
                    about |= {"frames": result.frames, "used": result.used}
                written[room], in_a_row = result, 0
            except UserError as error:
                failed.append(FailedRoom(room, str(error)))
                bar.clear()
                say(f"room {room} is left out: {error}")
                in_a_row += 1
            if in_a_row >= HOPELESS:
                raise InputError(
                    f"{HOPELESS} rooms failed one after the other, the last with: "
                    f"{failed[-1].reason}"
                )
            bar.update()
    frames = sum(result.frames for result in written.values())
    seconds = (time.perf_counter() - start) / max(frames, 1)
    size = sum(_bytes(writer, room) for room in written)
    return FusionResult(written, len(rooms) - len(waiting), size, seconds, tuple(failed))


def _plan(
    store: RoomStore, waiting: Sequence[str], found: int, writer: FeatureWriter, memory: int
) -> str:
    columns = writer.manifest.embedding_size
    points = [store.facts(room).points for room in waiting]
    size = expected_bytes(sum(points), columns)
    sums = min(4 * columns * max(points, default=0), memory)
    held = f"; sums take {readable_bytes(sums)} of memory" if sums else ""
    free = shutil.disk_usage(writer.root).free
    warning = f" WARNING: only {readable_bytes(free)} are free there." if size > free else ""
    return (
        f"Teacher {writer.manifest.teacher!r}: {len(waiting)} rooms ({sum(points):,} points) to "
        f"do, {found} done already. Expected size: at most {readable_bytes(size)} in "
        f"{writer.root}, where all points are seen{held}.{warning}"
    )


def _bytes(writer: FeatureWriter, room: str) -> int:
    sizes = file_sizes(sorted((writer.root / room).iterdir()), "features")
    return int(sizes.sum())
