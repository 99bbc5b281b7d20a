"""Levels, neighbour maps and voxels as a GPU finds them, against the CPU's and look-up."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import call, faults, same_bits_in_any_order
from tests.sparse.clouds import random_coords
from uov_jax import sparse
from uov_jax.sparse import reference
from uov_jax.sparse.engine import engine

NOTHING = np.iinfo(np.int32).max


def int32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


class Device:
    """The ops of coordinates on the emulated device."""

    def __init__(self, emulated: ModuleType):
        self.emulated = emulated

    def call(self, op: str, results: list[Any], sizes: list[int], *arguments: Any, **attributes):
        self.emulated.clear_fault(0)
        found = call(self.emulated, op, results, *arguments, workspace=sizes, **attributes)
        return [np.asarray(array) for array in found]

    def plan(self, coords: np.ndarray, count: int, spec: sparse.PlanSpec) -> list[np.ndarray]:
        """The flat results of `plan`; the counts are the last."""
        sizes, first = spec.capacities, spec.first_kernel == 5
        results = [int32(27, n) for n in sizes] + [int32(125, sizes[0])] * first
        for fine, coarse in zip(sizes, sizes[1:], strict=False):
            results += [int32(8, coarse), int32(8, fine), int32(coarse, 4)]
        return self.call(
            "plan",
            [*results, int32(spec.levels)],
            [spec.levels, first, *sizes],
            coords,
            np.int32(count),
            levels=spec.levels,
            first_kernel_5=first,
        )

    def submanifold_map(
        self, coords: np.ndarray, count: int, kernel: int, stride: int = 1, dilation: int = 1
    ) -> np.ndarray:
        n = len(coords)
        (found,) = self.call(
            "submanifold_map",
            [int32(kernel**3, n)],
            [n, kernel],
            coords,
            np.int32(count),
            kernel=kernel,
            tensor_stride=stride,
            dilation=dilation,
        )
        return found

    def voxelize(
        self,
        points: np.ndarray,
        size: tuple[float, float, float],
        cylindrical: bool,
        count: int | None = None,
    ) -> list[np.ndarray]:
        n = len(points)
        x, y, z = (np.float32(s) for s in size)
        coords, *rest = self.call(
            "voxelize",
            [int32(n, 4), int32(n), int32(n), int32()],
            [n],
            points,
            np.int32(n if count is None else count),
            size_x=x,
            size_y=y,
            size_z=z,
            cylindrical=cylindrical,
        )
        np.testing.assert_array_equal(coords[:, 0], np.where(rest[0] < 0, -1, 0))
        return [coords[:, 1:], *rest]

    def fault(self) -> tuple[str, int, int] | None:
        return faults(self.emulated)


@pytest.fixture
def device(emulated: ModuleType) -> Device:
    return Device(emulated)


def padded(coords: np.ndarray, capacity: int) -> np.ndarray:
    out = np.full((capacity, 4), 7, np.int32)  # garbage that would duplicate if it were read
    out[: len(coords)] = coords
    return out


def flat(plan: sparse.Plan) -> list[np.ndarray]:
    """A host plan in the order of the op's results."""
    arrays = [m.forward for m in plan.same] + [m.forward for m in (plan.first,) if m is not None]
    for m, coords in zip(plan.down, plan.coords[1:], strict=True):
        arrays += [m.forward, m.transpose, coords]
    return [*arrays, plan.counts]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"result {i}")


def roomy(capacity: int, levels: int = 5, first_kernel: int = 3) -> sparse.PlanSpec:
    return sparse.PlanSpec(capacity, levels, first_kernel, (1.0,) * 5)


def wall(count: int) -> np.ndarray:
    """int32 [count, 4]: columns along z of many lengths, which a range of keys must span."""
    rng = np.random.default_rng(0)
    cells = [
        (0, x, y, z)
        for x, y in rng.integers(-40, 40, (count, 2)).tolist()
        for z in range(-int(rng.integers(1, 90)), 5)
    ]
    return rng.permutation(np.unique(np.array(cells, np.int32), axis=0))[:count]


