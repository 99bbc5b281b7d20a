"""Losses in the space of text against the published code's values, and against numpy in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import DATA
from uov_jax.losses import cosine_distance, mean_in_chunks, word_likelihoods


def expected_likelihoods(logits: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> float:
    """Sum over labelled rows of -log of the probability of the class's words together."""
    total = 0.0
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        if label:
            probability = np.exp(row - row.max())
            probability /= probability.sum()
            total -= np.log(probability[classes == label].sum())
    return total


@pytest.mark.parametrize("classes", [[1, 2, 3, 4], [1, 1, 2, 3], [3, 1, 2, 1]])
def test_likelihoods_of_words_against_numpy(classes: list[int]) -> None:
    rng = np.random.default_rng(0)
    logits = (5 * rng.standard_normal((40, 4))).astype(np.float32)
    labels = rng.choice([0, 1, 2, 3], 40).astype(np.uint8)
    of_words = np.array(classes, np.int32)
    total, count = word_likelihoods(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(of_words))
    np.testing.assert_allclose(total, expected_likelihoods(logits, labels, of_words), rtol=2e-6)
    assert float(count) == np.count_nonzero(labels)


def test_rows_without_a_label_have_no_part_whatever_they_hold() -> None:
    logits = jnp.array([[1.0, 2.0], [jnp.nan, jnp.inf]])
    labels, classes = jnp.array([1, 0], jnp.uint8), jnp.array([1, 2], jnp.int32)
    loss = lambda logits: word_likelihoods(logits, labels, classes)[0]  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(value, np.log(1 + np.e), rtol=1e-6)
    share = np.e / (1 + np.e)
    np.testing.assert_allclose(gradient, [[-share, share], [0, 0]], rtol=1e-6)


def test_no_label_at_all_is_a_loss_of_zero_with_gradient_zero() -> None:
    labels, classes = jnp.zeros(3, jnp.uint8), jnp.array([1, 2], jnp.int32)

    def loss(logits: jax.Array) -> jax.Array:
        terms = lambda l, y: word_likelihoods(l, y, classes)  # noqa: E731, E741
        return mean_in_chunks(terms, 2, logits, labels)[0]

    value, gradient = jax.value_and_grad(loss)(jnp.ones((3, 2)))
    assert value == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("rows", [1, 4, 7, 20, 50])
def test_chunks_do_not_change_mean_and_gradient(rows: int) -> None:
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((20, 6)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 4, 20), jnp.uint8)
    classes = jnp.array([1, 2, 3], jnp.int32)

    def loss(weight: jax.Array, size: int) -> jax.Array:
        terms = lambda part, labels: word_likelihoods(part @ weight, labels, classes)  # noqa: E731
        return mean_in_chunks(terms, size, x, y)[0]

    weight = jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)
    value, gradient = jax.value_and_grad(loss)(weight, rows)
    expected, expected_gradient = jax.value_and_grad(loss)(weight, 1000)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_cosine_distance_and_its_gradient_are_the_published_ones() -> None:
    """Loss within 1e-5, gradient within 1e-3 of its norm: sums of 768 float32 numbers differ."""
    with np.load(DATA / "indoor_esg.npz") as file:
        measured = {name: file[name] for name in file.files}
    seen = measured["mask"]
    target = np.zeros(measured["output"].shape, np.float16)
    target[seen] = measured["target"]
    value, gradient = jax.value_and_grad(cosine_distance)(
        jnp.asarray(measured["output"]), jnp.asarray(target), jnp.asarray(seen)
    )
    np.testing.assert_allclose(value, measured["loss"], rtol=1e-5)
    error = np.linalg.norm(np.asarray(gradient, np.float64) - measured["gradient"])
    assert error < 1e-3 * np.linalg.norm(measured["gradient"])


def test_rows_that_are_not_seen_influence_nothing() -> None:
    rng = np.random.default_rng(2)
    output = rng.standard_normal((6, 5)).astype(np.float32)
    target = rng.standard_normal((6, 5)).astype(np.float16)
    seen = np.array([1, 0, 1, 1, 0, 0], bool)
    output[~seen], target[~seen] = np.nan, np.inf
    value, gradient = jax.value_and_grad(cosine_distance)(*map(jnp.asarray, (output, target, seen)))
    a, b = output[seen].astype(np.float64), target[seen].astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(value, (1 - cosine).mean(), rtol=1e-5)
    assert not np.asarray(gradient)[~seen].any()
    assert np.isfinite(gradient).all()


def test_nothing_seen_and_zero_outputs_are_finite() -> None:
    zeros = jnp.zeros((3, 4))
    for seen in ([False] * 3, [True] * 3):
        value, gradient = jax.value_and_grad(cosine_distance)(
            zeros, jnp.ones((3, 4), jnp.float16), jnp.array(seen)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    assert value == 1


def test_a_chunk_at_a_time_is_all_that_is_float32() -> None:
    """Temporaries do not grow with the batch, gradient included."""
    size, rows = 64, 1024
    classes = jnp.arange(1, 9, dtype=jnp.int32)

    def loss(weight: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        def terms(part: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
            return word_likelihoods(part.astype(jnp.float32) @ weight, labels, classes)

        return mean_in_chunks(terms, rows, x, y)[0]

    def temporaries(number: int) -> int:
        shapes = (
            jax.ShapeDtypeStruct((size, 8), jnp.float32),
            jax.ShapeDtypeStruct((number, size), jnp.float16),
            jax.ShapeDtypeStruct((number,), jnp.uint8),
        )
        compiled = jax.jit(jax.value_and_grad(loss)).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporaries(4 * rows), temporaries(64 * rows)
    assert few > rows * size * 4 / 2
    # The starts of the chunks are all that comes with more of them.
    assert many < few + 64 * 1024
    assert many < 64 * rows * size * 4 / 8
