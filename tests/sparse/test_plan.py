"""Voxelisation, levels and neighbour maps."""

from __future__ import annotations

import ctypes
import ctypes.util

import jax
import numpy as np
import pytest

from tests.sparse.clouds import random_coords
from uov_jax import processors, sparse
from uov_jax.sparse import reference
from uov_jax.sparse.engine import engine
from uov_jax.sparse.plan import _at_most

OUT_OF_RANGE = (
    r"in row 7 is out of range: batch must be in \[0, 4096\), x, y and z in \[-65000, 65000\]"
)
ILLEGAL = (
    (0, 65001, 0, 0),
    (0, 0, -65001, 0),
    (0, 0, 0, 2**31 - 1),
    (0, -(2**31), 0, 0),
    (-1, 0, 0, 0),
    (4096, 0, 0, 0),
    (8191, 0, 0, 0),
    (2**31 - 1, 0, 0, 0),
)


def padded(coords: np.ndarray, capacity: int) -> np.ndarray:
    out = np.full((capacity, 4), 7, np.int32)  # garbage that would duplicate if it were read
    out[: len(coords)] = coords
    return out


def assert_same_plan(a: sparse.Plan, b: sparse.Plan) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_voxels_come_in_order_of_first_occurrence():
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (500, 3)).astype(np.float32)
    voxels = sparse.voxelize(points, (0.5, 0.5, 0.5), cylindrical=False)
    expected: dict[tuple[int, ...], int] = {}
    inverse = []
    for cell in np.floor(points / np.float32(0.5)).astype(int).tolist():
        inverse.append(expected.setdefault(tuple(cell), len(expected)))
    np.testing.assert_array_equal(voxels.coords, np.array(list(expected)))
    np.testing.assert_array_equal(voxels.inverse, inverse)
    np.testing.assert_array_equal(voxels.first, np.unique(inverse, return_index=True)[1])


def test_cylindrical_voxels():
    points = np.array([[3.05, 4.0, -0.05], [-1.0, -1e-6, 0.0]], np.float32)
    voxels = sparse.voxelize(points, (0.1, 1.0, 0.1), cylindrical=True)
    np.testing.assert_array_equal(voxels.coords, [[50, 52, -1], [10, -180, 0]])


def hard_points() -> np.ndarray:
    """Points about the faces of cylindrical voxels, about zero and the ends of the circle."""
    rng = np.random.default_rng(1)
    radius = rng.uniform(0.05, 90, 40_000).astype(np.float32)
    degrees = rng.integers(-180, 181, 40_000) + rng.normal(0, 1e-5, 40_000)
    degrees[::4] = rng.uniform(-180, 180, 10_000)
    points = np.zeros((40_000 + 13, 3), np.float32)
    points[:40_000, 0] = radius * np.cos(np.radians(degrees))
    points[:40_000, 1] = radius * np.sin(np.radians(degrees))
    points[:40_000, 2] = rng.integers(-30, 30, 40_000) * np.float32(0.1)
    ends = [(x, y) for x in (0.0, -0.0, -2.5, 1e-20) for y in (0.0, -0.0, 1e-30)]
    points[40_000:40_012, :2] = ends
    return points


@pytest.mark.parametrize("size", [(0.1, 1.0, 0.1), (0.1, 0.01, 0.1), (0.3, 90.0, 0.5)])
def test_azimuths_fall_as_the_c_library_computes_them(size):
    """Wherever the shorter way leaves it open: to the bit, as before there was one."""
    points = hard_points()
    arc = ctypes.CDLL(ctypes.util.find_library("m")).atan2f
    arc.restype, arc.argtypes = ctypes.c_float, [ctypes.c_float] * 2
    azimuth = np.array([arc(y, x) for x, y in points[:, :2].tolist()], np.float32)
    azimuth = azimuth * np.float32(180) / np.float32(np.pi)
    radius = np.sqrt(points[:, 0] * points[:, 0] + points[:, 1] * points[:, 1])
    place = np.stack([radius, azimuth, points[:, 2]], axis=1) / np.array(size, np.float32)
    voxels = sparse.voxelize(points, size, cylindrical=True)
    np.testing.assert_array_equal(voxels.coords[voxels.inverse], np.floor(place))


