"""Loading a network: from a run, one of its checkpoints, or a file of a PyTorch trainer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from uov_jax.checkpoints import state
from uov_jax.checkpoints.agreement import VoxelSettings, reference_voxels, require_agreement
from uov_jax.checkpoints.files import (
    CARD,
    StoredNetwork,
    load_state_dict_file,
    require_finite,
)
from uov_jax.checkpoints.folder import read_arrays, read_record
from uov_jax.checkpoints.run import find_checkpoint, say_if_unfinished
from uov_jax.checkpoints.state import TrainState
from uov_jax.checkpoints.state_dict import (
    LoadReport,
    arrays_to_state_dict,
    named_variables,
    state_dict_to_model,
)
from uov_jax.errors import InputError

HEAD = "final."
# Counts batches, decides nothing: files may leave it out.
COUNTER = ".num_batches_tracked"


class NetworkMismatchError(InputError):
    """A checkpoint does not hold the network that is asked for; names the file and a tensor."""


@dataclasses.dataclass(frozen=True)
class LoadedWeights:
    """Where weights came from and which tensors were taken.

    Attributes:
        path: the checkpoint's folder, or the file.
        report: names loaded, missing and refused.
        unstated: settings of the voxels that the checkpoint does not state.

    """

    path: Path
    report: LoadReport
    unstated: tuple[str, ...]

    def __str__(self) -> str:
        return f"Weights of {self.path}: {self.report}"


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode.

    Attributes:
        skeleton: what of it is not an array; networks of one recipe share it.
        state: its arrays.
        weights: where they came from.

    """

    skeleton: state.Skeleton
    state: TrainState
    weights: LoadedWeights

    def predict(self) -> Callable[[TrainState, Mapping[str, Any]], jax.Array]:
        """The output for state and inputs, arguments by name; a pure function."""
        return state.prediction(self.skeleton)


def read_network(path: str | os.PathLike[str]) -> StoredNetwork:
    """The tensors of a network, with the voxels it was trained on.

    Args:
        path: directory of a run (its last checkpoint is taken; that it was not finished is said on
          stderr), folder of one checkpoint, or a file that `load_state_dict_file` reads.

    Returns:
        Tensors by PyTorch's names, and a config with at least `voxel_size` and
        `cylindrical_coordinates` in the reference's form where they are known.

    Raises:
        MissingFileError: there is nothing.
        CheckpointError: a directory without a checkpoint, or one that cannot be read.
        InputError: the file is not a checkpoint.

    """
    path = Path(path)
    if not path.is_dir():
        return load_state_dict_file(path)
    folder = find_checkpoint(path)
    say_if_unfinished(path)
    record = read_record(folder)
    config = dict(record["config"])
    data = config.get("data", {})
    if "voxel_size" in data:
        config |= reference_voxels(data["voxel_size"], data["cylindrical"])
    tensors = arrays_to_state_dict(read_arrays(folder, ("parameters", "statistics")))
    require_finite(tensors, folder)
    return StoredNetwork(
        folder, tensors, config, card=record.get(CARD), identity=record["identity"]
    )


def load_weights(
    model: nnx.Module,
    path: str | os.PathLike[str] | StoredNetwork,
    voxels: VoxelSettings | None,
    *,
    other_head: bool = False,
) -> LoadedWeights:
    """Put the tensors of a checkpoint into a network, in place.

    Args:
        model: the network, also an abstract one (`nnx.eval_shape`).
        path: as for `read_network`, or what that gave.
        voxels: of the run; the checkpoint's must agree, where it states them. None for networks
            that see no voxels.
        other_head: a last layer that is missing or of another width is left as it is, and reported,
          as in the reference. Everything else must be there in its shape.

    Raises:
        MissingFileError, CheckpointError, InputError: as `read_network`.
        CheckpointMismatchError: it was trained on other voxels.
        NetworkMismatchError: a tensor is missing or has another shape; names the first.

    """
    stored = path if isinstance(path, StoredNetwork) else read_network(path)
    unstated = () if voxels is None else require_agreement(stored, voxels.as_reference())
    try:
        report = state_dict_to_model(model, stored.state_dict)
    except ValueError as error:
        raise NetworkMismatchError(f"{stored.path}: {error}") from error
    refused = {entry.name: entry for entry in report.refused if entry.expected is not None}
    lacking = [
        str(refused.get(name, f"{name}: missing"))
        for name in sorted({*refused, *report.missing})
        if not name.endswith(COUNTER) and not (other_head and name.startswith(HEAD))
    ]
    if lacking:
        kept = " without its last layer" if other_head else ""
        raise NetworkMismatchError(
            f"{stored.path}: {len(lacking)} tensors of the recipe's network{kept} are not there in "
            f"their shape, the first is {lacking[0]}"
        )
    return LoadedWeights(stored.path, report, unstated)


def load_network(
    build: Callable[[nnx.Rngs, str | None], nnx.Module],
    path: str | os.PathLike[str] | StoredNetwork,
    voxels: VoxelSettings | None,
) -> TrainedNetwork:
    """A trained network, whole.

    Args:
        build: makes the network, of random numbers and the name of the devices' axis.
        path: as for `load_weights`.
        voxels: as for `load_weights`.

    Raises:
        as `load_weights`.

    """
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0), None))
    weights = load_weights(model, path, voxels)
    for name, variable in named_variables(model):
        if name in weights.report.missing:
            variable.set_value(jnp.zeros((), jnp.int32))
    skeleton, parameters, statistics = state.split(model)
    arrays = TrainState(np.int32(0), parameters, statistics, None)
    return TrainedNetwork(skeleton, arrays, weights)
