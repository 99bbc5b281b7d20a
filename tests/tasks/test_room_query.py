"""Queries of rooms: what a network or fused features take for a text, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from tests.tasks.room_recipe import room_config
from tests.tiny_rooms import BED, write_features, write_rooms
from uov_jax.checkpoints import state
from uov_jax.checkpoints.folder import CheckpointError
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.words import RoomWords
from uov_jax.tasks.query import QueryError, rows_of
from uov_jax.tasks.room_model import room_model
from uov_jax.tasks.room_query import (
    QueriedFeatures,
    QueriedRoomNetwork,
    answer_room,
    find_room,
)
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rooms`, `features` of them and the run `run`."""
    root = tmp_path_factory.mktemp("rooms")
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(root / "rooms", vocabulary, points=1500)
    write_features(root / "features", store, vocabulary, noise=0.3)
    config = room_config(root, tmp_path_factory.getbasetemp() / "compilation_cache")
    write_run(root / "run", config, {"teacher": "tiny", "embedding_size": "16"})
    return root


def write_run(directory: Path, config: ConfigDict, identity: dict[str, str]) -> None:
    """A run with first weights."""
    model = room_model(config.model, 16, nnx.Rngs(0), None)
    _, parameters, statistics = state.split(model)
    checkpoints = RunCheckpoints(directory, config.to_dict(), identity)
    checkpoints.save(0, {"parameters": parameters, "statistics": statistics})
    checkpoints.close()


def words_of(folder: Path) -> RoomWords:
    features = FeatureFolder(folder / "features")
    return RoomWords(features.root, features.text_embeddings, "tiny", "0" * 64)


def test_features_are_compared_by_their_cosines(folder: Path) -> None:
    features = FeatureFolder(folder / "features")
    room = RoomStore(folder / "rooms").room("scene0000_00")
    text = features.text_embeddings[[3, 0]]
    found = QueriedFeatures(features).similarities(room, text)
    own = features.room(room.name, len(room))
    rows = own.features.astype(np.float64)
    expected = text @ rows.T / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(found[:, own.visible], expected, rtol=1e-4, atol=1e-5)
    assert np.isnan(found[:, ~own.visible]).all()


def test_a_network_answers_for_every_point(folder: Path) -> None:
    words = words_of(folder)
    queried = QueriedRoomNetwork(folder / "run", words)
    room = RoomStore(folder / "rooms").room("scene0002_00")
    found = queried.similarities(room, words.text[:2])
    assert found.shape == (2, len(room))
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1 + 1e-5).all()
    assert found.std() > 0
    np.testing.assert_array_equal(found, queried.similarities(room, words.text[:2]))


def test_answers_are_places_that_have_the_class(tmp_path: Path, folder: Path) -> None:
    vocabulary = load_vocabulary("scannet")
    store, features = RoomStore(folder / "rooms"), FeatureFolder(folder / "features")
    rows = rows_of(["bed"], features.text_embeddings, vocabulary)
    room = store.room("scene0000_00")
    queries = {"bed": rows[0]}
    lines = list(answer_room(QueriedFeatures(features), store, room, queries, tmp_path, top=3))
    assert "'bed', the 3 best places of 1,500 points:" in lines[0]
    places = [line.split() for line in lines[2:5]]
    assert [place[-1] for place in places] == ["bed"] * 3
    cosines = [float(place[1]) for place in places]
    assert cosines == sorted(cosines, reverse=True)
    where = np.array([place[2:5] for place in places], float)
    assert np.linalg.norm(where[0] - where[1]) > 0.59
    assert (tmp_path / "scene0000_00_bed.png").stat().st_size > 10_000
    assert room.labels is not None
    assert (room.labels == BED).any()


def test_mistakes_are_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, words = RoomStore(folder / "rooms"), words_of(folder)
    assert find_room(store, "val", "0").name == "scene0002_00"
    assert find_room(store, "", "1").name == "scene0001_00"
    assert find_room(store, "val", "scene0001_00").name == "scene0001_00"
    with pytest.raises(QueryError, match="--room 7: there are 1 rooms, numbers 0 to 0, names like"):
        find_room(store, "val", "7")
    config = room_config(folder, tmp_path)
    write_run(tmp_path / "other", config, {"teacher": "san", "embedding_size": "16"})
    with pytest.raises(InputError, match="features of the teacher 'san'"):
        QueriedRoomNetwork(tmp_path / "other", words)
    queried = QueriedRoomNetwork(folder / "run", words)
    monkeypatch.setattr(queried, "_scores", lambda *_: np.full((2560, 2), np.nan, np.float32))
    with pytest.raises(NotFiniteError, match="points of the room scene0002_00 are not finite"):
        queried.similarities(store.room("scene0002_00"), words.text[:1])
    with config.unlocked():
        config.task = "ess"
    write_run(tmp_path / "ess", config, {"teacher": "tiny"})
    with pytest.raises(CheckpointError, match=r"of the task 'ess'; of rooms, only distillation"):
        QueriedRoomNetwork(tmp_path / "ess", words)

    class Blind:
        source = Path("blind")

        def similarities(self, room: Room, texts: np.ndarray) -> np.ndarray:
            return np.full((len(texts), len(room)), np.nan, np.float32)

    room, queries = store.room("scene0000_00"), {"bed": words.text[3]}
    with pytest.raises(QueryError, match="blind: nothing is known of any point of scene0000_00"):
        list(answer_room(Blind(), store, room, queries, tmp_path))