@pytest.mark.parametrize("cylindrical", [False, True])
@pytest.mark.parametrize("columns", [3, 5])
def test_sorted_voxels_are_the_voxels_in_another_order(cylindrical, columns):
    rng = np.random.default_rng(2)
    points = rng.normal(0, 3, (5000, columns)).astype(np.float32)
    size = (0.5, 2.0, 0.3)
    first, found = (
        sparse.voxelize(points, size, cylindrical),
        sparse.sorted_voxels(points, size, cylindrical),
    )
    assert 500 < len(found.coords) < 4900
    order = np.lexsort(first.coords.T[::-1])
    np.testing.assert_array_equal(found.coords, first.coords[order])
    np.testing.assert_array_equal(found.first, first.first[order])
    np.testing.assert_array_equal(order[found.inverse], first.inverse)
    assert len(sparse.sorted_voxels(points[:0], size, cylindrical).coords) == 0
    with pytest.raises(ValueError, match=r"point 7 .*not finite"):
        sparse.sorted_voxels(np.where(np.arange(5000)[:, None] == 7, np.nan, points), size, True)


@pytest.mark.parametrize("spread", [3, 400, 60_000])
def test_levels_are_counted_as_the_plan_counts_them(spread):
    coords = np.random.default_rng(4).integers(-spread, spread, (3000, 4)).astype(np.int32)
    coords[:, 0] %= 3
    coords = np.unique(coords, axis=0)
    np.random.default_rng(5).shuffle(coords)
    expected = [
        len(np.unique(np.concatenate([coords[:, :1], coords[:, 1:] >> level], axis=1), axis=0))
        for level in range(5)
    ]
    assert sparse.level_counts(coords, 5).tolist() == expected
    assert sparse.level_counts(coords, 2).tolist() == expected[:2]
    # One cloud after the other.
    clouds = [coords[coords[:, 0] == batch, 1:] for batch in range(3)]
    assert sum(sparse.level_counts(cloud, 5) for cloud in clouds).tolist() == expected
    assert sparse.level_counts(coords[:0], 5).tolist() == [0] * 5
    with pytest.raises(ValueError, match="duplicate coordinate .* in rows 1 and 3"):
        sparse.level_counts(clouds[0][[0, 1, 2, 1]], 5)


def test_plans_are_padded_only_to_what_holds_them():
    coords = random_coords(np.random.default_rng(5), 200)
    plan = sparse.build_plan(coords, sparse.PlanSpec(256, fractions=(1.0,) * 5))
    for wrong in (
        sparse.PlanSpec(512, fractions=(1.0,) * 5, deferred=True),
        sparse.PlanSpec(512, fractions=(1.0,) * 5, first_kernel=5),
        sparse.PlanSpec(512, levels=4, fractions=(1.0,) * 5),
    ):
        with pytest.raises(ValueError, match="no plan of this kind has the shape"):
            sparse.pad_plan(plan, wrong)
    with pytest.raises(ValueError, match="256 rows do not fit 250"):
        sparse.pad_plan(plan, sparse.PlanSpec(250, fractions=(1.0,) * 5))
    larger = sparse.PlanSpec(300, fractions=(1.0, 0.9, 0.9, 0.9, 0.9))
    assert_same_plan(sparse.pad_plan(plan, larger), sparse.build_plan(coords, larger))


def test_real_sweep_has_the_measured_number_of_voxels(real_nuscenes):
    (path,) = (real_nuscenes / "samples" / "LIDAR_TOP").iterdir()
    points = np.fromfile(path, np.float32).reshape(-1, 5)[:, :3]
    voxels = sparse.voxelize(np.ascontiguousarray(points), (0.1, 1.0, 0.1), cylindrical=True)
    assert len(voxels.coords) == 15947
    assert np.all(np.diff(voxels.first) > 0)
    assert voxels.first[0] == 0
    coords = np.pad(voxels.coords, ((0, 0), (1, 0)))
    plan = sparse.build_plan(coords, sparse.PlanSpec(20480))
    np.testing.assert_array_equal(plan.counts, [15947, 10155, 5900, 3122, 1475])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_voxelize_names_the_point_it_refuses(bad):
    points = np.zeros((5, 3), np.float32)
    points[3, 1] = bad
    with pytest.raises(ValueError, match=r"point 3 .*(not finite|65000 voxels)"):
        sparse.voxelize(points, (0.1, 0.1, 0.1), cylindrical=False)


