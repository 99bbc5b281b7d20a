"""The folder of pseudo labels of rooms: of every point the class whose word fits its feature best.

pseudo_labels.json              features, vocabulary and settings of all labels
scene0000_00/labels.npy         uint8 [N], 0 for none
             probabilities.npy  float16 [N], of the label's word among all words, 0 for none
             labels.json        what is known of the room; it counts as made with it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.contents import MALFORMED, parse_json
from uov_jax.datasets.rooms import map_array, write_arrays
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import ManifestFile, read_bytes
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.words import RoomWords
from uov_jax.vocabulary import Vocabulary

PSEUDO_LABELS_VERSION = 1
LABEL_AGAIN = "make them again with scripts/make_pseudo_labels.py into another folder"
FACTS = "labels.json"


class PseudoLabelError(InputError):
    """Pseudo labels of rooms cannot be used; names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class PseudoLabelManifest:
    """What all pseudo labels of a folder have in common, kept in its `pseudo_labels.json`.

    Attributes:
        teacher: of the features, as `FeatureManifest` has it.
        weights_hash: of the features.
        kind: of the features, "fused" or "specialised".
        dataset: of the rooms.
        features: `features_identity` of the features.
        vocabulary: name of the dictionary whose evaluation classes the labels are.
        vocabulary_hash: `Vocabulary.hash` of it.
        scene_filter: whether classes that a room does not have were left out.
        voxel_size: in metres; every point has the feature of the first point of its voxel; 0 where
            every point has its own.
        seed: of the voxels' rotation and scale, which are of chance; 0 without voxels.
        words: sha256 of the words' embeddings where they are others than those that the features
            have with them, else "".
        prompt: that those words stood in, "" where that is not known.
        format_version: of the folder.

    """

    teacher: str
    weights_hash: str
    kind: str
    dataset: str
    features: str
    vocabulary: str
    vocabulary_hash: str
    scene_filter: bool
    voxel_size: float = 0.0
    seed: int = 0
    words: str = ""
    prompt: str = ""
    format_version: int = PSEUDO_LABELS_VERSION

    @classmethod
    def of_features(
        cls,
        features: FeatureFolder,
        vocabulary: Vocabulary,
        scene_filter: bool,
        voxel_size: float = 0.0,
        seed: int = 0,
        words: RoomWords | None = None,
    ) -> PseudoLabelManifest:
        """The manifest of labels of a folder of features; `words` are others than its own."""
        facts = features.manifest
        return cls(
            facts.teacher,
            facts.weights_hash,
            facts.kind,
            facts.dataset,
            features_identity(features),
            vocabulary.name,
            vocabulary.hash,
            scene_filter,
            float(voxel_size),
            seed,
            "" if words is None else _fingerprint(words.text),
            "" if words is None else words.prompt,
        )


MANIFEST = ManifestFile(
    name="pseudo_labels.json",
    facts=PseudoLabelManifest,
    version=PSEUDO_LABELS_VERSION,
    what="pseudo labels of rooms",
    how_to_get="make them with scripts/make_pseudo_labels.py",
    how_to_renew=LABEL_AGAIN,
    error=PseudoLabelError,
)


