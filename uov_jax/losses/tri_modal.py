"""The tri-modal contrastive loss of pre-training, as pure functions of one device's arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import sparse
from uov_jax.losses.devices import gather_rows

# Rows of the similarity matrix that exist at once: 1,024 x 3,600 float32 are 15 MB.
ROW_BLOCK = 1024
# Far below every cosine / temperature, far above the smallest float32: exp() of it is exactly 0.
MASKED_LOGIT = -1e9


def soft_text_targets(
    text_embeddings: np.ndarray, word_group: np.ndarray, own_word_share: float = 0.2
) -> np.ndarray:
    """Target distribution over the words for a superpoint named by each word.

    `own_word_share * onehot(w) + (1 - own_word_share) * cos(T[w], T) * same_group(w)`, rows
    divided by their sum: a superpoint called `car` may also resemble `van` (UOV, text contrast).

    Args:
        text_embeddings: float [W, D], any length of row but zero.
        word_group: int [W], group of every word.
        own_word_share: the weight of the word itself, 0..1.

    Returns:
        float32 [W, W]; row w is the target of word w and sums to 1.

    Raises:
        ValueError: the two arrays disagree, a text embedding is zero, or a row sums to nothing.

    """
    text = np.asarray(text_embeddings, np.float64)
    group = np.asarray(word_group)
    if text.ndim != 2 or group.shape != text.shape[:1]:
        raise ValueError(
            f"text embeddings {text.shape} and word groups {group.shape}: "
            "expected [words, size] and [words]"
        )
    length = np.linalg.norm(text, axis=1)
    if not np.all(length > 0):
        raise ValueError(f"the text embedding of word {int(np.argmin(length))} is zero")
    text = text / length[:, None]
    same_group = group[:, None] == group[None, :]
    target = own_word_share * np.eye(len(group))
    target += (1.0 - own_word_share) * (text @ text.T) * same_group
    total = target.sum(axis=1)
    if np.any(total == 0):
        raise ValueError(f"the soft target of word {int(np.argmin(np.abs(total)))} sums to 0")
    return (target / total[:, None]).astype(np.float32)


def superpoint_means(
    point_features: jax.Array,
    pair_voxel: jax.Array,
    pair_superpoint: jax.Array,
    num_superpoints: int,
) -> tuple[jax.Array, jax.Array]:
    """Mean feature of the pairs of every superpoint.

    Args:
        point_features: float [N, D].
        pair_voxel: int32 [P], row of `point_features`, -1 = padding.
        pair_superpoint: int32 [P], superpoint of the pair, -1 = padding.
        num_superpoints: S.

    Returns:
        float32 [S, D] sums divided by (count + 1e-6), as the reference does; float32 [S] counts.

    """
    features = point_features.astype(jnp.float32)
    total = sparse.gather_scatter_rows(features, pair_voxel, pair_superpoint, num_superpoints)
    paired = (pair_voxel >= 0) & (pair_superpoint >= 0)
    slot = jnp.where(paired, pair_superpoint, num_superpoints)
    count = jnp.zeros(num_superpoints, jnp.float32).at[slot].add(1.0, mode="drop")
    return total / (count + 1e-6)[:, None], count


def mean_cross_entropy_rows(
    queries: jax.Array,
    keys: jax.Array,
    target: jax.Array,
    row_valid: jax.Array,
    key_valid: jax.Array,
    temperature: float,
    targets_by_class: jax.Array | None = None,
    most_rows: int | None = None,
) -> jax.Array:
    """Cross-entropy of `queries @ keys.T / temperature`, averaged over the valid rows.

    Blocks of rows are recomputed in the backward pass, so that of the [S, T] similarities only
    `most_rows` rows exist at once.

    Args:
        queries: float32 [S, D].
        keys: float32 [T, D].
        target: int32 [S], key (or row of `targets_by_class`) of each query; any value where
          the row is not valid.
        row_valid: bool [S]; other rows take no part.
        key_valid: bool [T]; other keys take no part in the softmax.
        temperature: divides the similarities.
        targets_by_class: float32 [C, T], soft targets whose rows sum to 1; None: one-hot.
        most_rows: of a block; None: `ROW_BLOCK`.

    Returns:
        float32 scalar; 0, with gradient 0, if no row is valid.

    """
    rows = queries.shape[0]
    if rows == 0:
        return jnp.zeros((), jnp.float32)
    blocks = -(-rows // (most_rows or ROW_BLOCK))
    height = -(-rows // blocks)
    padding = blocks * height - rows
    target = jnp.where(row_valid, target, 0)

    def block_sum(block: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        query, index, valid = block
        logits = jnp.matmul(query, keys.T, precision="highest") / temperature
        logits = jnp.where(key_valid[None, :], logits, MASKED_LOGIT)
        normalizer = jax.nn.logsumexp(logits, axis=1)
        if targets_by_class is None:
            wanted = jnp.take_along_axis(logits, index[:, None], axis=1)[:, 0]
        else:
            wanted = jnp.sum(targets_by_class[index] * logits, axis=1)
        return jnp.sum(jnp.where(valid, normalizer - wanted, 0.0))

    def split(rows_: jax.Array) -> jax.Array:
        padded = jnp.pad(rows_, [(0, padding)] + [(0, 0)] * (rows_.ndim - 1))
        return padded.reshape(blocks, height, *rows_.shape[1:])

    sums = jax.lax.map(jax.checkpoint(block_sum), (split(queries), split(target), split(row_valid)))
    count = jnp.sum(row_valid.astype(jnp.float32))
    return jnp.sum(sums) / jnp.maximum(count, 1.0)


def mean_over_shards(term: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Mean of a term over the first axis of arrays, all shards at once."""
    # A batch of one compiles to a program that computes more of it twice.
    if len(arrays[0]) == 1:
        return term(*(array[0] for array in arrays))
    return jnp.mean(jax.vmap(term)(*arrays))


