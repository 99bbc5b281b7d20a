"""Queries of a pre-trained network on a tiny dataset: features, texts, places."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from tests.tasks.test_tri_modal import tiny_config
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.checkpoints import state
from uov_jax.checkpoints.folder import CheckpointError
from uov_jax.checkpoints.load import NetworkMismatchError
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.dumps.reference import open_dumps
from uov_jax.errors import InputError
from uov_jax.tasks import query
from uov_jax.tasks.build import build_task
from uov_jax.tasks.query import (
    QueriedNetwork,
    QueryError,
    answer,
    best_places,
    best_words,
    file_name,
    rows_of,
    similarities,
)
from uov_jax.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the tiny dataset, as it is before its first step."""
    root = write_dataset(tmp_path_factory.mktemp("dataset"))
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, VOCABULARY)
    config = tiny_config(root, root / "cache")
    task = build_task(config)
    _, parameters, statistics = state.split(task.build_model(nnx.Rngs(0), None))
    directory = root / "run"
    checkpoints = RunCheckpoints(directory, config.to_dict(), task.identity())
    arrays = jax.device_get(state.create(parameters, statistics, optax.sgd(1.0)))
    checkpoints.save(3, arrays)
    checkpoints.close()
    return directory


@pytest.fixture(scope="module")
def network(run: Path) -> QueriedNetwork:
    return QueriedNetwork(run)


@pytest.fixture(scope="module")
def keyframe(run: Path) -> Keyframe:
    return NuScenesTables(run.parent, "v1.0-mini").keyframes("mini_val")[0]


@pytest.fixture(scope="module")
def asked(network: QueriedNetwork, keyframe: Keyframe) -> tuple[dict[str, Any], np.ndarray]:
    return network.features(keyframe, VOCABULARY)


@pytest.fixture
def dumps(run: Path) -> DumpFolder:
    folder = open_dumps(run.parent / "dumps", VOCABULARY)
    assert isinstance(folder, DumpFolder)
    return folder


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


# ---- the network --------------------------------------------------------------------------------


