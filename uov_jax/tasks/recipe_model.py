"""From a recipe to its network."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.models import build_model


def recipe_precision(model: ConfigDict) -> str:
    """Of its products; older checkpoints have no such field."""
    return str(model.get("precision", "float32"))


def recipe_model(
    model: ConfigDict,
    in_channels: int,
    out_channels: int,
    rngs: nnx.Rngs,
    axis_name: str | None,
    *,
    normalize_features: bool = False,
) -> nnx.Module:
    """The sparse network that `config.model` describes.

    Args:
        model: `config.model`.
        in_channels: of a voxel.
        out_channels: of a voxel.
        rngs: of the first weights.
        axis_name: of the devices over which batch norms average; None for one.
        normalize_features: whether each row that comes out has length 1.

    """
    return build_model(
        model.variant,
        in_channels,
        out_channels,
        normalize_features=normalize_features,
        batch_norm_momentum=model.batch_norm_momentum,
        block_batch_norm_momentum=model.block_batch_norm_momentum,
        dtype=jnp.dtype(model.dtype),
        precision=recipe_precision(model),
        axis_name=axis_name,
        rngs=rngs,
    )
