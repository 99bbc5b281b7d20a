"""A trained network that labels point clouds: one way for those of sweeps and of rooms."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from uov_jax import compilation, sparse
from uov_jax.checkpoints.card import ROOMS, NetworkCard, read_card
from uov_jax.checkpoints.files import StoredNetwork
from uov_jax.checkpoints.load import HEAD, TrainedNetwork, load_network, read_network
from uov_jax.clouds import Cloud
from uov_jax.clouds.cloud import AS_STORED, OF_A_MAP, CloudError, Stored, cloud_of
from uov_jax.clouds.likeness import density_difference, differences
from uov_jax.config import load_config
from uov_jax.datasets.rooms import Room
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.evaluation.judging import NOT_FINITE, where_finite
from uov_jax.input.batching import rounded_up
from uov_jax.input.whole_room import room_input
from uov_jax.input.whole_sweep import network_input
from uov_jax.tasks.cards import TASKS, assumed_card
from uov_jax.tasks.query import QueryError, word_indices
from uov_jax.tasks.recipe_batches import check_model, recipe_capacities
from uov_jax.tasks.recipe_model import recipe_precision
from uov_jax.tasks.room_model import room_model
from uov_jax.tasks.segmentation import best_class, segmentation_model
from uov_jax.tasks.sweep_smoothing import smooth_sweep
from uov_jax.tasks.tri_modal import pretraining_model
from uov_jax.tasks.zero_shot import evaluated_words, nearest_class
from uov_jax.training import device_memory
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import vocabulary_of_words

OTHER = "other"  # the class of points that fit none of the texts asked for
GROWTH = 1.75  # from one size of arrays to the next
MOST_VOXELS = 2_000_000  # of a cloud: activations of the large network then take some 20 GB
WORDS_AT_ONCE = 64  # numbers of words are padded to multiples, so that few programs are compiled


class CloudWarning(UserWarning):
    """Points do not look like those that a network learned from; says what would mend it."""


class UnlabelledError(InputError):
    """A checkpoint's network labels no clouds, or not without a recipe; says what would help."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of a cloud of N points.

    Attributes:
        labels: uint8[N], the class of every point, 0 for those that are not finite.
        finite: bool[N], whether position and intensity, where the network takes it, are numbers.
        warnings: in what the cloud does not look like training clouds, each with what mends it.

    """

    labels: np.ndarray
    finite: np.ndarray
    warnings: tuple[str, ...]


class CloudLabeller:
    """A trained network as `load` gives it.

    Attributes:
        card: what is known of the network.
        source: the checkpoint's folder, or the file.
        classes: names of the classes, by which labels are counted; the first one is of points
            without a label.
        colors: uint8[C, 3], RGB of each.
        notes: what was assumed of the texts asked for.

    """

    notes: tuple[str, ...] = ()

    def __init__(self, card: NetworkCard, network: TrainedNetwork) -> None:
        """Take a network that is loaded."""
        self.card, self.source = card, network.weights.path
        self.classes, self.colors = card.classes, card.colors
        self._ground = card.ground
        self._state = jax.device_put(network.state)
        self._head = {n: a for n, a in self._state.parameters.items() if n.startswith(HEAD)}
        self._plans = _plans(card)
        # Rounded products of features average their errors out over the embedding, rounded scores
        # of words do not.
        model = ConfigDict(dict(card.model))
        self._exact = jnp.dtype(model.dtype) == jnp.float32 and (
            recipe_precision(model) == "float32"
        )
        predict = network.predict()

        def classify(state: Any, inputs: Any, words: Any, classes: Any) -> jax.Array:
            output = predict(state, inputs)
            if classes is None:
                return best_class(output)
            if words is not None:
                return nearest_class(output, words, classes)
            return where_finite(output, classes[jnp.argmax(output, axis=1)])

        self._classify = jax.jit(classify)
        self._by_words = card.task in ("tri_modal", "esg")
        self._words: tuple[np.ndarray, np.ndarray] | None = None
        if card.words is not None:
            self._use_words(*evaluated_words(card.words.embeddings, card.words.vocabulary))

    @property
    def is_of_rooms(self) -> bool:
        """Whether it takes rooms with their colours, and not sweeps with their intensity."""
        return self.card.unit == ROOMS

    def identity(self) -> list[Any]:
        """Plain values that tell what it labels by, beside the checkpoint."""
        card = {name: value for name, value in self.card.as_json().items() if name != "training"}
        words = [fingerprint(each.tobytes()) for each in self._words or ()]
        return [card, list(self.classes), words]

    def for_texts(self, texts: Sequence[str] | Mapping[str, np.ndarray | None]) -> CloudLabeller:
        """The same network, asked for some texts in the place of its classes.

        A point gets the text that fits it best, or none where a word of the vocabulary of another
        class than the texts' fits better. A text that is neither a word nor a class counts to the
        class of the word nearest to it; `notes` of what comes back say which. Label 0 is "other",
        and texts are numbered from 1.

        Args:
            texts: words or classes of the vocabulary, or any text with its unit vector float32[D]
                in the space of the teacher that the network learned from, None for a word.

        Raises:
            InputError: the network has an output a class, no texts or an empty one, or vectors of
                another length.
            QueryError: a text is no word of the vocabulary, or there are no words at all.
            VocabularyError: more than 254 texts.

        """
        if not self._by_words:
            raise InputError(
                f"{self.source}: texts are for networks in the space of words; this one has an "
                f"output for each of {len(self.card.classes) - 1} classes: leave --text out"
            )
        if isinstance(texts, str) or not texts:
            raise InputError(f"texts {texts!r}: expected a list of words, as ['traffic cone']")
        given: dict[str, np.ndarray | None] = (
            dict(texts) if isinstance(texts, Mapping) else dict.fromkeys(texts)
        )
        if not all(text.strip() for text in given):
            raise InputError("an empty text: expected words such as 'traffic cone'")
        named = vocabulary_of_words(list(given))
        rows: list[np.ndarray] = []
        classes: list[int] = []
        notes: list[str] = []
        asked: set[int] = set()
        for number, (text, vector) in enumerate(given.items(), start=1):
            own, words = self._rows(text, vector, notes)
            asked |= set(words)
            asked |= self._alike(words)
            rows.extend(own)
            classes.extend([number] * len(own))
        others = self.card.words
        if others is not None:
            vocabulary = others.vocabulary
            left = [
                index
                for index in np.flatnonzero(vocabulary.word_eval_class).tolist()
                if index not in asked
            ]
            rows.extend(_unit(others.embeddings[left]))
            classes.extend([0] * len(left))
        lengths = {len(row) for row in rows} | {a.shape[-1] for a in self._head.values()}
        if len(lengths) > 1:
            raise InputError(
                f"{self.source}: embeddings of {' and '.join(map(str, sorted(lengths)))} numbers: "
                "the texts are embedded by another teacher than the network's words"
            )
        made = copy.copy(self)
        made.classes, made.colors, made._ground = (OTHER, *given), named.colors, ()
        made.notes = tuple(notes)
        made._use_words(np.stack(rows), np.array(classes, np.uint8))
        return made

    def predict(
        self,
        points: np.ndarray,
        *,
        intensity: np.ndarray | None = None,
        colours: np.ndarray | None = None,
        afi: bool = False,
    ) -> np.ndarray:
        """The class of every point.

        Args:
            points: float[N, 3], metres, z upward; of a sweep in the sensor's frame.
            intensity: float[N], as the training sweeps have it; networks of sweeps need it.
            colours: uint8[N, 3], RGB; networks of rooms need them.
            afi: smooth the labels of a sweep along flat surfaces.

        Returns:
            uint8[N], indices of `classes`; 0 for points that are not finite.

        Raises:
            InputError: arrays that do not fit, or what the network needs is missing.
            NotFiniteError: the network's outputs are not finite.

        """
        cloud = _cloud(points, intensity, colours)
        found = self.predict_cloud(cloud, afi=afi)
        of_a_map = [note for note in cloud.source.notes if OF_A_MAP in note]
        for sentence in (*of_a_map, *found.warnings):
            warnings.warn(
                f"the points given do not look like the training data: {sentence}",
                CloudWarning,
                stacklevel=2,
            )
        return found.labels

    def predict_cloud(self, cloud: Cloud, *, afi: bool = False) -> Prediction:
        """Label a cloud that was read from a file; errors as `predict`."""
        if self._by_words and self._words is None:
            raise UnlabelledError(
                f"{self.source}: this network gives features, and the words to compare them with "
                "are not at hand: give texts and their embeddings (--text, --embeddings)"
            )
        if afi and self.is_of_rooms:
            raise InputError("AFI is of sweeps, not of rooms: leave --afi out")
        sweeps, finite = not self.is_of_rooms, cloud.finite
        values = cloud.needed_intensity() if sweeps else cloud.needed_colors()
        if sweeps:
            finite = finite & np.isfinite(values)
        if not finite.any():
            raise CloudError(
                f"{cloud.source.place}: of {len(cloud):,} points none has a finite position and "
                "intensity"
            )
        xyz, values = cloud.xyz[finite], values[finite]
        said: list[str] = []
        trained, source = self.card.training, cloud.source
        if trained is not None:
            light = values if sweeps else None
            said = differences(xyz, light, trained, sweeps, source.reading, source.lift)
        sample = self._sample(cloud, xyz, values, said)
        voxels = int(sample["inverse"].max()) + 1
        with device_memory.needed(
            f"{cloud.source.place}: too little memory for a cloud of {voxels:,} voxels",
            lambda: "Cut it into parts, or take the machine's own memory (JAX_PLATFORMS=cpu)",
        ):
            words, classes = self._words or (None, None)
            if self._exact:
                words = None  # they are in the last layer
            rows = np.asarray(self._classify(self._state, sample["inputs"], words, classes))
            sparse.raise_fault()
        labels = rows[sample["inverse"]]
        if wrong := int(np.count_nonzero(labels == NOT_FINITE)):
            raise NotFiniteError(
                f"{cloud.source.place}: the network's outputs of {wrong:,} of {len(labels):,} "
                "points are not finite: its training had broken down, or the cloud is far from "
                "anything that it was trained on"
            )
        if trained is not None and trained.points_per_voxel > 0 and not said:
            if density := density_difference(len(xyz) / voxels, trained):
                said.append(density)
        if afi:
            labels = smooth_sweep(
                sample["points"], labels, len(self.classes), self.card.dataset, self._ground
            )
        found = np.zeros(len(cloud), np.uint8)
        found[finite] = labels
        return Prediction(found, finite, tuple(said))

    def _sample(
        self, cloud: Cloud, xyz: np.ndarray, values: np.ndarray, said: Sequence[str]
    ) -> dict[str, Any]:
        card, place = self.card, cloud.source.place
        try:
            if self.is_of_rooms:
                room = Room(place, xyz, values, None)
                return room_input(room, self._plans, card.voxels.size[0])
            feature = values + np.float32(card.intensity_offset)
            points = np.column_stack([xyz, feature]).astype(np.float32)
            return network_input(points, self._plans, card.voxels, place)
        except sparse.CapacityError as error:
            why = said[0] if said else "cut it into parts, or leave points out"
            raise InputError(
                f"{place}: more voxels than the {self._plans[-1].capacity:,} that a "
                f"cloud may have: {why}"
            ) from error
        except InputError as error:
            if not said:
                raise
            raise InputError(f"{error}. {said[0]}") from error

    def _rows(
        self, text: str, vector: np.ndarray | None, notes: list[str]
    ) -> tuple[list[np.ndarray], list[int]]:
        """The unit rows that stand for a text, and the words of the vocabulary that it takes."""
        words = self.card.words
        if vector is not None:
            row = np.asarray(vector, np.float32)
            if row.ndim != 1 or not np.isfinite(row).all() or not np.linalg.norm(row) > 0:
                raise InputError(f"the embedding of {text!r}: expected a vector with a direction")
            unit = _unit(row[None])
            return list(unit), self._words_like(text, unit[0], notes)
        if words is None:
            raise QueryError(
                f"{text!r}: the words that {self.source} learned from are not at hand; give the "
                "texts' embeddings (--embeddings)"
            )
        indices = word_indices(text, words.vocabulary)
        return list(_unit(words.embeddings[indices])), indices

    def _words_like(self, text: str, unit: np.ndarray, notes: list[str]) -> list[int]:
        """The words that a text with a vector stands for: its own, its class's or the nearest."""
        words = self.card.words
        if words is None or words.embeddings.shape[1] != len(unit):
            return []
        try:
            return word_indices(text, words.vocabulary)
        except QueryError:
            rows, classes = evaluated_words(words.embeddings, words.vocabulary)
            nearest = int(np.argmax(rows @ unit))
            likeness, kind = float(rows[nearest] @ unit), int(classes[nearest])
            nearest = int(np.flatnonzero(words.vocabulary.word_eval_class)[nearest])
            notes.append(
                f"{text!r} counts to the class "
                f"{words.vocabulary.eval_classes[kind].replace('_', ' ')!r}, as "
                f"{words.vocabulary.words[nearest]!r} is the word nearest to it (cosine "
                f"{likeness:.2f}): ask for that class too to tell them apart"
            )
            return [nearest]

    def _alike(self, words: Sequence[int]) -> set[int]:
        """The words of the same classes: "sedan" does not speak against a car."""
        if self.card.words is None:
            return set()
        class_of = self.card.words.vocabulary.word_eval_class
        return set(np.flatnonzero(np.isin(class_of, class_of[list(words)])).tolist())

    def _use_words(self, text: np.ndarray, classes: np.ndarray) -> None:
        """Label by unit rows float32[W, D] of the classes uint8[W].

        The last layer gives the words' scores in the features' stead, in a quarter less time for
        all: it is linear, and which word is nearest does not depend on a feature's length.
        """
        number = math.ceil(len(text) / WORDS_AT_ONCE) * WORDS_AT_ONCE
        # The last word again and again at the end: the first of equal ones is taken.
        rows = np.minimum(np.arange(number), len(text) - 1)
        words = text[rows].astype(np.float32).T
        if self._exact:
            head = {n: jnp.matmul(a, words, precision="highest") for n, a in self._head.items()}
            self._state = self._state._replace(parameters=self._state.parameters | head)
        self._words = words, classes[rows]


