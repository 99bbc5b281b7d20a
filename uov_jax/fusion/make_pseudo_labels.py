"""From the features of rooms to pseudo labels: the word that fits each point's feature best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.pseudo_labels import (
    LABEL_AGAIN,
    PseudoLabelError,
    PseudoLabelFolder,
    PseudoLabelManifest,
    PseudoLabelWriter,
    RoomLabelFacts,
)
from uov_jax.fusion.words import RoomWords
from uov_jax.vocabulary import Vocabulary

CHUNK = 8_192  # points whose float32 features are in memory at a time
BYTES_PER_POINT = 3  # of labels and probabilities
# int[N]: the point whose feature each point takes, which is made of the room.
FeatureOfPoint = Callable[[Room], np.ndarray]


class FittingWords(NamedTuple):
    """The best word of every feature.

    word: int32[V], -1 where none may be chosen. probability: float32[V], of it among all words.
    unfiltered: int32[V], the best of all words.
    """

    word: np.ndarray
    probability: np.ndarray
    unfiltered: np.ndarray


def best_words(
    parts: Iterable[np.ndarray], text: np.ndarray, allowed: np.ndarray | None = None
) -> FittingWords:
    """The word that fits each feature best, by softmax over the products with all words.

    As 3DSS-VLG has it: features are not normalised, words are in half precision, products and
    softmax in float32, and what is not allowed is left out after the softmax.

    Args:
        parts: float16 or float32[n, D], V rows together; one part is worked on at a time.
        text: float32[W, D], a unit row for every word.
        allowed: bool[W], the words that may be chosen; None for all.

    Raises:
        NotFiniteError: a feature is not finite; names its row.

    """
    words = text.astype(np.float16).astype(np.float32).T
    found = [_fitting(np.zeros((0, len(text)), np.float32), allowed)]
    start = 0
    for part in parts:
        products = np.asarray(part, np.float32) @ words
        finite = np.isfinite(products).all(axis=1)
        if not finite.all():
            raise NotFiniteError(f"the feature in row {start + np.argmin(finite)} is not finite")
        start += len(part)
        found.append(_fitting(products, allowed))
    return FittingWords(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _fitting(products: np.ndarray, allowed: np.ndarray | None) -> FittingWords:
    """The best words of products float32[n, W], which are overwritten."""
    products -= products.max(axis=1, keepdims=True)
    share = np.exp(products, out=products)
    share /= share.sum(axis=1, keepdims=True)
    unfiltered = share.argmax(axis=1).astype(np.int32)
    if allowed is not None:
        share[:, ~allowed] = -1.0
    best = share.argmax(axis=1).astype(np.int32)
    value = np.take_along_axis(share, best[:, None], axis=1)[:, 0]
    word = np.where(value >= 0, best, np.int32(-1))
    return FittingWords(word, np.maximum(value, np.float32(0)), unfiltered)


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """How pseudo labels are made.

    Attributes:
        scene_filter: leave out classes that a room does not have.
        voxel_size: metres, see `PseudoLabelManifest`; 0 gives every point its own feature.
        seed: of the voxels' rotation and scale.

    """

    scene_filter: bool = True
    voxel_size: float = 0.0
    seed: int = 0


class RoomLabeller:
    """Makes the pseudo labels of rooms that are missing in a folder."""

    def __init__(
        self,
        store: RoomStore,
        features: FeatureFolder,
        vocabulary: Vocabulary,
        output: Path,
        settings: LabelSettings,
        feature_of_point: FeatureOfPoint | None = None,
        words: RoomWords | None = None,
    ) -> None:
        """Check that rooms, features and words fit each other, and make the folder.

        Args:
            store: of the rooms.
            features: of them, with the embeddings of the vocabulary's words.
            vocabulary: the words.
            output: folder of the labels; what is there already is kept.
            settings: how labels are made.
            feature_of_point: the voxels of `settings.voxel_size`; None where that is 0.
            words: embeddings of the vocabulary's words in another prompt; None for those that the
                features have with them.

        Raises:
            InputError: they are of different datasets, words or teachers, or the folder holds other
                labels.

        """
        if features.manifest.dataset != store.manifest.dataset:
            raise InputError(
                f"{features.root}: features of rooms of {features.manifest.dataset!r}, the rooms "
                f"of {store.root} are those of {store.manifest.dataset!r}"
            )
        if bool(settings.voxel_size) != (feature_of_point is not None):
            raise ValueError("voxels and their size are given together")
        self.store, self.features, self.vocabulary = store, features, vocabulary
        self.settings, self._feature_of_point = settings, feature_of_point
        self._text = self._embeddings(words)
        if len(self._text) != len(vocabulary):
            raise InputError(
                f"{features.root}: embeddings of {len(self._text)} words, the vocabulary "
                f"{vocabulary.name!r} has {len(vocabulary)}"
            )
        manifest = PseudoLabelManifest.of_features(
            features, vocabulary, settings.scene_filter, settings.voxel_size, settings.seed, words
        )
        self._writer = PseudoLabelWriter(output, manifest)
        self.folder = PseudoLabelFolder(output, vocabulary)

    def check(self, rooms: Sequence[str]) -> list[str]:
        """The rooms that are to be labelled.

        Raises:
            MissingFileError: a room has no features.
            RoomError: a room does not say which classes it has, where that is asked for.
            PseudoLabelError: a room was labelled with other classes than it has now.

        """
        todo = [room for room in rooms if not self.folder.has(room)]
        self.features.check(todo)
        for room in rooms:
            chosen = self._scene_classes(room)
            if room in todo:
                continue
            before = self.folder.facts(room).scene_classes
            if before != chosen:
                raise PseudoLabelError(
                    f"{self.folder.root / room}: labelled as a room with {self._names(before)}, "
                    f"now it has {self._names(chosen)}: {LABEL_AGAIN}"
                )
        return todo

    def label(self, rooms: Sequence[str], workers: int = 1) -> Iterator[str]:
        """Label rooms with so many threads; yields their names in order, each once it is written.

        Raises:
            RoomError, FeatureError: a file is damaged or does not fit the room.
            NotFiniteError: features that are not finite.

        """
        pool = ThreadPoolExecutor(workers)
        try:
            yield from pool.map(self._label, rooms)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _embeddings(self, words: RoomWords | None) -> np.ndarray:
        """float32[W, D] of the words to label by, once they fit the features."""
        if words is None:
            return self.features.text_embeddings
        facts, root = self.features.manifest, self.features.root
        words.require_same_teacher(root, facts.teacher, facts.weights_hash)
        if words.text.shape[1] != facts.embedding_size:
            raise InputError(
                f"{root}: features of {facts.embedding_size} numbers, the words of {words.source} "
                f"have {words.text.shape[1]}"
            )
        return words.text

    def _label(self, name: str) -> str:
        room = self.store.room(name)
        features = self.features.room(name, len(room))
        chosen = self._scene_classes(name)
        allowed = None
        if self.settings.scene_filter:
            allowed = np.isin(self.vocabulary.word_eval_class, chosen)
        try:
            found = best_words(features.parts(CHUNK), self._text, allowed)
        except NotFiniteError as error:
            raise NotFiniteError(f"{self.features.root / name / 'features.npy'}: {error}") from None
        rows = features.rows()
        if self._feature_of_point is not None:
            rows = rows[self._feature_of_point(room)]
        has = rows >= 0
        # A row behind the last one, for the points without a feature (row -1).
        word_class = self.vocabulary.word_eval_class.astype(np.uint8)
        label = np.append(np.where(found.word >= 0, word_class[found.word], 0), 0)[rows]
        unfiltered = np.append(word_class[found.unfiltered], 0)[rows]
        probability = np.append(np.where(found.word >= 0, found.probability, 0), 0)[rows]
        classes = len(self.vocabulary.eval_classes)
        pair = unfiltered[has].astype(np.int64) * classes + label[has]
        moves = np.bincount(pair, minlength=classes**2).reshape(classes, classes)
        facts = RoomLabelFacts(len(room), chosen, moves)
        self._writer.write(name, label, probability, facts)
        return name

    def _scene_classes(self, room: str) -> tuple[int, ...]:
        if self.settings.scene_filter:
            return self.store.scene_classes(room)
        return tuple(range(1, len(self.vocabulary.eval_classes)))

    def _names(self, classes: Sequence[int]) -> str:
        return ", ".join(self.vocabulary.eval_classes[number] for number in classes)