def test_voxelize_names_the_first_of_many_points_it_refuses():
    points = np.zeros((50_000, 3), np.float32)
    points[[49_000, 20_000, 30_000]] = np.nan
    with pytest.raises(ValueError, match="point 20000 .*not finite"):
        sparse.voxelize(points, (0.1, 0.1, 0.1), cylindrical=False)


@pytest.mark.parametrize("threads", [2, 40])
def test_one_thread_builds_what_several_build(threads):
    # The simulator needs packages that the engine does not.
    sweeps = pytest.importorskip("benchmarks.sweeps")
    points = sweeps.synthetic().points

    def build(threads):
        voxels = sparse.voxelize(points, sweeps.VOXEL_SIZE, cylindrical=True, threads=threads)
        coords = np.pad(voxels.coords, ((0, 0), (1, 0)))
        spec = sparse.PlanSpec(len(coords), first_kernel=5, fractions=(1.0,) * 5)
        return voxels, sparse.build_plan(coords, spec, threads)

    jax.tree.map(np.testing.assert_array_equal, build(1), build(threads))


def test_as_many_threads_as_processors_are_available(monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 3)
    assert [_at_most(threads) for threads in (None, 1, 40)] == [3, 1, 40]


def test_no_thread_is_refused():
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        sparse.voxelize(np.zeros((1, 3), np.float32), (1.0, 1.0, 1.0), False, threads=0)
    with pytest.raises(ValueError, match="threads must be at least 1, not -1"):
        sparse.build_plan(np.zeros((1, 4), np.int32), sparse.PlanSpec(1), threads=-1)


def test_voxelize_of_nothing():
    voxels = sparse.voxelize(np.zeros((0, 3), np.float32), (1.0, 1.0, 1.0), cylindrical=False)
    assert [len(a) for a in voxels] == [0, 0, 0]


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(1, 1, 1), (3, 1, 1), (5, 1, 1), (3, 1, 2), (3, 4, 1), (5, 2, 2)],
)
def test_submanifold_map_against_look_up(backend, kernel, stride, dilation):
    coords = random_coords(np.random.default_rng(1), 300, extent=5, stride=stride)
    expected = reference.submanifold_map(coords, kernel, stride, dilation)
    host = sparse.submanifold_map(coords, len(coords), kernel, stride, dilation).forward
    np.testing.assert_array_equal(host, expected)
    capacity = 320
    traced = jax.jit(lambda c, n: sparse.submanifold_map(c, n, kernel, stride, dilation).forward)(
        padded(coords, capacity), np.int32(len(coords))
    )
    np.testing.assert_array_equal(traced[:, : len(coords)], expected)
    assert np.all(np.asarray(traced)[:, len(coords) :] == -1)
    # The invariant that makes a submanifold map its own transpose.
    k, n = np.nonzero(expected >= 0)
    np.testing.assert_array_equal(expected[len(expected) - 1 - k, expected[k, n]], n)


def test_plan_levels_and_strided_maps():
    coords = random_coords(np.random.default_rng(2), 700)
    plan = sparse.build_plan(coords, sparse.PlanSpec(800, first_kernel=5, fractions=(1.0,) * 5))
    np.testing.assert_array_equal(plan.first.forward[:, :700], reference.submanifold_map(coords, 5))
    fine = coords
    for level in range(4):
        n = plan.counts[level + 1]
        coarse, forward, back = reference.strided_maps(fine, 2**level)
        np.testing.assert_array_equal(plan.coords[level + 1][:n], coarse)
        np.testing.assert_array_equal(
            plan.same[level + 1].forward[:, :n],
            reference.submanifold_map(coarse, 3, 2 ** (level + 1)),
        )
        down = plan.down[level]
        np.testing.assert_array_equal(down.forward[:, :n], forward)
        np.testing.assert_array_equal(down.transpose[:, : len(fine)], back)
        rest = plan.coords[level + 1][n:], down.forward[:, n:], down.transpose[:, len(fine) :]
        assert all(np.all(padding == -1) for padding in rest)
        # What `gather_gemm` takes for granted.
        k, parent = np.nonzero(forward >= 0)
        np.testing.assert_array_equal(back[k, forward[k, parent]], parent)
        assert np.count_nonzero(back >= 0) == len(fine)
        fine = coarse


