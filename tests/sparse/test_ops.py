"""Values and gradients of the ops, on every backend, against float64 and measured fixtures."""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sparse.clouds import (
    needs_affinity,
    random_coords,
    relative_error,
)
from uov_jax import sparse
from uov_jax.sparse import NeighbourMap, cpu, reference
from uov_jax.sparse.engine import engine

# `sparse.backends` is a function.
# The package has functions of these names.
backends_module = importlib.import_module("uov_jax.sparse.backends")
engine_module = importlib.import_module("uov_jax.sparse.engine")

# Of the largest number: float32 sums of up to 1,000 products of one size, one after the other, are
# off by half a unit in the last place (6e-8) times the root of their number.
TIGHT = 2e-6


@pytest.fixture(scope="module")
def minkowski(request):
    return np.load(request.config.rootpath / "tests" / "fixtures" / "minkowski_ops.npz")


def fixture_map(data, name: str) -> NeighbourMap:
    """The map of one fixture op, output rows in the fixture's own order."""
    fine, coarse = data[f"{name}_in_coords"], data[f"{name}_out_coords"]
    stride = int(data[f"{name}_in_stride"][0])
    if name.startswith("subm"):
        kernel, dilation = (5, 1) if name == "subm5" else (3, 2 if "dil2" in name else 1)
        np.testing.assert_array_equal(fine, coarse)
        return sparse.submanifold_map(fine, len(fine), kernel, stride, dilation)
    if name.startswith("up"):
        fine, coarse, stride = coarse, fine, int(data[f"{name}_out_stride"][0])
    # The plan works at tensor stride 1: scale down, which keeps every parent and slot.
    unit = fine.copy()
    unit[:, 1:] //= stride
    plan = sparse.build_plan(unit, sparse.PlanSpec(len(unit), levels=2, fractions=(1.0, 1.0)))
    ours = plan.coords[1][: plan.counts[1]] * [1, stride, stride, stride]
    row = {tuple(c): i for i, c in enumerate(ours.tolist())}
    to_ours = np.array([row[tuple(c)] for c in coarse.tolist()])
    from_ours = np.argsort(to_ours)
    transpose = plan.down[0].transpose
    down = NeighbourMap(
        np.ascontiguousarray(plan.down[0].forward[:, to_ours]),
        np.where(transpose >= 0, from_ours[np.maximum(transpose, 0)], -1).astype(np.int32),
    )
    return down.swapped() if name.startswith("up") else down


@pytest.mark.parametrize(
    "name",
    ["subm3", "subm5", "subm3_dil2", "subm3_stride2", "down2", "down2_again", "up2", "up2_again"],
)
def test_parity_with_minkowski_engine(backend, minkowski, name):
    neighbours = fixture_map(minkowski, name)
    y, pull = jax.vjp(
        lambda x, w: sparse.gather_gemm(x, w, neighbours),
        jnp.asarray(minkowski[f"{name}_in"]),
        jnp.asarray(minkowski[f"{name}_w"]),
    )
    gx, gw = pull(jnp.asarray(minkowski[f"{name}_gy"]))
    assert relative_error(y, minkowski[f"{name}_out"]) < 1e-5
    assert relative_error(gx, minkowski[f"{name}_gx"]) < 1e-5
    assert relative_error(gw, minkowski[f"{name}_gw"]) < 1e-5


def random_problem(count, c_in, c_out, capacity=None, seed=0):
    rng = np.random.default_rng(seed)
    capacity = capacity or max(count, 1)
    coords = random_coords(rng, count, extent=5)
    plan = sparse.build_plan(coords, sparse.PlanSpec(capacity, fractions=(1.0,) * 5))
    x = rng.standard_normal((capacity, c_in)).astype(np.float32)
    x[count:] = np.nan  # padding must influence nothing
    w = rng.standard_normal((27, c_in, c_out)).astype(np.float32)
    return plan, x, w


@pytest.mark.parametrize(
    ("count", "c_in", "c_out", "capacity"),
    [
        (500, 1, 32, 640),
        (500, 32, 17, 500),
        (400, 96, 96, 512),
        (150, 130, 260, 160),
        (60, 96, 768, 64),
        (1, 3, 5, 4),
        (1, 3, 5, 1),
        (0, 3, 5, 8),
    ],
)
def test_gather_gemm_value_and_gradients(backend, count, c_in, c_out, capacity):
    plan, x, w = random_problem(count, c_in, c_out, capacity)
    neighbours = plan.same[0]
    y, pull = jax.vjp(
        lambda x, w: sparse.gather_gemm(x, w, neighbours), jnp.asarray(x), jnp.asarray(w)
    )
    clean = np.nan_to_num(x)
    assert relative_error(y, reference.gather_gemm(clean, w, neighbours.forward)) < TIGHT
    assert np.all(np.asarray(y)[count:] == 0)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    dx, dw = pull(jnp.asarray(dy))
    expected = reference.gather_gemm_dx(w, dy, neighbours.forward, len(x))
    assert relative_error(dx, expected) < TIGHT
    assert relative_error(dw, reference.gather_gemm_dw(clean, dy, neighbours.forward)) < TIGHT


