"""The store of rooms: whole rooms or none, checked on reading, and classes that a person wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import cloud
from uov_jax.datasets import rooms
from uov_jax.datasets.rooms import RoomError, RoomStore, RoomWriter, read_scene_labels
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary

SCANNET = load_vocabulary("scannet")
CLASSES = SCANNET.eval_classes


def labels_of(points: int) -> np.ndarray:
    return (np.arange(points) % 4).astype(np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of three rooms, one without labels."""
    root = tmp_path / "store"
    writer = RoomWriter(root, "scannet", SCANNET)
    for number, name in enumerate(("a_1", "b-2", "c.3")):
        coords, colors = cloud(20 + number, number)
        labels = labels_of(20 + number) if name != "c.3" else None
        writer.write(name, coords, colors, labels, source=f"{name}.ply")
    writer.write_split("train", ["a_1", "b-2"])
    writer.write_split("val", ["c.3"])
    return root


def test_a_room_comes_back_as_it_was_written(store: Path) -> None:
    opened = RoomStore(store, SCANNET)
    assert opened.names() == ["a_1", "b-2", "c.3"]
    assert opened.classes == CLASSES
    assert opened.manifest.dataset == "scannet"
    coords, colors = cloud(21, 1)
    room = opened.room("b-2")
    np.testing.assert_array_equal(room.coords, coords)
    np.testing.assert_array_equal(room.colors, colors)
    assert room.labels is not None
    np.testing.assert_array_equal(room.labels, labels_of(21))
    assert len(room) == 21
    assert (room.coords.dtype, room.colors.dtype, room.labels.dtype) == (
        np.float32,
        np.uint8,
        np.uint8,
    )
    assert opened.facts("b-2") == rooms.RoomFacts(21, (1, 2, 3), "b-2.ply")


def test_arrays_are_mapped_and_read_only(store: Path) -> None:
    room = RoomStore(store).room("a_1")
    for array in (room.coords, room.colors, room.labels):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_a_room_without_labels_has_none(store: Path) -> None:
    opened = RoomStore(store)
    assert not opened.has_labels("c.3")
    assert opened.room("c.3").labels is None
    assert opened.facts("c.3").classes is None


def test_where_poses_are_is_kept(tmp_path: Path) -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    coords, colors = cloud(3)
    RoomWriter(tmp_path, "s3dis", SCANNET).write("a", coords, colors, None, "", matrix)
    assert RoomStore(tmp_path).facts("a").world_to_room == tuple(range(16))


def test_splits(store: Path) -> None:
    opened = RoomStore(store)
    assert opened.splits() == ["train", "val"]
    assert opened.split("train") == ["a_1", "b-2"]
    with pytest.raises(InputError, match=r"no split 'test' in this store.*'train', 'val'"):
        opened.split("test")
    (store / "splits" / "empty.txt").write_text("\n \n")
    with pytest.raises(RoomError, match=r"empty\.txt: the split names no room"):
        opened.split("empty")


def test_a_room_twice_in_a_split_is_refused(store: Path) -> None:
    (store / "splits" / "train.txt").write_text("a_1\nb-2\na_1\n")
    with pytest.raises(RoomError, match=r"train\.txt: the split names a_1 more than once"):
        RoomStore(store).split("train")


def test_splits_of_before_do_not_stay(store: Path) -> None:
    writer = RoomWriter(store, "scannet", SCANNET)
    (store / "splits" / "mine.txt").write_text("a_1\n")
    assert writer.write_splits({"train": ["a_1", "b-2"], "val": ["c.3"]}) == []
    assert RoomStore(store).splits() == ["mine", "train", "val"]
    told = writer.write_splits({"train": ["c.3", "b-2"]})
    assert told == [
        "the split 'val' is none of the dataset's any more: removed",
        "the split 'train' has 2 rooms, others than before",
    ]
    assert RoomStore(store).splits() == ["mine", "train"]
    assert RoomStore(store).split("train") == ["c.3", "b-2"]
    assert writer.write_splits({"train": ["c.3", "b-2"]}) == []


def test_a_split_with_rooms_that_are_missing_is_refused(store: Path) -> None:
    (store / "splits" / "train.txt").write_text("a_1\nd\nb-2\ne\n")
    with pytest.raises(MissingFileError, match=r"2 of 4 rooms of 'train'.*the first is d: finish"):
        RoomStore(store).split("train")


