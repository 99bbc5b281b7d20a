"""Scores by words and the ensemble, against the definition point by point."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from uov_jax.evaluation.judging import NOT_FINITE
from uov_jax.tasks.word_scores import best_classes, ensemble, scores_of_features, word_scorer


def features_and_words(number: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(7, 24))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    lengths = rng.uniform(0.1, 30, (number, 1))
    return (lengths * rng.normal(size=(number, 24))).astype(np.float16), text.astype(np.float32)


@pytest.mark.parametrize("half", [False, True])
def test_device_and_host_score_alike(half: bool) -> None:
    features, text = features_and_words()
    expected = features.astype(np.float64) @ text.T.astype(np.float64)
    device = np.asarray(jax.jit(word_scorer(text, half))(features))
    host = scores_of_features([features[:77], features[77:], features[:0]], text, half)
    # Of half precision: words are rounded too, sums are of 24 products of up to 60.
    tolerance = {"rtol": 2e-3, "atol": 5e-2} if half else {"rtol": 1e-5, "atol": 1e-4}
    for found in (device, host):
        np.testing.assert_allclose(found[:, :-1], expected, **tolerance)
        length = np.linalg.norm(features.astype(np.float64), axis=1)
        np.testing.assert_allclose(found[:, -1], length, rtol=1e-5)
        halves = found[:, :-1].astype(np.float16).astype(np.float32)
        assert np.array_equal(halves, found[:, :-1]) == half


def test_the_ensemble_is_the_published_one() -> None:
    """Written as OpenScene has it: with the features themselves, normalised to choose alone."""
    points, text = features_and_words()
    images = np.random.default_rng(1).permutation(points) * np.float16(0.3)
    images[:20] = points[:20]  # equal: not strictly greater
    images[20:30] = 0
    a, b = (f.astype(np.float64) for f in (points, images))
    words = text.T.astype(np.float64)
    best = [
        ((f / (np.linalg.norm(f, axis=1, keepdims=True) + 1e-5)) @ words).max(axis=1)
        for f in (a, b)
    ]
    chosen = np.where((best[1] > best[0])[:, None], b, a)
    found = ensemble(scores_of_features([points], text), scores_of_features([images], text))
    np.testing.assert_allclose(found, chosen @ words, rtol=1e-5, atol=1e-4)
    share = np.mean(best[1] > best[0])
    assert 0.2 < share < 0.8


def test_the_best_word_gives_the_class_and_what_is_not_finite_none() -> None:
    scores = np.array([[1, 2, 3], [3, 2, 1], [np.nan, 9, 1], [np.inf, 0, 1]], np.float32)
    found = best_classes(scores, np.array([4, 4, 9], np.uint8))
    np.testing.assert_array_equal(found, [9, 4, NOT_FINITE, NOT_FINITE])
