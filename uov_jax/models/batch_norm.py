"""Batch norm over the valid rows of all devices, joined with the shortcut and ReLU after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from uov_jax import sparse

EPSILON = 1e-5


class Moments(NamedTuple):
    """Statistics of one batch: mean f32[C], biased variance f32[C], number of valid rows f32[]."""

    mean: Array
    variance: Array
    rows: Array


ColumnMoments = tuple[Array, Array]
"""What `sparse.column_moments` returns for the rows of one device."""


def pooled_moments(
    own: ColumnMoments, count: Array, capacity: int, axis_name: str | None = None
) -> Moments:
    """Mean and biased variance of the rows of all devices along `axis_name`.

    `own` are the moments of this one's, the first `count` of `capacity` rows.
    """
    mean, m2 = own
    # The count of a plan that did not fit is larger than its arrays.
    rows = jnp.clip(count, 0, capacity).astype(jnp.float32)
    if axis_name is not None and lax.axis_size(axis_name) > 1:
        own_mean, own_rows = mean, rows
        rows, total = lax.psum((own_rows, own_rows * own_mean), axis_name)
        mean = total / jnp.maximum(rows, 1.0)
        m2 = lax.psum(m2 + own_rows * (own_mean - mean) ** 2, axis_name)
    return Moments(mean, m2 / jnp.maximum(rows, 1.0), rows)


def normalize(
    x: Array,
    moments: Moments,
    weight: Array,
    bias: Array,
    shortcut: Array | None,
    count: Array,
    relu: bool,
) -> Array:
    """`[relu]((x - mean) / sqrt(variance + eps) * weight + bias [+ shortcut])`, padding rows zero.

    x and shortcut [N, C] of one dtype, which is that of the result; weight and bias f32[C]. The
    arithmetic is float32.
    """
    scale = weight * lax.rsqrt(moments.variance + EPSILON)
    return sparse.affine_rows(x, moments.mean, scale, bias, shortcut, count, relu)


@sparse.with_gradient(nondiff_argnums=(6, 7))
def batch_norm(
    x: Array,
    own: ColumnMoments,
    weight: Array,
    bias: Array,
    shortcut: Array | None,
    count: Array,
    relu: bool,
    axis_name: str | None,
) -> tuple[Array, Moments]:
    """Training-mode batch norm: normalise x [N, C] by the moments of the valid rows of all devices.

    `own` are `sparse.column_moments(x, count)`, which whoever computed x may have taken on the way.
    The shortcut may hold anything past `count`. Returns the result (see `normalize`) and the
    moments, which carry no gradient: they are for the running statistics.

    Written with its own derivative because automatic differentiation would keep the deviations and
    the masks of every layer; this one keeps x and the output, which the neighbouring convolutions
    keep anyway.
    """
    moments = pooled_moments(own, count, x.shape[0], axis_name)
    return normalize(x, moments, weight, bias, shortcut, count, relu), moments


def _batch_norm_forward(
    x: Array,
    own: ColumnMoments,
    weight: Array,
    bias: Array,
    shortcut: Array | None,
    count: Array,
    relu: bool,
    axis_name: str | None,
) -> tuple[tuple[Array, Moments], tuple[Any, ...]]:
    y, moments = batch_norm(x, own, weight, bias, shortcut, count, relu, axis_name)
    return (y, moments), (x, y if relu else None, moments, weight, bias, shortcut, count)


def _batch_norm_backward(
    relu: bool, axis_name: str | None, residuals: tuple[Any, ...], cotangents: tuple[Array, Moments]
) -> tuple[Array | None, ...]:
    """Adjoint of batch norm; Ioffe and Szegedy 2015, section 3, with sums over the valid rows.

    The two sums are pooled over the devices where they stand for the batch's statistics, but the
    gradients of weight and bias are this device's own share, as for every other parameter.
    """
    x, y, moments, weight, bias, shortcut, count = residuals
    dy = cotangents[0]
    inverse_deviation = lax.rsqrt(moments.variance + EPSILON)
    dbias, dy_deviation = sparse.affine_gradient_sums(dy, y, x, moments.mean, count)
    dweight = dy_deviation * inverse_deviation
    rows = jnp.maximum(moments.rows, 1.0)
    mean_dy, mean_dy_x = (total / rows for total in _pooled((dbias, dweight), axis_name))
    slope, scale = mean_dy_x * inverse_deviation, weight * inverse_deviation
    dx, dshortcut = sparse.affine_gradient_rows(
        dy, y, x, moments.mean, mean_dy, slope, scale, count, shortcut is not None
    )
    return dx, None, dweight, dbias, dshortcut, None


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


class BatchNormState(nnx.Module):
    """Parameters and running statistics of one norm, by PyTorch's names."""

    def __init__(self, channels: int) -> None:
        self.weight = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))
        self.running_mean = nnx.BatchStat(jnp.zeros((channels,), jnp.float32))
        self.running_var = nnx.BatchStat(jnp.ones((channels,), jnp.float32))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))