@pytest.mark.parametrize("count", [0, 1, 640])
def test_plan_inside_jit_equals_the_host_plan(backend, count):
    spec = sparse.PlanSpec(640, first_kernel=5, fractions=(1.0,) * 5)
    coords = random_coords(np.random.default_rng(3), count)
    build = jax.jit(lambda c, n: sparse.plan_in_jit(c, n, spec))
    assert_same_plan(build(padded(coords, 640), np.int32(count)), sparse.build_plan(coords, spec))


def test_overflow_is_refused_with_the_numbers(backend):
    coords = random_coords(np.random.default_rng(4), 100)
    spec = sparse.PlanSpec(100, first_kernel=5, fractions=(1.0, 0.5, 0.5, 0.5, 0.5))
    with pytest.raises(sparse.CapacityError, match=r"level 1 .* has \d+ voxels but room for 50"):
        sparse.build_plan(coords, spec)
    with pytest.raises(sparse.CapacityError, match=r"level 0 .* has 100 voxels but room for 90"):
        sparse.build_plan(coords, sparse.PlanSpec(90))
    plan = jax.jit(lambda c, n: sparse.plan_in_jit(c, n, spec))(coords, np.int32(100))
    assert plan.counts[1] > 50
    maps = jax.tree.leaves((plan.same, plan.first, plan.down, plan.coords[1:]))
    assert len(maps) == 5 + 1 + 2 * 4 + 4
    assert all(np.all(np.asarray(array) == -1) for array in maps)


def filled(spec, coords):
    """The arrays of a plan as the engine takes them, full of numbers that mean nothing."""
    plan = sparse.build_plan(np.zeros((0, 4), np.int32), spec)
    for array in jax.tree.leaves(plan):
        array[...] = 7
    return (
        [each.forward for each in plan.same],
        plan.first.forward,
        [each.forward for each in plan.down],
        [each.transpose for each in plan.down],
        list(plan.coords[1:]),
    )


def test_the_engine_writes_no_more_rows_than_there_are():
    coords = random_coords(np.random.default_rng(4), 100)
    spec = sparse.PlanSpec(90, first_kernel=5, fractions=(1.0,) * 5)
    arrays = filled(spec, coords)
    counts = engine().fill_plan(coords, *arrays, 2)
    assert counts[0] == 100
    assert all(np.all(array == -1) for array in jax.tree.leaves(arrays))
    same, _, *steps = arrays
    six = [*same, same[-1]], None, *([*each, each[-1]] for each in steps)
    with pytest.raises(ValueError, match="a plan has 1 to 5 levels"):
        engine().fill_plan(coords, *six, 1)
    with pytest.raises(ValueError, match="an array for every level and every step"):
        engine().fill_plan(coords, same, None, *([each[0]] for each in steps), 1)
    with pytest.raises(ValueError, match=r"must be \[8, 90\]"):
        engine().fill_plan(coords, same, None, *(same[:4] for _ in steps), 1)
    with pytest.raises(ValueError, match="a plan has 1 to 5 levels"):
        engine().level_counts(coords, 40)
    with pytest.raises(ValueError, match="the tensor stride is 3, expected a power of two"):
        engine().submanifold_map(3 * coords, 3, 3, 1, 100, 1)


def test_series_takes_the_first_spec_that_holds_every_level():
    coords = random_coords(np.random.default_rng(5), 200)
    series = [sparse.PlanSpec(n, fractions=(1.0,) * 5) for n in (128, 256, 512)]
    assert sparse.smallest_spec(coords, series) is series[1]
    assert sparse.build_plan_in_series(coords, series).coords[0].shape == (256, 4)
    with pytest.raises(sparse.CapacityError, match="200 voxels but room for 128"):
        sparse.build_plan_in_series(coords, series[:1])


