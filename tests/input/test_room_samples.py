"""Samples of both stages of rooms, and their batches."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_rooms import write_features, write_rooms
from uov_jax import sparse
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.input.batching import ROOM_FRACTIONS, Capacities
from uov_jax.input.loader import train_batches
from uov_jax.input.room_augment import NO_AUGMENTATION
from uov_jax.input.room_distillation import (
    CollateRooms,
    DistillationSample,
    DistillationSource,
    cut_to,
    fair_shares,
)
from uov_jax.input.room_points import PointSource, collate_points
from uov_jax.input.room_voxels import room_voxels
from uov_jax.vocabulary import load_vocabulary

SIZE, VOXEL = 16, 0.2
CAPACITIES = Capacities.for_sweeps(1, first_kernel=5, voxels=(2048, 2048),
                                   fractions=ROOM_FRACTIONS)  # fmt: skip


class TrueLabels:
    """The labels of a store."""

    def __init__(self, store: RoomStore) -> None:
        self.store = store

    def labels(self, room: str, points: int) -> np.ndarray:
        labels = self.store.room(room).labels
        assert labels is not None
        assert len(labels) == points
        return labels


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoomStore, FeatureFolder]:
    folder = tmp_path_factory.mktemp("rooms")
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(folder / "store", vocabulary)
    return store, write_features(folder / "features", store, vocabulary, embedding_size=SIZE)


@pytest.mark.parametrize("points", [100, 2000])
def test_points_are_drawn_among_those_seen_with_their_own_labels(
    rooms: tuple[RoomStore, FeatureFolder], points: int
) -> None:
    store, features = rooms
    source = PointSource(store, features, TrueLabels(store), store.split("train"), points)
    sample = source.sample(1, np.random.default_rng(0))
    name = store.split("train")[1]
    room = store.room(name)
    fused = features.room(name, len(room))
    assert sample.features.shape == (points, SIZE)
    assert sample.features.dtype == np.float16
    # Every row is a feature of the file, and has the label of its point.
    row_of = {fused.features[row].tobytes(): row for row in range(len(fused.features))}
    rows = np.array([row_of[feature.tobytes()] for feature in sample.features])
    labels = np.asarray(room.labels)[np.flatnonzero(fused.visible)]
    np.testing.assert_array_equal(sample.labels, labels[rows])
    repeats = len(rows) - len(np.unique(rows))
    # Several times each only where there are too few.
    assert (repeats > 0) == (points > len(fused.features))
    again = source.sample(1, np.random.default_rng(0))
    np.testing.assert_array_equal(again.features, sample.features)
    other = source.sample(1, np.random.default_rng(1))
    assert not np.array_equal(other.features, sample.features)


def test_batches_of_points_hold_every_room_of_every_device(
    rooms: tuple[RoomStore, FeatureFolder],
) -> None:
    store, features = rooms
    source = PointSource(store, features, TrueLabels(store), store.names(), 50)
    made = [[source.sample(i, np.random.default_rng(i)) for i in row] for row in ((0, 2), (1, 1))]
    batch = collate_points(made)
    assert batch["features"].shape == (2, 100, SIZE)
    assert batch["labels"].shape == (2, 100)
    for device, row in enumerate(made):
        np.testing.assert_array_equal(
            batch["features"][device], np.concatenate([sample.features for sample in row])
        )
        np.testing.assert_array_equal(
            batch["labels"][device], np.concatenate([sample.labels for sample in row])
        )


def test_batches_of_one_shape_need_no_capacities(rooms: tuple[RoomStore, FeatureFolder]) -> None:
    store, features = rooms
    source = PointSource(store, features, TrueLabels(store), store.names(), 50)
    batches = train_batches(
        source, collate=collate_points, batch_size_per_device=2, num_devices=1, capacities=None,
        seed=0, workers=0, num_hosts=1,
    )  # fmt: skip
    first, second = batches.steps.batch(0), next(iter(batches))
    np.testing.assert_array_equal(first["features"], second["features"])


def test_a_room_as_it_is_has_the_features_of_its_voxels_first_points(
    rooms: tuple[RoomStore, FeatureFolder],
) -> None:
    store, features = rooms
    source = DistillationSource(store, features, store.names(), VOXEL, NO_AUGMENTATION)
    sample = source.sample(0, np.random.default_rng(0))
    room = store.room(store.names()[0])
    fused = features.room(room.name, len(room))
    voxels = room_voxels(room.coords, VOXEL, room.name)
    np.testing.assert_array_equal(sample.coords, voxels.coords)
    np.testing.assert_allclose(sample.colors, room.colors[voxels.first] / 127.5 - 1, atol=1e-6)
    assert sample.offset.tolist() == [0, 0, 0]
    seen = fused.visible[voxels.first]
    np.testing.assert_array_equal(sample.seen, np.flatnonzero(seen))
    np.testing.assert_array_equal(
        sample.embedding, fused.features[fused.rows()[voxels.first[seen]]]
    )


def test_augmentation_moves_voxels_and_keeps_features_with_their_points(
    rooms: tuple[RoomStore, FeatureFolder],
) -> None:
    store, features = rooms
    source = DistillationSource(store, features, store.names(), VOXEL, loop=3)
    assert len(source) == 3 * len(store.names())
    rng = np.random.default_rng
    one, same, other = source.sample(0, rng(0)), source.sample(0, rng(0)), source.sample(0, rng(1))
    looped = source.sample(len(store.names()), rng(0))
    np.testing.assert_array_equal(one.coords, same.coords)
    np.testing.assert_array_equal(one.coords, looped.coords)
    assert one.coords.shape != other.coords.shape or not np.array_equal(one.coords, other.coords)
    assert 0 <= one.offset.min() <= one.offset.max() < 100
    known = {
        row.tobytes() for row in features.room(one.room, store.facts(one.room).points).features
    }
    assert all(row.tobytes() in known for row in one.embedding)
    assert np.abs(one.colors).max() <= 1
    assert not np.array_equal(one.colors[: len(other.colors)], other.colors[: len(one.colors)])


def made(number: int, voxels: int, offset: int = 0) -> DistillationSample:
    """A room of a floor of voxels in rows of ten, every second of which is seen."""
    places = np.arange(voxels)
    coords = np.stack([places % 10, places // 10, 0 * places], axis=1).astype(np.int32)
    seen = places[::2].astype(np.int32)
    embedding = np.repeat(seen[:, None] + 1000 * number, 4, axis=1).astype(np.float16)
    colors = np.repeat(places[:, None] + 1.0, 3, axis=1).astype(np.float32)
    return DistillationSample(
        f"room{number}", coords, colors, seen, embedding, np.full(3, offset, np.int32), voxels // 2
    )


def test_a_batch_puts_features_at_their_voxels_and_moves_all_by_one_offset() -> None:
    samples = [[made(0, 30, 7), made(1, 50, 90)], [made(2, 10, 3), made(3, 20, 4)]]
    batch = CollateRooms()(samples, CAPACITIES)
    plan = batch["plan"]
    assert batch["target"].dtype == np.float16
    for device, (row, offset) in enumerate(zip(samples, (7, 3), strict=True)):
        coords = plan.coords[0][device]
        assert plan.counts[device][0] == sum(len(sample.coords) for sample in row)
        for number, sample in enumerate(row):
            row_of = {tuple(place): row for row, place in enumerate(coords) if place[0] == number}
            assert len(row_of) == len(sample.coords)
            rows = np.array([row_of[number, *(place + offset)] for place in sample.coords])
            np.testing.assert_array_equal(batch["features"][device][rows], sample.colors)
            seen = np.isin(np.arange(len(sample.coords)), sample.seen)
            np.testing.assert_array_equal(batch["seen"][device][rows], seen)
            np.testing.assert_array_equal(
                batch["target"][device][rows[sample.seen]], sample.embedding
            )
        filled = plan.counts[device][0]
        assert not batch["seen"][device][filled:].any()
        assert not batch["target"][device][filled:].any()


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([5, 3], 10, [5, 3]),
        ([100, 3], 53, [50, 3]),
        ([100, 30, 80], 90, [30, 30, 30]),
        ([100, 10, 80], 90, [40, 10, 40]),
        ([9], 4, [4]),
        ([9, 9, 9], 2, [1, 1, 1]),
    ],
)
def test_small_rooms_stay_whole_and_large_ones_share_the_rest(
    sizes: list[int], most: int, expected: list[int]
) -> None:
    assert fair_shares(sizes, most) == expected


def test_a_cut_room_is_a_disc_about_its_focus_with_its_own_features() -> None:
    whole = made(1, 200)
    part = whole.cut(41)
    assert len(part.coords) == len(part.colors) == 41
    middle = whole.coords[whole.focus]
    distance = np.linalg.norm(whole.coords - middle, axis=1)
    kept = {tuple(place) for place in part.coords}
    radius = max(np.linalg.norm(part.coords - middle, axis=1))
    assert all(tuple(p) in kept for p, d in zip(whole.coords, distance, strict=True) if d < radius)
    # Colours and embeddings of the fixture say which voxel they are of.
    np.testing.assert_array_equal(part.colors[:, 0] - 1, part.coords[:, 0] + 10 * part.coords[:, 1])
    np.testing.assert_array_equal(part.embedding[:, 0] - 1000, part.colors[part.seen, 0] - 1)
    assert (part.colors[:, 0] % 2 == 1).sum() == len(part.seen)
    assert tuple(part.coords[part.focus]) == tuple(middle)
    assert whole.cut(200) is whole


def test_a_shard_of_rooms_is_the_same_on_any_number_of_devices() -> None:
    """Cut and moved together: by its own largest room and its own first one."""
    rooms = [made(0, 400, 7), made(1, 60, 8), made(2, 100, 9), made(3, 300, 3)]
    one = CollateRooms(150, shards=2)([rooms], CAPACITIES)
    two = CollateRooms(150, shards=1)([rooms[:2], rooms[2:]], CAPACITIES)
    whole = CollateRooms(150, shards=1)([rooms], CAPACITIES)
    cloud, others = one["plan"].coords[0][0], two["plan"].coords[0]
    assert one["plan"].counts[0][0] == two["plan"].counts[:, 0].sum() == 600
    for number in range(4):
        device, sweep = divmod(number, 2)
        rows, same = cloud[:, 0] == number, others[device, :, 0] == sweep
        np.testing.assert_array_equal(cloud[rows, 1:], others[device, same, 1:])
        for name in ("features", "target", "seen"):
            np.testing.assert_array_equal(one[name][0][rows], two[name][device][same])
    assert not np.array_equal(whole["plan"].coords[0][0], cloud)


def test_batches_are_cut_where_rooms_differ_tenfold() -> None:
    rooms = [made(0, 1000), made(1, 100)]
    assert [len(r.coords) for r in cut_to(rooms, 500)] == [400, 100]
    batch = CollateRooms(most_voxels=250)([rooms], CAPACITIES)
    assert batch["plan"].counts[0][0] == 500
    with pytest.raises(sparse.CapacityError, match=r"raise the second number .*'room0', 'room1'"):
        CollateRooms()([[made(0, 3000), made(1, 100)]], CAPACITIES)


def test_sources_without_rooms_are_refused(rooms: tuple[RoomStore, FeatureFolder]) -> None:
    store, features = rooms
    with pytest.raises(InputError, match="at least one room with a point that a view saw"):
        DistillationSource(store, features, [], VOXEL)
    with pytest.raises(InputError, match="at least one room with a point that a view saw"):
        PointSource(store, features, TrueLabels(store), [], 5)