@dataclasses.dataclass(frozen=True, eq=False)
class RoomLabelFacts:
    """What is known of a room's pseudo labels without its arrays, kept in its `labels.json`.

    Attributes:
        points: N.
        scene_classes: the evaluation classes that the labels were chosen from.
        moves: int64[C, C], points by their label without the scene-level filter and with it.

    """

    points: int
    scene_classes: tuple[int, ...]
    moves: np.ndarray

    def to_json(self) -> str:
        """The facts as text."""
        return json.dumps(
            {
                "points": self.points,
                "scene_classes": list(self.scene_classes),
                "moves": self.moves.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str, classes: int) -> RoomLabelFacts:
        """The facts of `to_json`; `MALFORMED` errors for anything else."""
        content = parse_json(text)
        moves = np.array(content["moves"], np.int64)
        if moves.shape != (classes, classes):
            raise ValueError(f"moves of shape {moves.shape}, expected {(classes, classes)}")
        return cls(int(content["points"]), tuple(map(int, content["scene_classes"])), moves)


class PseudoLabelFolder:
    """A folder of pseudo labels of rooms.

    Attributes:
        root: the folder.
        manifest: what all of them have in common.

    """

    def __init__(self, root: str | os.PathLike[str], vocabulary: Vocabulary) -> None:
        """Read the manifest.

        Args:
            root: the folder.
            vocabulary: whose evaluation classes the labels must be.

        Raises:
            MissingFileError: there are no pseudo labels.
            PseudoLabelError: the manifest cannot be used, or is of another vocabulary.

        """
        self.root = Path(root)
        self.manifest = MANIFEST.read(self.root)
        self._classes = len(vocabulary.eval_classes)
        if vocabulary.hash != self.manifest.vocabulary_hash:
            raise PseudoLabelError(
                f"{self.root / MANIFEST.name}: pseudo labels of the vocabulary "
                f"{self.manifest.vocabulary!r}, not of {vocabulary.name!r}: {LABEL_AGAIN}"
            )

    def has(self, room: str) -> bool:
        """Whether a room was labelled."""
        return (self.root / room / FACTS).is_file()

    def check(self, rooms: Sequence[str]) -> None:
        """MissingFileError unless every room was labelled; counts those that were not."""
        missing = [room for room in rooms if not self.has(room)]
        if missing:
            raise MissingFileError(
                f"{self.root}: {len(missing)} of {len(rooms)} rooms have no pseudo labels, the "
                f"first is {missing[0]}: finish scripts/make_pseudo_labels.py"
            )

    def check_features(self, features: FeatureFolder) -> None:
        """PseudoLabelError unless the labels were made of these features."""
        if features_identity(features) != self.manifest.features:
            mine, theirs = self.manifest, features.manifest
            raise PseudoLabelError(
                f"{self.root / MANIFEST.name}: pseudo labels made of {mine.kind} features of "
                f"{mine.teacher!r} that are not those of {features.root} ({theirs.kind} ones of "
                f"{theirs.teacher!r}): give the features that they were made of, or {LABEL_AGAIN}"
            )

    def labels(self, room: str, points: int) -> np.ndarray:
        """uint8[points]: the class of every point of a room, 0 for none; mapped, read-only.

        Raises:
            MissingFileError: it was not labelled.
            RoomError: a file is damaged or does not fit the room.
            PseudoLabelError: a label is none of the classes.

        """
        labels = self._array(room, "labels", np.dtype(np.uint8), points)
        if labels.size and labels.max() >= self._classes:
            row = int(np.argmax(labels >= self._classes))
            raise PseudoLabelError(
                f"{self.root / room / 'labels.npy'}: the label of point {row} is {labels[row]}, "
                f"expected 0 to {self._classes - 1}: {LABEL_AGAIN}"
            )
        return labels

    def probabilities(self, room: str, points: int) -> np.ndarray:
        """float16[points]: the probability of every point's label, 0 for none; errors as labels."""
        return self._array(room, "probabilities", np.dtype(np.float16), points)

    def facts(self, room: str) -> RoomLabelFacts:
        """What is known of a room's labels; MissingFileError or PseudoLabelError."""
        self.check([room])
        path = self.root / room / FACTS
        try:
            return RoomLabelFacts.from_json(read_bytes(path).decode(), self._classes)
        except MALFORMED as error:
            raise PseudoLabelError(
                f"{path}: not the facts of a room's pseudo labels ({error}): {LABEL_AGAIN}"
            ) from error

    def identity(self, rooms: Sequence[str]) -> str:
        """sha256 of the manifest and the facts of some rooms, in hexadecimal.

        The facts tell labels apart that were made anew: which classes they were chosen from, and
        how many points have which. No array is read. Errors as `facts`.
        """
        found = hashlib.sha256(
            json.dumps(dataclasses.asdict(self.manifest), sort_keys=True).encode()
        )
        for room in rooms:
            found.update(f"\n{room}: {self.facts(room).to_json()}".encode())
        return found.hexdigest()

    def _array(self, room: str, name: str, dtype: np.dtype, points: int) -> np.ndarray:
        self.check([room])
        return map_array(self.root / room / f"{name}.npy", dtype, (points,), LABEL_AGAIN)


class PseudoLabelWriter:
    """Makes a folder of labels, or goes on with one of the same facts; several processes may."""

    def __init__(self, root: str | os.PathLike[str], manifest: PseudoLabelManifest) -> None:
        """Write the manifest, or check the one that is there.

        Raises:
            PseudoLabelError: the folder holds other labels.

        """
        self.root = Path(root)
        MANIFEST.create(self.root, manifest)

    def write(
        self, room: str, labels: np.ndarray, probabilities: np.ndarray, facts: RoomLabelFacts
    ) -> None:
        """Write one room, whole or not at all: uint8[N], float16[N] and what is known of them."""
        write_arrays(
            self.root / room,
            {
                "labels": labels.astype(np.uint8),
                "probabilities": probabilities.astype(np.float16),
            },
            {FACTS: facts.to_json()},
        )


def features_identity(features: FeatureFolder) -> str:
    """sha256 of the manifest of features and of the embeddings of its words, in hexadecimal."""
    facts = json.dumps(dataclasses.asdict(features.manifest), sort_keys=True)
    return _fingerprint(features.text_embeddings, facts.encode())


def _fingerprint(text: np.ndarray, facts: bytes = b"") -> str:
    embeddings = np.ascontiguousarray(text, np.float32)
    return hashlib.sha256(facts + embeddings.tobytes()).hexdigest()