def test_duplicate_and_out_of_range_coordinates_are_refused():
    coords = random_coords(np.random.default_rng(6), 10)
    coords[7] = coords[2]
    with pytest.raises(ValueError, match="duplicate coordinate .* in rows 2 and 7"):
        sparse.build_plan(coords, sparse.PlanSpec(16))
    with pytest.raises(ValueError, match="duplicate"):
        sparse.smallest_spec(coords, [sparse.PlanSpec(16)])
    for bad in ILLEGAL:
        coords[7] = bad
        with pytest.raises(ValueError, match=OUT_OF_RANGE):
            sparse.build_plan(coords, sparse.PlanSpec(16))
        with pytest.raises(ValueError, match=OUT_OF_RANGE):
            sparse.smallest_spec(coords, [sparse.PlanSpec(16)])
        with pytest.raises(ValueError, match=OUT_OF_RANGE):
            sparse.locality_order(coords)
        with pytest.raises(ValueError, match=OUT_OF_RANGE):
            sparse.submanifold_map(coords, 10, kernel=3)
    even = random_coords(np.random.default_rng(7), 8, stride=2)
    even[7] = (0, 3, 2, 2)
    with pytest.raises(ValueError, match="row 7 is not a multiple of the tensor stride 2"):
        sparse.submanifold_map(even, 8, kernel=3, tensor_stride=2)


@pytest.mark.parametrize("bad", [*ILLEGAL, (0, 0, 0, 0)])
def test_bad_coordinates_inside_jit(backend, bad):
    """The compiled backend raises; `xla` cannot, and connects nothing."""
    spec = sparse.PlanSpec(16, levels=2)
    coords = np.zeros((16, 4), np.int32)
    coords[:10, 1] = np.arange(10)
    coords[7] = bad

    def plan(coords, count):
        return sparse.plan_in_jit(coords, count, spec)

    def one_map(coords, count):
        return sparse.submanifold_map(coords, count, 3).forward

    for build in (plan, one_map):
        run = jax.jit(build)
        if backend == "cpu":
            message = OUT_OF_RANGE if any(bad) else "duplicate coordinate .* in rows 0 and 7"
            with pytest.raises(jax.errors.JaxRuntimeError, match=message):
                jax.block_until_ready(run(coords, np.int32(10)))
        else:
            built = run(coords, np.int32(10))
            counts, maps = (built.counts, built.same) if build is plan else (None, built)
            assert all(np.all(np.asarray(a) == -1) for a in jax.tree.leaves(maps))
            assert counts is None or np.all(np.asarray(counts) > 16)
        # What stands past the valid rows is nobody's business.
        found = run(coords, np.int32(7))
        found = found.same[0].forward if build is plan else found
        np.testing.assert_array_equal(found[:, :7], reference.submanifold_map(coords[:7], 3))


