"""Runs of random weights to label clouds with, as training leaves them before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from flax import nnx

from uov_jax.checkpoints import state
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.tasks.build import build_task


def write_run(directory: Path, config: Any, *, with_card: bool = True) -> Path:
    """A run of a recipe with the first weights; without a card as older programs wrote them."""
    task = build_task(config)
    _, parameters, statistics = state.split(task.build_model(nnx.Rngs(0), None))
    card = task.card()
    assert card is not None
    checkpoints = RunCheckpoints(
        directory,
        config.to_dict(),
        task.identity(),
        card=card.as_json() if with_card else None,
    )
    arrays = jax.device_get({"parameters": parameters, "statistics": statistics})
    checkpoints.save(3, arrays)
    checkpoints.close()
    return directory
