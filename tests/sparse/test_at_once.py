"""Several Python threads that build plans and run ops at once get what one alone gets."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sparse.clouds import random_coords
from uov_jax import sparse
from uov_jax.sparse import views
from uov_jax.sparse.engine import engine

CALLERS = 4
ROUNDS = 6
ROWS = 1200
SPEC = sparse.PlanSpec(ROWS, first_kernel=5, fractions=(1.0,) * 5)


@pytest.fixture
def callers() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        yield pool


def at_once(
    pool: concurrent.futures.ThreadPoolExecutor, work: Callable[[int], Any], pieces: int
) -> list[Any]:
    """What `work` gives of each piece, where all threads begin at one time."""
    begin = threading.Barrier(CALLERS)

    def some(first: int) -> list[tuple[int, Any]]:
        begin.wait(60)
        return [(piece, work(piece)) for piece in range(first, pieces, CALLERS)]

    found = dict(pair for each in pool.map(some, range(CALLERS)) for pair in each)
    return [found[piece] for piece in range(pieces)]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def coords_of(piece: int) -> np.ndarray:
    return random_coords(np.random.default_rng(piece), 900 + piece, extent=8)


def host_work(piece: int) -> Any:
    """Everything that the engine does on the host."""
    rng = np.random.default_rng(piece)
    points = rng.normal(size=(6000, 3)).astype(np.float32)
    coords = coords_of(piece)
    sums = np.zeros((6000, 9), np.float32)
    seen = views.seen_points(
        points, np.eye(4), (50.0, 50.0, 32.0, 24.0), (48, 64), 1, None, 1.0, 0.0, 0.0, threads=2
    )
    table = rng.integers(-4, 5, (10, 9)).astype(np.float16)
    views.add_rows(sums, seen[0], table, seen[0] % 10, threads=2)
    planes = rng.integers(-4, 5, (9, 48, 64)).astype(np.float32)
    views.add_planes(sums, seen[0], planes, seen[1], seen[2], (48, 64), True, threads=2)
    return (
        sparse.voxelize(points, (0.1, 1.0, 0.1), cylindrical=True, threads=2),
        sparse.farthest_points(points, 20),
        sparse.locality_order(coords),
        sparse.build_plan(coords, SPEC, threads=2),
        sparse.submanifold_map(coords, len(coords), 5).forward,
        seen,
        sums,
    )


def test_plans_and_host_functions(callers: concurrent.futures.ThreadPoolExecutor) -> None:
    pieces = CALLERS * ROUNDS
    assert_same(at_once(callers, host_work, pieces), [host_work(p) for p in range(pieces)])


def program(coords: jax.Array, count: jax.Array, x: jax.Array, w: jax.Array) -> Any:
    """A plan, products with their gradients, batch norm and row moves, in one program."""
    plan = sparse.plan_in_jit(coords, count, SPEC)

    def loss(x: jax.Array, w: jax.Array) -> tuple[jax.Array, Any]:
        y, mean, m2 = sparse.gather_gemm_moments(x, w, plan.same[0], count)
        one = jnp.ones_like(mean)
        y = sparse.affine_rows(y, mean, one, m2, None, count, True)
        coarse = sparse.gather_gemm(y, w[:8], plan.down[0])
        source, target = plan.same[1].forward[0], plan.coords[1][:, 1] % 7
        moved = sparse.gather_scatter_rows(coarse, source, target, 7)
        return jnp.sum(sparse.unit_rows(moved, jnp.int32(5)) ** 2), (y, coarse)

    (value, rows), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, w)
    return plan, value, rows, slopes


@pytest.fixture(scope="module")
def compiled() -> Callable[[int], Any]:
    run = jax.jit(program)

    def work(piece: int) -> Any:
        rng = np.random.default_rng(piece)
        coords, padded = coords_of(piece), np.full((ROWS, 4), -1, np.int32)
        padded[: len(coords)] = coords
        x = rng.integers(-2, 3, (ROWS, 24)).astype(np.float32)
        w = rng.integers(-2, 3, (27, 24, 24)).astype(np.float32)
        with sparse.use_backend("cpu"):
            return jax.block_until_ready(run(padded, np.int32(len(coords)), x, w))

    return work


def test_compiled_programs(
    callers: concurrent.futures.ThreadPoolExecutor, compiled: Callable[[int], Any]
) -> None:
    pieces = CALLERS * ROUNDS
    expected = [compiled(piece) for piece in range(pieces)]
    assert_same(at_once(callers, compiled, pieces), expected)


def test_ops_and_host_functions_while_kernels_change(
    callers: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """Products of whole numbers, which are exact whatever kernels run."""
    names = engine().runnable_kernels()
    neighbours = sparse.build_plan(coords_of(0), SPEC).same[0]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-3, 4, (ROWS, 24)), jnp.float32)
    w = jnp.asarray(rng.integers(-3, 4, (27, 24, 40)), jnp.float32)
    run = jax.jit(lambda x, w: jax.vjp(lambda x, w: sparse.gather_gemm(x, w, neighbours), x, w)[0])

    def work(piece: int) -> Any:
        if piece % CALLERS == 0:
            engine().use_kernels(names[piece // CALLERS % len(names)])
        with sparse.use_backend("cpu"):
            return jax.block_until_ready(run(x, w)), host_work(piece % 3)[-1]

    before = engine().instruction_set()
    try:
        pieces = CALLERS * ROUNDS
        expected = [work(piece) for piece in range(pieces)]
        assert_same(at_once(callers, work, pieces), expected)
    finally:
        engine().use_kernels(before)