def ends() -> np.ndarray:
    """int32 [n, 4] over the whole legal range, most of them at its ends."""
    rng = np.random.default_rng(1)
    places = [-65000, -64999, -64993, -1, 0, 1, 64999, 65000]
    spatial = np.where(
        rng.random((400, 3)) < 0.7,
        rng.choice(places, (400, 3)),
        rng.integers(-65000, 65001, (400, 3)),
    )
    batch = rng.choice([0, 1, 4094, 4095], (400, 1))
    coords = np.concatenate([batch, spatial], axis=1).astype(np.int32)
    return rng.permutation(np.unique(coords, axis=0))


def sorted_cloud() -> np.ndarray:
    coords = random_coords(np.random.default_rng(2), 900)
    return coords[sparse.locality_order(coords)]


CLOUDS = {
    "random": lambda: random_coords(np.random.default_rng(0), 700),
    "sparse": lambda: random_coords(np.random.default_rng(1), 300, extent=300, batches=7),
    "dense": lambda: random_coords(np.random.default_rng(2), 512, extent=4, batches=1),
    "sorted": sorted_cloud,
    "wall": lambda: wall(1500),
    "ends": ends,
    "one": lambda: np.array([[3, -5, 0, 65000]], np.int32),
    "none": lambda: np.zeros((0, 4), np.int32),
}


@pytest.mark.parametrize("first_kernel", [3, 5])
@pytest.mark.parametrize("spare", [0, 77])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_plans_are_the_cpu_s(device, cloud, spare, first_kernel):
    coords = CLOUDS[cloud]()
    spec = roomy(max(1, len(coords) + spare), first_kernel=first_kernel)
    found = device.plan(padded(coords, spec.capacity), len(coords), spec)
    assert_equal(found, flat(sparse.build_plan(coords, spec)))
    assert device.fault() is None


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_plans_of_fewer_levels(device, levels):
    coords = random_coords(np.random.default_rng(3), 300)
    spec = roomy(310, levels, first_kernel=5)
    found = device.plan(padded(coords, 310), 300, spec)
    assert_equal(found, flat(sparse.build_plan(coords, spec)))


def test_levels_that_are_exactly_full(device):
    coords = random_coords(np.random.default_rng(4), 400)
    counts = engine().level_counts(coords, 5)
    spec = sparse.PlanSpec(400, fractions=tuple(n / 400 for n in counts))
    assert list(spec.capacities) == list(counts)
    found = device.plan(coords, 400, spec)
    assert_equal(found, flat(sparse.build_plan(coords, spec)))


def test_levels_and_strided_maps_against_look_up(device):
    coords = random_coords(np.random.default_rng(5), 350)
    spec = roomy(360)
    found = device.plan(padded(coords, 360), 350, spec)
    same, steps, counts = found[:5], found[5:-1], found[-1]
    np.testing.assert_array_equal(same[0][:, :350], reference.submanifold_map(coords, 3))
    fine = coords
    for level in range(4):
        down, up, found_coords = steps[3 * level : 3 * level + 3]
        coarse, forward, back = reference.strided_maps(fine, 2**level)
        n = len(coarse)
        assert counts[level + 1] == n
        maps = (same[level + 1], reference.submanifold_map(coarse, 3, 2 ** (level + 1)))
        for array, expected in ((found_coords.T, coarse.T), (down, forward), (up, back), maps):
            valid = expected.shape[1]
            np.testing.assert_array_equal(array[:, :valid], expected)
            assert np.all(array[:, valid:] == -1)
        fine = coarse


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("missing", [1, 10_000])
def test_a_level_that_overflows_connects_nothing_and_is_counted(device, level, missing):
    coords = random_coords(np.random.default_rng(6), 500, extent=20)
    counts = engine().level_counts(coords, 5)
    room = [max(1, n - missing) if i == level else n for i, n in enumerate(counts)]
    spec = sparse.PlanSpec(500, first_kernel=5, fractions=tuple(n / 500 for n in room))
    assert spec.capacities[level] < counts[level]
    *arrays, found = device.plan(coords, 500, spec)
    np.testing.assert_array_equal(found, counts)
    assert all(np.all(array == -1) for array in arrays)
    assert device.fault() is None


def cpu_error(coords: np.ndarray, stride: int = 1) -> str:
    with pytest.raises(ValueError, match="row") as error:
        engine().submanifold_map(coords, 3, stride, 1, len(coords), 1)
    return str(error.value)