@pytest.mark.parametrize(
    ("c_in", "c_out", "step"), [(96, 64, 1), (128, 32, 1), (160, 160, 2), (40, 17, 2), (5, 7, 1)]
)
def test_weight_gradient_of_more_pairs_than_a_part_has(backend, c_in, c_out, step):
    """The middle slot has pairs for three parts; those of every second row have only that one."""
    rng = np.random.default_rng(7)
    coords = np.unique(rng.integers(-14, 14, (14000, 4)) * [0, 1, 1, 1], axis=0).astype(np.int32)
    assert len(coords) > 2 * 4096
    coords[:, 1:] *= step
    plan = sparse.build_plan(coords, sparse.PlanSpec(len(coords), fractions=(1.0,) * 5))
    neighbours = plan.same[0]
    x = rng.standard_normal((len(coords), c_in)).astype(np.float32)
    dy = rng.standard_normal((len(coords), c_out)).astype(np.float32)
    _, pull = jax.vjp(
        lambda w: sparse.gather_gemm(jnp.asarray(x), w, neighbours),
        jnp.zeros((27, c_in, c_out), jnp.float32),
    )
    (dw,) = pull(jnp.asarray(dy))
    expected = reference.gather_gemm_dw(x, dy, neighbours.forward)
    for k, (one, wanted) in enumerate(zip(dw, expected, strict=True)):
        assert relative_error(one, wanted) < TIGHT
        assert (neighbours.forward[k] >= 0).any() or not np.asarray(one).any()
    assert step == 1 or np.asarray(dw).any(axis=(1, 2)).sum() == 1


def test_strided_and_transposed_are_adjoint(backend):
    """<down(x), y> == <x, up(y)> with transposed weights, for maps that swap input and output."""
    plan, x, _ = random_problem(300, 8, 6)
    rng = np.random.default_rng(2)
    w = jnp.asarray(rng.standard_normal((8, 8, 6)).astype(np.float32))
    y = jnp.asarray(rng.standard_normal((plan.coords[1].shape[0], 6)).astype(np.float32))
    down = sparse.gather_gemm(jnp.asarray(x), w, plan.down[0])
    up = sparse.gather_gemm(y, w.swapaxes(1, 2), plan.down[0].swapped())
    left, right = float(jnp.sum(down * y)), float(jnp.sum(jnp.asarray(x) * up))
    np.testing.assert_allclose(left, right, rtol=1e-5)


def test_bfloat16_accumulates_in_float32(backend):
    plan, x, w = random_problem(300, 64, 40)
    xb, wb = jnp.asarray(x, jnp.bfloat16), jnp.asarray(w, jnp.bfloat16)
    y, pull = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, plan.same[0]), xb, wb)
    assert y.dtype == jnp.bfloat16
    exact = reference.gather_gemm(
        np.asarray(xb, np.float32), np.asarray(wb, np.float32), plan.same[0].forward
    )
    # Only the final rounding to 8 bits of mantissa is left.
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2**-8, atol=1e-4)
    dx, dw = pull(y)
    assert dx.dtype == dw.dtype == jnp.bfloat16
    assert (
        relative_error(
            dx,
            reference.gather_gemm(
                np.asarray(y, np.float32),
                np.asarray(wb, np.float32).swapaxes(1, 2)[::-1],
                plan.same[0].forward,
            ),
        )
        < 2**-8
    )