def load(path: str | os.PathLike[str], recipe: str | ConfigDict | None = None) -> CloudLabeller:
    """A trained network, ready to label point clouds.

    Args:
        path: directory of a run, folder of one checkpoint, or a file: an export of this package, or
            the weights of another one.
        recipe: of weights that do not say what they are, such as "configs/tmp_san.py".

    Raises:
        MissingFileError: there is nothing, or no such recipe.
        CheckpointError: a directory without a checkpoint, or one that cannot be read.
        UnlabelledError: nothing says what its outputs are.
        InputError: no checkpoint, or its tensors are of another network than it says.

    """
    compilation.use_cache()
    stored = read_network(path)
    card = _card(stored, recipe)
    check_model(ConfigDict(dict(card.model)))
    return CloudLabeller(card, load_network(_builder(card, stored), stored, card.voxels))


def _card(stored: StoredNetwork, recipe: str | ConfigDict | None) -> NetworkCard:
    if stored.card is not None:
        return read_card(stored.card, stored.path)
    config, what = ConfigDict(dict(stored.config or {})), "its run's recipe"
    if recipe is not None:
        config = load_config(recipe) if isinstance(recipe, str) else recipe
        what = recipe if isinstance(recipe, str) else "the recipe given"
    elif config.get("task") in (None, "imported"):
        raise UnlabelledError(
            f"{stored.path}: these weights do not say what their outputs are: name the recipe that "
            "they are of, such as --recipe configs/annotation_free_san.py (17 classes of "
            "nuScenes), configs/tmp_san.py (words) or configs/esg_scannet.py (rooms)"
        )
    return assumed_card(config, stored, what)


