"""Trained networks for evaluation, checked against what a recipe describes."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from uov_jax import convert
from uov_jax.tasks.evaluation import Evaluation
from uov_jax.training import state

# Of batches; older files lack it, and nothing in evaluation depends on it.
_COUNTER = ".num_batches_tracked"


class NetworkMismatchError(ValueError):
    """A checkpoint does not hold the network that the recipe describes."""


def load_trained(
    evaluation: Evaluation, path: str | Path
) -> tuple[state.Skeleton, state.TrainState]:
    """The network of a checkpoint, checked against the evaluation's.

    Raises:
      NetworkMismatchError: a tensor is missing or has another shape; names the first.
      CheckpointMismatchError: it was trained on other voxels.

    """
    checkpoint = convert.load_network(path)
    voxels = evaluation.voxels
    run = convert.reference_voxels(voxels.size, voxels.cylindrical)
    for setting in convert.require_agreement(checkpoint, run):
        print(f"{checkpoint.path} does not state {setting}: taken as the recipe's.", flush=True)
    model = nnx.eval_shape(lambda: evaluation.build_model(nnx.Rngs(0), None))
    try:
        report = convert.state_dict_to_model(model, checkpoint.state_dict)
    except ValueError as error:
        raise NetworkMismatchError(f"{checkpoint.path}: {error}") from error
    wrong = [str(entry) for entry in report.refused if entry.expected is not None]
    wrong += [f"{name}: missing" for name in report.missing if not name.endswith(_COUNTER)]
    if wrong:
        raise NetworkMismatchError(
            f"{checkpoint.path}: {len(wrong)} tensors do not fit the network of the recipe, the "
            f"first is {wrong[0]}"
        )
    for name, variable in convert.named_variables(model):
        if name in report.missing:
            variable.set_value(jnp.zeros((), jnp.int32))
    skeleton, parameters, statistics = state.split(model)
    return skeleton, state.TrainState(np.int32(0), parameters, statistics, None)
