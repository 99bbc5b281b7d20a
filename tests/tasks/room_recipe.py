"""The recipe of tiny rooms, and a network that is cheap to compile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.config import load_config
from uov_jax.tasks.room_evaluation import RoomSplit

ROOT = Path(__file__).parents[2]
VOXELS = {"voxel_size": 0.1, "cylindrical_coordinates": False}


def room_config(folder: Path, cache: Path, **data: Any) -> ConfigDict:
    """The recipe for `rooms` and `features` in a folder."""
    sys.path.insert(0, str(ROOT))
    config = load_config(str(ROOT / "configs" / "esg_scannet.py"))
    sys.path.pop(0)
    config.model.variant = "minkunet14a"
    config.data.update(
        root=str(folder / "rooms"),
        features=str(folder / "features"),
        voxel_size=(0.1, 0.1, 0.1),
        voxels=(2560, 2560),
        workers=1,
        **data,
    )
    config.run.repeats = 2
    config.run.compilation_cache = str(cache)
    return config


class Pointwise(nnx.Module):
    """A network without neighbours, which compiles at once."""

    def __init__(self, rngs: nnx.Rngs, out_channels: int = 16) -> None:
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (3, out_channels)))

    def __call__(self, features: jax.Array, plan: Any) -> jax.Array:
        return jnp.sin(jnp.matmul(features, self.kernel[...], precision="highest"))


class PointwiseRooms(RoomSplit):
    """The evaluation of rooms with that network."""

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return Pointwise(rngs, self.words.text.shape[1])
