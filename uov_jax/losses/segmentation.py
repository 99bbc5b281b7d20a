"""Losses against one class per row: cross-entropy and Lovász-softmax, ignored rows left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

IGNORED = 0


def segmentation_loss(
    logits: jax.Array, labels: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy plus Lovász-softmax, the loss of annotation-free training and fine-tuning.

    Args:
        logits: float [N, C]; padding rows may hold anything.
        labels: integer [N], classes below C; rows of class 0 (unlabelled, or padding) take no part.

    Returns:
        The float32 sum (0 with gradient 0 where no row is labelled), and the float32 scalars
        `cross_entropy_loss`, `lovasz_loss`, and `labelled_voxels`, the rows that took part.

    Raises:
        ValueError: labels are not one integer a row.

    """
    cross = cross_entropy(logits, labels)
    lovasz = lovasz_softmax(logits, labels)
    labelled = jnp.sum(labels != IGNORED).astype(jnp.float32)
    metrics = {
        "cross_entropy_loss": cross,
        "lovasz_loss": lovasz,
        "labelled_voxels": labelled,
    }
    return cross + lovasz, metrics


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the labelled rows of -log softmax(logits)[label]; float32, 0 without such a row.

    The softmax is over all C classes, the ignored one among them, as in the reference.
    """
    logits, labels, labelled = _prepared(logits, labels)
    wanted = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=1), labels[:, None], axis=1)
    total = -jnp.sum(jnp.where(labelled, wanted[:, 0], 0.0))
    return total / jnp.maximum(jnp.sum(labelled.astype(jnp.float32)), 1.0)


def lovasz_softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the classes present in the labels of the Lovász extension of the Jaccard loss.

    Berman et al. 2018, arXiv 1705.08790, eq. 9 and algorithm 1: the errors `|[y = c] - p_c|` of a
    class, sorted downwards, times the steps that the Jaccard loss takes as they turn wrong one
    after the other. The steps depend on the order alone and carry no gradient.

    Args:
        logits: float [N, C]; the softmax is over all C classes.
        labels: integer [N]; rows of class 0 take no part.

    Returns:
        float32 scalar; 0 with gradient 0 where no row is labelled.

    """
    logits, labels, labelled = _prepared(logits, labels)
    classes = jnp.arange(logits.shape[1], dtype=jnp.int32)
    hit = (labels[None, :] == classes[:, None]) & labelled[None, :]
    probability = jax.nn.softmax(logits, axis=1).T
    errors = jnp.where(labelled[None, :], jnp.abs(hit.astype(jnp.float32) - probability), 0.0)
    steps = jax.vmap(_jaccard_steps, in_axes=(0, 0, None))(
        jax.lax.stop_gradient(errors), hit, labelled
    )
    present = jnp.any(hit, axis=1).astype(jnp.float32)
    losses = jnp.sum(steps * errors, axis=1)
    return jnp.sum(losses * present) / jnp.maximum(jnp.sum(present), 1.0)


def _jaccard_steps(errors: jax.Array, hit: jax.Array, labelled: jax.Array) -> jax.Array:
    """By how much the Jaccard loss of a class grows as each row, worst first, turns wrong.

    With G rows of the class, after i of these and j others have turned wrong the loss is
    1 - (G - i) / (G + j). Its steps are written out, because as differences of float32 numbers
    close to 1 they would keep few digits.

    Args:
        errors: float32 [N].
        hit: bool [N], rows of the class.
        labelled: bool [N]; the steps of other rows are 0.

    Returns:
        float32 [N], in the order of the rows.

    """
    rows = jnp.arange(len(errors), dtype=jnp.int32)
    # Rows without a label come last, so that they shift no other.
    worst_first = jnp.where(labelled, -errors, 1.0)
    _, order = jax.lax.sort((worst_first, rows), num_keys=1, is_stable=False)
    hit = hit[order]
    own = jnp.sum(hit.astype(jnp.int32))
    intersection = (own - jnp.cumsum(hit.astype(jnp.int32))).astype(jnp.float32)
    union = (own + jnp.cumsum((~hit).astype(jnp.int32))).astype(jnp.float32)
    others = intersection / jnp.maximum(union * (union - 1.0), 1.0)
    steps = jnp.where(hit, 1.0 / jnp.maximum(union, 1.0), others)
    return jnp.zeros_like(errors).at[order].set(steps, unique_indices=True)


def _prepared(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """float32 logits with zeros in rows without a label, int32 labels, bool labelled."""
    if labels.shape != logits.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels {labels.dtype}{list(labels.shape)} for logits {list(logits.shape)}: expected "
            "one integer class a row"
        )
    labels = labels.astype(jnp.int32)
    labelled = labels != IGNORED
    # Not only weighted by zero: what is not a number in a padding row would stay so.
    return jnp.where(labelled[:, None], logits.astype(jnp.float32), 0.0), labels, labelled
