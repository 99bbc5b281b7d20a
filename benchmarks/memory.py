"""Memory of compiled programs, from the compiler's own account.

    python -m benchmarks.memory

prints what the loss of a training step takes at the size of the published recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax import losses


class ProgramBytes(NamedTuple):
    """What a program holds above its arguments, in bytes."""

    temporaries: int
    results: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.temporaries + self.results


def program_bytes(function: Callable[..., Any], *arguments: Any) -> ProgramBytes:
    """Bytes that a jitted function holds above its arguments.

    Args:
        function: is compiled, not run.
        arguments: arrays or `jax.ShapeDtypeStruct`s.

    """
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError(f"{jax.default_backend()} does not report the memory of a program")
    return ProgramBytes(int(analysis.temp_size_in_bytes), int(analysis.output_size_in_bytes))


def tri_modal_loss_bytes(
    sweeps: int = 4,
    cameras: int = 6,
    masks: int = 150,
    words: int = 175,
    embedding: int = 768,
    voxels_per_sweep: int = 20_000,
    pairs_per_sweep: int = 30_000,
) -> ProgramBytes:
    """Bytes of the tri-modal loss and its gradient above the network's output, of one shard.

    The sizes default to one device's batch of the published recipe. The gradient of the point
    features is the result, the features themselves are the network's.
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
        array(1, superpoints, dtype=np.int32),
        array(1, superpoints, embedding, dtype=jnp.float16),
        array(words, embedding),
        array(words, words),
    )


def main() -> None:
    """Print the loss's memory in MiB."""
    sweeps, cameras, masks = 4, 6, 150
    used = tri_modal_loss_bytes(sweeps, cameras, masks)
    temporaries, gradient, total = (
        count / 2**20 for count in (used.temporaries, used.results, used.total)
    )
    print(
        f"Tri-modal loss of {sweeps} sweeps x {cameras} cameras x {masks} masks on "
        f"{jax.default_backend()}: {total:.0f} MiB ({temporaries:.0f} temporaries, "
        f"{gradient:.0f} gradient of the point features)"
    )


if __name__ == "__main__":
    main()
