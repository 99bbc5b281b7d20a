"""The folder of fused features: of every room the points that views saw, and their features.

fused.json                   teacher, size and kind of all features
text_embeddings.npz          the vocabulary's words in the teacher's space
scene0000_00/views.npy       uint16 [N], how many views saw each point
             features.npy    float16 [V, D], of the points that at least one view saw, in order
             fused.json      what is known of the room; it counts as made with it
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import map_array, write_arrays
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE, ManifestFile, read_bytes, write_npz
from uov_jax.vocabulary import Vocabulary

FEATURES_VERSION = 1
FUSE_AGAIN = "fuse again with scripts/fuse_features.py into another folder"
FUSED, SPECIALISED = "fused", "specialised"
TEXT_EMBEDDINGS = "text_embeddings.npz"


class FeatureError(InputError):
    """Features of a room cannot be used; names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class FeatureManifest:
    """What all features of a folder have in common, kept in its `fused.json`.

    Attributes:
        teacher: of the images, such as "maskclip", or "openscene" for published features.
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
        views: uint16[N], how many views saw each point; published features do not say how many,
            there it is 1.
        features: float16[V, D], rows of the points with views > 0, in their order; mapped.

    """

    room: str
    views: np.ndarray
    features: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """bool[N]: the points that have a feature."""
        return self.views > 0

    def rows(self) -> np.ndarray:
        """int32[N]: the row of `features` of every point, -1 for none."""
        visible = self.visible
        return np.where(visible, np.cumsum(visible, dtype=np.int32) - np.int32(1), np.int32(-1))


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
        path = self.root / TEXT_EMBEDDINGS
        if not path.is_file():
            raise MissingFileError(f"{path}: missing: {FUSE_AGAIN}")
        try:
            with np.load(path, allow_pickle=False) as stored:
                text = np.asarray(stored["embeddings"], np.float32)
        except DAMAGE as error:
            raise FeatureError(f"{path}: damaged ({error}): {FUSE_AGAIN}") from error
        if text.ndim != 2 or text.shape[1] != self.manifest.embedding_size:
            raise FeatureError(
                f"{path}: expected {self.manifest.embedding_size} numbers a word, found "
                f"{list(text.shape)}: {FUSE_AGAIN}"
            )
        return text

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

    def num_seen(self, room: str) -> int:
        """How many points of a room have a feature; no array is opened.

        Raises:
            MissingFileError: it was not fused.
            FeatureError: the file does not say so.

        """
        self.check([room])
        path = self.root / room / MANIFEST.name
        try:
            return int(json.loads(read_bytes(path).decode())["visible"])
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(
                f"{path}: not the facts of a room's features ({error}): {FUSE_AGAIN}"
            ) from error

    def room(self, name: str, points: int) -> RoomFeatures:
        """The features of a room of so many points.

        Raises:
            MissingFileError: it was not fused.
            FeatureError: a file is damaged or does not fit the room.

        """
        self.check([name])
        folder = self.root / name
        views = map_array(folder / "views.npy", np.dtype(np.uint16), (points,), FUSE_AGAIN)
        visible = int(np.count_nonzero(views))
        features = map_array(
            folder / "features.npy",
            np.dtype(np.float16),
            (visible, self.manifest.embedding_size),
            FUSE_AGAIN,
        )
        return RoomFeatures(name, views, features)


class FeatureWriter:
    """Makes a folder of features, or goes on with one of the same facts; several processes may."""

    def __init__(
        self, root: str | os.PathLike[str], manifest: FeatureManifest, text_embeddings: np.ndarray
    ) -> None:
        """Write words and manifest, or check the manifest that is there.

        Args:
            root: the folder.
            manifest: of all features.
            text_embeddings: float32[W, D], a unit row for every word of the vocabulary.

        Raises:
            FeatureError: the folder holds other features.

        """
        self.root, self.manifest = Path(root), manifest
        if not MANIFEST.check(self.root, manifest):
            self.root.mkdir(parents=True, exist_ok=True)
            write_npz(
                self.root / TEXT_EMBEDDINGS, {"embeddings": text_embeddings.astype(np.float32)}
            )
        MANIFEST.create(self.root, manifest)

    def has(self, room: str) -> bool:
        """Whether a room is there already, whole."""
        return (self.root / room / MANIFEST.name).is_file()

    def write(self, room: str, views: np.ndarray, features: np.ndarray) -> None:
        """Write one room, whole or not at all: uint16[N] and float16[V, D] of `RoomFeatures`."""
        visible = int(np.count_nonzero(views))
        if features.shape != (visible, self.manifest.embedding_size):
            raise FeatureError(
                f"room {room}: {visible} points are seen, expected as many features of "
                f"{self.manifest.embedding_size} numbers, found {list(features.shape)}"
            )
        facts = json.dumps({"points": len(views), "visible": visible}, indent=1)
        write_arrays(
            self.root / room,
            {"views": views.astype(np.uint16), "features": features.astype(np.float16)},
            {MANIFEST.name: facts},
        )
