"""A network's card: in records and files, read back whole or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.checkpoints.card import CardError, NetworkCard, Words, read_card
from uov_jax.checkpoints.files import load_state_dict_file, save_state_dict_file
from uov_jax.checkpoints.load import read_network
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.checkpoints.transfer import export_checkpoint
from uov_jax.clouds.likeness import CloudFigures
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture
def card() -> NetworkCard:
    vocabulary = load_vocabulary()
    rows = np.random.default_rng(0).normal(size=(len(vocabulary), 6)).astype(np.float32)
    return NetworkCard(
        task="tri_modal",
        model={"variant": "minkunet14a", "dtype": "float32", "batch_norm_momentum": None},
        voxels=VoxelSettings((0.1, 1.0, 0.1), cylindrical=True),
        capacity=(100, 200),
        unit="sweeps",
        classes=vocabulary.eval_classes,
        colors=vocabulary.colors,
        ground=vocabulary.ground_classes,
        dataset="nuscenes",
        intensity_offset=0.5,
        words=Words(vocabulary, rows, "san", "ab" * 32),
        training=CloudFigures((60.0, 70.0, 8.0), -1.8, 30_000.0, 2.0),
        assumed=("nothing of this is stored",),
    )


def as_stored(card: NetworkCard) -> dict[str, Any]:
    """Through JSON, as records keep it."""
    return json.loads(json.dumps(card.as_json()))


def test_a_card_is_read_back(card: NetworkCard) -> None:
    found = read_card(as_stored(card), "here")
    assert found.words is not None
    assert card.words is not None
    np.testing.assert_array_equal(found.words.embeddings, card.words.embeddings)
    assert found.words.embeddings.dtype == np.float32
    assert found.words.vocabulary.hash == card.words.vocabulary.hash
    assert (found.words.teacher, found.words.weights_hash) == ("san", "ab" * 32)
    np.testing.assert_array_equal(found.colors, card.colors)
    assert found.assumed == ()
    for field in dataclasses.fields(NetworkCard):
        if field.name not in ("words", "colors", "assumed", "training"):
            assert getattr(found, field.name) == getattr(card, field.name), field.name
    assert found.training is not None
    assert found.training.extent == (60.0, 70.0, 8.0)
    assert np.isnan(found.training.intensity)


def test_a_card_without_words_and_figures_is_read_back(card: NetworkCard) -> None:
    found = read_card(as_stored(dataclasses.replace(card, words=None, training=None)), "here")
    assert found.words is None
    assert found.training is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "run: what it says of its network is of format 2, this program reads 1"),
        ({"voxel_size": [0.1]}, "run: what it says of its network is damaged: ValueError"),
        ({"classes": None}, "damaged: TypeError"),
        ({"ground": [99]}, "damaged: ValueError: 17 classes"),
        ({"unit": "cars"}, "damaged: ValueError: unit 'cars'"),
        ({"words": {"vocabulary": {}}}, "run, its words: not a vocabulary"),
        ({"words": "none"}, "damaged: TypeError"),
    ],
)
def test_what_is_no_card_is_refused(
    card: NetworkCard, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError, match=message):
        read_card(as_stored(card) | changes, "run")


def test_embeddings_must_be_of_the_words(card: NetworkCard) -> None:
    content = as_stored(card)
    content["words"]["embeddings"] = content["words"]["embeddings"][:-8]
    with pytest.raises(CardError, match="damaged"):
        read_card(content, "run")


def write_run(directory: Path, card: NetworkCard | None) -> dict[str, np.ndarray]:
    """A run of some tensors, whose names are a network's."""
    arrays = {"final.kernel": np.arange(12, dtype=np.float32).reshape(2, 6)}
    content = None if card is None else card.as_json()
    checkpoints = RunCheckpoints(directory, {"task": "tri_modal"}, {"teacher": "san"}, card=content)
    checkpoints.save(1, {"parameters": arrays, "statistics": {}})
    checkpoints.close()
    return arrays


def test_checkpoints_carry_it_and_are_gone_on_with_without(
    card: NetworkCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = write_run(tmp_path, card)
    stored = read_network(tmp_path)
    assert "Metadata file does not exist" not in caplog.text
    assert stored.card == as_stored(card)
    assert stored.identity == {"teacher": "san"}
    # A program that makes another card, or none, goes on with the run.
    like = {"parameters": arrays, "statistics": {}}
    later = RunCheckpoints(tmp_path, {"task": "tri_modal"}, {"teacher": "san"})
    np.testing.assert_array_equal(
        later.restore(like).state["parameters"]["final.kernel"], arrays["final.kernel"]
    )
    later.close()


def test_older_checkpoints_have_none(tmp_path: Path) -> None:
    write_run(tmp_path, None)
    assert read_network(tmp_path).card is None


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pt", ".pth.tar"])
def test_exported_files_carry_it(card: NetworkCard, tmp_path: Path, ending: str) -> None:
    if ending.startswith(".p"):
        pytest.importorskip("torch")
    write_run(tmp_path / "run", card)
    file = tmp_path / f"network{ending}"
    export_checkpoint(tmp_path / "run", file)
    found = load_state_dict_file(file)
    assert found.card == as_stored(card)
    assert read_card(found.card or {}, file).classes == card.classes
    assert "uov_jax_card" not in (found.config or {})


def test_files_of_others_have_none(tmp_path: Path) -> None:
    file = save_state_dict_file(tmp_path / "a.npz", {"a": np.ones(2, np.float32)}, {"card": 3})
    found = load_state_dict_file(file)
    assert found.card is None
    assert found.config == {"card": 3}
