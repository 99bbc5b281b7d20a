"""From a PyTorch checkpoint to a run's directory and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from uov_jax.checkpoints import state
from uov_jax.checkpoints.agreement import MUST_AGREE, voxel_sizes
from uov_jax.checkpoints.files import CARD, CONTAINERS, StoredNetwork, save_state_dict_file
from uov_jax.checkpoints.load import read_network
from uov_jax.checkpoints.run import RunCheckpoints, has_checkpoint
from uov_jax.checkpoints.shape import NetworkShape, build_network, find_shape
from uov_jax.checkpoints.state_dict import LoadReport, state_dict_to_model
from uov_jax.errors import InputError
from uov_jax.files import write_text
from uov_jax.models import adapter

REPORT = "import.txt"
ADAPTER_CONTAINER = "model_state_dict"


class Imported(NamedTuple):
    """What was imported: the network, which tensors were taken, and the checkpoint's folder."""

    shape: NetworkShape
    report: LoadReport
    folder: Path


def import_checkpoint(
    checkpoint: StoredNetwork, directory: str | os.PathLike[str], variant: str | None = None
) -> Imported:
    """Write a network as step 0 of a new run's directory, with the list of its tensors beside it.

    Args:
        checkpoint: of a file.
        directory: takes `checkpoints/0` and `import.txt`. What the file lacks has the first
            weights that seed 0 gives.
        variant: key of `uov_jax.models.VARIANTS`; None takes the one that most tensors fit.

    Raises:
        InputError: no network of the family has these tensors, the config's voxels make no sense,
            or the directory holds a checkpoint already.

    """
    directory = Path(directory)
    if has_checkpoint(directory):
        raise InputError(f"{directory}: a run is there already; name another directory")
    try:
        shape = find_shape(checkpoint.state_dict, variant)
    except ValueError as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    config = {"task": "imported", "source": checkpoint.path.name, "data": _voxels(checkpoint)}
    if network_container(checkpoint) == ADAPTER_CONTAINER:
        config |= _model(checkpoint)
    model, report = _filled_model(shape, checkpoint)
    _, parameters, statistics = state.split(model)
    checkpoints = RunCheckpoints(
        directory, config, {"source": checkpoint.path.name}, card=checkpoint.card
    )
    try:
        arrays = {"parameters": parameters, "statistics": statistics}
        checkpoints.save(0, arrays)
        checkpoints.wait()
    finally:
        checkpoints.close()
    lines = [f"{shape.variant} from {checkpoint.path}", str(report)]
    lines += [f"  loaded: {name}" for name in report.loaded]
    lines += [f"  left out of the file: {name}" for name in checkpoint.left_out]
    write_text(directory / REPORT, "\n".join(lines))
    return Imported(shape, report, checkpoints.path(0))


def export_checkpoint(run: str | os.PathLike[str], file: str | os.PathLike[str]) -> StoredNetwork:
    """Write the network of a run, or of one of its checkpoints, to a PyTorch checkpoint file.

    Its config holds `voxel_size` and `cylindrical_coordinates`, which the reference's loaders
    compare with theirs, `model_n_out`, and the card, so that the file alone labels clouds. The
    ending .pth.tar gives what the loaders of OpenScene and 3DSS-VLG read; the adapter of ESS goes
    into .pt and .pth as 3DSS-VLG writes it.

    Returns:
        What was written.

    Raises:
        FileNotFoundError, InputError: there is no checkpoint, or the file's ending is unknown.

    """
    network = read_network(run)
    config: dict[str, Any] = {
        key: (network.config or {})[key] for key in MUST_AGREE if key in (network.config or {})
    }
    container = network_container(network)
    if container == ADAPTER_CONTAINER and str(file).endswith(".pth.tar"):
        raise InputError(f"{file}: .pth.tar is for networks of voxels; name it .pth for an adapter")
    if container == ADAPTER_CONTAINER:
        config |= _model(network)
    else:
        config["model_n_out"] = int(network.state_dict["final.kernel"].shape[-1])
    if network.card is not None:
        config[CARD] = network.card
    save_state_dict_file(file, network.state_dict, config, container)
    return StoredNetwork(network.path, network.state_dict, config, card=network.card)


def network_container(network: StoredNetwork) -> str:
    """The key under which .pt and .pth files have the tensors of such a network."""
    return ADAPTER_CONTAINER if adapter.FIRST in network.state_dict else CONTAINERS[0]


def _model(adapter_network: StoredNetwork) -> dict[str, Any]:
    """The settings of an adapter as a recipe's `model` section says them, where they are known."""
    model = (adapter_network.config or {}).get("model")
    return {"model": dict(model)} if isinstance(model, Mapping) else {}


def _filled_model(shape: NetworkShape, checkpoint: StoredNetwork) -> tuple[nnx.Module, LoadReport]:
    def build() -> nnx.Module:
        return build_network(shape, checkpoint.state_dict)

    model = nnx.eval_shape(build)
    report = state_dict_to_model(model, checkpoint.state_dict)
    if report.missing or any(entry.expected is not None for entry in report.refused):
        # Only then are first weights drawn, which takes some seconds.
        model = build()
        state_dict_to_model(model, checkpoint.state_dict)
    return model, report


def _voxels(checkpoint: StoredNetwork) -> dict[str, Any]:
    """The file's voxels as a recipe's `data` section says them; nothing where it is silent."""
    config = checkpoint.config or {}
    if not all(key in config for key in MUST_AGREE):
        return {}
    size, cylindrical = (config[key] for key in MUST_AGREE)
    sides = np.ravel(np.asarray(size, np.float64)).tolist()
    if len(sides) not in (1, 3):
        raise InputError(f"{checkpoint.path}: its voxel_size is {size!r}, expected 1 or 3 numbers")
    return {
        "voxel_size": sides if len(sides) == 3 else voxel_sizes(sides[0], bool(cylindrical)),
        "cylindrical": bool(cylindrical),
    }
