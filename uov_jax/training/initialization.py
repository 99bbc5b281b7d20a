"""Weights that a run starts from: a checkpoint of an earlier stage, or a PyTorch file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from uov_jax import convert
from uov_jax.training.checkpoints import find_checkpoint, read_arrays, read_record

HEAD = "final."
# Counts batches, decides nothing: files may leave it out.
UNNEEDED = "num_batches_tracked"


class UnfitWeightsError(ValueError):
    """A checkpoint does not hold the network that is asked for; the message names the file."""


class MissingWeightsError(FileNotFoundError):
    """There is no checkpoint where one was asked for."""


@dataclasses.dataclass(frozen=True)
class LoadedWeights:
    """Where the weights came from and which tensors were taken.

    Attributes:
      path: the checkpoint's folder, or the file.
      report: names loaded, missing and refused.

    """

    path: Path
    report: convert.LoadReport

    def __str__(self) -> str:
        return f"Weights of {self.path}: {self.report}"


def load_weights(
    model: nnx.Module,
    path: str | Path,
    voxel_size: tuple[float, float, float],
    cylindrical: bool,
    variant: str,
) -> LoadedWeights:
    """Put every tensor of a checkpoint whose name and shape match into a network, in place.

    A last layer of another width is refused and reported, as in the reference; everything else must
    be there.

    Args:
      model: the network.
      path: a run directory or one checkpoint of it, or a file that `convert.load_state_dict_file`
        reads (.pt, .pth, .ckpt, .safetensors, .npz: SLidR, UOV and others).
      voxel_size: of the run; the checkpoint's must agree, where it states it.
      cylindrical: likewise.
      variant: name of the network, for the message.

    Raises:
      MissingWeightsError: there is nothing at that path.
      ValueError: not a checkpoint, one of another network, or of voxels of another kind.

    """
    path = Path(path)
    if not path.exists():
        raise MissingWeightsError(
            f"config.init.checkpoint = {path}: there is no such file or folder. Train that stage "
            "first, give another checkpoint (a run directory, or a .pt file of SLidR or UOV), or "
            "start from random weights with --config.init.checkpoint="
        )
    checkpoint = _read_run(path) if path.is_dir() else convert.load_state_dict_file(path)
    convert.require_agreement(checkpoint, reference_settings(voxel_size, cylindrical))
    try:
        report = convert.state_dict_to_model(model, checkpoint.state_dict)
    except ValueError as error:
        raise UnfitWeightsError(f"{checkpoint.path}: {error}") from error
    trunk = [name for name, _ in convert.named_variables(model) if not name.startswith(HEAD)]
    needed = {name for name in trunk if not name.endswith(UNNEEDED)}
    lacking = sorted(needed - set(report.loaded))
    if lacking:
        refused = {entry.name: entry for entry in report.refused}
        first = str(refused.get(lacking[0], f"{lacking[0]}: missing"))
        raise UnfitWeightsError(
            f"{checkpoint.path}: {len(lacking)} of {len(needed)} tensors of {variant} without its "
            f"last layer are not there in their shape, the first is {first}"
        )
    return LoadedWeights(checkpoint.path, report)


def reference_settings(voxel_size: tuple[float, float, float], cylindrical: bool) -> dict[str, Any]:
    """Voxel settings as SLidR's and UOV's configs state them.

    They give one length: that of the voxel's radius and height, its angle being one degree, or of
    its three sides.
    """
    length, second, third = voxel_size
    implied = 1.0 if cylindrical else length
    plain = third == length and second == implied
    return {
        "voxel_size": length if plain else list(voxel_size),
        "cylindrical_coordinates": cylindrical,
    }


def _read_run(path: Path) -> convert.Checkpoint:
    """Parameters and statistics of a run's checkpoint under their names in PyTorch."""
    folder = find_checkpoint(path)
    config = read_record(folder)["config"]
    arrays: Mapping[str, np.ndarray] = read_arrays(folder, ("parameters", "statistics"))
    tensors = {name.partition("/")[2]: array for name, array in arrays.items()}
    settings = None
    if "voxel_size" in config.get("data", {}):
        data = config["data"]
        settings = reference_settings(tuple(data["voxel_size"]), data["cylindrical"])
    return convert.Checkpoint(folder, tensors, settings)