ILLEGAL = [
    (0, 65001, 0, 0),
    (0, 0, -65001, 0),
    (0, 0, 0, 2**31 - 1),
    (0, -(2**31), 0, 0),
    (-1, 0, 0, 0),
    (4096, 0, 0, 0),
    (2**31 - 1, 0, 0, 0),
]


@pytest.mark.parametrize("bad", ILLEGAL)
def test_coordinates_out_of_range_connect_nothing(device, bad):
    coords = random_coords(np.random.default_rng(7), 40)
    coords[[35, 23, 30]] = bad
    coords[2] = coords[1]  # what is out of range comes first, as on the CPU
    assert "in row 23 is out of range" in cpu_error(coords)
    *arrays, counts = device.plan(coords, 40, roomy(40))
    assert all(np.all(array == -1) for array in arrays)
    assert np.all(counts == NOTHING)
    assert device.fault() == ("coordinate range", 23, 0)
    assert np.all(device.submanifold_map(coords, 40, 3) == -1)
    assert device.fault() == ("coordinate range", 23, 0)
    # What stands past the valid rows is nobody's business.
    found = device.plan(coords, 2, roomy(40))
    assert_equal(found, flat(sparse.build_plan(coords[:2], roomy(40))))
    assert device.fault() is None


def test_duplicates_connect_nothing(device):
    coords = random_coords(np.random.default_rng(8), 600)
    coords[[599, 341, 17]] = coords[205]
    coords[400] = coords[11]
    named = re.search(r"in rows (\d+) and (\d+)", cpu_error(coords))
    assert named is not None
    expected = ("duplicate coordinate", int(named[1]), int(named[2]))
    *arrays, counts = device.plan(coords, 600, roomy(600, first_kernel=5))
    assert all(np.all(array == -1) for array in arrays)
    assert np.all(counts == NOTHING)
    assert device.fault() == expected
    assert np.all(device.submanifold_map(coords, 600, 5) == -1)
    assert device.fault() == expected


def test_coordinates_off_the_stride_connect_nothing(device):
    coords = random_coords(np.random.default_rng(9), 50, stride=4)
    coords[31] = (0, 4, 2, 0)
    assert "in row 31 is not a multiple of the tensor stride 4" in cpu_error(coords, stride=4)
    assert np.all(device.submanifold_map(coords, 50, 3, stride=4) == -1)
    assert device.fault() == ("coordinate stride", 31, 4)


@pytest.mark.parametrize("count", [-1, 41, 2**31 - 1, -(2**31)])
def test_counts_of_rows_that_are_not_there(device, count):
    coords = random_coords(np.random.default_rng(10), 40)
    *arrays, counts = device.plan(coords, count, roomy(40))
    assert all(np.all(array == -1) for array in arrays)
    assert np.all(counts == NOTHING)
    assert device.fault() == ("count", count, 40)
    assert np.all(device.submanifold_map(coords, count, 3) == -1)
    assert device.fault() == ("count", count, 40)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_submanifold_maps_against_look_up(device, kernel, stride, dilation):
    coords = random_coords(np.random.default_rng(11), 330, extent=5, stride=stride)
    found = device.submanifold_map(padded(coords, 400), 330, kernel, stride, dilation)
    expected = reference.submanifold_map(coords, kernel, stride, dilation)
    np.testing.assert_array_equal(found[:, :330], expected)
    assert np.all(found[:, 330:] == -1)
    host = sparse.submanifold_map(padded(coords, 400), 330, kernel, stride, dilation)
    np.testing.assert_array_equal(found, host.forward)
    # The invariant that makes a submanifold map its own transpose.
    k, n = np.nonzero(expected >= 0)
    np.testing.assert_array_equal(found[len(found) - 1 - k, found[k, n]], n)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2**32 + 1, 1), (3, 1, 2**32 + 1), (2**32 + 3, 1, 1)]
)
def test_sizes_are_looked_at_before_they_are_narrowed(emulated, kernel, stride, dilation):
    coords, of = jnp.zeros((1, 4), jnp.int32), {"tensor_stride": stride, "dilation": dilation}
    size = jax.ShapeDtypeStruct((27, 1), jnp.int32)
    with pytest.raises(Exception, match=r"expected a power of two|kernel 1, 3 or 5 and dilation"):
        call(
            emulated,
            "submanifold_map",
            size,
            coords,
            jnp.int32(1),
            workspace=(1, 3),
            kernel=kernel,
            **of,
        )


