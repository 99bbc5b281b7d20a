"""Sizes from the data: few, nearly full, remembered; and what is beyond them still fits."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.input.sources import Broken
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.nuscenes import NuScenesSweeps
from uov_jax.datasets.nuscenes_tables import Keyframes, NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.errors import InputError
from uov_jax.input import sizes
from uov_jax.input.batching import Capacities, size_of
from uov_jax.input.segmentation import SegmentationSource, collate_segmentation
from uov_jax.input.sizes import (
    Counts,
    StepShape,
    counts_of,
    drawn_batches,
    drawn_voxels,
    fitted_capacities,
)
from uov_jax.input.tri_modal import TriModalSource, collate_tri_modal
from uov_jax.simulate import simulate_drive
from uov_jax.vocabulary import load_vocabulary

# Of a real sweep, level by level, and its pairs after the crop.
REAL = np.array([15_947, 10_155, 5_900, 3_122, 1_475])
MOST_PADDING = 0.12


def like_real_sweeps(spread: float = 0.12, samples: int = 2000) -> Counts:
    """Sweeps whose voxels vary about those of a real one, and their coarser levels a little more.

    Four of them have 63,788 voxels on the average.
    """
    rng = np.random.default_rng(3)
    size = rng.normal(1, spread, (samples, 1)).clip(0.5, 2.0)
    voxels = REAL * size * rng.normal(1, 0.02, (samples, 5)) ** np.arange(5)
    pairs = rng.normal(14_000, 2_000, samples).clip(6_000, 22_000)
    return Counts(voxels.astype(np.int64), pairs.astype(np.int64), rng.integers(90, 220, samples))


def shares(counts: Counts, shape: StepShape, capacities: Capacities) -> dict[str, float]:
    """The mean shares of empty rows of other batches than those that the sizes were chosen by.

    Of the fullest device, where nothing else is said.
    """
    others = _others(counts)
    needs = drawn_batches(others, shape)
    held = []
    for need in needs:
        size = next(
            size
            for size, spec in enumerate(capacities.plans)
            if (need[:5] <= spec.capacities).all()
            and need[5] <= capacities.pairs[size]
            and need[6] <= capacities.superpoints[size]
        )
        held.append((*capacities.plans[size].capacities, capacities.pairs[size], size))
    *levels, pairs, used = np.array(held).T
    return {
        "voxels": float(np.mean(1 - needs[:, 0] / levels[0])),
        "voxels of all devices": float(
            np.mean(1 - drawn_voxels(others, shape) / levels[0][:, np.newaxis])
        ),
        "all levels": float(np.mean(1 - needs[:, :5].sum(axis=1) / np.sum(levels, axis=0))),
        "pairs": float(np.mean(1 - needs[:, 5] / pairs)),
        "in the last": float(np.mean(used == len(capacities.plans) - 1)),
    }


def _others(counts: Counts) -> Counts:
    shuffled = np.random.default_rng(9).permutation(len(counts.table))
    return Counts.of_table(counts.table[shuffled])


# Devices and sweeps of each: percent of the voxels' rows that are empty, of the fullest device and
# over all, as in docs/performance.md.
STATED = {
    (1, 1): (5.5, 5.5),
    (1, 4): (4.8, 4.8),
    (2, 1): (4.5, 10.3),
    (4, 1): (4.6, 14.7),
    (4, 4): (3.4, 8.9),
    (8, 1): (3.7, 17.5),
    (8, 2): (4.1, 14.3),
    (8, 4): (4.8, 12.1),
}


@pytest.mark.parametrize(("devices", "sweeps"), STATED)
def test_so_many_rows_are_empty_over_all_devices_as_is_stated(devices, sweeps):
    counts, shape = like_real_sweeps(), StepShape(devices, sweeps, 1)
    roomy = Capacities.for_sweeps(sweeps, sweeps_of_a_shard=1)
    empty = shares(counts, shape, fitted_capacities(counts, shape, roomy))
    fullest, everywhere = STATED[devices, sweeps]
    assert 100 * empty["voxels"] == pytest.approx(fullest, abs=0.3)
    assert 100 * empty["voxels of all devices"] == pytest.approx(everywhere, abs=0.3)
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text("utf-8")
    assert f"| {devices} x {sweeps} | {fullest} % | {everywhere} % |" in text


def test_every_devices_voxels_are_of_the_steps_that_the_fullest_are_of():
    counts, shape = like_real_sweeps(), StepShape(4, 2, 2)
    voxels = drawn_voxels(counts, shape)
    assert voxels.shape == (sizes.BATCHES, 4)
    np.testing.assert_array_equal(voxels.max(axis=1), drawn_batches(counts, shape)[:, 0])


@pytest.mark.parametrize(
    "shape", [StepShape(1, 4, 4), StepShape(8, 2, 2), StepShape(1, 16, 4), StepShape(1, 1, 1)]
)
def test_few_rows_are_empty_with_real_sweeps_voxels(shape):
    counts = like_real_sweeps()
    roomy = Capacities.for_sweeps(shape.sweeps, sweeps_of_a_shard=shape.sweeps_of_a_shard)
    found = fitted_capacities(counts, shape, roomy)
    assert len(found.plans) <= sizes.MOST_SIZES
    assert found.plans[-1] == roomy.plans[-1]
    for series in ([spec.capacity for spec in found.plans], found.pairs, found.superpoints):
        assert list(series) == sorted(series)
    empty = shares(counts, shape, found)
    assert empty["voxels"] < MOST_PADDING
    assert empty["all levels"] < MOST_PADDING + 0.03
    assert empty["pairs"] < 0.35  # of one sweep; a crop keeps very different numbers of them
    assert empty["in the last"] < 0.005
    # The geometric series, which knows nothing of the data.
    assert shares(counts, shape, roomy)["voxels"] > 0.15


def test_four_real_sweeps_have_the_stated_voxels():
    assert 63_788 == 4 * REAL[0]
    assert drawn_batches(like_real_sweeps(), StepShape(1, 4, 4))[:, 0].mean() == pytest.approx(
        63_788, rel=0.01
    )


def test_fewer_sizes_where_batches_are_alike():
    def number(spread: float) -> int:
        shape = StepShape(1, 4, 4)
        return len(
            fitted_capacities(like_real_sweeps(spread), shape, Capacities.for_sweeps(4)).plans
        )

    assert number(0.005) == 2
    assert number(0.005) < number(0.1) <= number(0.4) <= sizes.MOST_SIZES


def test_the_ends_of_classes_leave_the_least_empty():
    values = np.sort(np.random.default_rng(0).integers(10, 100, 12))
    for number in (1, 2, 3):
        found = sizes._best_ends(values, number)
        assert len(found) <= number
        best = min(
            empty_rows(values, ends) for ends in _choices(sorted({*values.tolist()}), number)
        )
        assert empty_rows(values, found) == best


def empty_rows(values: np.ndarray, ends: list[float]) -> float:
    """Of all values together, each in the first end that holds it."""
    rising = np.sort(ends)
    return float((rising[np.searchsorted(rising, values)] - values).sum())


def _choices(values: list[int], number: int) -> list[list[int]]:
    """All ways to choose at most so many ends, the last value among them."""
    if number == 1:
        return [values[-1:]]
    inner = [[], *([value] for value in values[:-1])]
    return [[*first, *rest] for first in inner for rest in _choices(values, number - 1)]


def test_data_beyond_the_recipes_sizes_get_a_larger_last_one():
    counts = like_real_sweeps()
    many = Counts(counts.voxels * 8, counts.pairs * 8, counts.superpoints * 20)
    found = fitted_capacities(many, StepShape(1, 4, 4), Capacities.for_sweeps(4))
    *_, largest, last = (spec.capacity for spec in found.plans)
    assert last >= 1.5 * largest > 500_000
    assert found.pairs[-1] > found.pairs[-2]
    assert found.superpoints[-1] > found.superpoints[-2]


@pytest.fixture(scope="module")
def keyframes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keyframes, DumpFolder]:
    """A simulated drive of six keyframes and the teacher's dumps."""
    root = tmp_path_factory.mktemp("drive")
    simulate_drive(root, 3, 2, 0, 1, 0.1)
    tables = NuScenesTables(root, "v1.0-sim")
    found = tables.keyframes("sim_train") + tables.keyframes("sim_val")
    return found, DumpFolder(root / "dumps" / "simulated", load_vocabulary())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "uov_jax" / "sizes"


