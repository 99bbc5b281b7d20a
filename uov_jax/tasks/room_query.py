"""Open-vocabulary queries of rooms: which points a network, or fused features, take for a text."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from uov_jax import sparse
from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.checkpoints.folder import CheckpointError, read_record
from uov_jax.checkpoints.load import load_network
from uov_jax.checkpoints.run import find_checkpoint
from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.errors import NotFiniteError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.words import RoomWords
from uov_jax.input.whole_room import room_input
from uov_jax.pictures.room_query import room_query_picture
from uov_jax.tasks.esg import cube_side
from uov_jax.tasks.query import QueryError, best_places, file_name
from uov_jax.tasks.recipe_batches import recipe_capacities
from uov_jax.tasks.room_model import room_model
from uov_jax.tasks.room_words import require_network
from uov_jax.tasks.word_scores import CHUNK, LENGTH_OFFSET, scores_of_features, word_scorer

SPACING = 0.6  # metres between two places of a room


class QueriedRooms(Protocol):
    """What knows of rooms how well their points fit a text.

    Attributes:
        source: where it is from, for people.

    """

    source: Path

    def similarities(self, room: Room, texts: np.ndarray) -> np.ndarray:
        """float32[T, N]: cosines with unit rows float32[T, D]; NaN where nothing is known."""
        ...


class QueriedFeatures:
    """Fused or specialised features, without a network."""

    def __init__(self, features: FeatureFolder) -> None:
        """Of a folder."""
        self.source, self._features = features.root, features

    def similarities(self, room: Room, texts: np.ndarray) -> np.ndarray:
        """float32[T, N]: NaN for points that no view saw."""
        found = self._features.room(room.name, len(room))
        similarity = np.full((len(texts), len(room)), np.nan, np.float32)
        similarity[:, found.visible] = _cosines(scores_of_features(found.parts(CHUNK), texts)).T
        return similarity


class QueriedRoomNetwork:
    """A network that was trained into the space of text, as its run left it.

    Attributes:
        source: folder of the checkpoint.
        config: the run's.

    """

    def __init__(self, run: str | Path, words: RoomWords) -> None:
        """Load a run's last checkpoint.

        Args:
            run: directory of a run, or the folder of one checkpoint.
            words: in whose space its features must lie.

        Raises:
            CheckpointError: there is no checkpoint, or it is of another task.
            InputError: its features lie in another space.

        """
        self.source = find_checkpoint(run)
        self.config = run_config(run)
        require_network(words, self.source)
        self._side = cube_side(self.config)
        build = functools.partial(room_model, self.config.model, words.text.shape[1])
        network = load_network(build, self.source, voxel_settings(self.config.data))
        predict, self._state = network.predict(), jax.device_put(network.state)
        self._plans = recipe_capacities(self.config, 1).plans

        def scores(state: Any, inputs: Mapping[str, Any], texts: jax.Array) -> jax.Array:
            return word_scorer(texts)(predict(state, inputs))

        self._scores = jax.jit(scores)

    def similarities(self, room: Room, texts: np.ndarray) -> np.ndarray:
        """float32[T, N]: known for every point.

        Raises:
            BatchTooLargeError: the room has more voxels than the run's config allows.
            NotFiniteError: outputs are not finite.

        """
        sample = room_input(room, self._plans, self._side)
        rows = _cosines(np.asarray(self._scores(self._state, sample["inputs"], texts)))
        sparse.raise_fault()
        found = rows[sample["inverse"]].T
        if not np.isfinite(found).all():
            raise NotFiniteError(
                f"{self.source}: features of points of the room {room.name} are not finite: its "
                "training had broken down; take an earlier checkpoint"
            )
        return found


def run_config(run: str | Path) -> ConfigDict:
    """The recipe of a run of rooms; CheckpointError if it is of another task."""
    folder = find_checkpoint(run)
    config = ConfigDict(read_record(folder)["config"])
    if config.get("task") != "esg":
        raise CheckpointError(
            f"{folder}: a checkpoint of the task {config.get('task')!r}; of rooms, only "
            "distillation ('esg') gives features in the space of text"
        )
    return config


def find_room(store: RoomStore, split: str, name: str) -> Room:
    """The room of a name, or of a number in a split; QueryError if there is none."""
    if store.has(name):
        return store.room(name)
    names = store.split(split) if split else store.names()
    if name.isdecimal() and int(name) < len(names):
        return store.room(names[int(name)])
    raise QueryError(
        f"--room {name}: there are {len(names)} rooms, numbers 0 to {len(names) - 1}, names like "
        f"{names[0]}"
    )


def answer_room(
    queried: QueriedRooms,
    store: RoomStore,
    room: Room,
    queries: Mapping[str, np.ndarray],
    output: Path,
    *,
    top: int = 10,
) -> Iterator[str]:
    """Answer queries on one room: a table and a picture for each.

    Args:
        queried: what is asked.
        store: of the room; names its classes.
        room: is asked.
        queries: float32[D], unit vectors of texts by their text.
        output: folder of the pictures, made where it is missing.
        top: number of places to list.

    Yields:
        Lines for the user as they come.

    """
    output.mkdir(parents=True, exist_ok=True)
    texts = np.stack(list(queries.values())).astype(np.float32)
    points = np.asarray(room.coords)
    for text, similarity in zip(queries, queried.similarities(room, texts), strict=True):
        known = np.isfinite(similarity)
        if not known.any():
            raise QueryError(f"{queried.source}: nothing is known of any point of {room.name}")
        places = np.flatnonzero(known)[
            best_places(points[known], similarity[known], top, SPACING, nearest=0.0)
        ]
        yield f"\n{text!r}, the {len(places)} best places of {len(points):,} points:"
        yield "   no.  cosine       x m       y m       z m  truth"
        for number, point in enumerate(places, start=1):
            x, y, z = points[point]
            name = "unknown" if room.labels is None else store.classes[room.labels[point]]
            yield f"  {number:4d}  {similarity[point]:6.3f}  {x:8.2f}  {y:8.2f}  {z:8.2f}  {name}"
        path = output / f"{room.name}_{file_name(text)}.png"
        room_query_picture(
            points, room.colors, similarity, places, path, title=f"{text!r} in {room.name}"
        )
        yield f"Picture: {path}"


def _cosines(scores: np.ndarray) -> np.ndarray:
    """float32[N, W] of scores and lengths float32[N, W + 1]."""
    return scores[:, :-1] / (scores[:, -1:] + LENGTH_OFFSET)
