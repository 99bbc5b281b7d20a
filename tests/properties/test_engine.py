"""What holds of the engine whatever it is given, tried on what hypothesis makes up.

Rows of features are small whole numbers: float32 and bfloat16 add and multiply those exactly, so
that results equal those of float64 to the last bit.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.sparse.clouds import relative_error
from tests.sparse.conftest import BACKENDS
from tests.sparse.test_sampling import by_definition
from uov_jax import sparse
from uov_jax.sparse import NeighbourMap, reference, views
from uov_jax.sparse.engine import engine

# Every run tries the same, and takes as long as it takes.
tried = functools.partial(
    settings,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ROWS = 24
LEVELS = 5
SPEC = sparse.PlanSpec(ROWS, levels=LEVELS, first_kernel=5, fractions=(1.0,) * LEVELS)
SCARCE = sparse.PlanSpec(ROWS, levels=LEVELS, first_kernel=5, fractions=(1.0, 0.5, 0.4, 0.2, 0.1))
BEYOND = np.iinfo(np.int32).max
# What a handler refuses: whichever JAX makes of it, at once or when results are waited for.
REFUSED = (jax.errors.JaxRuntimeError, ValueError)
# Those whose plans are not another's.
PLANNERS = [name for name in BACKENDS if name != "xla-parallel"]
# The emulation of a GPU runs its threads one after the other.
EXAMPLES = {name: 10 if name.startswith("cuda") else 60 for name in BACKENDS}

BATCH = st.sampled_from([0, 1, 2, 4095])
NEAR = st.integers(-3, 3)
# The range's ends, and where cells of the coarser levels end.
ENDS = st.sampled_from([-65000, -64999, -64993, -33, -17, -16, -1, 0, 15, 16, 31, 64999, 65000])
AXIS = st.one_of(NEAR, ENDS)
CELL = st.tuples(BATCH, AXIS, AXIS, AXIS)
ANYTHING = st.integers(-(2**31), 2**31 - 1)


def as_coords(cells: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(cells, np.int32).reshape(-1, 4)


# Nothing, one row, and all rows among them; in any order.
CLOUDS = st.one_of(
    st.lists(CELL, unique=True, max_size=ROWS),
    st.lists(st.tuples(BATCH, NEAR, NEAR, NEAR), unique=True, min_size=ROWS, max_size=ROWS),
).map(as_coords)
SEEDS = st.integers(0, 2**32 - 1)


def whole_numbers(seed: int, *shape: int, most: int = 8) -> np.ndarray:
    """float32 of this shape."""
    numbers = np.random.default_rng(seed).integers(-most, most, shape, endpoint=True)
    return numbers.astype(np.float32)


def padded(coords: np.ndarray) -> np.ndarray:
    """int32[ROWS, 4] whose last rows would be refused, were they looked at."""
    out = np.full((ROWS, 4), BEYOND, np.int32)
    out[: len(coords)] = coords
    return out


@functools.cache
def in_jit(spec: sparse.PlanSpec) -> Any:
    return jax.jit(lambda coords, count: sparse.plan_in_jit(coords, count, spec))


def assert_absent(arrays: Any) -> None:
    for array in jax.tree.leaves(arrays):
        assert (np.asarray(array) == -1).all()


@given(CLOUDS)
@tried(max_examples=100)
def test_a_plan_is_what_look_up_says(coords: np.ndarray) -> None:
    plan = sparse.build_plan(coords, SPEC)
    assert plan.first is not None
    np.testing.assert_array_equal(
        plan.first.forward[:, : len(coords)], reference.submanifold_map(coords, 5)
    )
    fine = coords
    for level in range(LEVELS):
        assert plan.counts[level] == len(fine)
        np.testing.assert_array_equal(plan.coords[level][: len(fine)], fine)
        same = plan.same[level].forward
        expected = reference.submanifold_map(fine, 3, 2**level)
        np.testing.assert_array_equal(same[:, : len(fine)], expected)
        assert_absent((plan.coords[level][len(fine) :], same[:, len(fine) :]))
        NeighbourMap.submanifold(same)  # It is its own transpose.
        if level + 1 == LEVELS:
            break
        coarse, forward, back = reference.strided_maps(fine, 2**level)
        down = plan.down[level]
        assert down.transpose is not None
        np.testing.assert_array_equal(down.forward[:, : len(coarse)], forward)
        np.testing.assert_array_equal(down.transpose[:, : len(fine)], back)
        assert_absent((down.forward[:, len(coarse) :], down.transpose[:, len(fine) :]))
        fine = coarse
    assert list(engine().level_counts(coords, LEVELS)) == list(plan.counts)


@pytest.mark.parametrize("backend", PLANNERS)
def test_a_plan_inside_jit_is_that_of_the_host(backend: str) -> None:
    @given(CLOUDS, st.sampled_from([SPEC, SCARCE]))
    @tried(max_examples=EXAMPLES[backend])
    def holds(coords: np.ndarray, spec: sparse.PlanSpec) -> None:
        with sparse.use_backend(backend):
            found = in_jit(spec)(padded(coords), np.int32(len(coords)))
        counts = np.array(engine().level_counts(coords, LEVELS))
        beyond = counts > spec.capacities
        if not beyond.any():
            expected = sparse.build_plan(coords, spec)
            jax.tree.map(np.testing.assert_array_equal, found, expected)
            return
        known = LEVELS if backend == "cpu" else int(np.argmax(beyond)) + 1
        np.testing.assert_array_equal(found.counts[:known], counts[:known])
        assert_absent((found.same, found.first, found.down, found.coords[1:]))
        with pytest.raises(sparse.CapacityError, match="voxels but room for"):
            sparse.build_plan(coords, spec)

    holds()


ILLEGAL = st.one_of(
    st.tuples(st.one_of(st.integers(4096, BEYOND), st.integers(-(2**31), -1)), AXIS, AXIS, AXIS),
    st.tuples(
        BATCH, st.one_of(st.integers(65001, BEYOND), st.integers(-(2**31), -65001)), AXIS, AXIS
    ),
    st.tuples(
        BATCH, AXIS, AXIS, st.one_of(st.integers(65001, BEYOND), st.integers(-(2**31), -65001))
    ),
)


@st.composite
def refused_clouds(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    """Coordinates of which one is illegal or stands there twice, and what is said of them."""
    cells = draw(st.lists(CELL, unique=True, min_size=1, max_size=ROWS - 1))
    row = draw(st.integers(0, len(cells)))
    if draw(st.booleans()):
        return as_coords(
            [*cells[:row], draw(ILLEGAL), *cells[row:]]
        ), f"in row {row} is out of range"
    twin = draw(st.integers(0, len(cells) - 1))
    cells.insert(row, cells[twin])
    pair = sorted([row, twin + (twin >= row)])
    return as_coords(cells), f"duplicate coordinate .* in rows {pair[0]} and {pair[1]}"


@given(refused_clouds())
@tried(max_examples=100)
def test_what_is_no_cloud_is_refused_by_its_row(refused: tuple[np.ndarray, str]) -> None:
    coords, message = refused
    for refuse in (
        lambda: sparse.build_plan(coords, SPEC),
        lambda: sparse.defer_plan(coords, SPEC),
        lambda: sparse.smallest_spec(coords, [SPEC]),
        lambda: sparse.locality_order(coords),
        lambda: sparse.submanifold_map(coords, len(coords), 3),
    ):
        with pytest.raises(ValueError, match=message):
            refuse()


@pytest.mark.parametrize("backend", PLANNERS)
def test_what_is_no_cloud_is_connected_to_nothing_inside_jit(backend: str) -> None:
    @given(refused_clouds())
    @tried(max_examples=EXAMPLES[backend])
    def holds(refused: tuple[np.ndarray, str]) -> None:
        coords, message = refused
        with sparse.use_backend(backend):
            run = functools.partial(in_jit(SPEC), padded(coords), np.int32(len(coords)))
            if backend == "cpu":
                with pytest.raises(REFUSED, match=message):
                    jax.block_until_ready(run())
                return
            found = run()
        assert (np.asarray(found.counts) == BEYOND).all()
        assert_absent((found.same, found.first, found.down, found.coords[1:]))

    holds()


@given(CLOUDS)
@tried(max_examples=100)
def test_locality_order_sorts_and_is_a_permutation(coords: np.ndarray) -> None:
    order = sparse.locality_order(coords)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(coords)))
    np.testing.assert_array_equal(order, np.lexsort(coords.T[::-1]))
    back = np.argsort(order)
    np.testing.assert_array_equal(coords[order][back], coords)


@given(CLOUDS, SEEDS)
@tried(max_examples=50)
def test_the_order_of_the_rows_changes_their_numbers_alone(coords: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(coords))
    plan, moved = (sparse.build_plan(c, SPEC) for c in (coords, coords[order]))
    np.testing.assert_array_equal(plan.counts, moved.counts)
    jax.tree.map(np.testing.assert_array_equal, plan.same[1:], moved.same[1:])
    jax.tree.map(np.testing.assert_array_equal, plan.down[1:], moved.down[1:])
    new = np.append(np.argsort(order), -1)  # the new number of every row, and of none
    same, moved_same = (p.same[0].forward[:, : len(coords)] for p in (plan, moved))
    np.testing.assert_array_equal(new[same][:, order], moved_same)


@given(
    CLOUDS, st.sampled_from([(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)]), st.sampled_from([1, 2, 16])
)
@tried(max_examples=50)
def test_submanifold_maps_of_any_stride(
    coords: np.ndarray, kernel: tuple[int, int], stride: int
) -> None:
    cells = coords.astype(np.int64)
    cells[:, 1:] = cells[:, 1:] // stride * stride
    cells = np.unique(cells, axis=0).astype(np.int32)
    found = sparse.submanifold_map(cells, len(cells), kernel[0], stride, kernel[1]).forward
    np.testing.assert_array_equal(
        found, reference.submanifold_map(cells, kernel[0], stride, kernel[1])
    )


@given(CLOUDS.filter(len), SEEDS)
@tried(max_examples=60)
def test_a_map_of_which_an_entry_is_changed_is_no_submanifold_map(
    coords: np.ndarray, seed: int
) -> None:
    forward = sparse.submanifold_map(coords, len(coords), 3).forward.copy()
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(27)), int(rng.integers(len(coords)))
    # The middle may say that a row has no neighbour in itself: that is its own transpose too.
    values = [v for v in range(-1, len(coords) + 1) if v != forward[k, n] and (k != 13 or v >= 0)]
    forward[k, n] = rng.choice(values)
    with pytest.raises(ValueError, match="no submanifold map"):
        NeighbourMap.submanifold(forward)


# Voxels.

METRES = st.one_of(
    st.floats(-40, 40, width=32),
    # On the faces of voxels, where rounding decides.
    st.integers(-300, 300).map(lambda n: float(np.float32(n) * np.float32(0.1))),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1e-20, -6500.0, 6499.9]),
)
POINTS = st.lists(st.tuples(METRES, METRES, METRES), max_size=60).map(
    lambda points: np.array(points, np.float32).reshape(-1, 3)
)
THREADS = st.integers(1, 4)


def check_voxels(voxels: sparse.Voxels, points: int) -> None:
    """What holds of voxels of any kind."""
    count = len(voxels.coords)
    assert len(voxels.first) == count
    assert len(voxels.inverse) == points
    assert len(np.unique(voxels.coords, axis=0)) == count
    np.testing.assert_array_equal(np.unique(voxels.inverse), np.arange(count))
    np.testing.assert_array_equal(
        voxels.first, np.unique(voxels.inverse, return_index=True)[1] if points else []
    )
    assert (np.diff(voxels.first) > 0).all()


@given(POINTS, st.sampled_from([0.05, 0.1, 3.0]), THREADS)
@tried(max_examples=100)
def test_voxels_are_the_floor_of_the_points(points: np.ndarray, size: float, threads: int) -> None:
    inside = np.abs(points / np.float32(size)).max(axis=1, initial=0) < 65000
    points = points[inside]
    voxels = sparse.voxelize(points, (size,) * 3, cylindrical=False, threads=threads)
    check_voxels(voxels, len(points))
    expected = np.floor(points / np.float32(size)).astype(np.int32)
    np.testing.assert_array_equal(voxels.coords[voxels.inverse], expected)
    coords = np.pad(voxels.coords, ((0, 0), (1, 0)))
    order = sparse.locality_order(coords)
    np.testing.assert_array_equal(order, np.lexsort(coords.T[::-1]))


@given(POINTS, THREADS)
@tried(max_examples=100)
def test_cylindrical_voxels_are_those_of_float64(points: np.ndarray, threads: int) -> None:
    size = np.array([0.1, 1.0, 0.1])
    points = points[np.abs(points).max(axis=1, initial=0) < 100]
    voxels = sparse.voxelize(points, tuple(size), cylindrical=True, threads=threads)
    check_voxels(voxels, len(points))
    x, y, z = points.T.astype(np.float64)
    exact = np.stack([np.hypot(x, y), np.degrees(np.arctan2(y, x)), z], axis=1) / size
    cells = voxels.coords[voxels.inverse]
    # Three roundings to float32 of numbers below 1,500: 3 * 6e-8 * 1,500, with a margin of 4.
    beyond = 1e-3
    assert (cells - beyond <= exact).all()
    assert (exact <= cells + 1 + beyond).all()


@given(POINTS, st.integers(0, 59), st.integers(0, 2), THREADS, st.booleans())
@tried(max_examples=100)
def test_voxelize_refuses_by_the_first_point(
    points: np.ndarray, row: int, axis: int, threads: int, cylindrical: bool
) -> None:
    points = points[np.abs(points).max(axis=1, initial=0) < 100]
    row = min(row, len(points))
    bad = np.zeros((1, 3), np.float32)
    bad[0, axis] = [np.nan, np.inf, -np.inf, 3e38, 1e9][row % 5]
    points = np.concatenate([points[:row], bad, points[row:], bad])
    with pytest.raises(ValueError, match=rf"point {row} \(.*(not finite|65000 voxels)"):
        sparse.voxelize(points, (0.1, 0.1, 0.1), cylindrical=cylindrical, threads=threads)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-3, 3)),
    st.integers(1, 40),
)
@tried(max_examples=60)
def test_farthest_points_by_definition(points: np.ndarray, count: int) -> None:
    count = min(count, len(points))
    np.testing.assert_array_equal(
        sparse.farthest_points(points, count), by_definition(points, count)
    )


# Products, in few shapes: every one is compiled.

CHANNELS = {jnp.float32: [(1, 5), (17, 36)], jnp.bfloat16: [(3, 32)]}


@functools.cache
def product_and_gradients(mirrored: bool, dtype: Any) -> Any:
    def run(x: Any, w: Any, dy: Any, forward: Any, transpose: Any) -> Any:
        neighbours = NeighbourMap(forward, transpose, mirrored=mirrored)
        y, pull = jax.vjp(
            lambda x, w: sparse.gather_gemm(x, w, neighbours), x.astype(dtype), w.astype(dtype)
        )
        return y, pull(dy.astype(dtype))

    return jax.jit(run)


def check_product(
    backend: str, seed: int, channels: tuple[int, int], neighbours: NeighbourMap, dtype: Any
) -> None:
    """Value and gradients of rows of whole numbers are those of float64."""
    forward = np.asarray(neighbours.forward)
    rows_in = forward.shape[1] if neighbours.mirrored else neighbours.transpose.shape[1]
    # Sums of 27 * 32 products of at most 4 * 4 are whole numbers that float32 holds.
    x = whole_numbers(seed, rows_in, channels[0], most=4)
    w = whole_numbers(seed + 1, len(forward), *channels, most=4)
    dy = whole_numbers(seed + 2, forward.shape[1], channels[1], most=4)
    with sparse.use_backend(backend):
        y, (dx, dw) = product_and_gradients(neighbours.mirrored, dtype)(
            x, w, dy, neighbours.forward, neighbours.transpose
        )
    for found, expected in (
        (y, reference.gather_gemm(x, w, forward)),
        (dx, reference.gather_gemm_dx(w, dy, forward, rows_in)),
        (dw, reference.gather_gemm_dw(x, dy, forward)),
    ):
        rounded = jnp.asarray(expected, jnp.float32).astype(dtype)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(rounded))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_products_and_gradients_are_those_of_float64(backend: str, dtype: Any) -> None:
    @given(
        CLOUDS,
        SEEDS,
        st.sampled_from(CHANNELS[dtype]),
        st.sampled_from(["same", "first", "down", "up"]),
    )
    @tried(max_examples=EXAMPLES[backend] // 2)
    def holds(coords: np.ndarray, seed: int, channels: tuple[int, int], which: str) -> None:
        plan = sparse.build_plan(coords, SPEC)
        down = plan.down[0]
        of = {"same": plan.same[0], "first": plan.first, "down": down, "up": down.swapped()}
        check_product(backend, seed, channels, of[which], dtype)

    holds()


@st.composite
def one_to_one_maps(draw: st.DrawFn) -> NeighbourMap:
    """Maps of 8 offsets, at each of which a row has one partner at most, and their transposes."""
    rng = np.random.default_rng(draw(SEEDS))
    share = draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    forward = np.full((8, 9), -1, np.int32)
    transpose = np.full((8, ROWS), -1, np.int32)
    for k in range(8):
        n = np.flatnonzero(rng.random(9) < share)
        m = rng.permutation(ROWS)[: len(n)]
        forward[k, n], transpose[k, m] = m, n
    return NeighbourMap(forward, transpose)


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_over_maps_of_no_coordinates(backend: str) -> None:
    @given(one_to_one_maps(), SEEDS)
    @tried(max_examples=EXAMPLES[backend] // 2)
    def holds(neighbours: NeighbourMap, seed: int) -> None:
        check_product(backend, seed, (17, 36), neighbours, jnp.float32)

    holds()


# Rows.

INDICES = arrays(np.int32, ROWS, elements=st.integers(-1, 9))


@functools.cache
def row_moves() -> Any:
    def run(x: Any, source: Any, target: Any, dy: Any) -> Any:
        gathered, back = jax.vjp(lambda x: sparse.gather_rows(x, source), x)
        added, forth = jax.vjp(lambda rows: sparse.scatter_add_rows(rows, target, 10), dy)
        both, through = jax.vjp(lambda x: sparse.gather_scatter_rows(x, source, target, 10), x)
        return gathered, back(dy)[0], added, forth(x)[0], both, through(x)[0]

    return jax.jit(run)


@pytest.mark.parametrize("backend", BACKENDS)
def test_row_moves_and_their_gradients_are_those_of_float64(backend: str) -> None:
    every = np.arange(ROWS, dtype=np.int32)

    @given(INDICES, INDICES, SEEDS)
    @tried(max_examples=EXAMPLES[backend])
    def holds(source: np.ndarray, target: np.ndarray, seed: int) -> None:
        x, dy = whole_numbers(seed, 10, 7), whole_numbers(seed + 1, ROWS, 7)
        with sparse.use_backend(backend):
            found = row_moves()(x, source, target, dy)
        # Gathering is a sum of one row.
        expected = (
            reference.gather_scatter_rows(x, source, every, ROWS),
            reference.gather_scatter_rows(dy, every, source, 10),
            reference.gather_scatter_rows(dy, every, target, 10),
            reference.gather_scatter_rows(x, target, every, ROWS),
            reference.gather_scatter_rows(x, source, target, 10),
            reference.gather_scatter_rows(x, target, source, 10),
        )
        for one, exact in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, exact)

    holds()


@given(
    INDICES,
    st.integers(0, ROWS - 1),
    st.one_of(st.integers(10, BEYOND), st.integers(-(2**31), -2)),
)
@tried(max_examples=40)
def test_an_index_of_no_row_is_refused(index: np.ndarray, place: int, wrong: int) -> None:
    index[place] = wrong
    few, many = jnp.ones((10, 7), jnp.float32), jnp.ones((ROWS, 7), jnp.float32)
    expected = rf"\[{place}\] is {wrong}, expected -1 or a row below 10"
    with sparse.use_backend("cpu"):
        with pytest.raises(REFUSED, match=f"index{expected}"):
            jax.block_until_ready(sparse.gather_rows(few, jnp.asarray(index)))
        with pytest.raises(REFUSED, match=f"target{expected}"):
            jax.block_until_ready(sparse.scatter_add_rows(many, jnp.asarray(index), 10))


@functools.cache
def moments_and_units() -> Any:
    return jax.jit(lambda x, count: (*sparse.column_moments(x, count), sparse.unit_rows(x, count)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_moments_and_unit_rows_see_the_valid_rows_alone(backend: str) -> None:
    @given(st.integers(0, ROWS), SEEDS, st.sampled_from([1.0, 1e-3, 1e6]))
    @tried(max_examples=EXAMPLES[backend] // 2)
    def holds(count: int, seed: int, scale: float) -> None:
        x = whole_numbers(seed, ROWS, 7) * np.float32(scale)
        x[count:] = 0  # as convolutions leave them
        with sparse.use_backend(backend):
            mean, m2, units = moments_and_units()(x, np.int32(count))
        # Sums of at most 24 numbers, and of 7 squares, in float32.
        exact_mean, exact_m2 = reference.column_moments(x, count)
        assert np.abs(mean - exact_mean).max() <= 1e-6 * np.abs(x).max(initial=0)
        assert relative_error(m2, exact_m2) < 1e-5
        lengths = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        exact = np.divide(x, lengths, out=np.zeros((ROWS, 7)), where=lengths > 1e-12)
        assert np.abs(np.asarray(units) - exact).max() < 1e-6

    holds()


# What posed images give.

HALVES = st.sampled_from([np.float16, np.float32])


@st.composite
def places(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different rows of 12, and a pixel of 9 x 7 for each."""
    target = np.array(draw(st.lists(st.integers(0, 11), unique=True)), np.int32)
    pick = np.random.default_rng(draw(SEEDS))
    row, column = (pick.integers(0, n, len(target)).astype(np.int32) for n in (9, 7))
    return target, row, column