@pytest.mark.parametrize("task", ["pre-training", "segmentation"])
@pytest.mark.parametrize("shape", [StepShape(1, 4, 4), StepShape(2, 2, 1)])
def test_few_rows_are_empty_on_a_simulated_drive(keyframes, task, shape):
    found, dumps = keyframes
    if task == "pre-training":
        source = TriModalSource(found, dumps)
    else:
        source = SegmentationSource(NuScenesSweeps(found, load_vocabulary()))
    counts = counts_of(source)
    assert len(counts.pairs) >= sizes.FEWEST_DRAWS
    assert 10_000 < counts.voxels[:, 0].mean() < 20_000
    shard = shape.sweeps_of_a_shard
    roomy = Capacities.for_sweeps(shape.sweeps, sweeps_of_a_shard=shard)
    capacities = fitted_capacities(counts, shape, roomy)
    empty = shares(counts, shape, capacities)
    assert empty["voxels"] < MOST_PADDING
    assert empty["all levels"] < MOST_PADDING
    # They hold what is built.
    samples = [source.sample(index % 6, np.random.default_rng(index)) for index in range(4)]
    devices = [samples[first : first + shape.sweeps] for first in range(0, 4, shape.sweeps)]
    if task == "pre-training":
        shards = shape.sweeps // shape.sweeps_of_a_shard
        batch = collate_tri_modal(devices[: shape.devices], capacities, shards)
    else:
        batch = collate_segmentation(devices[: shape.devices], capacities)
    assert size_of(batch, capacities) < len(capacities.plans) - 1