def weight_gradient_oracle(x, dy, forward) -> np.ndarray:
    """`gather_gemm_dw` in float64."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    return np.stack([x[index[index >= 0]].T @ dy[index >= 0] for index in forward])


@pytest.mark.parametrize("op", ["gather_gemm", "moments", "affine", "multiply_rows"])
def test_float32_weights_of_bfloat16_rows_get_unrounded_gradients(backend, op):
    rng = np.random.default_rng(8)
    plan, x, w = random_problem(300, 24, 40, capacity=320)
    x = jnp.asarray(np.nan_to_num(x), jnp.bfloat16)
    w = jnp.asarray(w)
    neighbours = sparse.identity_map(320, jnp.int32(300)) if op == "multiply_rows" else plan.same[0]
    one, zero, count = jnp.ones(40), jnp.zeros(40), jnp.int32(300)

    def run(x, w):
        if op == "gather_gemm":
            return sparse.gather_gemm(x, w, neighbours)
        if op == "moments":
            return sparse.gather_gemm_moments(x, w, neighbours, count)[0]
        if op == "affine":
            affine = (zero, one, zero, None, count, False)
            return sparse.gather_gemm_affine(x, w, neighbours, *affine)
        return sparse.multiply_rows(x, w[0], count)

    y, pull = jax.vjp(run, x, w)
    dy = jnp.asarray(rng.standard_normal(y.shape), jnp.bfloat16).at[300:].set(0)
    dx, dw = pull(dy)
    assert y.dtype == dx.dtype == jnp.bfloat16
    assert dw.dtype == jnp.float32
    # The product itself rounds them, as if they had been bfloat16 all along.
    rounded = w.astype(jnp.bfloat16)
    np.testing.assert_array_equal(y, run(x, rounded))
    np.testing.assert_array_equal(dx, jax.vjp(run, x, rounded)[1](dy)[0])
    expected = weight_gradient_oracle(x, dy, np.asarray(neighbours.forward))
    dw = dw[: len(expected)]
    assert relative_error(dw, expected) < TIGHT
    assert relative_error(dw.astype(jnp.bfloat16), expected) > 100 * TIGHT


def test_weights_that_are_not_finite_reach_the_rows_that_have_their_neighbour(backend):
    """On the CPU these alone; elsewhere others may multiply zeros by them and be NaN as well."""
    plan, x, w = random_problem(60, 5, 9)
    x, w = jnp.asarray(x), jnp.asarray(w).at[3, 1, 2].set(jnp.nan)
    there = plan.same[0].forward[3] >= 0
    assert 0 < there.sum() < 60
    count = 40
    for y, reached in (
        (sparse.gather_gemm(x, w, plan.same[0]), there),
        (sparse.multiply_rows(x, w[3], jnp.int32(count)), np.arange(60) < count),
    ):
        y = np.asarray(y)
        assert np.isnan(y[reached, 2]).all()
        assert np.isfinite(np.delete(y, 2, axis=1)).all()
        if backend == "cpu":
            assert np.isfinite(y[~reached]).all()


def test_rounded_weights_pass_their_gradient_unrounded():
    w = jnp.asarray(np.random.default_rng(9).standard_normal(100), jnp.float32)
    for dtype in (jnp.bfloat16, jnp.float32):
        y, pull = jax.vjp(jax.jit(lambda w, dtype=dtype: sparse.rounded_weights(w, dtype)), w)
        assert y.dtype == jnp.float32
        np.testing.assert_array_equal(y.astype(dtype), w.astype(dtype))
        np.testing.assert_array_equal(y, y.astype(dtype).astype(jnp.float32))
        np.testing.assert_array_equal(pull(w)[0], w)


def test_a_map_is_only_taken_for_its_own_transpose_if_it_says_so(backend):
    rng = np.random.default_rng(10)
    forward = rng.integers(-1, 9, (3, 9)).astype(np.int32)
    x, w = jnp.ones((9, 2)), jnp.ones((3, 2, 2))

    def total(x, w, neighbours):
        return jnp.sum(sparse.gather_gemm(x, w, neighbours))

    with pytest.raises(ValueError, match=r"gradient of x needs NeighbourMap\.transpose"):
        jax.grad(total)(x, w, NeighbourMap(forward))
    assert jax.grad(total, argnums=1)(x, w, NeighbourMap(forward)).shape == w.shape
    with pytest.raises(ValueError, match="from 4 to 9 rows is no submanifold map"):
        jax.grad(total)(x[:4], w, NeighbourMap(jnp.asarray(forward % 4), mirrored=True))


def test_submanifold_maps_are_checked_on_the_host():
    same = random_problem(60, 1, 1)[0].same[0]
    made = NeighbourMap.submanifold(same.forward)
    assert made.mirrored
    assert same.mirrored
    np.testing.assert_array_equal(made.forward, same.forward)
    k, n = np.argwhere(same.forward[:13] >= 0)[0]
    for wrong in (-1, (same.forward[k, n] + 1) % 60, 60):
        forward = same.forward.copy()
        forward[k, n] = wrong
        with pytest.raises(ValueError, match="this is no submanifold map: entry .* lead back"):
            NeighbourMap.submanifold(forward)
    with pytest.raises(ValueError, match=r"\[K, N\] with K odd, not \[8, 4\]"):
        NeighbourMap.submanifold(np.full((8, 4), -1, np.int32))


def test_the_compiled_handlers_refuse_a_mirrored_map_that_is_not_square():
    x, w, dy = jnp.ones((3, 2)), jnp.ones((3, 2, 2)), jnp.ones((9, 2))
    forward = jnp.zeros((3, 9), jnp.int32)
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(w.shape, x.dtype)]
    for name, result, operands, attributes in (
        ("gradients", results, (x, w, dy, forward, forward[:, :3]), {}),
        ("", jax.ShapeDtypeStruct((9, 2), x.dtype), (x, w, forward), {"transposed": True}),
    ):
        name = "gather_gemm_gradients" if name else "gather_gemm"
        with pytest.raises(jax.errors.JaxRuntimeError, match="must have as many input as output"):
            jax.block_until_ready(cpu.call(name, result, *operands, mirrored=True, **attributes))


def test_few_rows_make_as_many_tasks_as_there_are_threads():
    """But no more than there is work for, and never fewer than before."""
    tasks = engine().product_tasks

    def of(rows, channels, threads):
        return tasks(np.zeros((27, rows), np.int32), channels, threads)

    assert of(500, 256, 1) >= of(500, 256, 2) >= 4
    for threads in (1, 2, 4, 8, 16, 32):
        for rows, channels in ((2000, 256), (1000, 512), (2000, 768)):
            assert of(rows, channels, threads) >= threads
        assert of(2000, 96, threads) >= min(threads, 16)
        assert of(1, 8, threads) == 1
        assert of(0, 256, threads) == 0
        # A task has at least one tile of columns, or a block of 128 rows.
        assert of(100, 256, threads) <= 64


def test_gather_rows_and_scatter_add_rows_are_adjoint(backend):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((50, 7)).astype(np.float32)
    index = rng.integers(-1, 50, 400).astype(np.int32)
    rows, pull = jax.vjp(lambda x: sparse.gather_rows(x, index), jnp.asarray(x))
    np.testing.assert_array_equal(rows, np.where(index[:, None] >= 0, x[index], 0))
    dy = rng.standard_normal(rows.shape).astype(np.float32)
    expected = np.zeros((50, 7))
    np.add.at(expected, index[index >= 0], dy[index >= 0].astype(np.float64))
    assert relative_error(pull(jnp.asarray(dy))[0], expected) < TIGHT
    total, pull = jax.vjp(lambda r: sparse.scatter_add_rows(r, index, 50), jnp.asarray(dy))
    assert relative_error(total, expected) < TIGHT
    np.testing.assert_array_equal(pull(jnp.asarray(x))[0], rows)


def test_gather_scatter_rows_is_gather_then_scatter(backend):
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.standard_normal((30, 5)).astype(np.float32))
    source = jnp.asarray(rng.integers(-1, 30, 200), jnp.int32)
    target = jnp.asarray(rng.integers(-1, 20, 200), jnp.int32)
    fused, pull = jax.vjp(lambda x: sparse.gather_scatter_rows(x, source, target, 20), x)
    split, split_pull = jax.vjp(
        lambda x: sparse.scatter_add_rows(sparse.gather_rows(x, source), target, 20), x
    )
    assert relative_error(fused, np.asarray(split)) < TIGHT
    dy = jnp.asarray(rng.standard_normal((20, 5)).astype(np.float32))
    assert relative_error(pull(dy)[0], np.asarray(split_pull(dy)[0])) < TIGHT


@pytest.mark.parametrize("rows", [0, 1])
def test_row_moves_of_almost_nothing(backend, rows):
    x = jnp.ones((rows, 3))
    index = jnp.full((rows,), -1, jnp.int32)
    assert np.all(np.asarray(sparse.gather_rows(x, index)) == 0)
    assert np.all(np.asarray(sparse.scatter_add_rows(x, index, 4)) == 0)


def test_entries_outside_the_input_are_refused_by_the_compiled_backend():
    x, w = jnp.ones((4, 2)), jnp.ones((1, 2, 2))
    with sparse.use_backend("cpu"):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"map entry \[0, 1\] is 4"):
            jax.block_until_ready(
                sparse.gather_gemm(
                    x, w, NeighbourMap(jnp.array([[0, 4]], jnp.int32), jnp.zeros((1, 4), jnp.int32))
                )
            )
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"index\[1\] is -2"):
            jax.block_until_ready(sparse.gather_rows(x, jnp.array([0, -2], jnp.int32)))


def test_shapes_that_do_not_fit_are_refused():
    neighbours = NeighbourMap(jnp.zeros((27, 4), jnp.int32))
    with pytest.raises(ValueError, match="do not fit"):
        sparse.gather_gemm(jnp.ones((4, 2)), jnp.ones((27, 3, 2)), neighbours)
    with pytest.raises(ValueError, match="27 kernel offsets, the weights 8"):
        sparse.gather_gemm(jnp.ones((4, 2)), jnp.ones((8, 2, 2)), neighbours)


@pytest.mark.parametrize("count", [0, 1, 70])
def test_multiply_rows_is_a_product_of_the_valid_rows(backend, count):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((70, 96)).astype(np.float32)
    w = rng.standard_normal((96, 200)).astype(np.float32)
    dy = rng.standard_normal((70, 200)).astype(np.float32)
    x[count:] = dy[count:] = np.nan
    y, pull = jax.vjp(lambda x, w: sparse.multiply_rows(x, w, jnp.int32(count)), x, w)
    dx, dw = pull(jnp.asarray(dy))
    valid, slope = x[:count].astype(np.float64), dy[:count].astype(np.float64)
    assert relative_error(y[:count], valid @ w) < TIGHT
    assert relative_error(dx[:count], slope @ w.T.astype(np.float64)) < TIGHT
    assert relative_error(dw, valid.T @ slope) < TIGHT
    assert not np.any(y[count:])
    assert not np.any(dx[count:])


def test_multiply_rows_and_unit_rows_refuse_what_does_not_fit():
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"w is float32\[1, 3, 2\], expected \[C_in, C_out\]"):
        sparse.multiply_rows(x, jnp.ones((1, 3, 2)), jnp.int32(4))
    with pytest.raises(ValueError, match=r"x is bfloat16\[4, 3\], expected float32 \[N, C\]"):
        sparse.unit_rows(x.astype(jnp.bfloat16), jnp.int32(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_unit_rows_do_not_hide_what_has_no_direction(backend, bad):
    """The squares of 1e30 overflow: a row of zeros would look as if nothing had happened."""
    x = np.ones((3, 20), np.float32)
    x[1, 7] = bad
    y, pull = jax.vjp(lambda x: sparse.unit_rows(x, jnp.int32(3)), jnp.asarray(x))
    (dx,) = pull(jnp.arange(60, dtype=jnp.float32).reshape(3, 20))
    for rows in (np.asarray(y), np.asarray(dx)):
        assert np.isnan(rows[1]).all()
        assert np.isfinite(rows[[0, 2]]).all()
        assert rows[[0, 2]].any()


@pytest.mark.parametrize("c_in", [3, 200])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("kernel", [1, 3, 8])
def test_rows_that_the_middle_slot_misses_start_at_zero(backend, kernel, dtype, c_in):
    rng = np.random.default_rng(kernel)
    rows, c_out = 150, 40
    forward = rng.integers(-1, rows, (kernel, rows)).astype(np.int32)
    forward[kernel // 2, ::3] = -1
    x = jnp.asarray(rng.standard_normal((rows, c_in)), dtype)
    w = jnp.asarray(rng.standard_normal((kernel, c_in, c_out)), dtype)
    # Leaves its sums in the memory that the next call may get.
    full = NeighbourMap(jnp.zeros((kernel, rows), jnp.int32))
    jax.block_until_ready(sparse.gather_gemm(x, w, full))
    y = sparse.gather_gemm(x, w, NeighbourMap(jnp.asarray(forward)))
    expected = reference.gather_gemm(np.asarray(x, np.float64), np.asarray(w, np.float64), forward)
    assert relative_error(y, expected) < (2e-6 if dtype == np.float32 else 4e-3)


def test_convolutions_of_no_channel_or_no_slot_are_zero():
    for kernel, c_in in ((0, 4), (3, 0)):
        neighbours = NeighbourMap(jnp.zeros((kernel, 5), jnp.int32))
        with sparse.use_backend("cpu"):
            y = sparse.gather_gemm(jnp.ones((5, c_in)), jnp.ones((kernel, c_in, 2)), neighbours)
        np.testing.assert_array_equal(y, np.zeros((5, 2)))


@pytest.mark.parametrize(("count", "channels"), [(0, 5), (1, 768), (40, 768), (39, 3)])
def test_unit_rows_and_their_gradient(backend, count, channels):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, channels)).astype(np.float32) * 30
    x[:1] = 0  # has no direction
    dy = rng.standard_normal((40, channels)).astype(np.float32)
    y, pull = jax.vjp(lambda x: sparse.unit_rows(x, jnp.int32(count)), x)
    (dx,) = pull(jnp.asarray(dy))
    long = x[1:count].astype(np.float64)
    length = np.linalg.norm(long, axis=1, keepdims=True)
    unit = long / length
    along = np.sum(unit * dy[1:count], axis=1, keepdims=True)
    assert relative_error(y[1:count], unit) < TIGHT
    # The part along the row cancels: an error of a few units of dy.
    assert relative_error(dx[1:count], (dy[1:count] - unit * along) / length) < 3e-6
    for rows in (y, dx):
        assert not np.any(rows[:1])
        assert not np.any(rows[count:])


def test_vmap_and_jit_give_the_same(backend):
    plan, x, w = random_problem(80, 4, 6)
    stack = jnp.stack([jnp.asarray(x), jnp.asarray(x[::-1])])
    out = jax.jit(jax.vmap(lambda x: sparse.gather_gemm(x, jnp.asarray(w), plan.same[0])))(stack)
    for rows, y in zip(stack, out, strict=True):
        expected = reference.gather_gemm(np.asarray(rows), w, plan.same[0].forward)
        assert relative_error(y, expected) < TIGHT
        if backend == "cpu":
            np.testing.assert_array_equal(y, sparse.gather_gemm(rows, jnp.asarray(w), plan.same[0]))


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(("has_shortcut", "relu"), [(False, False), (False, True), (True, True)])
def test_convolution_with_norm_is_one_after_the_other(backend, dtype, has_shortcut, relu):
    rng = np.random.default_rng(5)
    plan, x, w = random_problem(300, 7, 33, capacity=340)
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    count = plan.counts[0]
    mean, scale, bias = (jnp.asarray(v) for v in rng.standard_normal((3, 33), np.float32))
    shortcut = jnp.asarray(rng.standard_normal((340, 33)), dtype) if has_shortcut else None
    neighbours = jax.tree.map(jnp.asarray, plan.same[0])
    arguments = (x, w, neighbours, mean, scale, bias, shortcut, jnp.int32(count), relu)

    def apart(x, w, neighbours, *rest):
        return sparse.affine_rows(sparse.gather_gemm(x, w, neighbours), *rest)

    y, expected = sparse.gather_gemm_affine(*arguments), apart(*arguments)
    assert y.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_array_equal(y, expected)
    else:  # rounded once instead of twice
        assert relative_error(y, np.asarray(expected, np.float64)) < 8e-3
    assert not np.any(np.asarray(y, np.float32)[count:])

    def gradients(function):
        def total(x, w, mean, scale, bias):
            out = function(x, w, neighbours, mean, scale, bias, *arguments[6:])
            return jnp.sum(out.astype(jnp.float32) ** 2)

        return jax.grad(total, argnums=(0, 1, 2, 3, 4))(x, w, mean, scale, bias)

    for ours, theirs in zip(gradients(sparse.gather_gemm_affine), gradients(apart), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_convolution_with_norm_refuses_a_shortcut_of_another_shape():
    plan, x, w = random_problem(30, 3, 5)
    vector = jnp.zeros(5)
    with pytest.raises(ValueError, match=r"gather_gemm_affine: shortcut is float32\[2, 5\]"):
        sparse.gather_gemm_affine(
            jnp.asarray(x),
            jnp.asarray(w),
            plan.same[0],
            vector,
            vector,
            vector,
            jnp.zeros((2, 5)),
            jnp.int32(3),
            True,
        )


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("valid", [300, 1000])
def test_convolution_with_moments_is_one_after_the_other(backend, dtype, valid):
    plan, x, w = random_problem(300, 7, 33, capacity=340)
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    neighbours = jax.tree.map(jnp.asarray, plan.same[0])
    expected, pull = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, neighbours), x, w)
    (y, mean, m2), pull_moments = jax.vjp(
        lambda x, w: sparse.gather_gemm_moments(x, w, neighbours, jnp.int32(valid)), x, w
    )
    np.testing.assert_array_equal(y, expected)
    # A count beyond the capacity stands for all rows.
    rows = np.asarray(y, np.float64)[:valid]
    assert relative_error(mean, rows.mean(0)) < TIGHT
    assert relative_error(m2, ((rows - rows.mean(0)) ** 2).sum(0)) < TIGHT
    nothing = jnp.zeros_like(mean)
    gradients = zip(pull_moments((y, nothing, nothing)), pull(y), strict=True)
    for ours, theirs in gradients:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("valid", [300, 1000, 0])
def test_gradients_of_the_moments_are_not_lost(backend, valid):
    rng = np.random.default_rng(6)
    plan, x, w = random_problem(300, 7, 33, capacity=340)
    x, w = jnp.nan_to_num(jnp.asarray(x)), jnp.asarray(w)
    dy = jnp.asarray(rng.standard_normal((340, 33), np.float32))
    dmean, dm2 = (jnp.asarray(v) for v in rng.standard_normal((2, 33), np.float32))
    rows = min(valid, 340)

    def apart(x, w):
        y = sparse.gather_gemm(x, w, plan.same[0])
        mean = y[:rows].sum(0) / max(rows, 1)
        return y, mean, ((y[:rows] - mean[None]) ** 2).sum(0)

    def joined(x, w):
        return sparse.gather_gemm_moments(x, w, plan.same[0], jnp.int32(valid))

    _, ours = jax.vjp(joined, x, w)
    _, theirs = jax.vjp(apart, x, w)
    for cotangents in ((dy, dmean, dm2), (0 * dy, dmean, 0 * dm2), (0 * dy, 0 * dmean, dm2)):
        for value, expected in zip(ours(cotangents), theirs(cotangents), strict=True):
            assert relative_error(value, np.asarray(expected, np.float64)) < 1e-5
            assert np.any(value) == (valid > 0 or np.any(cotangents[0]))
    # Some of the results alone: the cotangents of the others are symbolic zeros.
    dx = jax.grad(lambda x: jnp.sum(joined(x, w)[2] * dm2))(x)
    np.testing.assert_array_equal(dx, ours((0 * dy, 0 * dmean, dm2))[0])


@pytest.mark.parametrize(("rows", "channels"), [(200_000, 8), (1500, 320)])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("missing", [0, 150])
def test_moments_of_many_rows_and_of_few_wide_ones(backend, rows, channels, dtype, missing):
    """Many blocks, or columns of few rows; the last valid rows may have no neighbour."""
    rng = np.random.default_rng(0)
    index = np.arange(rows, dtype=np.int32)[None].copy()
    valid = rows - 50
    index[:, valid - missing :] = -1
    x = jnp.asarray(rng.standard_normal((rows, 4)) + 30, dtype)
    w = jnp.asarray(rng.standard_normal((1, 4, channels)), dtype)
    y, mean, m2 = sparse.gather_gemm_moments(
        x, w, sparse.NeighbourMap(jnp.asarray(index)), jnp.int32(valid)
    )
    wide = np.asarray(y, np.float64)[:valid]
    assert relative_error(mean, wide.mean(0)) < 2e-6
    assert relative_error(m2, ((wide - wide.mean(0)) ** 2).sum(0)) < 2e-6
    nothing = sparse.NeighbourMap(jnp.full_like(index, -1))
    none = sparse.gather_gemm_moments(x, w, nothing, jnp.int32(0))
    assert not np.any(none[1])
    assert not np.any(none[2])


@pytest.mark.parametrize("name", ["same", "down"])
def test_only_the_gradients_that_are_wanted_are_computed(backend, name):
    plan, x, w = random_problem(300, 7, 33)
    neighbours = plan.same[0] if name == "same" else plan.down[0]
    w = jnp.asarray(w[: neighbours.forward.shape[0]])
    x = jnp.asarray(x)

    def total(x, w):
        return jnp.sum(sparse.gather_gemm(x, w, neighbours) ** 2)

    both = jax.grad(total, argnums=(0, 1))
    dx, dw = both(x, w)
    np.testing.assert_array_equal(dx, jax.grad(total)(x, w))
    np.testing.assert_array_equal(dw, jax.grad(total, argnums=1)(x, w))
    text = str(jax.make_jaxpr(jax.grad(total, argnums=1))(x, w))
    assert re.findall(r"\bop=(\w+)", text) == ["gather_gemm", "gather_gemm_dw"]
    text = str(jax.make_jaxpr(both)(x, w))
    assert re.findall(r"\bop=(\w+)", text) == ["gather_gemm", "gather_gemm_gradients"]


ODD_SIZES = """
import jax, jax.numpy as jnp, numpy as np
from tests.sparse.clouds import relative_error
from uov_jax import sparse
from uov_jax.sparse import reference
rng = np.random.default_rng(0)
for dtype, bound in ((np.float32, 2e-6), (jnp.bfloat16, 8e-3)):
    for rows, c_in, c_out in (
        (1, 1, 1), (7, 3, 17), (61, 33, 15), (203, 130, 48), (97, 16, 768), (90, 259, 301),
        (450, 96, 64), (260, 1, 32), (70, 128, 96)
    ):
        forward = rng.integers(-1, rows, (27, rows)).astype(np.int32)
        forward[:, rng.random(rows) < 0.3] = -1
        x = jnp.asarray(rng.standard_normal((rows, c_in)), dtype)
        w = jnp.asarray(rng.standard_normal((27, c_in, c_out)), dtype)
        neighbours = sparse.NeighbourMap(jnp.asarray(forward))
        wide = np.asarray(x, np.float64), np.asarray(w, np.float64)
        y = sparse.gather_gemm(x, w, neighbours)
        expected = reference.gather_gemm(*wide, forward)
        assert relative_error(y, expected) < bound, (rows, c_in, c_out, dtype)
        dw = sparse.gather_gemm_dw(x, y, neighbours)
        taken = np.where((forward >= 0)[..., None], wide[0][forward], 0)
        expected = np.einsum("knc,nd->kcd", taken, np.asarray(y, np.float64))
        assert relative_error(dw, expected) < 2e-6, (rows, c_in, c_out, dtype)
        # The input gradient reads the weights transposed and with their slots reversed.
        transpose = np.full((27, rows), -1, np.int32)
        one_to_one = np.where(rng.random((27, rows)) < 0.5, rng.permuted(
            np.tile(np.arange(rows, dtype=np.int32), (27, 1)), axis=1), -1).astype(np.int32)
        for k in range(27):
            reached = one_to_one[k] >= 0
            transpose[k, one_to_one[k, reached]] = np.flatnonzero(reached)
        both_ways = sparse.NeighbourMap(jnp.asarray(one_to_one), jnp.asarray(transpose))
        dy = jnp.asarray(rng.standard_normal((rows, c_out)), dtype)
        dx, dw = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, both_ways), x, w)[1](dy)
        expected = reference.gather_gemm(
            np.asarray(dy, np.float64), wide[1].swapaxes(1, 2), transpose
        )
        assert relative_error(dx, expected) < bound, (rows, c_in, c_out, dtype)
        taken = np.where((one_to_one >= 0)[..., None], wide[0][one_to_one], 0)
        expected = np.einsum("knc,nd->kcd", taken, np.asarray(dy, np.float64))
        assert relative_error(dw, expected) < bound, (rows, c_in, c_out, dtype)
        # A submanifold map is its own transpose, mirrored.
        coords = np.unravel_index(rng.choice(512, rows, replace=False), (8, 8, 8))
        coords = np.stack([np.zeros(rows, int), *coords], axis=1).astype(np.int32)
        same = sparse.submanifold_map(coords, rows, 3)
        dx, dw = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, same), x, w)[1](dy)
        expected = reference.gather_gemm(
            np.asarray(dy, np.float64), wide[1].swapaxes(1, 2)[::-1], same.forward
        )
        assert relative_error(dx, expected) < bound, (rows, c_in, c_out, dtype)
        taken = np.where((same.forward >= 0)[..., None], wide[0][same.forward], 0)
        expected = np.einsum("knc,nd->kcd", taken, np.asarray(dy, np.float64))
        assert relative_error(dw, expected) < bound, (rows, c_in, c_out, dtype)
        index = rng.integers(-1, 11, rows).astype(np.int32)
        total = np.zeros((11, c_in))
        np.add.at(total, index[index >= 0], wide[0][index >= 0])
        sums = sparse.scatter_add_rows(x, jnp.asarray(index), 11)
        assert relative_error(sums, total) < bound, (rows, c_in, dtype)