@given(
    places(), HALVES, st.sampled_from([(9, 7), (3, 2), (1, 1), (20, 30), (70, 70)]), SEEDS, THREADS
)
@tried(max_examples=60)
def test_planes_are_added_as_their_formula_says(
    places: tuple[np.ndarray, ...], dtype: Any, grid: tuple[int, int], seed: int, threads: int
) -> None:
    target, row, column = places
    planes = whole_numbers(seed, 67, *grid).astype(dtype)
    sums = whole_numbers(seed + 1, 12, 67)
    expected = sums.copy()
    expected[target] += planes[:, row * grid[0] // 9, column * grid[1] // 7].T
    views.add_planes(sums, target, planes, row, column, (9, 7), False, threads)
    np.testing.assert_array_equal(sums, expected)


@given(places(), HALVES, st.sampled_from([(9, 7), (3, 2), (1, 1), (70, 70)]), SEEDS, THREADS)
@tried(max_examples=40)
def test_planes_are_mixed_as_their_formula_says(
    places: tuple[np.ndarray, ...], dtype: Any, grid: tuple[int, int], seed: int, threads: int
) -> None:
    target, row, column = places
    planes = whole_numbers(seed, 5, *grid).astype(dtype)
    sums = np.zeros((12, 5), np.float32)
    views.add_planes(sums, target, planes, row, column, (9, 7), True, threads)
    v, u = (
        np.clip((p + 0.5) * cells / pixels - 0.5, 0, cells - 1)
        for p, cells, pixels in ((row, grid[0], 9), (column, grid[1], 7))
    )
    low_v, low_u = v.astype(int), u.astype(int)
    high_v, high_u = np.minimum(low_v + 1, grid[0] - 1), np.minimum(low_u + 1, grid[1] - 1)
    a, b = v - low_v, u - low_u
    exact = (1 - a) * ((1 - b) * planes[:, low_v, low_u] + b * planes[:, low_v, high_u])
    exact += a * ((1 - b) * planes[:, high_v, low_u] + b * planes[:, high_v, high_u])
    # Of numbers up to 8, with weights rounded to float32.
    assert np.abs(sums[target] - exact.T).max(initial=0) < 1e-5


@given(places(), HALVES, st.sampled_from([1, 3, 12]), SEEDS, THREADS)
@tried(max_examples=60)
def test_rows_of_a_table_are_added(
    places: tuple[np.ndarray, ...], dtype: Any, rows: int, seed: int, threads: int
) -> None:
    target = places[0]
    index = np.random.default_rng(seed).integers(0, rows, len(target)).astype(np.int32)
    table, sums = whole_numbers(seed, rows, 9).astype(dtype), whole_numbers(seed + 1, 12, 9)
    expected = sums.copy()
    expected[target] += table[index]
    views.add_rows(sums, target, table, index, threads)
    np.testing.assert_array_equal(sums, expected)