def test_derived_coordinates_are_legal_at_their_own_stride_alone(device):
    coords = np.array([[0, -65008, 0, 0]], np.int32)
    assert device.submanifold_map(coords, 1, 3, stride=16).max() == 0
    assert device.submanifold_map(coords, 1, 3, stride=8).max() == -1
    assert device.fault() == ("coordinate range", 0, 0)


def test_no_map_of_no_rows(device):
    assert device.submanifold_map(np.zeros((0, 4), np.int32), 0, 3).shape == (27, 0)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "message"),
    [
        (3, 3, 1, "the tensor stride is 3, expected a power of two of at most 16"),
        (3, 32, 1, "the tensor stride is 32"),
        (7, 1, 1, "kernel 1, 3 or 5 and dilation 1 or 2"),
        (2, 1, 1, "kernel 1, 3 or 5 and dilation 1 or 2"),
        (3, 1, 3, "kernel 1, 3 or 5 and dilation 1 or 2"),
    ],
)
def test_maps_that_there_are_not(device, kernel, stride, dilation, message):
    coords = np.zeros((1, 4), np.int32)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        device.submanifold_map(coords, 1, kernel, stride, dilation)


# Where a key goes in a table: csrc/cuda/hash_table.h, in Python.
ODD = np.uint64(0x9E3779B97F4A7C15)


def table_bits(keys: int) -> int:
    return max(4, (2 * keys - 1).bit_length())


def slots_of(key: np.ndarray, bits: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = key * ODD
        mixed ^= mixed >> np.uint64(32)
        return (mixed * ODD) >> np.uint64(64 - bits)


def keys_of(coords: np.ndarray, level: int = 0) -> np.ndarray:
    """Keys of voxels int32 [n, 3] of batch 0; of a coarser level, as a plan's table has them."""
    field = (coords.astype(np.int64) + 65536).astype(np.uint64)
    if level == 0:
        key = (field[:, 0] << np.uint64(34)) | (field[:, 1] << np.uint64(17)) | field[:, 2]
        return key
    short = (field >> np.uint64(level) << np.uint64(level)) >> np.uint64(1)
    key = (short[:, 0] << np.uint64(32)) | (short[:, 1] << np.uint64(16)) | short[:, 2]
    return key | np.uint64(1 << 63) | np.uint64((level - 1) << 60)


def colliding(n: int, bits: int, level: int) -> np.ndarray:
    """Voxels int32 [n, 3] that all want one of the table's last slots: they go around its end."""
    rng = np.random.default_rng(12)
    found = np.zeros((0, 3), np.int32)
    while len(found) < n:
        cells = rng.integers(-2000, 2000, (1 << 20, 3)).astype(np.int32) * 2 ** max(level, 1)
        slots = slots_of(keys_of(cells, level), bits)
        found = np.unique(np.concatenate([found, cells[slots >= 2**bits - 3]]), axis=0)
    return rng.permutation(found)[:n].astype(np.int32)


def test_keys_that_collide_are_told_apart(device):
    n = 300
    cells = colliding(n, table_bits(n), level=0)
    points = (cells + 0.5).astype(np.float32)[np.random.default_rng(0).integers(0, n, n)]
    coords, first, inverse, voxels = device.voxelize(points, (1.0, 1.0, 1.0), False)
    expected = sparse.voxelize(points, (1.0, 1.0, 1.0), False)
    assert voxels == len(expected.first)
    np.testing.assert_array_equal(coords[:voxels], expected.coords)
    np.testing.assert_array_equal(first[:voxels], expected.first)
    np.testing.assert_array_equal(inverse, expected.inverse)


def test_voxels_of_coarser_levels_that_collide_are_told_apart(device):
    n, levels = 300, 2
    cells = colliding(n, table_bits(n * (levels - 1)), level=1)
    coords = np.pad(cells, ((0, 0), (1, 0)))
    found = device.plan(coords, n, roomy(n, levels))
    assert found[-1].tolist() == [n, n]
    assert_equal(found, flat(sparse.build_plan(coords, roomy(n, levels))))


def points_of(seed: int, n: int, spread: float = 20.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (n, 3)).astype(np.float32)


@pytest.mark.parametrize("cylindrical", [False, True])
@pytest.mark.parametrize(
    "points",
    [
        points_of(0, 3000),
        points_of(1, 2000, spread=0.3),  # many in a voxel
        points_of(2, 700, spread=1000.0),
        np.zeros((300, 3), np.float32),
        points_of(3, 1),
        np.zeros((0, 3), np.float32),
        # Faces of voxels, and the four ends of the azimuth.
        np.random.default_rng(4).integers(-30, 30, (800, 3)).astype(np.float32) / 10,
        np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [-1, -0.0, 0], [0, -1, 0]], np.float32),
    ],
    ids=["spread", "crowded", "far", "same", "one", "none", "faces", "ends"],
)
def test_voxels_are_the_cpu_s(device, points, cylindrical):
    size = (0.1, 1.0, 0.1)
    coords, first, inverse, voxels = device.voxelize(points, size, cylindrical)
    expected = sparse.voxelize(points, size, cylindrical)
    n = len(expected.first)
    assert voxels == n
    np.testing.assert_array_equal(coords[:n], expected.coords)
    np.testing.assert_array_equal(first[:n], expected.first)
    np.testing.assert_array_equal(inverse, expected.inverse)
    assert np.all(coords[n:] == -1)
    assert np.all(first[n:] == -1)
    assert device.fault() is None


