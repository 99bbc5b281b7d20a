"""The folder of fused features: of every room the points that views saw, and their features.

fused.json                   teacher, size and kind of all features
text_embeddings.npz          the vocabulary's words in the teacher's space
scene0000_00/views.npy       uint16 [N], how many views saw each point
             features.npy    float16 [V, D], of the points that at least one view saw, in order;
                             how they are kept small: `feature_rows.py`
             fused.json      what is known of the room; it counts as made with it
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import map_array
from uov_jax.errors import MissingFileError
from uov_jax.files import ManifestFile, flush, write_npz, write_text
from uov_jax.fusion.feature_rows import FeatureError, RowReader, RowWriter, facts_of
from uov_jax.fusion.word_embeddings import TEXT_EMBEDDINGS, read_embeddings
from uov_jax.vocabulary import Vocabulary

FEATURES_VERSION = 1
FUSE_AGAIN = "fuse again with scripts/fuse_features.py into another folder"
FUSED, SPECIALISED = "fused", "specialised"
OPENSCENE = "openscene"  # the teacher of published features
_UNFINISHED = ".tmp"
ROWS_AT_ONCE = 4096  # of features that are written: 6 MB of 768 numbers
# That numbers of unit rows may differ by where processes embed the same words on different devices,
# in half precision too; other prompts or weights move some by a hundredth and more.
SAME_WORDS = 1e-3


@dataclasses.dataclass(frozen=True)
class FeatureManifest:
    """What all features of a folder have in common, kept in its `fused.json`.

    Attributes:
        teacher: of the images, such as "maskclip", or `OPENSCENE` for published features.
        weights_hash: sha256 of its weights, "" where it has none or it is not known.
        embedding_size: D.
        dataset: of the rooms.
        vocabulary: name of the dictionary of `text_embeddings.npz`.
        vocabulary_hash: `Vocabulary.hash` of it.
        kind: "fused", or "specialised" by ESS.
        settings: of fusion or export, by name.
        format_version: of the folder.

    """

    teacher: str
    weights_hash: str
    embedding_size: int
    dataset: str
    vocabulary: str
    vocabulary_hash: str
    kind: str = FUSED
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    format_version: int = FEATURES_VERSION

    def __post_init__(self) -> None:
        """Make the fields what they are once read back from JSON."""
        object.__setattr__(self, "settings", json.loads(json.dumps(self.settings)))

    @property
    def views_counted(self) -> bool:
        """Whether it is known how many views saw a point, and not only that one did."""
        return self.teacher != OPENSCENE


MANIFEST = ManifestFile(
    name="fused.json",
    facts=FeatureManifest,
    version=FEATURES_VERSION,
    what="fused features",
    how_to_get="make them with scripts/fuse_features.py",
    how_to_renew=FUSE_AGAIN,
    error=FeatureError,
)


@dataclasses.dataclass(frozen=True, eq=False)
class RoomFeatures:
    """The features of one room.

    Attributes:
        room: its name.
        views: uint16[N], how many views saw each point.
        stored: the features.
        views_counted: False where `views` is 1 for every point that any view saw, because it is not
            known how many did.

    """

    room: str
    views: np.ndarray
    stored: RowReader
    views_counted: bool = True

    @property
    def visible(self) -> np.ndarray:
        """bool[N]: the points that have a feature."""
        return self.views > 0

    def rows(self) -> np.ndarray:
        """int32[N]: the row of every point's feature, -1 for none."""
        visible = self.visible
        return np.where(visible, np.cumsum(visible, dtype=np.int32) - np.int32(1), np.int32(-1))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """float16[n, D]: the features of some rows, by their numbers in 0..V-1, in any order.

        Only these are read from the disk, or the blocks of 64 that they are in.

        Raises:
            FeatureError: a file is damaged; names the folder.

        """
        return self.stored.read(rows)

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """float16[n, D]: the features of all visible points in order, at most so many at a time."""
        for start in range(0, self.stored.rows, size):
            yield self.read(np.arange(start, min(start + size, self.stored.rows)))

    @property
    def features(self) -> np.ndarray:
        """float16[V, D]: the features of all visible points in their order, read into memory."""
        return self.stored.read(np.arange(self.stored.rows))


