"""Words to classes: of all evaluated words, and never of ignored ones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax.evaluation.judging import NOT_FINITE
from uov_jax.tasks.zero_shot import word_classifier, word_probabilities
from uov_jax.vocabulary import Vocabulary, load_vocabulary


@pytest.fixture
def vocabulary() -> Vocabulary:
    return load_vocabulary()


def test_every_word_of_an_evaluated_group_gives_its_class(vocabulary: Vocabulary) -> None:
    text = np.eye(len(vocabulary), dtype=np.float32)
    found = np.asarray(word_classifier(text, vocabulary)(jnp.asarray(text)))
    evaluated = vocabulary.word_eval_class > 0
    np.testing.assert_array_equal(found[evaluated], vocabulary.word_eval_class[evaluated])


def test_words_of_ignored_groups_are_never_chosen(vocabulary: Vocabulary) -> None:
    ignored = int(np.flatnonzero(vocabulary.word_eval_class == 0)[0])
    text = np.eye(len(vocabulary), dtype=np.float32)
    feature = text[[ignored]] + 0.1 * text[vocabulary.words_of_class(4)[:1]]
    classes = np.asarray(word_classifier(text, vocabulary)(jnp.asarray(feature)))
    np.testing.assert_array_equal(classes, [4])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_have_no_class(vocabulary: Vocabulary, value: float) -> None:
    text = np.eye(len(vocabulary), dtype=np.float32)
    features = text[vocabulary.words_of_class(4)[[0, 0]]]
    features[1, 3] = value
    classes = np.asarray(word_classifier(text, vocabulary)(jnp.asarray(features)))
    np.testing.assert_array_equal(classes, [4, NOT_FINITE])


@pytest.mark.parametrize("predict_ignored", [False, True])
def test_the_most_probable_class_is_that_of_the_nearest_word(
    vocabulary: Vocabulary, predict_ignored: bool
) -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(len(vocabulary), 16)).astype(np.float32)
    features = rng.normal(size=(500, 16)).astype(np.float32)
    classes = np.asarray(word_classifier(text, vocabulary, predict_ignored)(features))
    found = np.asarray(word_probabilities(text, vocabulary, 0.07, predict_ignored)(features))
    assert found.shape == (500, len(vocabulary.eval_classes))
    np.testing.assert_array_equal(found.argmax(axis=1), classes)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert (found[:, 0] > 0).any() == predict_ignored
    # Of two classes, the odds are those of the similarities of their nearest words.
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    words = unit.astype(np.float64) @ features.T.astype(np.float64)
    a, b = (words[vocabulary.words_of_class(c)].max(axis=0) for c in (4, 11))
    np.testing.assert_allclose(np.log(found[:, 4] / found[:, 11]), (a - b) / 0.07, atol=1e-3)


def test_text_of_another_vocabulary_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match=r"3 text embeddings for the 175 words"):
        word_classifier(np.eye(3), vocabulary)
