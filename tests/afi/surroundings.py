"""Random surroundings of centres."""

from __future__ import annotations

import numpy as np

from uov_jax.afi.encoder import Surroundings


def random_surroundings(rng: np.random.Generator, points: int, directions: int) -> Surroundings:
    """Half of the directions empty."""
    shape = points, directions
    used = rng.random(shape) < 0.5
    share = np.where(used, rng.random(shape), 0).astype(np.float32)
    offset = np.where(used[..., None], rng.normal(size=(*shape, 3)), 0).astype(np.float32)
    return Surroundings(share, offset)
