"""The ops of batch norm: values and gradients against float64, on every backend, and their bits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sparse.clouds import needs_affinity, relative_error
from uov_jax import sparse

CAPACITY = 700
# Fewer rows than one block of the moments, more than one task of 64 Ki floats at 130 channels.
COUNTS = [0, 1, 37, 64, 600, CAPACITY]
# float32 sums of a few hundred numbers of one size.
TIGHT = 2e-6


def rows_like(
    generator: np.random.Generator, channels: int, count: int, fill: float, dtype: Any
) -> jax.Array:
    """[CAPACITY, channels]: normal numbers, `fill` past `count`."""
    x = generator.standard_normal((CAPACITY, channels)).astype(np.float32)
    x[count:] = fill
    return jnp.asarray(x, dtype)


def problem(channels: int, count: int, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    generator = np.random.default_rng(channels + count)
    names = ("mean", "scale", "bias", "offset", "slope")
    vectors = {n: generator.standard_normal(channels).astype(np.float32) for n in names}
    return {
        "x": rows_like(generator, channels, count, 0.0, dtype),
        "shortcut": rows_like(generator, channels, count, np.nan, dtype),
        "dy": rows_like(generator, channels, count, np.nan, dtype),
        **{name: jnp.asarray(vector) for name, vector in vectors.items()},
        "count": jnp.int32(count),
    }


def exact(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)


def tolerance(dtype: Any) -> float:
    """Sums and products in float32, then one rounding to the 8 bits of a bfloat16."""
    return TIGHT if dtype == jnp.float32 else 2**-8


def test_moments_match_float64(backend):
    for count in COUNTS:
        for channels, dtype in ((1, jnp.float32), (96, jnp.bfloat16), (130, jnp.float32)):
            x = problem(channels, count, dtype)["x"]
            mean, m2 = sparse.column_moments(x, jnp.int32(count))
            assert mean.dtype == m2.dtype == jnp.float32
            valid = exact(x)[:count]
            expected = valid.mean(0) if count else np.zeros(channels)
            np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(
                m2, ((valid - expected) ** 2).sum(0), rtol=1e-5, atol=1e-6 * max(count, 1)
            )


def test_moments_survive_a_mean_that_dwarfs_the_deviation(backend):
    x = np.random.default_rng(0).standard_normal((20_000, 5)).astype(np.float32) + 1e4
    mean, m2 = sparse.column_moments(jnp.asarray(x), jnp.int32(len(x)))
    assert relative_error(mean, exact(x).mean(0)) < 1e-6
    assert relative_error(m2, exact(x).var(0) * len(x)) < 1e-4


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_shortcut", [True, False])
def test_affine_rows_and_its_gradient_match_float64(backend, dtype, relu, with_shortcut):
    for count, channels in zip(COUNTS, (3, 96, 17, 4, 130, 8), strict=True):
        data = problem(channels, count, dtype)
        shortcut = data["shortcut"] if with_shortcut else None
        arguments = [data["x"], data["mean"], data["scale"], data["bias"], shortcut]

        def run(x, mean, scale, bias, shortcut, count=data["count"]):
            return sparse.affine_rows(x, mean, scale, bias, shortcut, count, relu)

        y, pull = jax.vjp(run, *arguments)
        gradients = pull(data["dy"])
        assert y.dtype == dtype
        x, dy = exact(data["x"])[:count], exact(data["dy"])[:count]
        mean, scale = exact(data["mean"]), exact(data["scale"])
        expected = (x - mean) * scale + exact(data["bias"])
        if with_shortcut:
            expected += exact(shortcut)[:count]
        # Where rounding decides the sign, the gradient may differ: ask the result.
        g = np.where(exact(y)[:count] > 0, dy, 0.0) if relu else dy
        dscale = (g * (x - mean)).sum(0)
        expected = np.maximum(expected, 0.0) if relu else expected
        wanted = [g * scale, -g.sum(0) * scale, dscale, g.sum(0), g if with_shortcut else None]
        assert relative_error(y[:count], expected) < tolerance(dtype)
        assert not exact(y)[count:].any()
        assert (gradients[4] is None) == (not with_shortcut)
        for value, argument, reference in zip(gradients, arguments, wanted, strict=True):
            if reference is None:
                continue
            assert value.dtype == argument.dtype
            valid = value[:count] if value.ndim == 2 else value
            assert relative_error(valid, reference) < max(TIGHT * 5, tolerance(value.dtype))
            if value.ndim == 2:
                assert not exact(value)[count:].any()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("has_shortcut", [True, False])
def test_gradient_through_statistics_matches_float64(backend, relu, has_shortcut):
    for count in COUNTS:
        data = problem(24, count)
        y = jnp.maximum(jnp.nan_to_num(data["shortcut"]), 0.0) if relu else None
        vectors = [data[name] for name in ("mean", "offset", "slope", "scale")]
        dx, dshortcut = sparse.affine_gradient_rows(
            data["dy"], y, data["x"], *vectors, data["count"], has_shortcut
        )
        g = exact(data["dy"])[:count]
        g = g if y is None else np.where(exact(y)[:count] > 0, g, 0.0)
        mean, offset, slope, scale = (exact(v) for v in vectors)
        expected = (g - offset - (exact(data["x"])[:count] - mean) * slope) * scale
        assert relative_error(dx[:count], expected) < TIGHT
        assert not exact(dx)[count:].any()
        if has_shortcut:
            np.testing.assert_array_equal(dshortcut[:count], g)
            assert not exact(dshortcut)[count:].any()
        else:
            assert dshortcut is None


def test_the_compiled_backend_never_reads_padding_rows():
    data = problem(40, 100)
    mean, scale, bias, count = (data[name] for name in ("mean", "scale", "bias", "count"))

    def everything(x: jax.Array, dy: jax.Array) -> list[jax.Array | None]:
        y = sparse.affine_rows(x, mean, scale, bias, x, count, True)
        relu = y.at[100:].set(x[100:])
        return [
            y,
            sparse.affine_rows(x, mean, scale, bias, None, count, False),
            *sparse.column_moments(x, count),
            *sparse.affine_gradient_sums(dy, relu, x, mean, count),
            *sparse.affine_gradient_rows(dy, relu, x, mean, bias, scale, scale, count, True),
        ]

    with sparse.use_backend("cpu"):
        results = everything(*(data[name].at[100:].set(jnp.nan) for name in ("x", "dy")))
        clean = everything(data["x"], data["dy"])
    for found, expected in zip(results, clean, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_nan_of_a_valid_row_is_not_hidden_by_the_relu(backend):
    ones = jnp.ones(2)
    x = jnp.asarray([[jnp.nan, -5.0], [1.0, 2.0]])
    y = sparse.affine_rows(x, ones, ones, ones, None, jnp.int32(2), True)
    np.testing.assert_array_equal(y, [[np.nan, 0.0], [1.0, 2.0]])


def test_counts_beyond_the_rows_mean_all_of_them(backend):
    """`plan_in_jit` reports true counts even where its arrays are too small."""
    data = problem(6, CAPACITY)
    for beyond, within in ((CAPACITY + 5, CAPACITY), (-3, 0)):
        y, expected = (
            sparse.affine_rows(
                data["x"], data["mean"], data["scale"], data["bias"], None, jnp.int32(n), True
            )
            for n in (beyond, within)
        )
        np.testing.assert_array_equal(y, expected)
        x = data["x"] if within else jnp.zeros_like(data["x"])
        moments, wanted = (sparse.column_moments(x, jnp.int32(n)) for n in (beyond, within))
        np.testing.assert_array_equal(moments, wanted)


def test_vmap_and_jit_give_the_same(backend):
    data = problem(12, 300)
    stack = jnp.stack([data["x"], data["x"].at[200:].set(0.0)])
    counts = jnp.asarray([300, 200], jnp.int32)
    mean, m2 = jax.jit(jax.vmap(sparse.column_moments))(stack, counts)
    for i, count in enumerate((300, 200)):
        valid = exact(stack[i])[:count]
        if backend == "cpu":
            single = sparse.column_moments(stack[i], counts[i])
            np.testing.assert_array_equal(mean[i], single[0])
            np.testing.assert_array_equal(m2[i], single[1])
        np.testing.assert_allclose(mean[i], valid.mean(0), atol=1e-6)
        np.testing.assert_allclose(m2[i], valid.var(0) * count, rtol=1e-5)


def test_arguments_that_do_not_fit_are_refused(backend):
    x, v, count = jnp.ones((4, 3)), jnp.ones(3), jnp.int32(4)
    with pytest.raises(ValueError, match=r"x is float32\[4\], expected .* \[N, C\]"):
        sparse.column_moments(jnp.ones(4), count)
    with pytest.raises(ValueError, match="x is float16"):
        sparse.column_moments(x.astype(jnp.float16), count)
    with pytest.raises(ValueError, match=r"count is float32\[\], expected int32\[\]"):
        sparse.column_moments(x, jnp.float32(4))
    with pytest.raises(ValueError, match=r"scale is float32\[2\], expected float32\[3\]"):
        sparse.affine_rows(x, v, v[:2], v, None, count, False)
    with pytest.raises(ValueError, match=r"shortcut is bfloat16\[4, 3\], expected float32\[4, 3\]"):
        sparse.affine_rows(x, v, v, v, x.astype(jnp.bfloat16), count, False)
    with pytest.raises(ValueError, match=r"affine_gradient_sums: dy is float32\[3, 3\]"):
        sparse.affine_gradient_sums(x[:3], None, x, v, count)
    with pytest.raises(ValueError, match=r"affine_gradient_rows: y is float32\[4, 2\]"):
        sparse.affine_gradient_rows(x, x[:, :2], x, v, v, v, v, count, True)


def test_the_compiled_handlers_refuse_what_the_python_side_would():
    call = jax.ffi.ffi_call("uov_column_moments", [jax.ShapeDtypeStruct((2,), jnp.float32)] * 2)
    with (
        sparse.use_backend("cpu"),
        pytest.raises(jax.errors.JaxRuntimeError, match=r"must be \[C\] for rows \[N, C\]"),
    ):
        jax.block_until_ready(call(jnp.ones((4, 3)), jnp.int32(4)))


THREADS_AND_DEVICES = """
import os, sys
processors, devices = eval(sys.argv[1])
os.sched_setaffinity(0, processors)
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
import hashlib, jax, jax.numpy as jnp, numpy as np
from uov_jax import sparse
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for dtype in jnp.float32, jnp.bfloat16:
    x, shortcut, dy = (jnp.asarray(rng.standard_normal((9000, 37)), dtype) for _ in range(3))

    def step(x, count):
        mean, m2 = sparse.column_moments(x, count)
        y = sparse.affine_rows(x, mean, m2, mean, shortcut, count, True)
        sums = sparse.affine_gradient_sums(dy, y, x, mean, count)
        rows = sparse.affine_gradient_rows(dy, y, x, mean, *sums, m2, count, True)
        return mean, m2, y, *sums, *rows

    results = jax.pmap(step)(jnp.stack([x] * devices), jnp.full(devices, 8500, jnp.int32))
    for result in map(np.asarray, results):
        assert np.isfinite(result.astype(np.float32)).all()
        for other in result[1:]:
            assert result[0].tobytes() == other.tobytes()
        digest.update(result[0].tobytes())
print(digest.hexdigest())
"""


@needs_affinity
def test_results_do_not_depend_on_threads_or_devices():
    """One thread, one for each processor, and four devices at once: the same bits everywhere."""
    processors = sorted(os.sched_getaffinity(0))
    digests = set()
    for case in ({processors[0]}, 1), (set(processors), 1), (set(processors), 4):
        done = subprocess.run(
            [sys.executable, "-c", THREADS_AND_DEVICES, repr(case)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.split()[-1])
    assert len(digests) == 1