def _builder(card: NetworkCard, stored: StoredNetwork) -> Any:
    """What builds the network of a card."""
    if card.task not in TASKS:
        raise UnlabelledError(f"{stored.path}: networks of the task {card.task!r} label no clouds")
    model = ConfigDict(dict(card.model))
    if card.task not in ("tri_modal", "esg"):
        return functools.partial(segmentation_model, model, len(card.classes))
    last = next((v for n, v in stored.state_dict.items() if n.endswith("final.kernel")), None)
    if last is None:
        raise UnlabelledError(f"{stored.path}: no last layer ('final.kernel') in its tensors")
    build = room_model if card.unit == ROOMS else pretraining_model
    return functools.partial(build, model, int(last.shape[-1]))


def _plans(card: NetworkCard) -> tuple[sparse.PlanSpec, ...]:
    """Shapes of growing size: those of training, and larger ones."""
    data = {"voxels": tuple(card.capacity)} if card.capacity else {}
    config = ConfigDict({"task": card.task, "data": data, "model": dict(card.model)})
    plans = list(recipe_capacities(config, 1).plans)
    while plans[-1].capacity < MOST_VOXELS:
        capacity = min(rounded_up(plans[-1].capacity * GROWTH), rounded_up(MOST_VOXELS))
        plans.append(dataclasses.replace(plans[-1], capacity=capacity))
    return tuple(plans)


def _cloud(points: np.ndarray, intensity: np.ndarray | None, colours: np.ndarray | None) -> Cloud:
    """Arrays as a cloud."""
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise InputError(f"points {points.dtype} {points.shape}: expected numbers [N, 3]")
    for name, array, shape in (
        ("intensity", intensity, (len(points),)),
        ("colours", colours, (len(points), 3)),
    ):
        if array is not None and np.shape(array) != shape:
            raise InputError(f"{name} {np.shape(array)}: expected {shape}, as there are points")
    if colours is not None and np.asarray(colours).dtype != np.uint8:
        raise InputError(f"colours of {np.asarray(colours).dtype}: expected uint8, 0 to 255")
    positions = points if points.dtype in (np.float32, np.float64) else points.astype(np.float64)
    fields = ("x", "y", "z", *(["intensity"] * (intensity is not None)))
    stored = Stored(
        positions,
        None if intensity is None else np.asarray(intensity),
        None if colours is None else np.asarray(colours),
        "arrays",
        fields,
    )
    return cloud_of(stored, "cloud", "the points given", AS_STORED)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