def test_voxels_against_look_up(device):
    points = points_of(5, 2500, spread=2.0)
    coords, first, inverse, voxels = device.voxelize(points, (0.5, 0.25, 0.5), False)
    expected: dict[tuple[int, ...], int] = {}
    cells = np.floor(points / np.array([0.5, 0.25, 0.5], np.float32)).astype(int)
    rows = [expected.setdefault(tuple(cell), len(expected)) for cell in cells.tolist()]
    assert voxels == len(expected) < len(points)
    np.testing.assert_array_equal(coords[:voxels], list(expected))
    np.testing.assert_array_equal(inverse, rows)
    np.testing.assert_array_equal(first[:voxels], np.unique(rows, return_index=True)[1])


@pytest.mark.parametrize("cylindrical", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9, 6500.3, -6500.2])
def test_points_without_a_voxel(device, bad, axis, cylindrical):
    points = points_of(6, 600)
    points[[555, 321, 432], axis] = bad
    size = (0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match="point 321 .*(not finite|65000 voxels)"):
        sparse.voxelize(points, size, cylindrical)
    *arrays, voxels = device.voxelize(points, size, cylindrical)
    assert voxels == NOTHING
    assert all(np.all(array == -1) for array in arrays)
    assert device.fault() == ("point", 321, 0)


def test_points_past_the_count_are_not_looked_at(device):
    points, size = points_of(6, 600, spread=1.0), (0.5, 0.5, 0.5)
    for count in (0, 1, 256, 599):
        garbage = points.copy()
        garbage[count:] = np.nan
        coords, first, inverse, voxels = device.voxelize(garbage, size, False, count)
        expected = sparse.voxelize(points[:count], size, False)
        n = len(expected.first)
        assert voxels == n
        assert_equal([coords[:n], first[:n], inverse[:count]], [*expected])
        assert all(np.all(array == -1) for array in (coords[n:], first[n:], inverse[count:]))
        assert device.fault() is None


@pytest.mark.parametrize("count", [-1, 601])
def test_a_count_of_points_that_are_not_there(device, count):
    *arrays, voxels = device.voxelize(points_of(6, 600), (0.5, 0.5, 0.5), False, count)
    assert voxels == NOTHING
    assert all(np.all(array == -1) for array in arrays)
    assert device.fault() == ("count", count, 600)


@pytest.mark.parametrize("size", [0.0, -0.5, np.nan, np.inf])
def test_sizes_of_no_voxel_are_refused(device, size):
    with pytest.raises(jax.errors.JaxRuntimeError, match="the sizes of a voxel must be positive"):
        device.voxelize(points_of(6, 60), (0.5, size, 0.5), False)


