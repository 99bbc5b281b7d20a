"""Losses against one class per row: cross-entropy and Lovász-softmax, ignored rows left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

IGNORED = 0
# Of the keys that rows are sorted by, which are positive int32.
KEY_BITS = 31


def segmentation_loss(
    logits: jax.Array, labels: jax.Array, shard: jax.Array | None = None, shards: int = 1
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy plus Lovász-softmax, the loss of annotation-free training and fine-tuning.

    Args:
        logits: float [N, C]; padding rows may hold anything.
        labels: integer [N], classes below C; rows of class 0 (unlabelled, or padding) take no part.
        shard: int32 [N], which shard a row is of, in 0..shards-1; any value where it is unlabelled.
          None: all are of one.
        shards: how many there are; the loss is the mean over them.

    Returns:
        The float32 sum (a shard without a labelled row counts as 0, with gradient 0), and the
        float32 scalars `cross_entropy_loss`, `lovasz_loss`, and `labelled_voxels`, the rows of a
        shard that took part, which are means over the shards too.

    Raises:
        ValueError: labels are not one integer a row, or there are shards without `shard`.

    """
    cross = cross_entropy(logits, labels, shard, shards)
    lovasz = lovasz_softmax(logits, labels, shard, shards)
    labelled = jnp.sum(labels != IGNORED).astype(jnp.float32) / shards
    metrics = {
        "cross_entropy_loss": cross,
        "lovasz_loss": lovasz,
        "labelled_voxels": labelled,
    }
    return cross + lovasz, metrics


def cross_entropy(
    logits: jax.Array, labels: jax.Array, shard: jax.Array | None = None, shards: int = 1
) -> jax.Array:
    """Mean over the labelled rows of -log softmax(logits)[label], and then over the shards.

    float32, 0 without such a row. The softmax is over all C classes, the ignored one among them,
    as in the reference. Arguments as of `segmentation_loss`.
    """
    logits, labels, shard = _prepared(logits, labels, shard, shards)
    labelled = shard < shards
    wanted = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=1), labels[:, None], axis=1)
    weight = 1.0 / jnp.maximum(_count(labelled, shard, shards).astype(jnp.float32), 1.0)
    terms = jnp.where(labelled, wanted[:, 0], 0.0) * _of_rows(weight, shard)
    return -jnp.sum(terms) / shards


def lovasz_softmax(
    logits: jax.Array, labels: jax.Array, shard: jax.Array | None = None, shards: int = 1
) -> jax.Array:
    """Mean over the classes present in the labels of the Lovász extension of the Jaccard loss.

    Berman et al. 2018, arXiv 1705.08790, eq. 9 and algorithm 1: the errors `|[y = c] - p_c|` of a
    class, sorted downwards, times the steps that the Jaccard loss takes as they turn wrong one
    after the other. The steps depend on the order alone and carry no gradient. Every shard has its
    own classes and its own order; the result is the mean over the shards.

    Args:
        logits: float [N, C]; the softmax is over all C classes.
        labels: integer [N]; rows of class 0 take no part.
        shard: as of `segmentation_loss`.
        shards: as of `segmentation_loss`.

    Returns:
        float32 scalar; a shard without a labelled row counts as 0, with gradient 0.

    """
    logits, labels, shard = _prepared(logits, labels, shard, shards)
    labelled = shard < shards
    classes = jnp.arange(logits.shape[1], dtype=jnp.int32)
    hit = (labels[None, :] == classes[:, None]) & labelled[None, :]
    probability = jax.nn.softmax(logits, axis=1).T
    errors = jnp.where(labelled[None, :], jnp.abs(hit.astype(jnp.float32) - probability), 0.0)
    own, rows = _count(hit, shard, shards), _count(labelled, shard, shards)
    steps = jax.vmap(_jaccard_steps, in_axes=(0, 0, 0, None, None))(
        jax.lax.stop_gradient(errors), hit, own, rows, shard
    )
    present = (own > 0).astype(jnp.float32)
    weight = present / jnp.maximum(jnp.sum(present, axis=0, keepdims=True), 1.0)
    return jnp.sum(steps * errors * _of_rows(weight, shard)) / shards


