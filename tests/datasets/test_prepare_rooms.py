"""From datasets to the store: processes change nothing, and a stopped run goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import (
    cloud,
    ply_fields,
    write_openscene,
    write_ply,
    write_s3dis,
    write_scannet,
)
from uov_jax.datasets.openscene_rooms import OpenSceneRooms
from uov_jax.datasets.prepare_rooms import open_store, prepare_rooms
from uov_jax.datasets.recordings import Recordings
from uov_jax.datasets.rooms import RoomError, RoomStore
from uov_jax.datasets.s3dis import S3DISRooms
from uov_jax.datasets.scannet import ScanNetRooms
from uov_jax.datasets.scans import ScanSource
from uov_jax.errors import MissingFileError
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


def test_scene_labels_are_checked_and_kept(tmp_path: Path) -> None:
    source = source_of("recording", tmp_path / "data")
    path = tmp_path / "labels.txt"
    with pytest.raises(MissingFileError, match=r"labels\.txt: no such file of the rooms' classes"):
        open_store(tmp_path / "store", "mine", SCANNET, source, path)
    path.write_text("a: bed, moon\n")
    with pytest.raises(RoomError, match=r"labels\.txt:1: 'moon' is none of the classes"):
        open_store(tmp_path / "store", "mine", SCANNET, source, path)
    assert not (tmp_path / "store").exists()
    path.write_text("a: bed, desk\n")
    writer = open_store(tmp_path / "store", "mine", SCANNET, source, path)
    list(prepare_rooms(source, source.names(), writer))
    store = RoomStore(tmp_path / "store")
    assert store.scene_classes("a") == (4, 13)
    with pytest.raises(RoomError, match="write a line 'b: wall, floor'"):
        store.scene_classes("b")