def tri_modal_loss(
    point_features: jax.Array,
    pair_voxel: jax.Array,
    pair_superpoint: jax.Array,
    superpoint_word: jax.Array,
    superpoint_embedding: jax.Array,
    text_embeddings: jax.Array | None = None,
    text_targets: jax.Array | None = None,
    *,
    temperature: float = 0.07,
    image_weight: float = 0.5,
    text_weight: float = 0.5,
    axis_name: str | None = None,
    devices_of_a_shard: int = 1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of tri-modal pre-training for the shards of one device (UOV-TMP).

    A superpoint is the set of (point, camera) pairs under one mask of one image. Its mean
    feature is pulled to the embedding of its mask against all other masks of its shard
    (InfoNCE), and to the words like its own against all words (soft cross-entropy).
    Superpoints without a pair take no part; those with word -1 take no part in the text term.
    The loss is the mean over the shards.

    The reference numbers masks `image * 150 + id`, so that an id of 150 or more spills over into
    the next image and the masks of two images share a mean. That is left out on purpose: here
    every mask of every image has its own number, and no image has a largest number of masks. Where
    all ids are below 150 both are the same.

    Args:
        point_features: float [N, D], rows of length 1.
        pair_voxel: int32 [P], row of `point_features`, -1 = padding.
        pair_superpoint: int32 [P], shard * S + superpoint, -1 = padding.
        superpoint_word: int32 [shards, S], -1 = no word.
        superpoint_embedding: float [shards, S, D], any length of row; a zero row stays zero.
        text_embeddings: float [W, D], or None: no text term.
        text_targets: float32 [W, W] of `soft_text_targets`; goes with `text_embeddings`.
        temperature: of both softmaxes.
        image_weight: weight of the image term.
        text_weight: weight of the text term.
        axis_name: of the devices; None for one alone.
        devices_of_a_shard: how many devices next to each other hold a shard together, each a part
          of its superpoints: means, words and embeddings are gathered, see `gather_rows`.

    Returns:
        The scalar loss (an empty shard counts as 0, with gradient 0), and the float32 scalars
        `image_loss`, `superpoints` (those of a shard that took part) and, with text, `text_loss`,
        which are means over the shards too.

    Raises:
        ValueError: sizes disagree, or one of the two text arrays is missing.

    """
    _check_sizes(point_features, superpoint_word, superpoint_embedding, text_embeddings)
    if (text_embeddings is None) != (text_targets is None):
        raise ValueError("text_embeddings and text_targets go together; one of them is missing")
    shards, slots = superpoint_word.shape
    means, count = superpoint_means(point_features, pair_voxel, pair_superpoint, shards * slots)
    means, count, superpoint_word, superpoint_embedding = gather_rows(
        (
            means.reshape(shards, slots, -1),
            count.reshape(shards, slots),
            superpoint_word,
            superpoint_embedding,
        ),
        axis_name,
        devices_of_a_shard,
        axis=1,
    )
    present = count > 0
    most_rows = max(1, ROW_BLOCK // shards)

    def image_term(means: jax.Array, embedding: jax.Array, present: jax.Array) -> jax.Array:
        own = jnp.arange(len(present), dtype=jnp.int32)
        keys = _unit_rows(embedding)
        return mean_cross_entropy_rows(
            means, keys, own, present, present, temperature, most_rows=most_rows
        )

    image_loss = mean_over_shards(image_term, means, superpoint_embedding, present)
    loss = image_weight * image_loss
    taking_part = jnp.mean(jnp.sum(present.astype(jnp.float32), axis=1))
    metrics = {"image_loss": image_loss, "superpoints": taking_part}
    if text_embeddings is not None:
        words, targets = _unit_rows(text_embeddings), jnp.asarray(text_targets)

        def text_term(means: jax.Array, word: jax.Array, present: jax.Array) -> jax.Array:
            named, known = present & (word >= 0), jnp.ones(len(words), bool)
            return mean_cross_entropy_rows(
                means, words, word, named, known, temperature, targets, most_rows
            )

        text_loss = mean_over_shards(text_term, means, superpoint_word, present)
        loss = loss + text_weight * text_loss
        metrics["text_loss"] = text_loss
    return loss, metrics


def _unit_rows(rows: jax.Array) -> jax.Array:
    """float32 [N, D] with rows of length 1; zero rows stay zero."""
    rows = rows.astype(jnp.float32)
    square = jnp.sum(rows * rows, axis=1, keepdims=True)
    return rows * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))


def _check_sizes(
    point_features: jax.Array,
    superpoint_word: jax.Array,
    superpoint_embedding: jax.Array,
    text_embeddings: jax.Array | None,
) -> None:
    size = point_features.shape[1]
    if superpoint_embedding.ndim != 3 or superpoint_word.shape != superpoint_embedding.shape[:2]:
        raise ValueError(
            f"words {list(superpoint_word.shape)} for embeddings "
            f"{list(superpoint_embedding.shape)}: expected [shards, S] and [shards, S, D]"
        )
    if superpoint_embedding.shape[2] != size:
        raise ValueError(
            f"mask embeddings have {superpoint_embedding.shape[2]} values, point features {size}: "
            "the network's outputs must be as many as the teacher's embedding"
        )
    if text_embeddings is not None and text_embeddings.shape[1] != size:
        raise ValueError(
            f"text embeddings have {text_embeddings.shape[1]} values, point features {size}"
        )
