"""CAT-Seg as a teacher: where its words come out in the image, its prompts, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.teachers.catseg.made_up import KEYS
from tests.teachers.recipe import DATA, official_tensors, tensor_for
from uov_jax.teachers import text
from uov_jax.teachers.catseg import CatSegTeacher
from uov_jax.teachers.catseg.network import Output
from uov_jax.teachers.catseg.teacher import prompt_embeddings
from uov_jax.teachers.text import (
    CONTEXT_LENGTH,
    IMAGENET_TEMPLATES,
    TextTower,
    template_embeddings,
    tokenize,
)
from uov_jax.teachers.weights import load_weights

PREFIX = "sem_seg_head.predictor.clip_model."


class Halves(nn.Module):
    """A network that sees word 1 in the upper half of the padded image and word 0 in the lower."""

    def forward(self, image: torch.Tensor, text: torch.Tensor, words_at_once: int) -> Output:
        logits = torch.full((len(text), 96, 96), -9.0)
        logits[1, :48], logits[0, 48:] = 1.0, 1.0
        embeddings = torch.zeros(3, 24, 24)
        embeddings[0, :12], embeddings[1, 12:] = 1.0, 1.0
        return Output(logits, embeddings)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def teacher(words: int = 3, **settings: object) -> CatSegTeacher:
    rows = unit(np.random.default_rng(0).normal(size=(words, 80, 768)))
    return CatSegTeacher(Halves(), rows, **settings)


def test_padding_is_cut_off_and_not_squeezed_into_the_image():
    image = np.zeros((900, 1600, 3), np.uint8)
    (found,) = teacher().segment([image])
    assert found.words.tolist() == [0, 1]
    np.testing.assert_array_equal(np.unique(found.masks[:464]), 2)
    np.testing.assert_array_equal(np.unique(found.masks[464:]), 1)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-6)
    assert (found.embeddings[:, 2] == 0).all()
    assert found.embeddings[1, 0] > 0.99
    assert found.embeddings[0, 1] > 0.99
    # The released code's picture: 928 rows squeezed into 900.
    (stretched,) = teacher(stretch_padding=True).segment([image])
    np.testing.assert_array_equal(np.unique(stretched.masks[:450]), 2)
    np.testing.assert_array_equal(np.unique(stretched.masks[450:]), 1)


def test_equal_words_are_the_first_of_them():
    rows = unit(np.random.default_rng(0).normal(size=(4, 80, 768)))
    rows[1] = rows[3]
    one = CatSegTeacher(Halves(), rows[[3, 2, 0, 1]])
    (found,) = one.segment([np.zeros((32, 64, 3), np.uint8)])
    assert found.words.tolist() == [0, 1]
    two = CatSegTeacher(Halves(), rows[[3, 1, 0, 2]])
    (found,) = two.segment([np.zeros((32, 64, 3), np.uint8)])
    assert found.words.tolist() == [0]
    assert found.masks.min() == found.masks.max() == 1


def test_images_of_another_kind_are_refused():
    image = np.zeros((32, 64, 3), np.uint8)
    for images, message in [
        ([image[..., 0]], r"expected an RGB image uint8\[H, W, 3\], found uint8 \(32, 64\)"),
        ([image, image[:30]], "images of one size"),
    ]:
        with pytest.raises(ValueError, match=message):
            teacher().segment(images)


# ---- text ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured_text() -> dict[str, np.ndarray]:
    with np.load(DATA / "catseg_text.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def tower() -> TextTower:
    """CAT-Seg's text tower at made-up weights."""
    with torch.device("meta"):
        tower = TextTower()
    tensors = {
        name.removeprefix(PREFIX): torch.from_numpy(np.asarray(tensor_for(name, shape)))
        for name, (shape, _) in official_tensors(KEYS).items()
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}visual.")
    }
    causal = torch.full((CONTEXT_LENGTH, CONTEXT_LENGTH), float("-inf")).triu(1)
    load_weights(tower, tensors | {"attn_mask": causal}, "recipe")
    return tower


def test_templates_and_tokens_are_those_of_the_official_code(measured_text):
    assert list(IMAGENET_TEMPLATES) == measured_text["templates"].tolist()
    prompts = [IMAGENET_TEMPLATES[0].format(word) for word in measured_text["words"]]
    for row, expected in zip(tokenize(prompts), measured_text["tokens_template0"], strict=True):
        np.testing.assert_array_equal(row + [0] * (CONTEXT_LENGTH - len(row)), expected)


def test_prompts_are_embedded_as_by_the_official_tower(tower, measured_text, tmp_path):
    words = measured_text["words"].tolist()
    found = template_embeddings(tower, words, IMAGENET_TEMPLATES[:8], "recipe", tmp_path)
    # Float noise between two builds of PyTorch, of unit rows of 768 numbers.
    np.testing.assert_allclose(found, measured_text["text_features_first8"], atol=2e-6)


@pytest.mark.slow
def test_words_are_embedded_as_by_the_official_tower(tower, measured_text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = prompt_embeddings(tower, measured_text["words"].tolist(), "recipe")
    np.testing.assert_allclose(found[0], measured_text["text_features_word0"], atol=2e-6)
    sums = np.abs(found).sum(axis=-1)
    np.testing.assert_allclose(sums, measured_text["text_features_sum_abs"], rtol=1e-4)
    one = CatSegTeacher(Halves(), found)
    np.testing.assert_allclose(one.text_embeddings, measured_text["text_embed"], atol=2e-6)


def test_synonyms_are_averaged_within_each_template(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def encode(tower: None, prompts: list[str]) -> torch.Tensor:
        rows = [[prompt.count("door") + 1.0, prompt.count("gate") + 1.0, 1.0] for prompt in prompts]
        return torch.tensor(rows)

    monkeypatch.setattr(text, "encode_prompts", encode)
    found = prompt_embeddings(None, ["car", "door, gate"], "w")
    assert found.shape == (2, 80, 3)
    np.testing.assert_allclose(found[0], unit(np.ones((80, 3))), rtol=1e-6)
    both = unit(np.array([2.0, 1.0, 1.0])) + unit(np.array([1.0, 2.0, 1.0]))
    np.testing.assert_allclose(found[1], np.tile(unit(both), (80, 1)), rtol=1e-6)