for entry in (61, 200):
    bad = np.full((27, 61), -1, np.int32)
    bad[3, 58] = entry
    try:
        jax.block_until_ready(
            sparse.gather_gemm(jnp.ones((61, 4)), jnp.ones((27, 4, 4)), sparse.NeighbourMap(bad))
        )
    except Exception as error:
        assert f"neighbour map entry [3, 58] is {entry}" in str(error), error
    else:
        raise AssertionError(entry)
print(sparse.backends()["cpu"])
"""


@pytest.mark.parametrize("instruction_set", ["generic", "avx2", "avx512", "avx512_bf16"])
def test_every_instruction_set_gives_the_same(instruction_set):
    done = subprocess.run(
        [sys.executable, "-c", ODD_SIZES],
        env=dict(os.environ) | {"UOV_INSTRUCTION_SET": instruction_set},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "expected generic, avx2, avx512 or avx512_bf16" in done.stderr:
        pytest.skip(f"this processor has no {instruction_set}")
    assert done.returncode == 0, done.stderr
    assert f"({instruction_set} kernels)" in done.stdout


def test_the_slow_path_is_not_taken_silently(monkeypatch):
    monkeypatch.setattr(engine_module, "load_engine", lambda: (None, "it is not built"))
    backends_module._warn_of_slow_path.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"jax\.numpy, slowly: it is not built"):
        assert sparse.current_backend() == "xla"
    assert not sparse.keep_freed_memory()
    sparse.give_freed_memory_back()  # Nothing to be done.
    backends_module._warn_of_slow_path.cache_clear()


KEPT_AND_GIVEN_BACK = """
import os
from uov_jax import sparse

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