class FeatureFolder:
    """A folder of fused features.

    Attributes:
        root: the folder.
        manifest: what all of them have in common.

    """

    def __init__(self, root: str | os.PathLike[str], vocabulary: Vocabulary | None = None) -> None:
        """Read the manifest.

        Args:
            root: the folder.
            vocabulary: whose words `text_embeddings` must be of; None takes the folder's.

        Raises:
            MissingFileError: there are no features.
            FeatureError: the manifest cannot be used, or its words are others.

        """
        self.root = Path(root)
        self.manifest = MANIFEST.read(self.root)
        if vocabulary is not None and vocabulary.hash != self.manifest.vocabulary_hash:
            raise FeatureError(
                f"{self.root / MANIFEST.name}: features with words of the vocabulary "
                f"{self.manifest.vocabulary!r}, not of {vocabulary.name!r}: {FUSE_AGAIN}"
            )

    @property
    def text_embeddings(self) -> np.ndarray:
        """float32[W, D]: a unit row for every word of the vocabulary."""
        return read_embeddings(
            self.root / TEXT_EMBEDDINGS, embedding_size=self.manifest.embedding_size
        )

    def has(self, room: str) -> bool:
        """Whether a room was fused."""
        return (self.root / room / MANIFEST.name).is_file()

    def check(self, rooms: list[str]) -> None:
        """MissingFileError unless every room was fused; counts those that were not."""
        missing = [room for room in rooms if not self.has(room)]
        if missing:
            raise MissingFileError(
                f"{self.root}: {len(missing)} of {len(rooms)} rooms have no features, the first "
                f"is {missing[0]}: finish scripts/fuse_features.py"
            )

    def identity(self, rooms: Sequence[str]) -> str:
        """sha256 of manifest, words and the facts of some rooms, in hexadecimal.

        Among the facts is what the features' content comes to, so no array but the words is read.

        Raises:
            MissingFileError: a room was not fused, or there are no words.
            FeatureError: a file cannot be used.

        """
        self.check(list(rooms))
        found = hashlib.sha256(
            json.dumps(dataclasses.asdict(self.manifest), sort_keys=True).encode()
        )
        found.update(self.text_embeddings.tobytes())
        for room in rooms:
            facts = facts_of(self.root / room, MANIFEST.name)
            found.update(f"\n{room}: {json.dumps(facts, sort_keys=True)}".encode())
        return found.hexdigest()

    def num_seen(self, room: str) -> int:
        """How many points of a room have a feature; no array is opened.

        Raises:
            MissingFileError: it was not fused.
            FeatureError: the file does not say so.

        """
        self.check([room])
        return int(facts_of(self.root / room, MANIFEST.name)["visible"])

    def room(self, name: str, points: int) -> RoomFeatures:
        """The features of a room of so many points.

        Raises:
            MissingFileError: it was not fused.
            FeatureError: a file is damaged or does not fit the room.

        """
        self.check([name])
        folder = self.root / name
        facts = facts_of(folder, MANIFEST.name)
        if facts["points"] != points:
            raise FeatureError(
                f"{folder}: features of a room of {facts['points']} points, not of {points}: "
                f"{FUSE_AGAIN}"
            )
        views = map_array(folder / "views.npy", np.dtype(np.uint16), (points,), FUSE_AGAIN)
        visible = int(np.count_nonzero(views))
        if visible != facts["visible"]:
            raise FeatureError(
                f"{folder / 'views.npy'}: {visible} points are seen, expected {facts['visible']}: "
                f"{FUSE_AGAIN}"
            )
        stored = RowReader(folder, visible, self.manifest.embedding_size, FUSE_AGAIN)
        return RoomFeatures(name, views, stored, self.manifest.views_counted)


