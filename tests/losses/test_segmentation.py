"""Cross-entropy and Lovász-softmax: the reference's fixture, a float64 oracle, padding, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.memory import program_bytes
from uov_jax import losses

DATA = Path(__file__).parents[1] / "fixtures"


def loss_of(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return losses.segmentation_loss(logits, labels)[0]


value_and_gradient = jax.jit(jax.value_and_grad(loss_of))


def random_rows(seed: int, rows: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels with unlabelled rows, and classes that no row has."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)).astype(np.float32) * 2
    return logits, rng.choice([0, 1, 2, 4], rows).astype(np.uint8)


def oracle(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Cross-entropy and Lovász-softmax in float64 as sums over sets of wrong rows."""
    logits, labels = logits[labels > 0].astype(np.float64), labels[labels > 0]
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = exponential / exponential.sum(axis=1, keepdims=True)
    cross = -np.mean(np.log(probability[np.arange(len(labels)), labels]))

    def jaccard_loss(own: np.ndarray, wrong: np.ndarray) -> float:
        return 1 - np.count_nonzero(own & ~wrong) / np.count_nonzero(own | wrong)

    terms = []
    for number in np.unique(labels):
        own = labels == number
        errors = np.abs(own - probability[:, number])
        wrong = np.zeros(len(labels), bool)
        before, term = 0.0, 0.0
        for row in np.argsort(-errors):
            wrong[row] = True
            after = jaccard_loss(own, wrong)
            term += errors[row] * (after - before)
            before = after
        terms.append(term)
    return float(cross), float(np.mean(terms))


