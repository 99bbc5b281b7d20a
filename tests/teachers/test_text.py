"""Prompts, text tower and cache against what the official towers gave for ten words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.teachers.recipe import DATA, official_tensors, tensor_for
from uov_jax.teachers import text
from uov_jax.teachers.text import (
    CONTEXT_LENGTH,
    IMAGENET_TEMPLATES,
    VILD_TEMPLATES,
    TextTower,
    encode_prompts,
    first_of_equal_rows,
    template_embeddings,
    tokenize,
    word_embeddings,
)
from uov_jax.teachers.weights import load_weights

PREFIX = "ov_classifier."


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "san_text.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def tower() -> TextTower:
    """SAN's text tower at made-up weights."""
    with torch.device("meta"):
        tower = TextTower()
    tensors = {
        name.removeprefix(PREFIX): torch.from_numpy(np.asarray(tensor_for(name, shape)))
        for name, (shape, _) in official_tensors("san_vit_large_14").items()
        if name.startswith(PREFIX) and not name.endswith(("attn_mask", "bg_embed"))
    }
    causal = torch.full((CONTEXT_LENGTH, CONTEXT_LENGTH), float("-inf")).triu(1)
    load_weights(tower, tensors | {"attn_mask": causal}, "recipe")
    return tower


def test_templates_and_tokens_are_those_of_the_official_code(measured):
    assert list(VILD_TEMPLATES) == measured["templates"].tolist()
    assert len(IMAGENET_TEMPLATES) == len(set(IMAGENET_TEMPLATES)) == 80
    prompts = [VILD_TEMPLATES[0].format(word) for word in measured["words"]]
    for row, expected in zip(tokenize(prompts), measured["tokens_template0"], strict=True):
        np.testing.assert_array_equal(row + [0] * (CONTEXT_LENGTH - len(row)), expected)


def test_word_embeddings_are_those_of_the_official_tower(tower, measured, tmp_path):
    words = measured["words"].tolist()
    found = word_embeddings(tower, words, VILD_TEMPLATES, "recipe", tmp_path)
    # Float noise between two builds of PyTorch, of unit rows of 768 numbers.
    np.testing.assert_allclose(found, measured["embeddings"], atol=2e-6)
    single = template_embeddings(tower, words, VILD_TEMPLATES, "recipe", tmp_path)
    first = measured["per_template_first2"] / np.linalg.norm(
        measured["per_template_first2"], axis=-1, keepdims=True
    )
    np.testing.assert_allclose(single[:, :2].swapaxes(0, 1), first, atol=2e-6)
    # "scooter" stands twice.
    np.testing.assert_array_equal(single[3], single[5])


def test_what_is_behind_a_prompt_does_not_matter(tower):
    alone = encode_prompts(tower, ["a car"])
    beside = encode_prompts(tower, ["a much longer prompt, with many more words in it", "a car"])
    torch.testing.assert_close(beside[1:], alone, rtol=1e-5, atol=1e-5)


def test_the_tower_is_asked_once(tower, tmp_path, monkeypatch):
    asked: list[int] = []

    def counted(tower: TextTower, prompts: list[str]) -> torch.Tensor:
        asked.append(len(prompts))
        return torch.arange(2.0 * len(prompts)).reshape(-1, 2) + 1

    monkeypatch.setattr(text, "encode_prompts", counted)
    templates = ("a {}", "the {}")
    first = template_embeddings(tower, ["car", "bus", "car"], templates, "w", tmp_path)
    assert first.shape == (3, 2, 2)
    again = template_embeddings(tower, ["car", "bus", "car"], templates, "w", tmp_path)
    np.testing.assert_array_equal(first, again)
    assert asked == [4]
    for words, prompts, weights in [
        (["bus", "car"], templates, "w"),
        (["car", "bus"], templates[::-1], "w"),
        (["car", "bus"], templates, "other"),
    ]:
        template_embeddings(tower, words, prompts, weights, tmp_path)
    assert asked == [4, 4, 4, 4]
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:200])
    template_embeddings(tower, ["car", "bus"], templates, "w", tmp_path)
    assert asked == [4, 4, 4, 4, 4]
    assert not list(tmp_path.glob(".*"))


def test_the_cache_lies_in_the_users_directory(tower, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    word_embeddings(tower, ["car"], ("{}",), "w")
    assert len(list((tmp_path / "uov_jax" / "text").glob("*.npz"))) == 1


def test_equal_rows_are_the_first_of_them():
    rows = np.eye(4, dtype=np.float32)[[3, 1, 3, 0, 1, 2]]
    np.testing.assert_array_equal(first_of_equal_rows(rows), [0, 1, 0, 3, 1, 5])


def test_a_word_too_long_to_be_read_is_refused():
    word = "very " * 80 + "long"
    with pytest.raises(ValueError, match=r"the prompt 'very .* has 83 tokens, CLIP reads 77"):
        tokenize([word])


def test_nothing_is_encoded_without_words(tower, tmp_path: Path):
    with pytest.raises(ValueError, match="no words"):
        word_embeddings(tower, [], VILD_TEMPLATES, "w", tmp_path)
