"""Batches: rows, pairs and superpoints keep their meaning through sorting, merging and padding."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.input.batching import (
    Capacities,
    build_plans,
    fitting_plan,
    fitting_size,
    pad,
    pad_batch,
    size_of,
)
from uov_jax.input.tri_modal import TriModalSample, collate_tri_modal
from uov_jax.input.voxels import merge_sweeps

CAPACITIES = Capacities(
    plans=tuple(sparse.PlanSpec(n, fractions=(1.0,) * 5) for n in (64, 128, 256)),
    pairs=(16, 36, 64),
    superpoints=(4, 8, 16),
)


def sample(voxels: int, pairs: int, superpoints: int, seed: int = 0) -> TriModalSample:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(8**3)[:voxels]
    coords = np.stack(np.unravel_index(cells, (8, 8, 8)), axis=1).astype(np.int32) - 4
    return TriModalSample(
        token=f"sample-{seed}",
        coords=coords,
        features=rng.random((voxels, 1)).astype(np.float32),
        pair_voxel=rng.integers(0, voxels, pairs).astype(np.int32),
        pair_superpoint=rng.integers(0, superpoints, pairs).astype(np.int32),
        superpoint_word=rng.integers(-1, 175, superpoints).astype(np.int32),
        superpoint_embedding=rng.normal(size=(superpoints, 6)).astype(np.float16),
    )


@pytest.mark.parametrize("shards", [1, 2])
def test_a_batch_keeps_every_sweeps_voxels_pairs_and_superpoints(shards):
    devices = [
        [sample(50, 20, 3, 0), sample(60, 15, 4, 1)],
        [sample(10, 4, 1, 2), sample(20, 0, 2, 3)],
    ]
    batch = collate_tri_modal(devices, CAPACITIES, shards)
    slots = 8
    assert batch["features"].shape == (2, 128, 1)
    assert batch["pair_voxel"].shape == batch["pair_superpoint"].shape == (2, 36)
    assert batch["superpoint_word"].shape == (2, shards, slots)
    assert batch["superpoint_embedding"].shape == (2, shards, slots, 6)
    assert batch["superpoint_embedding"].dtype == np.float16
    for number, sweeps in enumerate(devices):
        coords = batch["plan"].coords[0][number]
        row_of = {tuple(c): row for row, c in enumerate(coords.tolist()) if c[0] >= 0}
        assert len(row_of) == sum(len(s.coords) for s in sweeps)
        words = batch["superpoint_word"][number].reshape(-1)
        embeddings = batch["superpoint_embedding"][number].reshape(-1, 6)
        used = np.zeros(len(words), bool)
        first_pair = first_superpoint = 0
        for sweep, one in enumerate(sweeps):
            if shards == 2:
                first_superpoint = sweep * slots
            rows = np.array([row_of[(sweep, *c)] for c in one.coords.tolist()])
            np.testing.assert_array_equal(batch["features"][number, rows], one.features)
            pairs = slice(first_pair, first_pair := first_pair + len(one.pair_voxel))
            np.testing.assert_array_equal(batch["pair_voxel"][number, pairs], rows[one.pair_voxel])
            group = batch["pair_superpoint"][number, pairs] - first_superpoint
            np.testing.assert_array_equal(group, one.pair_superpoint)
            names = slice(first_superpoint, first_superpoint + len(one.superpoint_word))
            np.testing.assert_array_equal(words[names], one.superpoint_word)
            np.testing.assert_array_equal(embeddings[names], one.superpoint_embedding)
            used[names] = True
            first_superpoint = names.stop
        assert (batch["pair_voxel"][number, first_pair:] == -1).all()
        assert (batch["pair_superpoint"][number, first_pair:] == -1).all()
        assert (words[~used] == -1).all()
        assert (embeddings[~used] == 0).all()
        assert (batch["features"][number, len(row_of) :] == 0).all()
        assert batch["plan"].counts[number, 0] == len(row_of)


def test_the_fullest_shard_sets_the_room_for_superpoints():
    """Not what the sweeps of a device have together."""
    sweeps = [sample(5, 4, number, number) for number in (1, 2, 4, 3)]
    batch = collate_tri_modal([sweeps], CAPACITIES, shards=4)
    assert batch["superpoint_word"].shape == (1, 4, 4)
    batch = collate_tri_modal([sweeps], CAPACITIES, shards=2)
    assert batch["superpoint_word"].shape == (1, 2, 8)
    many = [sample(5, 5, 1, 0), sample(5, 5, 17, 1)]
    with pytest.raises(sparse.CapacityError, match=r"17 superpoints .*\['sample-1'\]"):
        collate_tri_modal([many], CAPACITIES, shards=2)


def test_superpoints_are_counted_by_the_shard():
    whole, shards = Capacities.for_sweeps(8), Capacities.for_sweeps(8, sweeps_of_a_shard=2)
    assert shards.superpoints == Capacities.for_sweeps(2).superpoints
    assert (shards.plans, shards.pairs) == (whole.plans, whole.pairs)


def test_rows_are_sorted_by_locality():
    sweeps = [sample(50, 0, 1, 0).coords, sample(60, 0, 1, 1).coords]
    merged = merge_sweeps(sweeps)
    level0 = np.empty((128, 4), np.int32)
    coords = merged.place(level0)
    assert len(coords) == 110
    np.testing.assert_array_equal(sparse.locality_order(coords), np.arange(110))
    assert (level0[110:] == -1).all()
    for number, sweep in enumerate(sweeps):
        rows = merged.rows(number, np.arange(len(sweep)))
        np.testing.assert_array_equal(coords[rows, 1:], sweep)
        assert (coords[rows, 0] == number).all()
    np.testing.assert_array_equal(merged.counts, sparse.level_counts(coords, 5))


def test_all_devices_take_the_shape_of_the_fullest():
    small, large = sample(20, 1, 1, 0).coords, sample(200, 1, 1, 1).coords
    merged = [merge_sweeps([c]) for c in (small, large)]
    size = fitting_plan(merged, CAPACITIES.plans, ["small", "large"])
    assert size == 2
    plans = build_plans(merged, CAPACITIES.plans[size])
    assert plans.coords[0].shape == (2, 256, 4)
    assert plans.counts[:, 0].tolist() == [20, 200]
    for at_least in range(3):
        assert fitting_plan(merged[:1], CAPACITIES.plans, ["small"], at_least) == at_least


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("first_kernel", [3, 5])
def test_a_padded_batch_is_the_one_built_at_that_size(deferred, first_kernel):
    plans = [
        sparse.PlanSpec(n, first_kernel=first_kernel, fractions=(1.0, *shares), deferred=deferred)
        for n, shares in (
            (128, (0.9, 0.8, 0.7, 0.6)),
            (160, (0.9, 0.8, 0.7, 0.6)),
            (256, (1.0,) * 4),
        )
    ]
    capacities = Capacities(tuple(plans), (36, 50, 64), (8, 8, 16))
    devices = [
        [sample(50, 20, 3, 0), sample(60, 15, 4, 1)],
        [sample(10, 4, 1, 2), sample(20, 0, 2, 3)],
    ]
    for shards in (1, 2):
        batch = collate_tri_modal(devices, capacities, shards=shards)
        assert size_of(batch, capacities) == 0
        for size in range(3):
            largest = Capacities(
                capacities.plans[size:], capacities.pairs[size:], capacities.superpoints[size:]
            )
            expected = collate_tri_modal(devices, largest, shards=shards)
            padded = pad_batch(batch, capacities, size)
            assert size_of(padded, capacities) == size
            assert jax.tree.structure(padded) == jax.tree.structure(expected)
            for found, wanted in zip(
                jax.tree.leaves(padded), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_array_equal(found, wanted)
                assert found.dtype == wanted.dtype


def test_a_batch_is_not_padded_to_a_smaller_size():
    batch = collate_tri_modal([[sample(200, 5, 1)]], CAPACITIES)
    with pytest.raises(ValueError, match="256 rows do not fit 128"):
        pad_batch(batch, CAPACITIES, 1)


@pytest.mark.parametrize(("sizes", "size"), [((100, 1, 1), 1), ((5, 40, 1), 2), ((5, 1, 8), 1)])
def test_whatever_needs_the_largest_size_sets_the_others(sizes, size):
    batch = collate_tri_modal([[sample(*sizes)]], CAPACITIES)
    assert batch["features"].shape[1] == CAPACITIES.plans[size].capacity
    assert batch["pair_voxel"].shape[1] == CAPACITIES.pairs[size]
    assert batch["superpoint_word"].shape[2] == CAPACITIES.superpoints[size]


def test_series_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="3 sizes of plans, 2 of pairs and 3 of superpoints"):
        Capacities(CAPACITIES.plans, (1, 2), CAPACITIES.superpoints)


def test_samples_exactly_as_large_as_the_capacity_fit():
    batch = collate_tri_modal([[sample(256, 64, 16)]], CAPACITIES)
    assert batch["features"].shape == (1, 256, 1)
    assert (batch["pair_voxel"] >= 0).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((257, 1, 1), r"257 voxels but room for 256 .*config\.data\.voxels, .*\['sample-1'\]"),
        ((10, 65, 1), r"65 pairs .*, but room for 64: .*config\.data\.pairs, .*\['sample-1'\]"),
        ((10, 20, 17), r"17 superpoints .* room for 16: .*data\.superpoints, .*\['sample-1'\]"),
    ],
)
def test_overflow_names_the_numbers_the_setting_and_the_keyframes_of_the_device(sizes, message):
    with pytest.raises(sparse.CapacityError, match=message):
        collate_tri_modal([[sample(5, 1, 1)], [sample(*sizes, seed=1)]], CAPACITIES)


def test_series_rise_to_the_largest_capacity():
    for sweeps in (1, 4):
        capacities = Capacities.for_sweeps(sweeps, first_kernel=5)
        sizes = [spec.capacity for spec in capacities.plans]
        for series in (sizes, capacities.pairs, capacities.superpoints):
            assert list(series) == sorted(set(series))
        assert 36_000 * sweeps <= sizes[-1] < 36_064 * sweeps
        assert len(sizes) == len(capacities.pairs) == 4
        assert all(1.4 < b / a < 1.75 for a, b in zip(sizes, sizes[1:], strict=False))
        assert all(spec.first_kernel == 5 for spec in capacities.plans)
        assert capacities.superpoints[-1] == 2048 * sweeps
        # Sweeps with more on their coarser levels than most take the next size; the last holds all.
        *others, last = (spec.fractions for spec in capacities.plans)
        assert last == sparse.ROOMY_FRACTIONS
        assert all(a < b for other in others for a, b in zip(other[1:], last[1:], strict=True))
        largest = capacities.largest()
        assert largest.plans == capacities.plans[-1:]
        assert largest.pairs == capacities.pairs[-1:]


def test_a_range_of_equal_ends_is_a_single_size():
    capacities = Capacities.for_sweeps(1, voxels=(20_000, 20_000), pairs=(1, 9), superpoints=(1, 2))
    assert [spec.capacity for spec in capacities.plans] == [20_032]
    assert (capacities.pairs, capacities.superpoints) == ((64,), (64,))


def test_fitting_size_is_the_first_that_holds_all():
    assert fitting_size([0], (4, 8), "x", "a") == 0
    assert fitting_size([3, 5], (4, 8), "x", "b") == 1
    with pytest.raises(sparse.CapacityError, match=r"9 x on one device, .* 8: .*: a\)"):
        fitting_size([9, 3], (4, 8), "x", "a")


def test_padding_appends_rows():
    np.testing.assert_array_equal(pad(np.array([[1, 2]]), 3, -1), [[1, 2], [-1, -1], [-1, -1]])