def test_value_and_gradient_equal_the_reference() -> None:
    with np.load(DATA / "lovasz_loss.npz") as file:
        fixture = {name: file[name] for name in file.files}
    labels = jnp.asarray(fixture["labels"].astype(np.int32))
    value, gradient = value_and_gradient(jnp.asarray(fixture["logits"]), labels)
    assert float(value) == pytest.approx(float(fixture["loss"]), abs=1e-5)
    np.testing.assert_allclose(gradient, fixture["grad"], rtol=0, atol=1e-5)
    # The largest gradient is 0.005: the same bound relative to it.
    scale = np.abs(fixture["grad"]).max()
    np.testing.assert_allclose(gradient, fixture["grad"], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_float64_oracle(seed: int) -> None:
    logits, labels = random_rows(seed)
    cross, lovasz = oracle(logits, labels)
    _, metrics = losses.segmentation_loss(jnp.asarray(logits), jnp.asarray(labels))
    assert float(metrics["cross_entropy_loss"]) == pytest.approx(cross, rel=1e-6)
    assert float(metrics["lovasz_loss"]) == pytest.approx(lovasz, rel=1e-6)
    assert float(metrics["labelled_voxels"]) == np.count_nonzero(labels)
    _, gradient = value_and_gradient(jnp.asarray(logits), jnp.asarray(labels))
    step = 1e-6
    for row, column in np.random.default_rng(seed).integers(0, 7, (40, 2)):
        moved = [logits.astype(np.float64), logits.astype(np.float64)]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        difference = (sum(oracle(moved[0], labels)) - sum(oracle(moved[1], labels))) / (2 * step)
        assert float(gradient[row, column]) == pytest.approx(difference, rel=1e-4, abs=1e-7)


def rows_of_shards(shards: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and shards of rows in no order, the last shard without a label."""
    parts = [random_rows(10 + number, rows=30 + 7 * number) for number in range(shards)]
    parts[-1][1][:] = 0
    shard = np.repeat(np.arange(shards), [len(labels) for _, labels in parts])
    logits, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    mixed = np.random.default_rng(shards).permutation(len(shard))
    return logits[mixed], labels[mixed], shard[mixed].astype(np.int32)


@pytest.mark.parametrize("shards", [2, 3, 16])
def test_the_loss_of_shards_is_the_mean_of_theirs(shards: int) -> None:
    """Value and gradient, against each shard alone: float32 sums in another order."""
    logits, labels, shard = rows_of_shards(shards)

    def apart(logits: jax.Array) -> Any:
        found = [
            losses.segmentation_loss(logits[shard == number], jnp.asarray(labels[shard == number]))
            for number in range(shards)
        ]
        return jax.tree.map(lambda *values: sum(values) / shards, *found)

    def together(logits: jax.Array) -> Any:
        return losses.segmentation_loss(logits, jnp.asarray(labels), jnp.asarray(shard), shards)

    expected, expected_gradient = jax.value_and_grad(apart, has_aux=True)(jnp.asarray(logits))
    found, gradient = jax.jit(jax.value_and_grad(together, has_aux=True))(jnp.asarray(logits))
    assert 0 < float(expected[1]["lovasz_loss"]) < 1
    for value, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert float(value) == pytest.approx(float(other), rel=1e-6)
    scale = float(np.abs(expected_gradient).max())
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=2e-6 * scale)


def test_shards_of_nothing_labelled_have_no_loss() -> None:
    logits, labels, shard = rows_of_shards(3)
    value, _ = losses.segmentation_loss(
        jnp.asarray(logits), jnp.zeros_like(labels), jnp.asarray(shard), 3
    )
    assert float(value) == 0.0
    with pytest.raises(ValueError, match="3 shards, but no row says of which it is"):
        losses.lovasz_softmax(jnp.asarray(logits), jnp.asarray(labels), shards=3)


def test_the_order_of_errors_is_fine_enough_with_many_shards() -> None:
    """Errors from 1e-9 to 1 beside each other: no order is wrong by more than 2^-26."""
    rng = np.random.default_rng(8)
    labels = np.tile(np.array([1, 2], np.uint8), 500)
    right = 10 ** rng.uniform(-1, 9, len(labels))  # odds of the true class
    logits = np.full((len(labels), 3), -40.0, np.float32)
    logits[np.arange(len(labels)), 3 - labels] = 0
    logits[np.arange(len(labels)), labels] = np.log(right)
    expected = oracle(logits, labels)[1]
    rows = jnp.asarray(logits), jnp.asarray(labels)
    one = losses.lovasz_softmax(*rows)
    all_of_last = jnp.full(len(labels), 15, jnp.int32)
    last = 16 * losses.lovasz_softmax(*rows, all_of_last, 16)
    assert float(one) == pytest.approx(expected, rel=1e-6)
    assert float(last) == pytest.approx(expected, rel=1e-6)


def test_padding_rows_influence_nothing() -> None:
    logits, labels = random_rows(2)
    value, gradient = value_and_gradient(jnp.asarray(logits), jnp.asarray(labels))
    junk = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0, 7], np.float32)
    padded = np.concatenate([logits, np.tile(junk, (40, 1))])
    more = np.concatenate([labels, np.zeros(40, np.uint8)])
    value_padded, gradient_padded = value_and_gradient(jnp.asarray(padded), jnp.asarray(more))
    assert float(value_padded) == pytest.approx(float(value), rel=1e-6)
    np.testing.assert_allclose(gradient_padded[: len(logits)], gradient, rtol=0, atol=1e-8)
    assert not np.any(np.asarray(gradient_padded[len(logits) :]))
    assert not np.any(np.asarray(gradient)[labels == 0])


@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_labelled_has_no_loss_and_no_gradient(rows: int) -> None:
    logits, labels = jnp.ones((rows, 17), jnp.float32), jnp.zeros(rows, jnp.uint8)
    value, gradient = value_and_gradient(logits, labels)
    assert float(value) == 0.0
    assert not np.any(np.asarray(gradient))


def test_a_perfect_prediction_costs_nothing_and_one_row_its_error() -> None:
    labels = jnp.asarray(np.array([1, 2, 3, 3], np.uint8))
    logits = 50.0 * jax.nn.one_hot(labels, 5)
    assert float(loss_of(logits, labels)) == pytest.approx(0.0, abs=1e-6)
    one = losses.lovasz_softmax(jnp.zeros((1, 4), jnp.float32), jnp.asarray(np.array([2])))
    assert float(one) == pytest.approx(0.75)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits, labels = random_rows(3)
    rounded = jnp.asarray(logits).astype(jnp.bfloat16)
    value, metrics = losses.segmentation_loss(rounded, jnp.asarray(labels))
    assert value.dtype == metrics["lovasz_loss"].dtype == jnp.float32
    expected = sum(oracle(np.asarray(rounded.astype(jnp.float32)), labels))
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_small_steps_of_many_rows_keep_their_digits() -> None:
    """At 80,000 rows, differences of the Jaccard loss itself would be wrong in the third digit."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(80_000, 3)).astype(np.float32)
    labels = rng.integers(1, 3, 80_000).astype(np.uint8)
    gradient = np.asarray(
        jax.grad(lambda x: losses.lovasz_softmax(x, jnp.asarray(labels)))(jnp.asarray(logits))
    )
    x = logits.astype(np.float64)
    probability = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = np.zeros_like(x)
    for number in (1, 2):
        own = labels == number
        sign = np.where(own, -1.0, 1.0)
        order = np.argsort(-np.abs(own - probability[:, number]), kind="stable")
        right = own.sum() - np.cumsum(own[order])
        union = own.sum() + np.cumsum(~own[order])
        steps = np.empty(len(x))
        steps[order] = np.diff(1 - right / union, prepend=0.0)
        flow = steps * sign * probability[:, number] / 2
        expected -= flow[:, None] * probability
        expected[:, number] += flow
    scale = np.abs(expected).max()
    # Rows whose errors are equal in float32 may change places, which moves their steps a little.
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * scale)


def test_labels_of_another_shape_or_kind_are_refused() -> None:
    logits = jnp.zeros((4, 17), jnp.float32)
    with pytest.raises(ValueError, match=r"labels int32\[3\] for logits \[4, 17\]"):
        losses.cross_entropy(logits, jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"labels float32\[4\].*one integer class a row"):
        losses.lovasz_softmax(logits, jnp.zeros(4, jnp.float32))


def test_memory_at_full_size() -> None:
    """80,000 voxels x 17 classes: some fifteen arrays of the size of the logits, not more."""
    rows = jax.ShapeDtypeStruct((80_000, 17), np.float32)
    labels = jax.ShapeDtypeStruct((80_000,), np.uint8)
    used = program_bytes(jax.value_and_grad(loss_of), rows, labels).total
    logits = 80_000 * 17 * 4
    assert logits < used < 15 * logits
