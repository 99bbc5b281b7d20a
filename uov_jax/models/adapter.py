"""The adapter of 3DSS-VLG's ESS stage: a linear bottleneck on a teacher's features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

# PyTorch's names of the adapter's tensors, in 3DSS-VLG's checkpoints.
FIRST = "fc.0.weight"


class Linear(nnx.Module):
    """A linear layer whose weight is stored as PyTorch does, f32[out, in]; with or without bias."""

    def __init__(self, in_size: int, out_size: int, *, bias: bool = True, rngs: nnx.Rngs) -> None:
        bound = 1 / math.sqrt(in_size)

        def uniform(shape: Sequence[int]) -> nnx.Param:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

        self.weight = uniform((out_size, in_size))
        self.bias = uniform((out_size,)) if bias else None

    def __call__(self, x: Array) -> Array:
        """Rows [N, in] -> f32[N, out]."""
        y = jnp.matmul(x, self.weight.get_value().T, precision="highest")
        return y if self.bias is None else y + self.bias.get_value()[None, :]


class FeatureAdapter(nnx.Module):
    """`(1 - share_kept) * (W2 W1 x + b2) + share_kept * x`, with no activation in between.

    Embeddings semantic specialisation (ESS) of 3DSS-VLG (arXiv 2407.09826): it moves the features
    of points towards the words of their pseudo labels, and stays in the space of text.

    Args:
        size: D, of the teacher's embeddings.
        reduction: the inner layer has D / reduction channels.
        share_kept: of the feature that comes in; the published code has 0.05.
        rngs: source of the first weights, PyTorch's (stream `params`).

    Raises:
        ValueError: the sizes are no sizes.

    """

    def __init__(
        self, size: int, *, reduction: int = 4, share_kept: float = 0.05, rngs: nnx.Rngs
    ) -> None:
        if reduction < 1 or size < reduction or not 0 <= share_kept <= 1:
            raise ValueError(
                f"an adapter needs 1 <= reduction <= size and a share of 0 to 1, found size {size},"
                f" reduction {reduction}, share {share_kept}"
            )
        self.share_kept = share_kept
        hidden = size // reduction
        self.fc = nnx.List(
            [Linear(size, hidden, bias=False, rngs=rngs), Linear(hidden, size, rngs=rngs)]
        )

    def __call__(self, features: Array) -> Array:
        """Features float16 or float32[N, D] -> specialised f32[N, D]."""
        x = features.astype(jnp.float32)
        inner, outer = self.fc
        return (1 - self.share_kept) * outer(inner(x)) + self.share_kept * x

    def logits(self, features: Array, text: Array) -> Array:
        """`self(features) @ text.T`, f32[N, W], for words f32[W, D].

        Everything is linear, so the words go through the layers in the place of the many features:
        one product with W columns instead of three with D and less.
        """
        inner, outer = self.fc
        assert outer.bias is not None
        there = jnp.matmul(text, outer.weight.get_value(), precision="highest")
        there = jnp.matmul(there, inner.weight.get_value(), precision="highest")
        weight = (1 - self.share_kept) * there + self.share_kept * text
        shift = (1 - self.share_kept) * jnp.matmul(
            text, outer.bias.get_value(), precision="highest"
        )
        x = features.astype(jnp.float32)
        return jnp.matmul(x, weight.T, precision="highest") + shift[None, :]
