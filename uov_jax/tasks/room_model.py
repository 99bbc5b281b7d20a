"""The network of rooms."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.models import build_model


def room_model(
    model: ConfigDict, embedding_size: int, rngs: nnx.Rngs, axis_name: str | None
) -> nnx.Module:
    """The network that `config.model` describes: colours in, an embedding of any length out."""
    return build_model(
        model.variant,
        3,
        embedding_size,
        batch_norm_momentum=model.batch_norm_momentum,
        block_batch_norm_momentum=model.block_batch_norm_momentum,
        dtype=jnp.dtype(model.dtype),
        axis_name=axis_name,
        rngs=rngs,
    )
