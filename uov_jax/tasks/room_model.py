"""The network of rooms."""

from __future__ import annotations

from flax import nnx
from ml_collections import ConfigDict

from uov_jax.tasks.recipe_model import recipe_model


def room_model(
    model: ConfigDict, embedding_size: int, rngs: nnx.Rngs, axis_name: str | None
) -> nnx.Module:
    """The network that `config.model` describes: colours in, an embedding of any length out."""
    return recipe_model(model, 3, embedding_size, rngs, axis_name)
