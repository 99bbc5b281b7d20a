"""Weights that a run starts from: a checkpoint of an earlier stage, or a PyTorch file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flax import nnx

from uov_jax import convert

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
    checkpoint = convert.load_network(path)
    convert.require_agreement(checkpoint, convert.reference_voxels(voxel_size, cylindrical))
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
