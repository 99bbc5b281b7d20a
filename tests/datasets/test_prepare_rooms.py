"""From datasets to the store: processes change nothing, and a stopped run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import real_root
from tests.datasets.indoor_files import (
    cloud,
    openscene_pickle,
    ply_fields,
    write_lists,
    write_openscene,
    write_ply,
    write_s3dis,
    write_scannet,
    write_scene,
)
from uov_jax.datasets.openscene_rooms import OpenSceneRooms
from uov_jax.datasets.prepare_rooms import missing_rooms, open_store, prepare_rooms
from uov_jax.datasets.recordings import Recordings
from uov_jax.datasets.rooms import RoomError, RoomStore
from uov_jax.datasets.s3dis import S3DISRooms
from uov_jax.datasets.scannet import ScanNetRooms
from uov_jax.datasets.scans import ScanSource
from uov_jax.errors import MissingFileError, UserError
from uov_jax.vocabulary import load_vocabulary

SCANNET = load_vocabulary("scannet")


def source_of(format: str, root: Path) -> ScanSource:
    if format == "scannet":
        write_scannet(root)
        return ScanNetRooms(root, SCANNET)
    if format == "s3dis":
        return S3DISRooms(write_s3dis(root), load_vocabulary("s3dis"))
    if format == "openscene":
        for number, place in enumerate(("train/a", "train/b", "val/c")):
            write_openscene(root / f"{place}.pth", 40, place != "val/c", number)
        return OpenSceneRooms(root, SCANNET)
    for number, name in enumerate(("a", "b", "c")):
        write_ply(root / f"{name}.ply", ply_fields(*cloud(30, number)))
    return Recordings(root, SCANNET)


@pytest.mark.parametrize("format", ["scannet", "s3dis", "openscene", "recording"])
def test_a_store_holds_what_the_dataset_does(tmp_path: Path, format: str) -> None:
    source = source_of(format, tmp_path / "data")
    vocabulary = load_vocabulary("s3dis" if format == "s3dis" else "scannet")
    writer = open_store(tmp_path / "store", format, vocabulary, source, None)
    results = list(prepare_rooms(source, source.names(), writer, workers=2))
    store = RoomStore(tmp_path / "store", vocabulary)
    assert [result.name for result in results] == source.names()
    assert store.names() == sorted(source.names())
    assert store.splits() == sorted(source.splits())
    for split, names in source.splits().items():
        assert store.split(split) == list(names)
    for result in results:
        scan, room = source.read(result.name), store.room(result.name)
        np.testing.assert_array_equal(room.coords, scan.coords)
        np.testing.assert_array_equal(room.colors, scan.colors)
        assert (room.labels is None) == (scan.labels is None) == (result.classes is None)
        if scan.labels is not None:
            np.testing.assert_array_equal(room.labels, scan.labels)
            assert store.scene_classes(result.name) == tuple(
                np.unique(scan.labels[scan.labels > 0])
            )
            assert result.classes == len(store.scene_classes(result.name))
        assert (result.points, result.failure) == (len(room), "")
        assert store.facts(result.name).source == scan.source


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    source = source_of("openscene", tmp_path / "data")
    writer = open_store(tmp_path / "store", "scannet", SCANNET, source, None)
    run = prepare_rooms(source, source.names(), writer)
    assert next(run).points == 40
    run.close()
    # As a killed process leaves it.
    (tmp_path / "store" / "rooms" / ".b.0a1b.tmp").mkdir()
    assert RoomStore(tmp_path / "store").names() == ["a"]
    with pytest.raises(MissingFileError, match="1 of 2 rooms of 'train' were not prepared"):
        RoomStore(tmp_path / "store").split("train")
    before = (tmp_path / "store" / "rooms" / "a" / "coords.npy").stat().st_mtime_ns
    again = open_store(tmp_path / "store", "scannet", SCANNET, source, None)
    results = list(prepare_rooms(source, source.names(), again))
    assert [result.points for result in results] == [0, 40, 40]
    assert (tmp_path / "store" / "rooms" / "a" / "coords.npy").stat().st_mtime_ns == before
    assert {path.name for path in (tmp_path / "store" / "rooms").iterdir()} == {"a", "b", "c"}


@pytest.mark.parametrize("format", ["scannet", "s3dis", "openscene", "recording"])
def test_a_room_whose_files_were_replaced_is_prepared_again(tmp_path: Path, format: str) -> None:
    """By size or by time; the others stay."""
    source = source_of(format, tmp_path / "data")
    vocabulary = load_vocabulary("s3dis" if format == "s3dis" else "scannet")
    writer = open_store(tmp_path / "store", format, vocabulary, source, None)
    list(prepare_rooms(source, source.names(), writer))
    first, *others = source.names()
    assert missing_rooms(source, source.names(), writer) == []
    for path in source.files(first):
        content, facts = path.read_bytes(), path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert missing_rooms(source, source.names(), writer) == []
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert missing_rooms(source, source.names(), writer) == [first]
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.utime(source.files(first)[0], ns=(0, 0))
    results = list(prepare_rooms(source, source.names(), writer))
    assert [result.replaced for result in results] == [True, *(False for _ in others)]
    assert results[0].points == len(RoomStore(tmp_path / "store").room(first))
    assert [result.points for result in results[1:]] == [0 for _ in others]
    assert missing_rooms(source, source.names(), writer) == []


def test_labels_that_come_later_are_taken(tmp_path: Path) -> None:
    name, data = "scene0707_00", tmp_path / "data"
    write_lists(data, {"test": [name]})
    write_scene(data, name, None)
    source = ScanNetRooms(data, SCANNET)
    writer = open_store(tmp_path / "store", "scannet", SCANNET, source, None)
    list(prepare_rooms(source, source.names(), writer))
    assert not RoomStore(tmp_path / "store").has_labels(name)
    _, path = source.files(name)
    labels = np.full(50, 2, np.uint16)  # NYU40's floor
    write_ply(path, ply_fields(*cloud(50)) | {"label": labels})
    assert missing_rooms(source, source.names(), writer) == [name]
    (result,) = prepare_rooms(source, source.names(), writer)
    assert result.replaced
    np.testing.assert_array_equal(RoomStore(tmp_path / "store").room(name).labels, labels)


@pytest.mark.parametrize("order", [(0, 1), (0, 2), (1, 2), (2, 0), (2, 1)])
def test_rooms_of_s3dis_prepared_otherwise_want_another_folder(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """Aligned, aligned with angles, unaligned: each gives other coordinates or another matrix."""
    root, words = write_s3dis(tmp_path / "data"), load_vocabulary("s3dis")
    angles = tmp_path / "angles"
    angles.mkdir()
    (angles / "Area_1_alignmentAngle.txt").write_text("office_1 90\n")
    sources = (
        S3DISRooms(root, words),
        S3DISRooms(root, words, angles=angles),
        S3DISRooms(root, words, release="unaligned"),
    )
    store = tmp_path / "store"
    for _ in range(2):
        open_store(store, "s3dis", words, sources[order[0]], None)
    with pytest.raises(RoomError, match=r"settings\.(release|angles) = .*: give another folder"):
        open_store(store, "s3dis", words, sources[order[1]], None)


def test_another_table_of_labels_or_another_format_wants_another_folder(tmp_path: Path) -> None:
    source = source_of("scannet", tmp_path / "data")
    open_store(tmp_path / "store", "scannet", SCANNET, source, None)
    table = tmp_path / "data" / "scannetv2-labels.combined.tsv"
    # The same table in other words is the same.
    table.write_text(table.read_text().rstrip("\n") + "\n\n")
    again = ScanNetRooms(tmp_path / "data", SCANNET)
    open_store(tmp_path / "store", "scannet", SCANNET, again, None)
    other = tmp_path / "other.tsv"
    other.write_text("nyu40id\tnyu40class\n2\twall\n")
    changed = ScanNetRooms(tmp_path / "data", SCANNET, label_table=other)
    with pytest.raises(RoomError, match=r"settings\.label_table = .*: give another folder"):
        open_store(tmp_path / "store", "scannet", SCANNET, changed, None)
    openscene = source_of("openscene", tmp_path / "scannet_3d")
    with pytest.raises(RoomError, match=r"settings\.format = 'scannet', not of 'openscene'"):
        open_store(tmp_path / "store", "scannet", SCANNET, openscene, None)


def test_a_room_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    source = source_of("openscene", tmp_path / "data")
    (tmp_path / "data" / "train" / "b.pth").write_bytes(b"damaged")
    write_openscene(tmp_path / "data" / "val" / "c.pth", points=0)
    writer = open_store(tmp_path / "store", "scannet", SCANNET, source, None)
    results = list(prepare_rooms(source, source.names(), writer))
    assert [bool(result.failure) for result in results] == [False, True, True]
    assert "b.pth" in results[1].failure
    assert "c.pth: the room has no points" in results[2].failure
    assert RoomStore(tmp_path / "store").names() == ["a"]


@pytest.mark.parametrize("format", ["scannet", "s3dis", "openscene", "recording"])
def test_damage_anywhere_is_one_clear_error_or_none(tmp_path: Path, format: str) -> None:
    """Bytes are changed and cut off: a room is read, or a user's error names its file."""
    source = source_of(format, tmp_path)
    name = source.names()[0]
    folder = Path(source.read(name).source)
    path = next(folder.glob("*.txt")) if folder.is_dir() else folder
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    failures = []
    for number in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged[: rng.integers(0, len(whole))] if number % 4 == 0 else damaged)
        try:
            scan = source.read(name)
        except UserError as error:
            failures.append(str(error))
        else:
            assert scan.coords.dtype == np.float32
            assert scan.coords.shape == scan.colors.shape
            assert source.expected_points(name) >= 0
    assert all(str(path) in failure for failure in failures)
    # A text file's damaged lines are left out or mended, whatever they are.
    assert bool(failures) == (format != "s3dis")


