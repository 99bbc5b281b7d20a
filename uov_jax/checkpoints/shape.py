"""Which network a state_dict is of: one of the MinkUNet family, or the adapter of ESS."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from flax import nnx

from uov_jax.checkpoints.state_dict import named_variables, strip_prefixes
from uov_jax.errors import InputError
from uov_jax.models import VARIANTS, MinkUNet, adapter, build_model

ADAPTER = "adapter"


class NetworkShape(NamedTuple):
    """Which network a state_dict is of.

    variant: key of `VARIANTS`, or `ADAPTER`. in_channels, out_channels: width of input and output.
    fitting: how many of the file's tensors it takes.
    """

    variant: str
    in_channels: int
    out_channels: int
    fitting: int


def find_shape(state_dict: Mapping[str, np.ndarray], variant: str | None = None) -> NetworkShape:
    """The network that takes the most of these tensors (prefixes are taken off).

    Args:
        state_dict: tensors by PyTorch's names.
        variant: the only key of `VARIANTS` to be considered; None considers all, and the adapter.

    Raises:
        InputError: no network has these tensors.

    """
    tensors = strip_prefixes(state_dict)
    if variant is None and adapter.FIRST in tensors:
        return _adapter_shape(tensors)
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


def build_network(shape: NetworkShape, state_dict: Mapping[str, np.ndarray]) -> nnx.Module:
    """The network of a shape, with the first weights that seed 0 gives.

    Args:
        shape: `find_shape` of the tensors.
        state_dict: says how wide the inner layer of an adapter is.

    """
    if shape.variant != ADAPTER:
        return build_model(shape.variant, shape.in_channels, shape.out_channels, rngs=nnx.Rngs(0))
    hidden = len(strip_prefixes(state_dict)[adapter.FIRST])
    reduction = shape.in_channels // hidden
    return adapter.FeatureAdapter(shape.in_channels, reduction=reduction, rngs=nnx.Rngs(0))


def _adapter_shape(tensors: Mapping[str, np.ndarray]) -> NetworkShape:
    first = tensors[adapter.FIRST]
    hidden, size = first.shape if first.ndim == 2 else (0, 0)
    if not 0 < hidden <= size or size // (size // hidden) != hidden:
        raise InputError(
            f"the tensor {adapter.FIRST!r} has the shape {first.shape}, that of an adapter of "
            "embeddings is (D / reduction, D)"
        )
    shapes = {adapter.FIRST: (hidden, size), "fc.1.weight": (size, hidden), "fc.1.bias": (size,)}
    fitting = sum(shapes.get(name) == value.shape for name, value in tensors.items())
    return NetworkShape(ADAPTER, size, size, fitting)


@functools.cache
def _tensor_shapes(variant: str, in_channels: int, out_channels: int) -> dict[str, tuple[int, ...]]:
    model = nnx.eval_shape(
        lambda: MinkUNet(in_channels, out_channels, variant=variant, rngs=nnx.Rngs(0))
    )
    return {name: variable.get_value().shape for name, variable in named_variables(model)}
