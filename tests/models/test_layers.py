"""Convolutions and the residual block against plain numpy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.reference import relative_error
from uov_jax.models.batch_norm import EPSILON, MaskedBatchNorm
from uov_jax.models.layers import (
    BasicBlock,
    PointwiseConvolution,
    SparseConvolution,
    convolve_and_normalize,
    initial_kernel,
)
from uov_jax.sparse import NeighbourMap


def chain_map(rows: int, capacity: int) -> NeighbourMap:
    """A 27-slot map of voxels in a line along x: slots 12, 13, 14 are left, self, right."""
    forward = np.full((27, capacity), -1, np.int32)
    forward[13, :rows] = np.arange(rows)
    forward[12, 1:rows] = np.arange(rows - 1)
    forward[14, : rows - 1] = np.arange(1, rows)
    return NeighbourMap.submanifold(forward)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The convolution along that line, float64."""
    padded = np.pad(x.astype(np.float64), ((1, 1), (0, 0)))
    return sum(padded[i : i + len(x)] @ kernel[12 + i].astype(np.float64) for i in range(3))


def test_uniform_first_weights_reach_the_references_bounds() -> None:
    """MinkowskiEngine's reset_parameters: 1/sqrt(volume * C_in), C_out when transposed."""
    key = jax.random.key(0)
    for transposed, fan in ((False, 64), (True, 16)):
        kernel = np.asarray(initial_kernel(key, (8, 64, 16), "uniform", transposed))
        bound = 1 / math.sqrt(8 * fan)
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.99 * bound
        assert abs(kernel.mean()) < 0.02 * bound


def test_kaiming_first_weights_have_the_references_variance() -> None:
    key = jax.random.key(0)
    sparse = np.asarray(initial_kernel(key, (27, 16, 64), "kaiming"))
    assert sparse.std() == pytest.approx(math.sqrt(2 / (27 * 64)), rel=0.02)
    pointwise = np.asarray(initial_kernel(key, (64, 256), "kaiming"))
    assert pointwise.std() == pytest.approx(math.sqrt(2 / 64), rel=0.02)
    up = np.asarray(initial_kernel(key, (8, 64, 16), "kaiming", transposed=True))
    assert np.abs(up).max() <= 1 / math.sqrt(8 * 16)


def test_pointwise_bias_is_within_its_bound_and_added() -> None:
    layer = PointwiseConvolution(100, 50, bias=True, rngs=nnx.Rngs(0))
    bias = np.asarray(layer.bias[...])
    assert bias.shape == (1, 50)
    assert 0.05 < np.abs(bias).max() <= 0.1
    x = np.random.default_rng(0).standard_normal((7, 100)).astype(np.float32)
    expected = x.astype(np.float64) @ np.asarray(layer.kernel[...], np.float64) + bias
    y = np.asarray(layer(jnp.asarray(x), jnp.int32(5)))
    assert relative_error(y[:5], expected[:5]) < 1e-5
    assert not y[5:].any()


def test_pointwise_in_bfloat16_accumulates_in_float32() -> None:
    layer = PointwiseConvolution(4096, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.kernel.set_value(jnp.ones((4096, 1), jnp.float32))
    x = jnp.ones((1, 4096), jnp.float32)
    one = jnp.int32(1)
    assert layer(x, one).dtype == jnp.bfloat16
    # bfloat16 cannot count past 256 in steps of one.
    assert layer(x, one, out_dtype=jnp.float32)[0, 0] == 4096.0


@pytest.mark.parametrize("out_dtype", [jnp.float32, jnp.bfloat16])
def test_weight_gradients_of_bfloat16_layers_are_not_rounded(out_dtype: jnp.dtype) -> None:
    pointwise = PointwiseConvolution(6, 5, bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    sparse = SparseConvolution(6, 5, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(1))
    norm = MaskedBatchNorm(5, momentum=0.1)
    x = jax.random.normal(jax.random.key(0), (8, 6))

    def loss(layers: tuple[PointwiseConvolution, SparseConvolution, MaskedBatchNorm]) -> jax.Array:
        pointwise, sparse, norm = layers
        y = pointwise(x, jnp.int32(8), out_dtype=out_dtype).astype(jnp.float32)
        z = convolve_and_normalize(sparse, norm, x, chain_map(8, 8), jnp.int32(8))
        return jnp.sum(y**2) + jnp.sum(z.astype(jnp.float32) ** 3)

    for gradient in nnx.grad(loss)((pointwise, sparse, norm))[:2]:
        kernel = gradient.kernel[...]
        assert kernel.dtype == jnp.float32
        assert np.any(kernel != kernel.astype(jnp.bfloat16).astype(jnp.float32))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_convolution_sums_over_the_map_before_its_norm(dtype: jnp.dtype, training: bool) -> None:
    layer = SparseConvolution(6, 5, 3, dtype=dtype, rngs=nnx.Rngs(0))
    assert layer.kernel[...].dtype == jnp.float32
    norm = MaskedBatchNorm(5, momentum=0.1)
    norm.use_running_average = not training
    x = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
    padded = np.full((16, 6), np.nan, np.float32)
    padded[:10] = x
    y = convolve_and_normalize(layer, norm, jnp.asarray(padded), chain_map(10, 16), jnp.int32(10))
    assert y.dtype == dtype
    y = np.asarray(y.astype(jnp.float32))
    expected = convolve(x, np.asarray(layer.kernel[...]))
    mean, variance = (expected.mean(0), expected.var(0)) if training else (0.0, 1.0)
    expected = (expected - mean) / np.sqrt(variance + EPSILON)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    assert relative_error(y[:10], expected) < tolerance
    assert not y[10:].any()


@pytest.mark.parametrize("in_channels", [8, 5])
def test_basic_block_is_two_convolutions_norms_and_a_shortcut(in_channels: int) -> None:
    block = BasicBlock(in_channels, 8, momentum=0.1, shortcut_momentum=0.3, rngs=nnx.Rngs(1))
    assert (block.downsample is None) == (in_channels == 8)
    rows, capacity = 12, 20
    x = np.zeros((capacity, in_channels), np.float32)
    x[:rows] = np.random.default_rng(0).standard_normal((rows, in_channels))
    y = np.asarray(block(jnp.asarray(x), chain_map(rows, capacity), jnp.int32(rows)))

    def normalized(z: np.ndarray) -> np.ndarray:
        return (z - z.mean(0)) / np.sqrt(z.var(0) + EPSILON)

    hidden = np.maximum(normalized(convolve(x[:rows], np.asarray(block.conv1.kernel[...]))), 0)
    out = normalized(convolve(hidden, np.asarray(block.conv2.kernel[...])))
    shortcut = x[:rows].astype(np.float64)
    if block.downsample is not None:
        projection, norm = block.downsample
        projected = shortcut @ np.asarray(projection.kernel[...], np.float64)
        shortcut = normalized(projected)
        np.testing.assert_allclose(norm.bn.running_mean[...], 0.3 * projected.mean(0), rtol=1e-4)
    assert relative_error(y[:rows], np.maximum(out + shortcut, 0)) < 1e-4
    assert not y[rows:].any()
