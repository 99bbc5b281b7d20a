"""Joining of the two classifiers, and which words COCO names."""

from __future__ import annotations

import numpy as np
import torch

from tests.teachers.recipe import DATA
from uov_jax.teachers.fcclip.ensemble import join_vocabularies, seen_in_coco, word_logits
from uov_jax.vocabulary import load_vocabulary


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_words_of_coco_are_those_of_the_official_code():
    with np.load(DATA / "fcclip_CAM_FRONT.npz") as file:
        expected = file["category_overlapping_mask"].astype(bool)
    found = seen_in_coco(load_vocabulary().words)
    assert found.sum() == 36
    np.testing.assert_array_equal(found, expected)


def test_words_are_compared_letter_by_letter():
    assert seen_in_coco(["person", "Person", " person", "palm tree", "zeppelin"]).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_probabilities_are_a_geometric_mean_in_float64():
    rng = np.random.default_rng(0)
    trained, clip = rng.normal(0, 4, (7, 12)), rng.normal(0, 4, (7, 11))
    seen = rng.random(11) < 0.5
    share = np.where(seen, 0.4, 0.8)
    mean = softmax(trained[:, :-1]) ** (1 - share) * softmax(clip) ** share
    void = softmax(trained)[:, -1:]
    expected = np.concatenate([softmax(np.log(mean)) * (1 - void), void], axis=1)
    arrays = [torch.from_numpy(a.astype(np.float32)) for a in (trained, clip)]
    found = join_vocabularies(*arrays, torch.from_numpy(seen))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.exp(), expected + 1e-8, rtol=3e-5)


def test_logits_too_far_apart_for_float32_stay_finite():
    # exp(-200) is zero in float32: powers of it and their logarithm are not to be formed.
    trained = torch.tensor([[100.0, -100.0, 0.0]])
    clip = torch.tensor([[-100.0, 100.0]])
    found = join_vocabularies(trained, clip, torch.tensor([True, False]))
    assert torch.isfinite(found).all()
    # log p = (1 - share) * trained + share * clip: 0.6 * 0 - 0.4 * 200 and -0.2 * 200 + 0.8 * 0.
    assert found[0].argmax() == 1


def test_scaled_cosines_are_limited():
    embeddings = torch.tensor([[3.0, 4.0]])
    rows = torch.eye(2)
    for log_scale, scale in [(0.0, 1.0), (np.log(14.0), 14.0), (9.0, 100.0)]:
        found = word_logits(embeddings, rows, torch.tensor(log_scale, dtype=torch.float32))
        np.testing.assert_allclose(found, [[0.6 * scale, 0.8 * scale]], rtol=1e-5)