class FeatureWriter:
    """Makes a folder of features, or goes on with one of the same facts; several processes may."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        manifest: FeatureManifest,
        text_embeddings: np.ndarray,
        *,
        compress: bool = False,
    ) -> None:
        """Write words and manifest, or check the manifest that is there.

        Args:
            root: the folder.
            manifest: of all features.
            text_embeddings: float32[W, D], a unit row for every word of the vocabulary.
            compress: rooms in blocks, see `feature_rows.py`: a seventh smaller where features are
                all different, but slower to read at random. A folder may have rooms of both kinds.

        Raises:
            FeatureError: the folder holds other features, or other embeddings of the words.

        """
        self.root, self.manifest, self.compress = Path(root), manifest, compress
        if not MANIFEST.check(self.root, manifest):
            self.root.mkdir(parents=True, exist_ok=True)
            write_npz(
                self.root / TEXT_EMBEDDINGS, {"embeddings": text_embeddings.astype(np.float32)}
            )
        MANIFEST.create(self.root, manifest)
        self._check_words(np.asarray(text_embeddings, np.float32))

    def _check_words(self, text: np.ndarray) -> None:
        """FeatureError unless the folder's words are these."""
        there = FeatureFolder(self.root).text_embeddings
        if there.shape != text.shape:
            raise FeatureError(
                f"{self.root / TEXT_EMBEDDINGS}: the folder holds {len(there)} words, not "
                f"{len(text)}: give another folder"
            )
        apart = np.abs(there - text).max(axis=1)
        if not (apart <= SAME_WORDS).all():
            raise FeatureError(
                f"{self.root / TEXT_EMBEDDINGS}: the folder holds other embeddings of the words "
                f"(they are up to {apart.max():.3g} apart, the first in row "
                f"{np.argmin(apart <= SAME_WORDS)}): give the weights or --text that it was made "
                "with, or another folder"
            )

    def has(self, room: str) -> bool:
        """Whether a room is there already, whole."""
        return (self.root / room / MANIFEST.name).is_file()

    def rooms(self) -> list[str]:
        """All rooms that are there, whole, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{MANIFEST.name}"))

    def source(self, room: str) -> str | None:
        """The `source` that a room was written with; None where it does not say.

        Raises:
            FeatureError: the file of its facts cannot be read.

        """
        found = facts_of(self.root / room, MANIFEST.name).get("source")
        return None if found is None else str(found)

    def write(self, room: str, views: np.ndarray, features: np.ndarray) -> None:
        """Write one room, whole or not at all: uint16[N] and float16[V, D] of `RoomFeatures`."""
        visible = int(np.count_nonzero(views))
        if features.shape != (visible, self.manifest.embedding_size):
            raise FeatureError(
                f"room {room}: {visible} points are seen, expected as many features of "
                f"{self.manifest.embedding_size} numbers, found {list(features.shape)}"
            )
        with self.open(room) as writing:
            writing.append(views, features)

    @contextlib.contextmanager
    def open(self, room: str, about: Mapping[str, object] | None = None) -> Iterator[WritingRoom]:
        """A room that is written part by part; it is there, whole, when the block ends.

        After an error nothing of it is. A room of that name is replaced.

        Args:
            room: its name.
            about: more to keep of it, by name: `source`, what it is made of as one short word, and
                what is for people.

        Raises:
            FeatureError: there is no point, or none with a feature.

        """
        folder = self.root / room
        temporary = self.root / f".{room}.{uuid.uuid4().hex}{_UNFINISHED}"
        temporary.mkdir()
        rows = RowWriter(temporary, self.manifest.embedding_size, compress=self.compress)
        try:
            writing = WritingRoom(room, rows, temporary)
            yield writing
            facts = writing.close(temporary)
            write_text(temporary / MANIFEST.name, json.dumps({**(about or {}), **facts}, indent=1))
            for path in temporary.iterdir():
                flush(path)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            flush(self.root)
        finally:
            rows.abandon()
            shutil.rmtree(temporary, ignore_errors=True)

    def remove_unfinished(self, rooms: Iterable[str]) -> None:
        """Remove what killed writers left of these rooms, which are this process's to write."""
        for room in rooms:
            for folder in self.root.glob(f".{room}.*{_UNFINISHED}"):
                if folder.name.removeprefix(f".{room}.").count(".") == 1:  # else of a longer name
                    shutil.rmtree(folder, ignore_errors=True)


class WritingRoom:
    """A room of `FeatureWriter.open`, its points in order, some at a time.

    Attributes:
        scratch: a folder for what is needed until the room is whole. What a killed process leaves
            there is removed by `FeatureWriter.remove_unfinished`.

    """

    def __init__(self, room: str, rows: RowWriter, scratch: Path) -> None:
        """Begin without points."""
        self._room, self._rows, self.scratch = room, rows, scratch
        self._views: list[np.ndarray] = []
        self._visible = 0

    def append(self, views: np.ndarray, features: Iterable[np.ndarray] | np.ndarray) -> None:
        """The next points.

        Args:
            views: uint16[n], how many views saw each.
            features: float16[v, D] of those with views > 0, in their order; in one array, or in
                several that follow each other.

        Raises:
            FeatureError: more or fewer features than points that are seen, or not finite.

        """
        self._visible += int(np.count_nonzero(views))
        self._views.append(np.asarray(views, np.uint16))
        for part in _parts(features):
            if not np.isfinite(part).all():
                raise FeatureError(
                    f"room {self._room}: a feature is not finite in half precision, which ends at "
                    "65,504: is the teacher's output scaled?"
                )
            self._rows.append(part)
        if self._rows.rows != self._visible:
            raise FeatureError(
                f"room {self._room}: {self._visible} points are seen, expected as many features, "
                f"found {self._rows.rows}"
            )

    def close(self, folder: Path) -> dict[str, object]:
        """Finish the files; the facts of the room."""
        if not self._visible:
            raise FeatureError(
                f"room {self._room}: no view sees any of its points: are the poses from camera to "
                "world, in metres, and of this room?"
            )
        views = np.concatenate(self._views)
        np.save(folder / "views.npy", views, allow_pickle=False)
        rows = self._rows.close()
        content = hashlib.sha256(views.tobytes() + self._rows.content.encode()).hexdigest()
        return {
            "points": len(views),
            "visible": rows["rows"],
            "different": rows["different"],
            "content": content,
        }


def expected_bytes(points: int, embedding_size: int) -> int:
    """What the features of so many points take at most, where all are seen and none is equal."""
    return points * (2 * embedding_size + 2)


def _parts(features: Iterable[np.ndarray] | np.ndarray) -> Iterator[np.ndarray]:
    if not isinstance(features, np.ndarray):
        yield from features
        return
    for start in range(0, len(features), ROWS_AT_ONCE):
        yield features[start : start + ROWS_AT_ONCE].astype(np.float16)