class MaskedBatchNorm(nnx.Module):
    """Batch norm of rows [N, C] of which `count` are valid, with an optional shortcut and ReLU.

    The moving average is PyTorch's: `running = (1 - momentum) * running + momentum * batch`, of the
    *unbiased* variance, while the normalisation uses the biased one. A batch without any valid row
    leaves the running statistics alone; one with a single row has the unbiased variance 0, where
    PyTorch raises. `model.eval()` makes it use the running statistics.
    """

    def __init__(self, channels: int, *, momentum: float, axis_name: str | None = None) -> None:
        self.bn = BatchNormState(channels)
        self.momentum = momentum
        self.axis_name = axis_name
        self.use_running_average = False

    def __call__(
        self,
        x: Array,
        count: Array,
        *,
        relu: bool = False,
        shortcut: Array | None = None,
        moments: ColumnMoments | None = None,
    ) -> Array:
        """Rows x, shortcut [N, C], zero past `count` int32[] -> [N, C] of x's dtype, zero there.

        `moments` are `sparse.column_moments(x, count)` where they are known already.
        """
        if self.use_running_average:
            return sparse.affine_rows(x, *self.running_affine(), shortcut, count, relu)
        weight, bias = self.bn.weight.get_value(), self.bn.bias.get_value()
        own = sparse.column_moments(lax.stop_gradient(x), count) if moments is None else moments
        y, pooled = batch_norm(x, own, weight, bias, shortcut, count, relu, self.axis_name)
        self._track(pooled)
        return y

    def running_affine(self) -> tuple[Array, Array, Array]:
        """Mean, scale and bias f32[C] of evaluation mode: `(x - mean) * scale + bias`."""
        scale = self.bn.weight.get_value() * lax.rsqrt(self.bn.running_var.get_value() + EPSILON)
        return self.bn.running_mean.get_value(), scale, self.bn.bias.get_value()

    def _track(self, moments: Moments) -> None:
        moments = jax.tree.map(lax.stop_gradient, moments)
        step = jnp.where(moments.rows > 0, self.momentum, 0.0)
        unbiased = moments.variance * (moments.rows / jnp.maximum(moments.rows - 1.0, 1.0))
        mean, variance = self.bn.running_mean.get_value(), self.bn.running_var.get_value()
        self.bn.running_mean.set_value(mean + step * (moments.mean - mean))
        self.bn.running_var.set_value(variance + step * (unbiased - variance))
        self.bn.num_batches_tracked.set_value(self.bn.num_batches_tracked.get_value() + 1)


def compute_dtype(dtype: DTypeLike) -> jnp.dtype:
    """`dtype` as a JAX dtype; float32 and bfloat16 are what the engine computes in."""
    resolved = jnp.dtype(dtype)
    if resolved not in (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)):
        raise ValueError(f"compute dtype must be float32 or bfloat16, found {resolved}")
    return resolved


def _pooled(value: Any, axis_name: str | None) -> Any:
    alone = axis_name is None or lax.axis_size(axis_name) == 1
    return value if alone else lax.psum(value, axis_name)
