"""Scores of features by words, and OpenScene's ensemble of features of points and of images.

A score is the product of a feature, whatever its length, with the unit embedding of a word. All
that an ensemble needs beside the scores is the features' length, so that features themselves need
not be kept: a row of scores is float32[W + 1], the last number is the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax.evaluation.judging import NOT_FINITE

CHUNK = 8_192  # features that are in memory in float32 at a time
# Added to lengths, as OpenScene does, so that a feature of zeros is none of infinities.
LENGTH_OFFSET = 1e-5
Scorer = Callable[[jax.Array], jax.Array]


def word_scorer(text: np.ndarray | jax.Array, half: bool = False) -> Scorer:
    """A function from features [N, D] to scores and lengths float32[N, W + 1]; it can be compiled.

    Args:
        text: float32[W, D], unit rows.
        half: features, words and scores in half precision, as OpenScene and 3DSS-VLG score.

    """
    words = jnp.asarray(text.T)

    def score(features: jax.Array) -> jax.Array:
        features = features.astype(jnp.float32)
        length = jnp.linalg.norm(features, axis=1, keepdims=True)
        if half:
            product = jnp.matmul(
                features.astype(jnp.float16),
                words.astype(jnp.float16),
                preferred_element_type=jnp.float32,
            )
            scores = product.astype(jnp.float16).astype(jnp.float32)
        else:
            scores = jnp.matmul(features, words, precision="highest")
        return jnp.concatenate([scores, length], axis=1)

    return score


def scores_of_features(
    parts: Iterable[np.ndarray], text: np.ndarray, half: bool = False
) -> np.ndarray:
    """What `word_scorer` gives, on the host, of parts float16[n, D] one after the other."""
    words = text.T.astype(np.float32)
    if half:
        words = words.astype(np.float16).astype(np.float32)
    found = [np.zeros((0, len(text) + 1), np.float32)]
    for part in parts:
        chunk = np.asarray(part, np.float32)
        scores = chunk @ words
        if half:
            scores = scores.astype(np.float16).astype(np.float32)
        length = np.linalg.norm(chunk, axis=1, keepdims=True)
        found.append(np.concatenate([scores, length], axis=1))
    return np.concatenate(found)


def ensemble(points: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Scores float32[N, W] of OpenScene's ensemble.

    A point takes the feature of the image where that one's best score, of the feature divided by
    its length, is strictly greater than the other's; then the feature's own scores count.

    Args:
        points: float32[N, W + 1], scores and lengths of the network's features.
        images: float32[N, W + 1], those of features of images.

    """
    best = [(s[:, :-1] / (s[:, -1:] + LENGTH_OFFSET)).max(axis=1) for s in (points, images)]
    return np.where((best[1] > best[0])[:, None], images[:, :-1], points[:, :-1])


def best_classes(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """uint8[N]: of scores [N, W] the class uint8[W] of the best word; NOT_FINITE where one is."""
    found = classes[scores.argmax(axis=1)]
    return np.where(np.isfinite(scores).all(axis=1), found, np.uint8(NOT_FINITE))
