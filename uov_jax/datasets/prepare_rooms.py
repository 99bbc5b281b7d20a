"""From a dataset's rooms to the store: in processes, going on where an earlier call stopped."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from uov_jax.datasets.rooms import RoomWriter, read_scene_labels, remove_unfinished_rooms
from uov_jax.datasets.scans import ScanSource
from uov_jax.errors import MissingFileError, UserError
from uov_jax.files import read_bytes, write_text
from uov_jax.vocabulary import Vocabulary
from uov_jax.workers import spread

BYTES_PER_POINT = 16  # of the store


@dataclasses.dataclass(frozen=True)
class PreparedRoom:
    """What became of one room.

    Attributes:
        name: of the room.
        points: written now; 0 where the room was there.
        classes: how many classes its labels have; None where it has no labels.
        notes: what was repaired, replaced or left out.
        failure: why it could not be prepared, "" where it was.
        replaced: it was there, made from other files.

    """

    name: str
    points: int = 0
    classes: int | None = None
    notes: tuple[str, ...] = ()
    failure: str = ""
    replaced: bool = False


@dataclasses.dataclass(frozen=True)
class RoomJob:
    """What is done with every room."""

    source: ScanSource
    writer: RoomWriter

    def __call__(self, name: str) -> PreparedRoom:
        """Prepare one room; what a user can mend is told in the result."""
        try:
            # Before it is read: what changes meanwhile is then seen the next time.
            stamp = stamp_of(self.source.files(name))
            if self.writer.is_current(name, stamp):
                return PreparedRoom(name)
            replaced = self.writer.has(name)
            scan = self.source.read(name)
            self.writer.write(
                name, scan.coords, scan.colors, scan.labels, scan.source, scan.world_to_room, stamp
            )
        except (UserError, OSError) as error:
            return PreparedRoom(name, failure=str(error))
        classes = None if scan.labels is None else len(set(scan.labels[scan.labels > 0].tolist()))
        return PreparedRoom(name, len(scan.coords), classes, scan.notes, replaced=replaced)


def stamp_of(paths: Iterable[Path]) -> str:
    """Sizes and times of files in short; those that are not there do not count."""
    stamp = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file():
            facts = path.stat()
            stamp.update(f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return stamp.hexdigest()


def missing_rooms(source: ScanSource, names: Sequence[str], writer: RoomWriter) -> list[str]:
    """The rooms that are not there, or were made from other files than there are now."""
    return [
        name
        for name in names
        if not writer.has(name) or not writer.is_current(name, stamp_of(source.files(name)))
    ]


def open_store(
    output: Path,
    dataset: str,
    vocabulary: Vocabulary,
    source: ScanSource,
    scene_labels: Path | None,
) -> RoomWriter:
    """Make the store, or find it of the same facts, with its splits and scene-level labels.

    What changes of splits that were there is said.

    Raises:
        RoomError: the folder holds other rooms, or the labels cannot be used.
        MissingFileError: there are no scene-level labels, though they were named.

    """
    if scene_labels is not None:
        if not scene_labels.is_file():
            raise MissingFileError(f"{scene_labels}: no such file of the rooms' classes")
        read_scene_labels(scene_labels, vocabulary.eval_classes, set(source.names()))
    writer = RoomWriter(output, dataset, vocabulary, source.settings)
    for change in writer.write_splits(source.splits()):
        print(f"Note: {change}.")
    if scene_labels is not None:
        write_text(output / "scene_labels.txt", read_bytes(scene_labels).decode("utf-8-sig"))
    return writer


def prepare_rooms(
    source: ScanSource, names: Sequence[str], writer: RoomWriter, workers: int = 1
) -> Iterator[PreparedRoom]:
    """Write the rooms of `missing_rooms`; yields what became of each, in order."""
    remove_unfinished_rooms(writer.root, names)
    yield from spread(RoomJob(source, writer), names, workers)