def test_points_at_the_ends_of_the_range(device):
    points = np.array([[-6500.0, 6500.05, 0.0]], np.float32)
    coords, *_ = device.voxelize(points, (0.1, 0.1, 0.1), False)
    np.testing.assert_array_equal(coords, sparse.voxelize(points, (0.1,) * 3, False).coords)
    np.testing.assert_array_equal(coords, [[-65000, 65000, 0]])


def test_the_order_of_blocks_and_threads_changes_nothing(device):
    coords, points = CLOUDS["wall"](), points_of(7, 2000, spread=1.0)
    padding, spec = padded(coords, 1600), roomy(1600, first_kernel=5)
    size = (0.5, 0.5, 0.5)
    same_bits_in_any_order(device.emulated, lambda: device.plan(padding, len(coords), spec))
    same_bits_in_any_order(device.emulated, lambda: device.voxelize(points, size, True))


def test_the_order_of_blocks_and_threads_changes_no_fault(device):
    coords, points = random_coords(np.random.default_rng(8), 600), points_of(7, 600)
    coords[300:] = coords[:300]
    points[::7] = np.nan

    def run() -> tuple[Any, ...]:
        plan = device.plan(coords, 600, roomy(600, 2))
        _, *rows = device.fault()
        voxels = device.voxelize(points, (1.0, 1.0, 1.0), False)
        return plan, voxels, rows, device.fault()[1]

    same_bits_in_any_order(device.emulated, run)


def test_a_whole_sweep(device):
    """Some 30,000 points: tables, sorts and maps of the size that they are made for."""
    from benchmarks import sweeps

    points = sweeps.synthetic().points
    coords, first, inverse, voxels = device.voxelize(points, sweeps.VOXEL_SIZE, True)
    expected = sparse.voxelize(points, sweeps.VOXEL_SIZE, cylindrical=True)
    n = len(expected.first)
    assert_equal([coords[:n], first[:n], inverse, voxels], [*expected, np.int32(n)])
    rows = np.pad(expected.coords, ((0, 0), (1, 0)))
    spec = sparse.PlanSpec(n, fractions=sparse.plan.ROOMY_FRACTIONS)
    assert_equal(device.plan(rows, n, spec), flat(sparse.build_plan(rows, spec)))


def test_workspaces_that_are_too_small_are_refused(device):
    coords, count, points = (
        random_coords(np.random.default_rng(0), 50),
        np.int32(50),
        points_of(0, 50),
    )
    size = {"size_x": np.float32(1), "size_y": np.float32(1), "size_z": np.float32(1)}
    calls = {
        "plan": ([int32(27, 50), int32(1)], [1, 0, 1], (coords, count)),
        "submanifold_map": ([int32(27, 50)], [1, 3], (coords, count)),
        "voxelize": ([int32(50, 4), int32(50), int32(50), int32()], [0], (points, count)),
    }
    attributes = {
        "plan": {"levels": 1, "first_kernel_5": False},
        "submanifold_map": {"kernel": 3, "tensor_stride": 1, "dilation": 1},
        "voxelize": {**size, "cylindrical": False},
    }
    for op, (results, sizes, arguments) in calls.items():
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"{op}: the workspace has"):
            device.call(op, results, sizes, *arguments, **attributes[op])


def test_coordinates_and_rows_of_level_0_must_be_as_many(device):
    coords = random_coords(np.random.default_rng(0), 50)
    with pytest.raises(jax.errors.JaxRuntimeError, match="as many coordinates as rows of level 0"):
        device.plan(coords, 50, roomy(49))


def test_workspaces_are_known_without_a_device(device):
    sizes = device.emulated.workspace_bytes
    for op, dims in (("plan", [1, 0, 1]), ("submanifold_map", [1, 3]), ("voxelize", [0])):
        assert sizes(op, dims) > 0
    # A sweep's plan: 12 bytes for a key of every row and their sort, and a table.
    assert sizes("plan", [5, 1, 120_000, 82_000, 51_000, 29_000, 15_000]) < 40e6
    assert sizes("voxelize", [35_000]) < 3e6
    with pytest.raises(ValueError, match="a plan has 1 to 5 levels"):
        sizes("plan", [6, 0, 1, 1, 1, 1, 1, 1])
