"""Which network of the MinkUNet family a state_dict is of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from flax import nnx

from uov_jax.checkpoints.state_dict import named_variables, strip_prefixes
from uov_jax.errors import InputError
from uov_jax.models import VARIANTS, MinkUNet


class NetworkShape(NamedTuple):
    """Which network of the family a state_dict is of.

    variant: key of `VARIANTS`. in_channels, out_channels: width of input and output. fitting: how
    many of the file's tensors it takes.
    """

    variant: str
    in_channels: int
    out_channels: int
    fitting: int


def find_shape(state_dict: Mapping[str, np.ndarray], variant: str | None = None) -> NetworkShape:
    """The network of the family that takes the most of these tensors (prefixes are taken off).

    Args:
        state_dict: tensors by PyTorch's names.
        variant: the only key of `VARIANTS` to be considered; None considers all.

    Raises:
        InputError: no network of the family has these tensors.

    """
    tensors = strip_prefixes(state_dict)
    for name in ("conv0p1s1.kernel", "final.kernel"):
        if name not in tensors or tensors[name].ndim < 2:
            found = ", ".join(sorted(tensors)[:3]) or "none"
            raise InputError(
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