def legal_coords(rng: np.random.Generator, count: int) -> np.ndarray:
    """int32 [n, 4] over the whole legal range, with many at its ends and many neighbours."""
    ends = np.array([-65000, -64999, -64993, -1, 0, 1, 64999, 65000])
    spatial = np.where(
        rng.random((count, 3)) < 0.5,
        rng.choice(ends, (count, 3)),
        rng.integers(-65000, 65001, (count, 3)),
    )
    batch = np.where(
        rng.random(count) < 0.5, rng.choice([0, 1, 4094, 4095], count), rng.integers(0, 4096, count)
    )
    coords = np.concatenate([batch[:, None], spatial], axis=1).astype(np.int32)
    return rng.permutation(np.unique(coords, axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_keys_keep_the_order_of_all_legal_coordinates(seed):
    coords = legal_coords(np.random.default_rng(seed), 3000)
    ordered = coords[sparse.locality_order(coords)]
    np.testing.assert_array_equal(ordered, coords[np.lexsort(coords.T[::-1])])


def test_all_legal_coordinates_have_their_neighbours_and_parents(backend):
    coords = legal_coords(np.random.default_rng(0), 600)
    n = len(coords)
    spec = sparse.PlanSpec(n, first_kernel=5, fractions=(1.0,) * 5)
    plan = sparse.build_plan(coords, spec)
    traced = jax.jit(lambda c, count: sparse.plan_in_jit(c, count, spec))(coords, np.int32(n))
    assert_same_plan(traced, plan)
    np.testing.assert_array_equal(plan.first.forward, reference.submanifold_map(coords, 5))
    for level, stride in enumerate((1, 2, 4, 8, 16)):
        parents = coords.copy()
        parents[:, 1:] = coords[:, 1:] // stride * stride
        if level > 0:
            parents = np.unique(parents, axis=0)
        found = plan.coords[level][: plan.counts[level]]
        np.testing.assert_array_equal(found, parents)
        # Derived coordinates are legal, as far as 8 beyond the limit.
        own = sparse.submanifold_map(found, len(found), 3, stride)
        np.testing.assert_array_equal(own.forward, plan.same[level].forward[:, : len(found)])
    again = jax.jit(lambda c, k: sparse.submanifold_map(c, k, 3, 16).forward)(
        plan.coords[4], plan.counts[4]
    )
    np.testing.assert_array_equal(again, plan.same[4].forward)
    assert plan.coords[4][:, 1:].min() == -65008


def test_derived_coordinates_are_legal_at_their_own_stride_alone():
    coords = np.array([[0, -65008, 0, 0]], np.int32)
    assert sparse.submanifold_map(coords, 1, 3, 16).forward.max() == 0
    for stride in (1, 2, 4, 8):
        with pytest.raises(ValueError, match=r"out of range.* in \[-65000, 65000\]"):
            sparse.submanifold_map(coords, 1, 3, stride)
    coords[0, 1] = -65024
    with pytest.raises(ValueError, match=r"out of range.* in \[-65008, 65000\]"):
        sparse.submanifold_map(coords, 1, 3, 16)


def test_coordinates_that_int32_cannot_hold_are_not_wrapped():
    for dtype, bad in ((np.int64, 2**32), (np.int64, -(2**40)), (np.uint32, 2**32 - 1)):
        coords = np.zeros((2, 4), dtype)
        coords[1, 1] = np.array(bad).astype(dtype)
        with pytest.raises(ValueError, match="in row 1 is out of range"):
            sparse.build_plan(coords, sparse.PlanSpec(2))
    whole = np.array([[0, 1, 2, 3], [4095, 0, 0, 0]])
    np.testing.assert_array_equal(sparse.locality_order(whole.astype(np.int16)), [0, 1])
    with pytest.raises(ValueError, match=r"coords must be int32 \[N, 4\], not float64\[2, 4\]"):
        sparse.submanifold_map(whole.astype(float), 2, 3)
    with pytest.raises(ValueError, match=r"coords must be int32\[2, 4\], not float32\[2, 4\]"):
        sparse.plan_in_jit(np.zeros((2, 4), np.float32), np.int32(2), sparse.PlanSpec(2))


def test_extreme_coordinates_have_no_false_neighbours():
    edge = 65000
    coords = np.array(
        [
            [b, x, y, z]
            for b in (0, 1)
            for x in (-edge, edge)
            for y in (-edge, edge)
            for z in (-edge, edge)
        ],
        np.int32,
    )
    found = sparse.submanifold_map(coords, len(coords), 5, 1, 2).forward
    assert np.count_nonzero(found >= 0) == len(coords)


def test_locality_order_sorts_by_batch_and_space():
    coords = random_coords(np.random.default_rng(8), 50)
    ordered = coords[sparse.locality_order(coords)]
    np.testing.assert_array_equal(ordered, coords[np.lexsort(coords.T[::-1])])


def test_a_deferred_plan_is_the_plan(backend):
    spec = sparse.PlanSpec(640, first_kernel=5, fractions=(1.0,) * 5, deferred=True)
    coords = random_coords(np.random.default_rng(3), 500)
    deferred = sparse.defer_plan(coords, spec)
    built = jax.jit(lambda plan: plan.scheduled())(deferred)
    expected = sparse.build_plan(coords, spec)
    np.testing.assert_array_equal(deferred.counts, expected.counts)
    np.testing.assert_array_equal(deferred.coords[0], expected.coords[0])
    for found, wanted in zip(
        (*built.same, built.first, *built.down),
        (*expected.same, expected.first, *expected.down),
        strict=True,
    ):
        np.testing.assert_array_equal(found.forward, wanted.forward)
        assert (found.transpose is None) == (wanted.transpose is None)
        if wanted.transpose is not None:
            np.testing.assert_array_equal(found.transpose, wanted.transpose)
    with pytest.raises(sparse.CapacityError, match=r"level 0 .* has 500 voxels but room for 90"):
        sparse.defer_plan(coords, sparse.PlanSpec(90))
    with pytest.raises(ValueError, match="duplicate coordinate"):
        sparse.defer_plan(np.repeat(coords, 2, axis=0), sparse.PlanSpec(2000))