assert sparse.keep_freed_memory()
before = resident()
pieces = [bytearray(1_000_000) for _ in range(200)]
last = bytearray(1000)  # behind them
del pieces
kept = resident()
sparse.give_freed_memory_back()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_freed_memory_is_kept_until_it_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", KEPT_AND_GIVEN_BACK], capture_output=True, text=True, check=True
    )
    kept, left = map(int, done.stdout.split())
    assert kept > 190e6
    assert left < 20e6


THREADS_AND_DEVICES = """
import os, sys
processors, devices = eval(sys.argv[1])
os.sched_setaffinity(0, processors)
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
import hashlib, jax, jax.numpy as jnp, numpy as np
from uov_jax import sparse
from uov_jax.sparse.cpu import pool_threads
rng = np.random.default_rng(0)
# Weight gradients of so many rows are sums of parts.
coords = np.unique(rng.integers(-14, 14, (14000, 4)) * [0, 1, 1, 1], axis=0).astype(np.int32)
count = len(coords)
assert count > 2 * 4096
plan = sparse.build_plan(coords, sparse.PlanSpec(count, fractions=(1.0,) * 5))
x = rng.standard_normal((count, 40)).astype(np.float32)
w = rng.standard_normal((27, 40, 24)).astype(np.float32)

def step(x):
    y, pull = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, plan.same[0]), x, jnp.asarray(w))
    moments = sparse.gather_gemm_moments(x, jnp.asarray(w), plan.same[0], plan.counts[0])
    sums = sparse.scatter_add_rows(y, jnp.arange(count, dtype=jnp.int32) % 7, 7)
    wide = jnp.tile(x, (1, 3))[:, :96]
    v = jnp.tile(jnp.asarray(w), (1, 3, 3))[:, :96]
    others = []
    for first, second in ((wide, v[..., :64]), (wide.astype(jnp.bfloat16), v.astype(jnp.bfloat16))):
        z, pull_z = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, plan.same[0]), first, second)
        others += [z, *pull_z(z)]
    few = jax.tree.map(jnp.asarray, plan.same[3])
    columns = jnp.tile(jnp.asarray(w), (1, 1, 12))
    others += sparse.gather_gemm_moments(x[: few.forward.shape[1]], columns, few, plan.counts[3])
    return y, *pull(y), *moments, sums, *others

results = jax.pmap(step)(np.stack([x] * devices))
for result in results:
    for other in result[1:]:
        np.testing.assert_array_equal(result[0], other)
print(pool_threads())
print(hashlib.sha256(b"".join(np.asarray(r[0]).tobytes() for r in results)).hexdigest())
"""


@needs_affinity
@pytest.mark.parametrize("instruction_set", ["generic", ""])
def test_results_do_not_depend_on_threads_or_devices(instruction_set):
    """One thread, one for each processor, and eight devices at once: the same bits everywhere."""
    processors = sorted(os.sched_getaffinity(0))
    digests, threads = set(), set()
    for case in ({processors[0]}, 1), (set(processors), 1), (set(processors), 8):
        environment = dict(os.environ)
        if instruction_set:
            environment["UOV_INSTRUCTION_SET"] = instruction_set
        done = subprocess.run(
            [sys.executable, "-c", THREADS_AND_DEVICES, repr(case)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        number, digest = done.stdout.split()[-2:]
        threads.add(number)
        digests.add(digest)
    assert len(digests) == 1
    assert len(threads) >= min(2, len(processors)), threads


def test_gather_scatter_rows_without_pairs(backend):
    nothing = jnp.zeros((0,), jnp.int32)
    out = sparse.gather_scatter_rows(jnp.ones((30, 5)), nothing, nothing, 7)
    np.testing.assert_array_equal(out, np.zeros((7, 5)))
