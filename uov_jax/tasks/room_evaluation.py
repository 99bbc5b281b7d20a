"""Evaluation of rooms by words: the network, the features of images, and the ensemble of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.room_labels import RoomLabelFormat
from uov_jax.datasets.rooms import RoomStore
from uov_jax.datasets.submission import LabelFormat
from uov_jax.errors import InputError
from uov_jax.evaluation.judging import PointColumns
from uov_jax.evaluation.scoring import ROOMS
from uov_jax.files import read_bytes
from uov_jax.fusion.features import FeatureFolder
from uov_jax.input.repeated_room import room_sample
from uov_jax.quirks import HALF_SCORES, quirks_of
from uov_jax.tasks.esg import cube_side
from uov_jax.tasks.recipe_batches import check_model, recipe_capacities
from uov_jax.tasks.room_model import room_model
from uov_jax.tasks.room_words import require_network, room_words
from uov_jax.tasks.word_scores import (
    CHUNK,
    best_classes,
    ensemble,
    scores_of_features,
    word_scorer,
)
from uov_jax.tasks.zero_shot import evaluated_words
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import load_vocabulary, vocabulary_identity


class _Fused(NamedTuple):
    """Features of images at the points of a room, by words.

    views, views_counted: as of `RoomFeatures`. scores: float32[N, W + 1] of `word_scorer`, 0 for a
    point without a feature.
    """

    views: np.ndarray
    views_counted: bool
    scores: np.ndarray


class RoomSplit:
    """Rooms judged by the word that fits best what the network says of each point.

    Where the recipe names features of images, they are judged too, alone and in OpenScene's
    ensemble with the network. The network sees a room several times, turned and scaled by chance as
    in training; scores are summed.
    """

    title = "Segmentation of rooms by words"
    unit, ahead, smooths = "rooms", "y", False
    scoring = ROOMS

    def __init__(self, config: ConfigDict, split: str) -> None:
        """Open the rooms, their features and the words.

        Raises:
            MissingFileError: rooms, features or words are missing.
            InputError: they do not fit each other or the config.

        """
        check_model(config.model)
        data = config.data
        self.config, self.split = config, split
        self.vocabulary = load_vocabulary(data.vocabulary)
        self.classes, self.colors = self.vocabulary.eval_classes, self.vocabulary.colors
        self.store = RoomStore(data.root, self.vocabulary)
        self.rooms = self.store.split(split)
        self.words = room_words(data, self.vocabulary)
        self.features = self._open_features(data.features)
        self.endings: tuple[str, ...] = ("",)
        self.given: tuple[str, ...] = ()
        if self.features is not None:
            self.given = (f"{self.features.manifest.kind} 2D",)
            self.endings = ("", f" + {self.given[0]}")
        table = Path(data.label_table) if data.label_table else None
        self.label_format: LabelFormat = RoomLabelFormat(self.rooms, self.vocabulary, table)
        if config.run.repeats < 0:
            raise InputError(f"config.run.repeats: at least 0, found {config.run.repeats}")
        self.voxels, self._side = voxel_settings(data), cube_side(config)
        self.plans = recipe_capacities(config, 1).plans
        self._half = HALF_SCORES in quirks_of(config)
        self._text, self._word_class = evaluated_words(self.words.text, self.vocabulary)
        self._score = word_scorer(self._text, self._half)

    def __len__(self) -> int:
        """Number of rooms."""
        return len(self.rooms)

    def identity(self) -> dict[str, str]:
        """Classes, words, rooms with their true labels, and features: by content, not by path."""
        table = self.config.data.label_table
        return vocabulary_identity(self.vocabulary) | {
            "words": fingerprint(self.words.text.tobytes()),
            "rooms": self.store.identity(self.rooms),
            "features": "" if self.features is None else self.features.identity(self.rooms),
            "label table": fingerprint(read_bytes(Path(table))) if table else "",
        }

    def token(self, index: int) -> str:
        """The room's name."""
        return self.rooms[index]

    def has_labels(self, index: int) -> bool:
        """Whether a room has true labels."""
        return self.store.has_labels(self.rooms[index])

    def sample(self, index: int) -> dict[str, Any]:
        """One room, made voxels of as often as the recipe says, with its features by words."""
        room = self.store.room(self.rooms[index])
        sample = room_sample(
            room,
            self.plans,
            self._side,
            self.config.run.repeats,
            (self.config.seed, index),
        )
        fused = self._fused(room.name, len(room))
        if fused is None:
            return sample | {"views": None, "fused": None, "given": {}}
        classes = best_classes(fused.scores[:, :-1], self._word_class)
        classes[fused.views == 0] = 0
        return sample | {
            "views": fused.views,
            "views_counted": fused.views_counted,
            "fused": fused.scores,
            "given": {self.given[0]: classes},
        }

    def keyframe(self, index: int) -> Keyframe | None:
        """None: the frames of a room are not judged."""
        del index
        return None

    def require_network(self, path: str | Path) -> None:
        """InputError unless a checkpoint's features lie in the space of the words."""
        require_network(self.words, path)

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with one feature of the words' size a voxel."""
        return room_model(self.config.model, self.words.text.shape[1], rngs, axis_name)

    def classify(self, output: jax.Array) -> jax.Array:
        """float32[rows, W + 1]: what `word_scorer` gives, of which `judge` makes classes."""
        return self._score(output)

    def judge(self, ask: Callable[[Any], Any], sample: Mapping[str, Any]) -> PointColumns:
        """The classes of all repeats together: the network's, and those of the ensemble."""
        points, fused = len(sample["points"]), sample["fused"]
        # The published code sums what is in half precision in half precision.
        dtype = np.float16 if self._half else np.float32
        sums = {end: np.zeros((points, len(self._word_class)), dtype) for end in self.endings}
        for inputs, rows in zip(sample["inputs"], sample["inverse"], strict=True):
            scores = np.asarray(ask(inputs))[rows]
            sums[""] += scores[:, :-1].astype(dtype)
            if fused is not None:
                both = ensemble(scores, fused)
                # Zeros, which stand for no feature, would beat scores below zero.
                unseen = sample["views"] == 0
                both[unseen] = scores[unseen, :-1]
                sums[self.endings[1]] += both.astype(dtype)
        return PointColumns(
            {end: best_classes(total, self._word_class) for end, total in sums.items()}
        )

    def probabilities(self, output: jax.Array) -> jax.Array:
        """Never asked for: AFI is not of rooms."""
        raise NotImplementedError

    def smooth(
        self,
        points: np.ndarray,
        classes: np.ndarray,
        afi_points: int | None = None,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """Never asked for: AFI is not of rooms."""
        raise NotImplementedError

    def _open_features(self, folder: str) -> FeatureFolder | None:
        """The features of the split's rooms, once they fit rooms and words; None without any."""
        if not folder:
            return None
        features = FeatureFolder(folder)
        facts = features.manifest
        self.words.require_same_teacher(features.root, facts.teacher, facts.weights_hash)
        if facts.dataset != self.store.manifest.dataset:
            raise InputError(
                f"{features.root}: features of rooms of {facts.dataset!r}, the rooms of "
                f"{self.store.root} are those of {self.store.manifest.dataset!r}"
            )
        if facts.embedding_size != self.words.text.shape[1]:
            raise InputError(
                f"{features.root}: features of {facts.embedding_size} numbers, the words of "
                f"{self.words.source} have {self.words.text.shape[1]}"
            )
        if not any(map(features.has, self.rooms)):
            print(
                f"{folder} has no features of the rooms of {self.split!r}: the network is judged "
                "alone.",
                flush=True,
            )
            return None
        features.check(self.rooms)
        return features

    def _fused(self, room: str, points: int) -> _Fused | None:
        if self.features is None:
            return None
        found = self.features.room(room, points)
        scores = np.zeros((points, len(self._word_class) + 1), np.float32)
        scores[found.visible] = scores_of_features(found.parts(CHUNK), self._text, self._half)
        return _Fused(np.asarray(found.views), found.views_counted, scores)