def test_scene_labels_are_checked_and_kept(tmp_path: Path) -> None:
    source = source_of("recording", tmp_path / "data")
    path = tmp_path / "labels.txt"
    with pytest.raises(MissingFileError, match=r"labels\.txt: no such file of the rooms' classes"):
        open_store(tmp_path / "store", "mine", SCANNET, source, path)
    path.write_text("a: bed, moon\n")
    with pytest.raises(RoomError, match=r"labels\.txt:1: 'moon' is none of the classes"):
        open_store(tmp_path / "store", "mine", SCANNET, source, path)
    path.write_text("b: bed\nkitchen: bed\n")
    with pytest.raises(RoomError, match=r"labels\.txt:2: 'kitchen' is none of the 3 rooms"):
        open_store(tmp_path / "store", "mine", SCANNET, source, path)
    assert not (tmp_path / "store").exists()
    path.write_text("a: bed, desk\n")
    writer = open_store(tmp_path / "store", "mine", SCANNET, source, path)
    list(prepare_rooms(source, source.names(), writer))
    store = RoomStore(tmp_path / "store")
    assert store.scene_classes("a") == (4, 13)
    with pytest.raises(RoomError, match="write a line 'b: wall, floor'"):
        store.scene_classes("b")


def test_the_real_room_keeps_every_bit(tmp_path: Path) -> None:
    """Through a file of one's own, OpenScene's and the store; halves would move its voxels."""
    (path,) = real_root("scannet").glob("*.bin")
    points = np.fromfile(path, np.float32).reshape(-1, 6)
    coords, colors = points[:, :3], points[:, 3:].astype(np.uint8)
    np.testing.assert_array_equal(colors, points[:, 3:])
    data = tmp_path / "data"
    write_ply(data / "ply" / "room.ply", ply_fields(coords, colors))
    (data / "openscene").mkdir()
    parts = coords, colors / np.float32(127.5) - np.float32(1)
    (data / "openscene" / "room.pth").write_bytes(openscene_pickle(parts))
    for source in (Recordings(data / "ply", SCANNET), OpenSceneRooms(data / "openscene", SCANNET)):
        root = tmp_path / type(source).__name__
        writer = open_store(root, "scannet", SCANNET, source, None)
        (result,) = prepare_rooms(source, source.names(), writer)
        room = RoomStore(root).room("room")
        assert result.points == len(room) == len(points)
        np.testing.assert_array_equal(room.coords, coords)
        np.testing.assert_array_equal(room.colors, colors)
    halved = coords.astype(np.float16).astype(np.float32)
    moved = (np.floor(halved / 0.02) != np.floor(coords / 0.02)).any(axis=1)
    assert 0.05 < moved.mean() < 0.25
