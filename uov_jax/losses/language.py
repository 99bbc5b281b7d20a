"""Losses in a space of images and text: classes by their words, and distillation of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from uov_jax.losses.devices import share_of_mean

IGNORED = 0
SMALLEST_NORM = 1e-8  # as in torch.nn.CosineSimilarity


def word_likelihoods(
    logits: jax.Array, labels: jax.Array, word_class: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihoods of labelled rows, and how many rows that are.

    The softmax is over words; a class has the sum of its words' probabilities. With one word a
    class that is the cross-entropy of classes.

    Args:
        logits: float32[N, W].
        labels: integer[N], evaluation classes; rows of class 0 take no part.
        word_class: int32[W], class of each word, none of them 0.

    Returns:
        float32 sum over the rows that take part, and their number as float32. A class without a
        word makes it infinite.

    """
    labels = labels.astype(jnp.int32)
    labelled = labels != IGNORED
    logits = jnp.where(labelled[:, None], logits, 0.0)
    own = word_class[None, :] == jnp.where(labelled, labels, word_class[0])[:, None]
    chosen = jax.nn.logsumexp(logits, axis=1, where=own)
    likelihood = chosen - jax.nn.logsumexp(logits, axis=1)
    total = -jnp.sum(jnp.where(labelled, likelihood, 0.0))
    return total, jnp.sum(labelled.astype(jnp.float32))


def mean_in_chunks(
    terms: Callable[..., tuple[jax.Array, jax.Array]],
    rows: int,
    *arrays: jax.Array,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Mean of a sum over rows, a chunk of rows at a time, so that one chunk is in memory alone.

    What a chunk needs for its gradient is computed again.

    Args:
        terms: (sum, number of rows that took part) of chunks of the arrays.
        rows: of a chunk.
        arrays: [N, ...] each.
        axis_name: of the devices whose rows are counted together; None for one alone.

    Returns:
        The mean, 0 where no row takes part, and the number of rows that do. With several devices
        that is what `share_of_mean` gives, and the number of all rows that do.

    """
    whole = len(arrays[0]) // rows

    def chunk(first: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Cut where it is used: cutting all chunks first would copy the arrays.
        return terms(*(jax.lax.dynamic_slice_in_dim(a, first, rows) for a in arrays))

    def add(sums: tuple[jax.Array, jax.Array], first: jax.Array) -> tuple[Any, None]:
        total, count = jax.checkpoint(chunk)(first)
        return (sums[0] + total, sums[1] + count), None

    sums = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
    if whole:
        sums, _ = jax.lax.scan(add, sums, rows * jnp.arange(whole, dtype=jnp.int32))
    if len(arrays[0]) % rows:
        total, count = terms(*(a[whole * rows :] for a in arrays))
        sums = (sums[0] + total, sums[1] + count)
    return share_of_mean(*sums, axis_name)


def cosine_distance(
    output: jax.Array, target: jax.Array, seen: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Mean over the seen rows of 1 - cos(output, target); float32, 0 where none is seen.

    With several devices the device's share of the mean over the rows of all, see `share_of_mean`.

    Args:
        output: float32[N, D]; rows that are not seen may hold anything.
        target: float[N, D].
        seen: bool[N].
        axis_name: of the devices whose rows are counted together; None for one alone.

    """
    output = jnp.where(seen[:, None], output, 0.0)
    target = jnp.where(seen[:, None], target, jnp.zeros((), target.dtype)).astype(jnp.float32)
    product = jnp.sum(output * target, axis=1)
    # The root of zero has no gradient.
    squares = jnp.maximum(jnp.sum(output * output, axis=1), SMALLEST_NORM**2)
    norms = jnp.sqrt(squares) * jnp.maximum(jnp.linalg.norm(target, axis=1), SMALLEST_NORM)
    total = jnp.sum(jnp.where(seen, 1.0 - product / norms, 0.0))
    return share_of_mean(total, jnp.sum(seen.astype(jnp.float32)), axis_name)[0]
