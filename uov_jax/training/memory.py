"""Memory of compiled programs, from the compiler's own account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import losses


def program_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that a jitted function holds above its arguments: temporaries and results.

    Args:
      function: is compiled, not run.
      arguments: arrays or `jax.ShapeDtypeStruct`s.

    """
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError(f"{jax.default_backend()} does not report the memory of a program")
    return int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def tri_modal_loss_bytes(
    sweeps: int = 4,
    cameras: int = 6,
    masks: int = 150,
    words: int = 175,
    embedding: int = 768,
    voxels_per_sweep: int = 20_000,
    pairs_per_sweep: int = 30_000,
) -> int:
    """Bytes of the tri-modal loss and its gradient above the network's output.

    The sizes default to one device's batch of the published recipe. The gradient of the point
    features is counted, the features themselves are the network's.
    """
    voxels, pairs = sweeps * voxels_per_sweep, sweeps * pairs_per_sweep
    superpoints = sweeps * cameras * masks

    def loss(features: jax.Array, *rest: jax.Array) -> jax.Array:
        return losses.tri_modal_loss(features, *rest)[0]

    def array(*shape: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    return program_bytes(
        jax.value_and_grad(loss),
        array(voxels, embedding),
        array(pairs, dtype=np.int32),
        array(pairs, dtype=np.int32),
        array(superpoints, dtype=np.int32),
        array(superpoints, embedding, dtype=jnp.float16),
        array(words, embedding),
        array(words, words),
    )
