"""Points to voxels inside `jit`, on every backend, and a sweep from points to labels with them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax import sparse

NOTHING = np.iinfo(np.int32).max
CUBES = (0.5, 0.25, 0.5)


def points_of(n: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (n, 3)).astype(np.float32)


def voxelized(points: np.ndarray, count: int, size: Any, cylindrical: bool) -> sparse.VoxelRows:
    build = jax.jit(lambda p, n: sparse.voxelize_in_jit(p, n, size, cylindrical))
    return jax.device_get(build(points, np.int32(count)))


@pytest.mark.parametrize(
    ("size", "cylindrical"), [(CUBES, False), ((0.1, 1.0, 0.1), True)], ids=["cubes", "cylinders"]
)
@pytest.mark.parametrize("count", [0, 1, 200, 300])
def test_voxels_are_those_of_the_host(backend, count, size, cylindrical):
    """None of these points lies within rounding of a face; those past the count are anything."""
    points = points_of(300)
    points[150:200] = points[:50]
    points[count:] = np.nan
    found = voxelized(points, count, size, cylindrical)
    expected = sparse.voxelize(points[:count], size, cylindrical)
    n = len(expected.first)
    assert found.number == n
    np.testing.assert_array_equal(found.coords[:n], np.pad(expected.coords, ((0, 0), (1, 0))))
    np.testing.assert_array_equal(found.first[:n], expected.first)
    np.testing.assert_array_equal(found.inverse[:count], expected.inverse)
    for rest in (found.coords[n:], found.first[n:], found.inverse[count:]):
        assert np.all(rest == -1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_points_without_a_voxel_fit_no_plan(backend, bad):
    points = points_of(40)
    points[[7, 30], 1] = bad
    *arrays, count = voxelized(points, 40, CUBES, False)
    assert count == NOTHING
    assert all(np.all(array == -1) for array in arrays)
    if backend == "cuda-emulated":
        with pytest.raises(sparse.FaultError, match="point 7 is not finite"):
            sparse.raise_fault()


@pytest.mark.parametrize("count", [-1, 41])
def test_a_count_of_points_that_are_not_there_fits_no_plan(backend, count):
    *arrays, found = voxelized(points_of(40), count, CUBES, False)
    assert found == NOTHING
    assert all(np.all(array == -1) for array in arrays)


def test_the_end_of_the_range_is_within(backend):
    points = np.array([[-6500.0, 6500.05, 0.0]], np.float32)
    found = voxelized(points, 1, (0.1, 0.1, 0.1), False)
    np.testing.assert_array_equal(found.coords, [[0, -65000, 65000, 0]])


def test_a_sweep_goes_from_points_to_labels_in_one_program(backend):
    """As on the host: voxels, plan and the voxels' features first, then the network."""
    points, count, spec = points_of(260), 250, sparse.PlanSpec(256, 2, fractions=(1.0, 1.0))
    generator = np.random.default_rng(1)
    same, down, up = (
        generator.normal(size=shape).astype(np.float32)
        for shape in ((27, 3, 3), (8, 3, 4), (8, 4, 5))
    )

    def network(features: Any, plan: sparse.Plan) -> jax.Array:
        plan = plan.scheduled()
        x = jax.nn.relu(sparse.gather_gemm(features, jnp.asarray(same), plan.same[0]))
        x = jax.nn.relu(sparse.gather_gemm(x, jnp.asarray(down), plan.down[0]))
        return sparse.gather_gemm(x, jnp.asarray(up), plan.down[0].swapped())

    @jax.jit
    def labels(points: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        voxels = sparse.voxelize_in_jit(points, count, CUBES, False)
        plan = sparse.plan_in_jit(voxels.coords[: spec.capacity], voxels.number, spec)
        rows = network(sparse.gather_rows(points, voxels.first[: spec.capacity]), plan)
        return sparse.gather_rows(rows, voxels.inverse), plan.counts

    padded = np.concatenate([points[:count], np.full((10, 3), np.nan, np.float32)])
    found, counts = jax.device_get(labels(padded, np.int32(count)))

    voxels = sparse.voxelize(points[:count], CUBES, False)
    coords = np.pad(voxels.coords, ((0, 0), (1, 0)))
    plan = sparse.build_plan(coords, spec)
    np.testing.assert_array_equal(counts, plan.counts)
    features = np.zeros((spec.capacity, 3), np.float32)
    features[: len(coords)] = points[voxels.first]
    rows = np.asarray(jax.jit(network)(features, jax.tree.map(jnp.asarray, plan)))
    np.testing.assert_array_equal(found[:count], rows[voxels.inverse])
    np.testing.assert_array_equal(found[:count].argmax(1), rows[voxels.inverse].argmax(1))
    assert len(np.unique(found[:count].argmax(1))) > 1
    sparse.raise_fault()


def test_more_voxels_than_a_plan_has_rows_are_refused_by_their_counts():
    """Where nothing can be raised; the compiled ops of a CPU raise."""
    spec = sparse.PlanSpec(16, 1)

    @jax.jit
    def counts(points: jax.Array) -> jax.Array:
        voxels = sparse.voxelize_in_jit(points, jnp.int32(60), CUBES, False)
        return sparse.plan_in_jit(voxels.coords[:16], voxels.number, spec).counts

    with sparse.use_backend("xla"):
        assert counts(points_of(60))[0] > 16


def test_wrong_arguments_are_refused():
    points, count = jnp.zeros((4, 3)), jnp.int32(4)
    for size in ((1.0, 0.0, 1.0), (1.0, 1.0), (1.0, np.nan, 1.0), (1e-60, 1.0, 1.0)):
        with pytest.raises(ValueError, match="voxel_size must be three positive numbers"):
            sparse.voxelize_in_jit(points, count, size, False)
    with pytest.raises(ValueError, match=r"points must be float32 \[N, 3\], not float32\[4, 4\]"):
        sparse.voxelize_in_jit(jnp.zeros((4, 4)), count, CUBES, False)
    with pytest.raises(ValueError, match=r"count must be int32 \[\], not float32"):
        sparse.voxelize_in_jit(points, jnp.float32(4), CUBES, False)


def test_no_room_for_points_is_no_voxels(backend):
    found = voxelized(np.zeros((0, 3), np.float32), 0, CUBES, False)
    assert found.number == 0
    assert [array.shape for array in found] == [(0, 4), (0,), (0,), ()]
