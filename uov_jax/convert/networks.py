"""Networks by where they are kept: a run's directory, one of its checkpoints, or a file."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from uov_jax.convert.files import Checkpoint, load_state_dict_file
from uov_jax.convert.state_dict import arrays_to_state_dict, named_variables, strip_prefixes
from uov_jax.models import VARIANTS, MinkUNet
from uov_jax.training.checkpoints import find_checkpoint, read_arrays, read_record

_DEGREES = 1.0  # the reference's cylindrical voxels span one degree of azimuth, whatever their size


class NetworkShape(NamedTuple):
    """Which network of the family a state_dict is of.

    variant: key of `VARIANTS`. in_channels, out_channels: width of input and output. fitting: how
    many of the file's tensors it takes.
    """

    variant: str
    in_channels: int
    out_channels: int
    fitting: int


def load_network(path: str | os.PathLike[str]) -> Checkpoint:
    """The tensors of a network, with the voxels it was trained on.

    Args:
        path: directory of a run (its last checkpoint is taken), folder of one checkpoint, or a
            file that `load_state_dict_file` reads.

    Returns:
        Tensors by PyTorch's names, and a config with at least `voxel_size` and
        `cylindrical_coordinates` in the reference's form where they are known.

    Raises:
        FileNotFoundError: there is nothing.
        CheckpointError: a directory without a checkpoint, or one that cannot be read.
        ValueError: the file is not a checkpoint.

    """
    path = Path(path)
    if not path.is_dir():
        return load_state_dict_file(path)
    folder = find_checkpoint(path)
    config = dict(read_record(folder)["config"])
    data = config.get("data", {})
    if "voxel_size" in data:
        config |= reference_voxels(data["voxel_size"], data["cylindrical"])
    arrays = read_arrays(folder, ("parameters", "statistics"))
    return Checkpoint(folder, arrays_to_state_dict(arrays), config)


def reference_voxels(size: Sequence[float], cylindrical: bool) -> dict[str, Any]:
    """Voxels as the configs of SLidR and UOV state them, for `require_agreement`.

    Args:
        size: metres; for cylindrical voxels metres of radius, degrees of azimuth, metres of height.
        cylindrical: whether they are.

    Returns:
        `voxel_size`, one number in metres, and `cylindrical_coordinates`. Sizes that one number
        cannot express stay three, which agree with themselves alone.

    """
    first = float(size[0])
    expressible = np.allclose(size, voxel_sizes(first, cylindrical), rtol=1e-6, atol=0)
    return {
        "voxel_size": first if expressible else [float(side) for side in size],
        "cylindrical_coordinates": bool(cylindrical),
    }


def voxel_sizes(voxel_size: float, cylindrical: bool) -> tuple[float, float, float]:
    """The three sizes that `voxel_size` of a SLidR or UOV config stands for."""
    return (voxel_size, _DEGREES if cylindrical else voxel_size, voxel_size)


def find_shape(state_dict: Mapping[str, np.ndarray], variant: str | None = None) -> NetworkShape:
    """The network of the family that takes the most of these tensors (prefixes are taken off).

    Args:
        state_dict: tensors by PyTorch's names.
        variant: the only key of `VARIANTS` to be considered; None considers all.

    Raises:
        ValueError: no network of the family has these tensors.

    """
    tensors = strip_prefixes(state_dict)
    for name in ("conv0p1s1.kernel", "final.kernel"):
        if name not in tensors or tensors[name].ndim < 2:
            found = ", ".join(sorted(tensors)[:3]) or "none"
            raise ValueError(
                f"no tensor {name!r} with two axes or more, so this is no network of the MinkUNet "
                f"family; the first tensors are {found}"
            )
    in_channels = int(tensors["conv0p1s1.kernel"].shape[-2])
    out_channels = int(tensors["final.kernel"].shape[-1])

    def fitting(variant: str) -> int:
        shapes = _tensor_shapes(variant, in_channels, out_channels)
        return sum(shapes.get(name) == value.shape for name, value in tensors.items())

    candidates = VARIANTS if variant is None else (variant,)
    shapes = [NetworkShape(v, in_channels, out_channels, fitting(v)) for v in candidates]
    # Among equals the smallest: a larger one would lack tensors.
    return max(shapes, key=lambda shape: shape.fitting)


@functools.cache
def _tensor_shapes(variant: str, in_channels: int, out_channels: int) -> dict[str, tuple[int, ...]]:
    model = nnx.eval_shape(
        lambda: MinkUNet(in_channels, out_channels, variant=variant, rngs=nnx.Rngs(0))
    )
    return {name: variable.get_value().shape for name, variable in named_variables(model)}
