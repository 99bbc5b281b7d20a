"""Layers on rows of features: sparse and pointwise convolution, the residual block."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from uov_jax.models.batch_norm import MaskedBatchNorm, compute_dtype
from uov_jax.sparse import (
    NeighbourMap,
    gather_gemm_affine,
    gather_gemm_moments,
    identity_map,
    multiply_rows,
    rounded_weights,
)

Initialization = Literal["uniform", "kaiming"]


def initial_kernel(
    key: Array, shape: tuple[int, ...], initialization: Initialization, transposed: bool = False
) -> Array:
    """First weights of a convolution, f32 of `shape` [K, C_in, C_out] or [C_in, C_out].

    "uniform": within +-1/sqrt(K * C_in), C_out in place of C_in for a transposed convolution;
    MinkowskiEngine's own `reset_parameters`, and what Res16UNet trains from. "kaiming": normal with
    variance 2 / (K * C_out); `weight_initialization` of MinkowskiEngine's example networks. That
    leaves transposed convolutions uniform, and reads a pointwise kernel [C_in, C_out] as a PyTorch
    linear layer's [C_out, C_in], so that its variance is 2 / C_in; both are kept.
    """
    volume = math.prod(shape[:-2])
    if initialization == "kaiming" and not transposed:
        fan_out = volume * shape[-1] if len(shape) == 3 else shape[0]
        return jax.random.normal(key, shape, jnp.float32) * math.sqrt(2.0 / fan_out)
    bound = 1.0 / math.sqrt(volume * (shape[-1] if transposed else shape[-2]))
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


class SparseConvolution(nnx.Module):
    """Convolution along a neighbour map, kernel f32[K, C_in, C_out], no bias.

    `convolve_and_normalize` applies it, since a norm follows every one of them.

    Any size, stride or dilation is the same operation with another map; a transposed convolution
    is given the swapped map of the strided one (MinkowskiEngine, arXiv 1904.08755, eq. 3).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        transposed: bool = False,
        initialization: Initialization = "uniform",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (kernel_size**3, in_channels, out_channels)
        self.kernel = nnx.Param(initial_kernel(rngs.params(), shape, initialization, transposed))
        self.dtype = compute_dtype(dtype)


class PointwiseConvolution(nnx.Module):
    """Convolution of size 1: kernel f32[C_in, C_out], optional bias f32[1, C_out]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = False,
        initialization: Initialization = "uniform",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (in_channels, out_channels)
        self.kernel = nnx.Param(initial_kernel(rngs.params(), shape, initialization))
        bound = 1.0 / math.sqrt(in_channels)
        self.bias = (
            nnx.Param(
                jax.random.uniform(rngs.params(), (1, out_channels), jnp.float32, -bound, bound)
            )
            if bias
            else None
        )
        self.dtype = compute_dtype(dtype)

    def __call__(self, x: Array, count: Array, *, out_dtype: DTypeLike | None = None) -> Array:
        """Rows [N, C_in] -> [N, C_out] of `out_dtype` or compute dtype, zero past `count`.

        The factors have the compute dtype, their sums are float32.
        """
        result = self.dtype if out_dtype is None else compute_dtype(out_dtype)
        # Products of bfloat16 numbers are exact in float32: this rounds the factors, and the
        # result once, if it is asked for in bfloat16.
        product = result if self.bias is None else jnp.dtype(jnp.float32)
        product = max(self.dtype, product, key=lambda dtype: dtype.itemsize)
        # float32 weights: their gradient is not rounded.
        kernel = rounded_weights(self.kernel.get_value(), self.dtype)
        y = multiply_rows(x.astype(self.dtype).astype(product), kernel, count)
        if self.bias is not None:
            valid = jnp.arange(y.shape[0], dtype=jnp.int32) < count
            bias = jnp.where(valid[:, None], self.bias.get_value(), 0.0)
            y = y + bias
        return y.astype(result)


def convolve_and_normalize(
    convolution: SparseConvolution | PointwiseConvolution,
    norm: MaskedBatchNorm,
    x: Array,
    neighbours: NeighbourMap | None,
    count: Array,
    *,
    relu: bool = False,
    shortcut: Array | None = None,
) -> Array:
    """`norm(convolution(x))` [N_out, C_out]: one op in evaluation, in training one and a half.

    `neighbours` is None for a pointwise convolution, which must have no bias; `count` int32[] are
    the valid rows of the result.
    """
    if norm.use_running_average:
        kernel = convolution.kernel.get_value()
        if neighbours is None:
            kernel, neighbours = kernel[None], identity_map(x.shape[0], count)
        x = x.astype(convolution.dtype)
        affine = norm.running_affine()
        return gather_gemm_affine(x, kernel, neighbours, *affine, shortcut, count, relu)
    if isinstance(convolution, PointwiseConvolution):
        return norm(convolution(x, count), count, relu=relu, shortcut=shortcut)
    assert neighbours is not None
    kernel = convolution.kernel.get_value()
    y, mean, m2 = gather_gemm_moments(x.astype(convolution.dtype), kernel, neighbours, count)
    return norm(y, count, relu=relu, shortcut=shortcut, moments=(mean, m2))


class BasicBlock(nnx.Module):
    """Two 3x3x3 convolutions with norms and a shortcut, which is projected if channels change.

    He et al. 2015, arXiv 1512.03385, figure 3 and option B; names as in MinkowskiEngine's
    `resnet_block.BasicBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        momentum: float,
        shortcut_momentum: float,
        axis_name: str | None = None,
        initialization: Initialization = "uniform",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        weights = {"initialization": initialization, "dtype": dtype, "rngs": rngs}
        self.conv1 = SparseConvolution(in_channels, out_channels, 3, **weights)  # type: ignore[arg-type]
        self.norm1 = MaskedBatchNorm(out_channels, momentum=momentum, axis_name=axis_name)
        self.conv2 = SparseConvolution(out_channels, out_channels, 3, **weights)  # type: ignore[arg-type]
        self.norm2 = MaskedBatchNorm(out_channels, momentum=momentum, axis_name=axis_name)
        if in_channels == out_channels:
            self.downsample = None
        else:
            projection = PointwiseConvolution(in_channels, out_channels, **weights)  # type: ignore[arg-type]
            norm = MaskedBatchNorm(out_channels, momentum=shortcut_momentum, axis_name=axis_name)
            self.downsample = nnx.List([projection, norm])

    def __call__(self, x: Array, neighbours: NeighbourMap, count: Array) -> Array:
        """Rows [N, C_in] -> [N, C_out]; padding rows are expected, and left, at zero."""
        hidden = convolve_and_normalize(self.conv1, self.norm1, x, neighbours, count, relu=True)
        shortcut = x
        if self.downsample is not None:
            projection, norm = self.downsample
            shortcut = convolve_and_normalize(projection, norm, x, None, count)  # type: ignore[arg-type]
        return convolve_and_normalize(
            self.conv2, self.norm2, hidden, neighbours, count, relu=True, shortcut=shortcut
        )