def _jaccard_steps(
    errors: jax.Array, hit: jax.Array, own: jax.Array, rows: jax.Array, shard: jax.Array
) -> jax.Array:
    """By how much the Jaccard loss of a class grows as each row, worst first, turns wrong.

    With G rows of the class in a shard, after i of these and j others have turned wrong the loss is
    1 - (G - i) / (G + j). Its steps are written out, because as differences of float32 numbers
    close to 1 they would keep few digits.

    All shards are sorted at once, by one integer each: the shard in front, behind it the error in
    steps of 2^-30 for one shard and 2^-26 for sixteen. An order that is wrong by so little makes
    the loss smaller by at most twice as much, since no order gives a larger one than the right one.

    Args:
        errors: float32 [N], 0 to 1.
        hit: bool [N], rows of the class.
        own: int32 [shards], how many of these every shard has.
        rows: int32 [shards], labelled ones of every shard.
        shard: int32 [N], `shards` for rows without a label, whose steps are 0.

    Returns:
        float32 [N], in the order of the rows.

    """
    width = KEY_BITS - len(own).bit_length()
    best = (1 << width) - 1
    worst_first = best - jnp.minimum((errors * float(1 << width)).astype(jnp.int32), best)
    place = jnp.arange(len(errors), dtype=jnp.int32)
    # Whether it is a hit travels along: looking that up again costs as much as a third of the sort.
    keys, packed = jax.lax.sort(
        ((shard << width) | worst_first, (place << 1) | hit.astype(jnp.int32)),
        num_keys=1,
        is_stable=False,
    )
    order, hit = packed >> 1, (packed & 1).astype(bool)
    turned, shard = jnp.cumsum(hit.astype(jnp.int32)), keys >> width
    through = jnp.cumsum(own)
    others_before = jnp.cumsum(rows) - rows - (through - own)
    intersection = _of_rows(through, shard) - turned
    union = _of_rows(own - others_before, shard) + (place + 1 - turned)
    intersection, union = intersection.astype(jnp.float32), union.astype(jnp.float32)
    others = intersection / jnp.maximum(union * (union - 1.0), 1.0)
    steps = jnp.where(hit, 1.0 / jnp.maximum(union, 1.0), others)
    return jnp.zeros_like(errors).at[order].set(steps, unique_indices=True)


def _count(marked: jax.Array, shard: jax.Array, shards: int) -> jax.Array:
    """int32 [..., shards]: how many rows of bool [..., N] are marked in each shard."""
    if shards == 1:
        return jnp.sum(marked.astype(jnp.int32), axis=-1, keepdims=True)
    # A product of ones and zeros: exact, and without the collisions of a scatter.
    of_shard = shard[:, None] == jnp.arange(shards, dtype=jnp.int32)[None]
    counts = jnp.matmul(marked.astype(jnp.float32), of_shard.astype(jnp.float32))
    return counts.astype(jnp.int32)


def _of_rows(table: jax.Array, shard: jax.Array) -> jax.Array:
    """[..., N], or [..., 1] for a single shard: for every row what the table says of its shard.

    Something or other for rows without a label.
    """
    return table if table.shape[-1] == 1 else jnp.take(table, shard, axis=-1, mode="clip")


def _prepared(
    logits: jax.Array, labels: jax.Array, shard: jax.Array | None, shards: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """float32 logits with zeros in rows without a label, int32 labels, int32 shards of the rows.

    Rows without a label are of none: `shards`.
    """
    if labels.shape != logits.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels {labels.dtype}{list(labels.shape)} for logits {list(logits.shape)}: expected "
            "one integer class a row"
        )
    if shard is None:
        if shards > 1:
            raise ValueError(f"{shards} shards, but no row says of which it is")
        shard = jnp.zeros(labels.shape, jnp.int32)
    labels = labels.astype(jnp.int32)
    labelled = labels != IGNORED
    shard = jnp.where(labelled, shard, shards).astype(jnp.int32)
    # Not only weighted by zero: what is not a number in a padding row would stay so.
    return jnp.where(labelled[:, None], logits.astype(jnp.float32), 0.0), labels, shard
