"""Maps that need no coordinates."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def identity_rows(rows: int, count: jax.Array) -> jax.Array:
    """int32 [1, N]: each of the first `count` rows sees itself, the others nothing."""
    row = jnp.arange(rows, dtype=jnp.int32)
    return jnp.where(row < count, row, -1)[None]