def test_samples_are_looked_at_once(keyframes, cache, monkeypatch):
    found, dumps = keyframes
    source = TriModalSource(found[:1], dumps)
    monkeypatch.setattr(sizes, "FEWEST_DRAWS", 3)
    counts = counts_of(source)
    (file,) = cache.iterdir()
    built = []
    sample = TriModalSource.sample
    monkeypatch.setattr(
        TriModalSource, "sample", lambda *each: (built.append(each), sample(*each))[1]
    )
    np.testing.assert_array_equal(counts_of(source).table, counts.table)
    assert not built
    # Other voxels, or a damaged file: they are looked at again.
    counts_of(TriModalSource(found[:1], dumps, VoxelSettings((0.2, 2.0, 0.2), cylindrical=True)))
    assert len(built) == 3
    assert len(list(cache.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(counts_of(source).table, counts.table)
    assert len(built) == 6


@pytest.mark.parametrize(
    ("changed", "how"),
    [("sweep", "time"), ("sweep", "size"), ("dump", "time"), ("labelled sweep", "time")],
)
def test_other_files_by_the_same_names_are_looked_at_again(
    tiny_keyframes, tiny_dumps, tmp_path, cache, monkeypatch, changed, how
):
    """As of a drive that was simulated, or of masks that were dumped, once more."""
    monkeypatch.setattr(sizes, "FEWEST_DRAWS", 1)
    sweep = tmp_path / "sweep.pcd.bin"
    shutil.copy(tiny_keyframes[0].lidar_path, sweep)
    keyframe = dataclasses.replace(tiny_keyframes[0], lidar_path=sweep)
    dumps = DumpFolder(shutil.copytree(tiny_dumps.root, tmp_path / "dumps"), load_vocabulary())
    source = TriModalSource([keyframe], dumps)
    if changed == "labelled sweep":
        source = SegmentationSource(NuScenesSweeps([keyframe], load_vocabulary()))
    for _ in range(2):
        counts_of(source)
        assert len(list(cache.iterdir())) == 1
    path = dumps.path(keyframe) if changed == "dump" else sweep
    time = path.stat().st_mtime_ns
    if how == "size":
        path.write_bytes(path.read_bytes()[:-20])  # a point less
    else:
        time += 1_000_000_000
    os.utime(path, ns=(time, time))
    counts_of(source)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_kept_is_none(keyframes, tmp_path, monkeypatch):
    found, dumps = keyframes
    monkeypatch.setattr(sizes, "FEWEST_DRAWS", 2)
    (tmp_path / "uov_jax").write_text("a file where the folder would be")
    assert len(counts_of(TriModalSource(found[:1], dumps)).pairs) == 2


class Coordinates(Broken):
    """Some samples of a few voxels each, and some that are damaged."""

    def sample(self, index, rng):
        super().sample(index, rng)
        return SimpleNamespace(coords=np.arange(3 * (index + 1), dtype=np.int32).reshape(-1, 3))

    def facts(self, indices):
        return {"indices": indices}


def test_damaged_samples_are_left_for_training_to_name(monkeypatch):
    monkeypatch.setattr(sizes, "FEWEST_DRAWS", 1)
    counts = counts_of(Coordinates(8, broken=(3, 5)))
    assert counts.voxels[:, 0].tolist() == [1, 2, 3, 5, 7, 8]
    assert counts.pairs.tolist() == counts.superpoints.tolist() == [0] * 6
    with pytest.raises(InputError, match=r"scene-\d+\.pcd\.bin: truncated"):
        counts_of(Coordinates(9, broken=range(9)))