def test_a_store_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"rooms\.json: no prepared rooms here"):
        RoomStore(tmp_path)


def test_no_such_room(store: Path) -> None:
    with pytest.raises(MissingFileError, match=r"d/room\.json: no such room"):
        RoomStore(store).room("d")


def test_rooms_of_another_vocabulary_are_refused(store: Path) -> None:
    with pytest.raises(RoomError, match=r"labels of the vocabulary 'scannet', not of 's3dis'"):
        RoomStore(store, load_vocabulary("s3dis"))
    with pytest.raises(RoomError, match="give another folder"):
        RoomWriter(store, "scannet", load_vocabulary("s3dis"))
    with pytest.raises(RoomError, match="dataset = 'scannet', not of 'mine'"):
        RoomWriter(store, "mine", SCANNET)
    RoomWriter(store, "scannet", SCANNET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 0}, "of an earlier uov_jax, expected 2: prepare the rooms again"),
        ({"format_version": 3}, "this program reads 2"),
        ({"hosts": 3}, "not a manifest of prepared rooms"),
    ],
)
def test_a_manifest_of_another_version(store: Path, change: dict, message: str) -> None:
    path = store / "rooms.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RoomError, match=message):
        RoomStore(store)


def test_a_store_of_the_first_version_is_read_but_is_of_no_settings(store: Path) -> None:
    path = store / "rooms.json"
    content = json.loads(path.read_text())
    del content["settings"]
    path.write_text(json.dumps(content | {"format_version": 1}))
    assert RoomStore(store).manifest.settings == {}
    assert len(RoomStore(store).room("a_1")) == 20
    RoomWriter(store, "scannet", SCANNET)
    with pytest.raises(RoomError, match=r"settings\.format = 'nothing', not of 'openscene'"):
        RoomWriter(store, "scannet", SCANNET, {"format": "openscene"})


def test_rooms_of_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    RoomWriter(tmp_path, "s3dis", SCANNET, {"format": "s3dis", "release": "aligned"})
    RoomWriter(tmp_path, "s3dis", SCANNET, {"release": "aligned", "format": "s3dis"})
    message = r"settings\.release = 'aligned', not of 'unaligned': give another folder"
    with pytest.raises(RoomError, match=message):
        RoomWriter(tmp_path, "s3dis", SCANNET, {"format": "s3dis", "release": "unaligned"})


def test_a_room_is_current_until_its_files_change(store: Path) -> None:
    coords, colors = cloud(5)
    writer = RoomWriter(store, "scannet", SCANNET)
    writer.write("d", coords, colors, None, stamp="one")
    assert writer.is_current("d", "one")
    assert not writer.is_current("d", "other")
    assert not writer.is_current("e", "one")
    assert writer.is_current("a_1", "one")  # written by a program that knows no files
    (store / "rooms" / "d" / "room.json").write_text("{")
    assert not writer.is_current("d", "one")


class Cut(Exception):
    """Power is cut."""


