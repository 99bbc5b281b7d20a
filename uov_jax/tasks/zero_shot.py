"""Zero-shot classes of a language-aligned network: those of the nearest words.

Every voxel gets the evaluation class of the word most similar to its feature. Words of ignored
groups take no part: the metric forbids predictions of class 0, so such a word could only ever be a
miss.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax.errors import InputError
from uov_jax.evaluation.judging import where_finite
from uov_jax.vocabulary import Vocabulary


def word_classifier(
    text_embeddings: np.ndarray, vocabulary: Vocabulary, predict_ignored: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """A function from features [N, D] to the evaluation class uint8 [N] of the nearest word.

    It gives NOT_FINITE for features that are not finite.

    Args:
        text_embeddings: float[W, D], of the vocabulary's words.
        vocabulary: gives the class of each word.
        predict_ignored: let words of ignored groups take part; they give class 0, a miss.

    Raises:
        InputError: the text embeddings are not those of the vocabulary's words.

    """
    text, classes = evaluated_words(text_embeddings, vocabulary, predict_ignored)

    def classify(features: jax.Array) -> jax.Array:
        return nearest_class(features, jnp.asarray(text.T), jnp.asarray(classes))

    return classify


def nearest_class(features: jax.Array, words: jax.Array, classes: jax.Array) -> jax.Array:
    """uint8[N]: of features [N, D] the class of the nearest word, the first of equal ones.

    Args:
        features: NOT_FINITE comes out where they are not finite.
        words: float32[D, W], a unit column for every word.
        classes: uint8[W], of the words.

    """
    similarity = jnp.matmul(features, words, precision="highest")
    return where_finite(features, classes[jnp.argmax(similarity, axis=1)])


def nearest_words(
    text_embeddings: np.ndarray, vocabulary: Vocabulary, rows: int = 16_384
) -> Callable[[np.ndarray], np.ndarray]:
    """As `word_classifier`, on the host: from features float[N, D] to classes uint8[N].

    It takes so many rows at a time, and any number of threads may call it. Arguments and errors as
    there.
    """
    text, classes = evaluated_words(text_embeddings, vocabulary)

    def classify(features: np.ndarray) -> np.ndarray:
        found = np.empty(len(features), np.uint8)
        for start in range(0, len(features), rows):
            part = features[start : start + rows].astype(np.float32)
            found[start : start + rows] = classes[np.argmax(part @ text.T, axis=1)]
        return found

    return classify


def word_probabilities(
    text_embeddings: np.ndarray,
    vocabulary: Vocabulary,
    temperature: float,
    predict_ignored: bool = False,
) -> Callable[[jax.Array], jax.Array]:
    """A function from features [N, D] to probabilities of the C evaluation classes float32 [N, C].

    Softmax over the classes, each at the similarity of its nearest word over the temperature, so
    that the most probable class is the one of `word_classifier`. Arguments and errors as there.
    """
    text, classes = evaluated_words(text_embeddings, vocabulary, predict_ignored)

    def probabilities(features: jax.Array) -> jax.Array:
        similarity = jnp.matmul(features, jnp.asarray(text.T), precision="highest")
        nearest = jnp.full((len(features), len(vocabulary.eval_classes)), -jnp.inf, jnp.float32)
        nearest = nearest.at[:, classes].max(similarity.astype(jnp.float32))
        return jax.nn.softmax(nearest / temperature, axis=1)

    return probabilities


def evaluated_words(
    text_embeddings: np.ndarray, vocabulary: Vocabulary, predict_ignored: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """float32[W, D] unit rows of the words that take part, and uint8[W], their classes.

    Arguments and errors as for `word_classifier`.
    """
    if len(text_embeddings) != len(vocabulary):
        raise InputError(
            f"{len(text_embeddings)} text embeddings for the {len(vocabulary)} words of the "
            f"vocabulary {vocabulary.name!r}"
        )
    evaluated = np.flatnonzero((vocabulary.word_eval_class != 0) | predict_ignored)
    text = text_embeddings[evaluated].astype(np.float32)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    return text, vocabulary.word_eval_class[evaluated].astype(np.uint8)