def test_features_are_those_of_the_trained_network(network, keyframe, asked):
    assert network.folder.name == "3"
    assert network.identity["teacher"] == "tiny"
    sample, features = asked
    assert features.shape == (len(sample["points"]), 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    config = tiny_config(Path(network.config["data"]["root"]), Path("unused"))
    model: Any = build_task(config).build_model(nnx.Rngs(0), None)
    model.eval()
    rows = nnx.jit(lambda model, inputs: model(**inputs))(model, sample["inputs"])
    expected = np.asarray(rows)[sample["inverse"]]
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_one_checkpoint_is_read_like_its_run(run):
    assert QueriedNetwork(run / "checkpoints" / "3").folder == run / "checkpoints" / "3"


def test_other_checkpoints_are_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder; expected a run directory"):
        QueriedNetwork(tmp_path / "nowhere")
    other = RunCheckpoints(tmp_path, {"task": "finetune"}, {})
    other.save(1, {"parameters": {"a": np.zeros(2, np.float32)}})
    other.close()
    with pytest.raises(CheckpointError, match="task 'finetune'; only tri-modal pre-training"):
        QueriedNetwork(tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(run, tmp_path):
    record = QueriedNetwork(run)
    identity = record.identity | {"embedding_size": "24"}
    wrong = RunCheckpoints(tmp_path, record.config, identity)
    wrong.save(1, {"parameters": {"final.kernel": np.zeros((96, 16), np.float32)}})
    wrong.close()
    with pytest.raises(NetworkMismatchError, match=r"checkpoints/1: not one of 1 tensors matches"):
        QueriedNetwork(tmp_path)


# ---- texts --------------------------------------------------------------------------------------


def test_stored_words_are_those_of_the_dumps(network, dumps, tmp_path):
    np.testing.assert_array_equal(network.words(dumps), dumps.text_embeddings)
    others = SimpleNamespace(
        root=tmp_path, teacher="tiny", text_embeddings=unit(np.ones((len(VOCABULARY), 16)))
    )
    with pytest.raises(QueryError, match="not those that the network was trained with"):
        network.words(others)
    others.text_embeddings = None
    with pytest.raises(QueryError, match="the teacher 'tiny' has no words to ask for"):
        network.words(others)


def test_a_text_is_a_word_or_a_class_of_the_vocabulary():
    words = unit(np.random.default_rng(0).normal(size=(len(VOCABULARY), 16)))
    found = rows_of(["sedan", "scooter", "traffic cone"], words, VOCABULARY)
    np.testing.assert_allclose(found[0], words[VOCABULARY.index("sedan")], rtol=1e-6)
    both = words[list(VOCABULARY.indices("scooter"))]
    assert len(both) == 2
    np.testing.assert_allclose(found[1], unit(both.mean(axis=0)), rtol=1e-5)
    cones = words[[VOCABULARY.index("cone"), VOCABULARY.index("safety cone")]]
    np.testing.assert_allclose(found[2], unit(cones.mean(axis=0)), rtol=1e-5)


def test_other_texts_are_refused_with_the_nearest_words():
    words = unit(np.ones((len(VOCABULARY), 16)))
    with pytest.raises(QueryError, match=r"'sedann' is neither .*mean 'sedan'.*--weights"):
        rows_of(["sedann"], words, VOCABULARY)
    with pytest.raises(QueryError, match="'ignore' is neither a word nor a class"):
        rows_of(["ignore"], words, VOCABULARY)


def test_weights_of_another_teacher_are_refused(network):
    network.require_weights("0" * 64)
    with pytest.raises(QueryError, match="teacher 'tiny' and weights of sha256 000.*have 111"):
        network.require_weights("1" * 64)


def test_weights_of_dumps_that_do_not_say_theirs_cannot_be_refused(network, monkeypatch):
    monkeypatch.setitem(network.identity, "teacher_weights", "")
    network.require_weights("1" * 64)


# ---- answers ------------------------------------------------------------------------------------


def test_similarities_are_cosines():
    rng = np.random.default_rng(0)
    features, text = unit(rng.normal(size=(50, 16))), unit(rng.normal(size=(3, 16)))
    expected = text.astype(np.float64) @ features.astype(np.float64).T
    np.testing.assert_allclose(similarities(features, text), expected, atol=1e-6)
    np.testing.assert_array_equal(best_words(features, text), expected.argmax(axis=0))


def test_places_are_the_best_points_away_from_better_ones():
    rng = np.random.default_rng(0)
    points = rng.uniform(-8, 8, (500, 3))
    similarity = rng.normal(size=500)
    places = best_places(points, similarity, 6, spacing=3.0)
    assert len(places) == 6
    taken: list[int] = []
    for point in np.argsort(-similarity):
        away = all(np.linalg.norm(points[point] - points[i]) > 3.0 for i in taken)
        if away and np.hypot(*points[point, :2]) > 1.0:
            taken.append(int(point))
    assert places.tolist() == taken[:6]
    assert len(best_places(points[:3], similarity[:3], 6, spacing=0.0)) == 3
    assert len(best_places(points[:0], similarity[:0], 6)) == 0


def test_an_answer_lists_places_and_draws_them(network, keyframe, dumps, asked, tmp_path):
    words = network.words(dumps)
    queries = {"sedan": words[1], "a red car!": words[2]}
    lines = list(answer(network, keyframe, VOCABULARY, queries, words, tmp_path / "q", top=3))
    text = "\n".join(lines)
    assert "'sedan', the 3 best places of 400 points" in text
    assert len([line for line in lines if line.startswith("     ")]) == 6
    names = {f"{keyframe.token}_{name}.png" for name in ("sedan", "a_red_car", "words")}
    assert {path.name for path in (tmp_path / "q").iterdir()} == names
    assert all(name in text for name in names)
    sample, features = asked
    best = int(best_places(sample["points"], features @ words[1], 1)[0])
    x, y, z = sample["points"][best, :3]
    truth = VOCABULARY.eval_classes[sample["truth"][best]]
    row = next(line for line in lines if line.startswith("     1"))
    assert f"{x:7.2f}  {y:7.2f}  {z:7.2f}" in row
    assert row.endswith(truth)


def test_a_picture_that_cannot_be_drawn_costs_itself_alone(
    network, keyframe, dumps, asked, tmp_path, monkeypatch
):
    words = network.words(dumps)
    read = query.read_image
    missing = {"once": True}

    def cut_off(path):
        if missing.pop("once", False):
            raise InputError(f"{path}: cut off")
        return read(path)

    monkeypatch.setattr(query, "read_image", cut_off)
    queries = {"sedan": words[1], "a red car!": words[2]}
    text = "\n".join(answer(network, keyframe, VOCABULARY, queries, words, tmp_path, top=3))
    assert "sedan.png is left out: " in text
    assert ": cut off" in text
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {f"{keyframe.token}_{name}.png" for name in ("a_red_car", "words")}


def test_texts_become_names_of_files():
    assert file_name("a red car!") == "a_red_car"
    assert file_name("../etc/passwd") == "etc_passwd"
    assert file_name("?!") == "text"
    assert len(file_name("x" * 500)) == 60