@pytest.mark.parametrize("moment", ["arrays", "text", "rename"])
def test_a_room_is_written_whole_or_not_at_all(
    store: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def cut(*_: object, **__: object) -> None:
        calls.append(1)
        if moment != "arrays" or len(calls) == 2:
            raise Cut

    target = {
        "arrays": (np.lib.format, "write_array"),
        "text": (rooms, "write_text"),
        "rename": (rooms.os, "replace"),
    }[moment]
    coords, colors = cloud(9)
    writer = RoomWriter(store, "scannet", SCANNET)
    with monkeypatch.context() as patch:
        patch.setattr(*target, cut)
        with pytest.raises(Cut):
            writer.write("d", coords, colors, labels_of(9))
    assert not writer.has("d")
    assert {path.name for path in (store / "rooms").iterdir()} == {"a_1", "b-2", "c.3"}
    assert RoomStore(store).names() == ["a_1", "b-2", "c.3"]
    writer.write("d", coords, colors, labels_of(9))
    assert len(RoomStore(store).room("d")) == 9


def test_what_a_killed_writer_left_is_no_room_and_is_removed(store: Path) -> None:
    """Of its own rooms alone: other processes may be at work on others."""
    for name in ("d", "e"):
        (store / "rooms" / f".{name}.0a1b.tmp").mkdir()
        (store / "rooms" / f".{name}.0a1b.tmp" / "room.json").write_text("{}")
    assert RoomStore(store).names() == ["a_1", "b-2", "c.3"]
    rooms.remove_unfinished_rooms(store, ["d", "a_1"])
    assert not (store / "rooms" / ".d.0a1b.tmp").exists()
    assert (store / "rooms" / ".e.0a1b.tmp").exists()
    assert RoomStore(store).has("a_1")


def test_a_folder_without_its_facts_is_no_room(store: Path) -> None:
    (store / "rooms" / "a_1" / "room.json").unlink()
    opened = RoomStore(store)
    assert opened.names() == ["b-2", "c.3"]
    with pytest.raises(MissingFileError, match="no such room"):
        opened.room("a_1")
    with pytest.raises(MissingFileError, match="1 of 2 rooms of 'train' were not prepared"):
        opened.split("train")


def test_a_room_that_is_written_again_is_replaced(store: Path) -> None:
    coords, colors = cloud(5, 9)
    RoomWriter(store, "scannet", SCANNET).write("a_1", coords, colors, None)
    room = RoomStore(store).room("a_1")
    np.testing.assert_array_equal(room.coords, coords)
    assert room.labels is None


def save(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("coords", np.zeros((20, 3)), r"expected float32 \[20, 3\], found float64 \[20, 3\]"),
        (
            "coords",
            np.zeros((19, 3), np.float32),
            r"expected .* \[20, 3\], found .* \[19, 3\]",
        ),
        ("colors", np.zeros((20, 4), np.uint8), r"expected uint8 \[20, 3\], found uint8 \[20, 4\]"),
        ("labels", np.zeros((20, 1), np.uint8), r"expected uint8 \[20\], found uint8 \[20, 1\]"),
        ("labels", np.zeros(0, np.uint8), r"expected uint8 \[20\], found uint8 \[0\]"),
    ],
)
def test_an_array_of_another_kind_is_refused(
    store: Path, file: str, array: np.ndarray, message: str
) -> None:
    save(store / "rooms" / "a_1" / f"{file}.npy", array)
    with pytest.raises(RoomError, match=rf"a_1/{file}\.npy: {message}: prepare the rooms again"):
        RoomStore(store).room("a_1")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "objects"])
def test_a_damaged_array_is_named(store: Path, damage: str) -> None:
    path = store / "rooms" / "a_1" / "coords.npy"
    if damage == "objects":
        np.save(path, np.array([{}, 1], object), allow_pickle=True)
    else:
        content = {"cut": path.read_bytes()[:-40], "empty": b"", "text": b"no numbers"}
        path.write_bytes(content[damage])
    with pytest.raises(RoomError, match=r"a_1/coords\.npy: damaged"):
        RoomStore(store).room("a_1")


def test_a_missing_array_is_named(store: Path) -> None:
    (store / "rooms" / "a_1" / "colors.npy").unlink()
    with pytest.raises(MissingFileError, match=r"a_1/colors\.npy: missing: prepare the rooms"):
        RoomStore(store).room("a_1")


@pytest.mark.parametrize("text", ["{", "[]", '{"points": 3}', '{"points": 3, "colour": 1}'])
def test_damaged_facts_are_named(store: Path, text: str) -> None:
    (store / "rooms" / "a_1" / "room.json").write_text(text)
    with pytest.raises(RoomError, match=r"a_1/room\.json: not the facts of a room"):
        RoomStore(store).room("a_1")


