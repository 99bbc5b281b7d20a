"""The MinkUNet family and its sibling Res16UNet34C, the networks of UOV, SLidR and OpenScene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from uov_jax.models.batch_norm import MaskedBatchNorm, compute_dtype
from uov_jax.models.layers import (
    BasicBlock,
    Initialization,
    PointwiseConvolution,
    SparseConvolution,
    convolve_and_normalize,
)
from uov_jax.sparse import DeferredPlan, NeighbourMap, Plan, unit_rows, use_precision

STEM_CHANNELS = 32
STAGES = 4


@dataclass(frozen=True)
class Variant:
    """What tells one network of the family from another.

    `blocks` and `planes` are those of stages 1..8: four that halve the resolution, four that double
    it. Names, depths and widths: MinkowskiEngine `examples/minkunet.py`, SLidR
    `model/res16unet.py`. OpenScene's MinkUNets have no bias in the last layer.
    """

    blocks: tuple[int, ...]
    planes: tuple[int, ...]
    first_kernel: int = 5
    final_bias: bool = False
    batch_norm_momentum: float = 0.1
    initialization: Initialization = "kaiming"


_BLOCKS_14 = (1, 1, 1, 1, 1, 1, 1, 1)
_BLOCKS_18 = (2, 2, 2, 2, 2, 2, 2, 2)
_BLOCKS_34 = (2, 3, 4, 6, 2, 2, 2, 2)

VARIANTS: dict[str, Variant] = {
    "minkunet14a": Variant(_BLOCKS_14, (32, 64, 128, 256, 128, 128, 96, 96)),
    "minkunet14b": Variant(_BLOCKS_14, (32, 64, 128, 256, 128, 128, 128, 128)),
    "minkunet14c": Variant(_BLOCKS_14, (32, 64, 128, 256, 192, 192, 128, 128)),
    "minkunet14d": Variant(_BLOCKS_14, (32, 64, 128, 256, 384, 384, 384, 384)),
    "minkunet18a": Variant(_BLOCKS_18, (32, 64, 128, 256, 128, 128, 96, 96)),
    "minkunet18b": Variant(_BLOCKS_18, (32, 64, 128, 256, 128, 128, 128, 128)),
    "minkunet18d": Variant(_BLOCKS_18, (32, 64, 128, 256, 384, 384, 384, 384)),
    "minkunet34a": Variant(_BLOCKS_34, (32, 64, 128, 256, 256, 128, 64, 64)),
    "minkunet34b": Variant(_BLOCKS_34, (32, 64, 128, 256, 256, 128, 64, 32)),
    "minkunet34c": Variant(_BLOCKS_34, (32, 64, 128, 256, 256, 128, 96, 96)),
    "res16unet34c": Variant(
        _BLOCKS_34,
        (32, 64, 128, 256, 256, 128, 96, 96),
        first_kernel=3,
        final_bias=True,
        batch_norm_momentum=0.05,
        initialization="uniform",
    ),
}


class MinkUNet(nnx.Module):
    """Sparse UNet over five tensor strides, 1 to 16.

    Attributes carry the names of the reference's state_dict: `conv0p1s1`, `bn0`, then per stage
    `conv1p1s2`, `bn1`, `block1` ... `conv4p8s2`, `bn4`, `block4`, `convtr4p16s2`, `bntr4`, `block5`
    ... `convtr7p2s2`, `bntr7`, `block8`, and `final`.

    Args:
        in_channels: width of the input features (1: LiDAR intensity; 3: colours).
        out_channels: width of the output (classes, or the teacher's embedding size).
        variant: a key of `VARIANTS`.
        normalize_features: divide every output row by its L2 norm, as in pre-training.
        batch_norm_momentum: PyTorch's momentum; None takes the variant's own.
        block_batch_norm_momentum: momentum of the norms on the residual branches. None: the same.
            The published SLidR and UOV runs had 0.1 here whatever was configured, because the
            `_make_layer` of their common `model/resnet.py` does not hand the setting on to blocks.
        first_kernel: 3 or 5, size of the first convolution; None takes the variant's own.
        final_bias: whether the last layer has a bias; None takes the variant's own.
        dtype: float32, or bfloat16 for the activations and products; parameters, accumulation,
            statistics and the output stay float32.
        precision: what products of float32 rows may round their factors to, where something
            multiplies those faster: "float32", "tf32" or "bfloat16".
        axis_name: name of the mapped device axis over which batch statistics are pooled.
        rngs: source of the first weights (stream `params`).

    Raises:
        ValueError: unknown variant, or a size of the first convolution other than 3 or 5.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        variant: str = "res16unet34c",
        normalize_features: bool = False,
        batch_norm_momentum: float | None = None,
        block_batch_norm_momentum: float | None = None,
        first_kernel: int | None = None,
        final_bias: bool | None = None,
        dtype: DTypeLike = jnp.float32,
        precision: str = "float32",
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        shape = _variant(variant)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.variant = variant
        self.normalize_features = normalize_features
        self.dtype = compute_dtype(dtype)
        self.precision = precision
        self.first_kernel = shape.first_kernel if first_kernel is None else first_kernel
        if self.first_kernel not in (3, 5):
            raise ValueError(f"first_kernel must be 3 or 5, found {self.first_kernel}")
        momentum = shape.batch_norm_momentum if batch_norm_momentum is None else batch_norm_momentum
        block_momentum = (
            momentum if block_batch_norm_momentum is None else block_batch_norm_momentum
        )
        weights: partial[dict[str, Any]] = partial(
            dict, initialization=shape.initialization, dtype=dtype, rngs=rngs
        )
        norm = partial(MaskedBatchNorm, momentum=momentum, axis_name=axis_name)

        def blocks(stage: int, channels: int) -> nnx.List:
            planes = shape.planes[stage - 1]
            widths = (channels,) + (planes,) * (shape.blocks[stage - 1] - 1)
            block = partial(
                BasicBlock,
                out_channels=planes,
                momentum=block_momentum,
                shortcut_momentum=momentum,
                axis_name=axis_name,
                **weights(),
            )
            return nnx.List([block(in_channels=width) for width in widths])

        self.conv0p1s1 = SparseConvolution(
            in_channels, STEM_CHANNELS, self.first_kernel, **weights()
        )
        self.bn0 = norm(STEM_CHANNELS)
        channels = STEM_CHANNELS
        skips = [channels]
        for stage in range(1, STAGES + 1):
            setattr(self, _down_name(stage), SparseConvolution(channels, channels, 2, **weights()))
            setattr(self, f"bn{stage}", norm(channels))
            setattr(self, f"block{stage}", blocks(stage, channels))
            channels = shape.planes[stage - 1]
            skips.append(channels)
        skips.pop()
        for stage in range(STAGES, 2 * STAGES):
            planes = shape.planes[stage]
            up = SparseConvolution(channels, planes, 2, transposed=True, **weights())
            setattr(self, _up_name(stage), up)
            setattr(self, f"bntr{stage}", norm(planes))
            setattr(self, f"block{stage + 1}", blocks(stage + 1, planes + skips.pop()))
            channels = planes
        bias = shape.final_bias if final_bias is None else final_bias
        self.final = PointwiseConvolution(channels, out_channels, bias=bias, **weights())

    def __call__(self, features: Array, plan: Plan | DeferredPlan) -> Array:
        """Features [N0, C_in] on level 0 of the plan -> f32[N0, C_out], padding rows zero.

        Raises:
            ValueError: the features or the plan do not fit this network.

        """
        with use_precision(self.precision):
            return self._apply(features, plan)

    def _apply(self, features: Array, given: Plan | DeferredPlan) -> Array:
        plan = given.scheduled()
        first = self._first_map(features, plan)
        x = convolve_and_normalize(
            self.conv0p1s1, self.bn0, features, first, plan.counts[0], relu=True
        )
        skips = [x]
        for stage in range(1, STAGES + 1):
            down = getattr(self, _down_name(stage)), getattr(self, f"bn{stage}")
            x = convolve_and_normalize(
                *down, x, plan.down[stage - 1], plan.counts[stage], relu=True
            )
            x = self._blocks(x, plan, stage, level=stage)
            skips.append(x)
        skips.pop()
        for stage in range(STAGES, 2 * STAGES):
            level = 2 * STAGES - 1 - stage
            up = getattr(self, _up_name(stage)), getattr(self, f"bntr{stage}")
            neighbours = plan.down[level].swapped()
            x = convolve_and_normalize(*up, x, neighbours, plan.counts[level], relu=True)
            x = jnp.concatenate([x, skips.pop()], axis=1)
            x = self._blocks(x, plan, stage + 1, level=level)
        return self._head(x, plan.counts[0])

    def _blocks(self, x: Array, plan: Plan, stage: int, *, level: int) -> Array:
        for block in getattr(self, f"block{stage}"):
            x = block(x, plan.same[level], plan.counts[level])
        return x

    def _head(self, x: Array, count: Array) -> Array:
        y = self.final(x, count, out_dtype=jnp.float32)
        return unit_rows(y, count) if self.normalize_features else y

    def _first_map(self, features: Array, plan: Plan) -> NeighbourMap:
        expected = (plan.coords[0].shape[0], self.in_channels)
        if features.shape != expected:
            raise ValueError(
                f"features have shape {features.shape}, expected {expected}: the capacity of the "
                f"plan's level 0 and the in_channels of {self.variant}"
            )
        if len(plan.same) != STAGES + 1:
            raise ValueError(
                f"the plan has {len(plan.same)} levels, {self.variant} needs {STAGES + 1}"
            )
        if self.first_kernel == 3:
            return plan.same[0]
        if plan.first is None:
            raise ValueError(
                f"{self.variant} starts with a convolution of size 5, but the plan has no such "
                "map: build it with PlanSpec(first_kernel=5)"
            )
        return plan.first


def build_model(
    variant: str, in_channels: int, out_channels: int, *, rngs: nnx.Rngs, **settings: object
) -> MinkUNet:
    """The network named by a key of `VARIANTS`; `settings` as for `MinkUNet`.

    The first weights are drawn by one compiled program, not by one for every shape, so that JAX's
    persistent compilation cache keeps it (it leaves out programs that compile within a second).
    """

    @nnx.jit
    def build(rngs: nnx.Rngs) -> MinkUNet:
        return MinkUNet(in_channels, out_channels, variant=variant, rngs=rngs, **settings)  # type: ignore[arg-type]

    return build(rngs)


res16unet34c = partial(build_model, "res16unet34c")
minkunet14a = partial(build_model, "minkunet14a")
minkunet14b = partial(build_model, "minkunet14b")
minkunet14c = partial(build_model, "minkunet14c")
minkunet14d = partial(build_model, "minkunet14d")
minkunet18a = partial(build_model, "minkunet18a")
minkunet18b = partial(build_model, "minkunet18b")
minkunet18d = partial(build_model, "minkunet18d")
minkunet34a = partial(build_model, "minkunet34a")
minkunet34b = partial(build_model, "minkunet34b")
minkunet34c = partial(build_model, "minkunet34c")


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise ValueError(f"unknown network variant {name!r}, expected one of {sorted(VARIANTS)}")
    return VARIANTS[name]


def _down_name(stage: int) -> str:
    """`conv1p1s2` ... `conv4p8s2`: stage, tensor stride of the input, stride."""
    return f"conv{stage}p{2 ** (stage - 1)}s2"


def _up_name(stage: int) -> str:
    """`convtr4p16s2` ... `convtr7p2s2`."""
    return f"convtr{stage}p{2 ** (2 * STAGES - stage)}s2"