GOOD = (*cloud(6), labels_of(6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../a"}, r"'\.\./a' is no name for a room"),
        ({"name": ".a"}, r"'\.a' is no name for a room"),
        ({"coords": np.zeros((0, 3), np.float32)}, "the room has no points"),
        (
            {"coords": GOOD[0].astype(np.float64)},
            r"coords: expected float32 \[6, 3\], found float64",
        ),
        ({"coords": GOOD[0].T}, r"coords: expected float32 \[3, 3\], found float32 \[3, 6\]"),
        ({"colors": GOOD[1][:5]}, r"colors: expected uint8 \[6, 3\], found uint8 \[5, 3\]"),
        ({"colors": GOOD[1] / 255}, r"colors: expected uint8 \[6, 3\], found float64"),
        ({"labels": GOOD[2].astype(np.int64)}, r"labels: expected uint8 \[6\], found int64 \[6\]"),
        ({"labels": np.full(6, 21, np.uint8)}, "point 0 has the label 21, expected 0 to 20"),
        ({"labels": np.array([0, 1, 255, 2, 3, 4], np.uint8)}, "point 2 has the label 255"),
    ],
)
def test_what_is_no_room_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    given = {"name": "a", "coords": GOOD[0], "colors": GOOD[1], "labels": GOOD[2]} | change
    writer = RoomWriter(tmp_path, "scannet", SCANNET)
    with pytest.raises(RoomError, match=rf"x\.ply: .*{message}"):
        writer.write(*given.values(), source="x.ply")
    assert not (tmp_path / "rooms").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_points_that_are_nowhere_are_refused(tmp_path: Path, value: float) -> None:
    coords = GOOD[0].copy()
    coords[4, 1] = value
    with pytest.raises(RoomError, match=r"room a: point 4 is at .*, which is no place"):
        RoomWriter(tmp_path, "scannet", SCANNET).write("a", coords, GOOD[1], None)


def test_classes_of_a_room_are_those_of_its_points(store: Path) -> None:
    opened = RoomStore(store)
    assert opened.scene_classes("a_1") == (1, 2, 3)
    with pytest.raises(RoomError, match=r"no labels, and .*scene_labels\.txt does not name it"):
        opened.scene_classes("c.3")


def test_classes_that_a_person_wrote_come_first(store: Path) -> None:
    text = "# of the flat\n\nc.3: bed,  desk , bed\na_1: shower curtain\n"
    (store / "scene_labels.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    opened = RoomStore(store)
    assert opened.scene_classes("c.3") == (4, 13)
    assert opened.scene_classes("a_1") == (16,)
    assert opened.scene_classes("b-2") == (1, 2, 3)


def test_classes_of_a_room_that_is_none_are_refused(store: Path) -> None:
    path = store / "scene_labels.txt"
    path.write_text("a_1: bed\n\nb_2: desk\n")
    message = r"scene_labels\.txt:3: 'b_2' is none of the 3 rooms, is b-2 meant\?"
    for name in ("a_1", "b-2", "c.3"):
        with pytest.raises(RoomError, match=message):
            RoomStore(store).scene_classes(name)
    path.write_text("kitchen: desk\n")
    with pytest.raises(RoomError, match=r":1: 'kitchen' is none of the 3 rooms$"):
        RoomStore(store).scene_classes("a_1")
    # A room of a split may be still to come.
    (store / "splits" / "val.txt").write_text("c.3\nkitchen\n")
    assert RoomStore(store).scene_classes("a_1") == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: bed, sofaa\n", r":1: 'sofaa' is none of the classes wall, floor,"),
        ("a: ignore\n", r":1: 'ignore' is none of the classes"),
        ("a: bed\n\na: desk\n", r":3: the room a stands here a second time"),
        ("a bed\n", r":1: expected 'ROOM: class, class', found 'a bed'"),
        ("a: ,\n", r":1: expected 'ROOM: class, class'"),
        (": bed\n", r":1: expected 'ROOM: class, class'"),
    ],
)
def test_bad_scene_labels_are_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scene_labels.txt"
    path.write_text(text)
    with pytest.raises(RoomError, match=rf"scene_labels\.txt{message}"):
        read_scene_labels(path, CLASSES, {"a"})


def test_scene_labels_of_another_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scene_labels.txt"
    path.write_bytes("küche: bed".encode("latin1"))
    with pytest.raises(RoomError, match="not UTF-8 text"):
        read_scene_labels(path, CLASSES, {"a"})


def test_rooms_are_told_apart_by_facts_and_labels(store: Path) -> None:
    opened = RoomStore(store)
    first, both = opened.identity(["b-2"]), opened.identity(["b-2", "c.3"])
    assert first != both
    coords, colors = cloud(21, 1)
    writer = RoomWriter(store, "scannet", SCANNET)
    writer.write("b-2", coords, colors, labels_of(21), source="elsewhere/b-2.ply")
    assert opened.identity(["b-2"]) == first
    writer.write("b-2", coords, colors, labels_of(21)[::-1])
    assert opened.identity(["b-2"]) != first
    assert opened.identity(["b-2", "c.3"]) != both
    writer.write("b-2", coords, colors, None)
    assert opened.identity(["b-2"]) != first
