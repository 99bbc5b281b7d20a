"""Rooms of one's own: point clouds as PLY and npz, splits, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import cloud, ply_fields, write_ply
from uov_jax.datasets.ply_file import PlyError
from uov_jax.datasets.recordings import Recordings
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scans import GREY
from uov_jax.errors import MissingFileError
from uov_jax.vocabulary import load_vocabulary

SCANNET = load_vocabulary("scannet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A kitchen as PLY, an office as npz."""
    write_ply(tmp_path / "kitchen.ply", ply_fields(*cloud(30)))
    coords, colors = cloud(20, 1)
    np.savez(tmp_path / "office.npz", coords=coords.astype(np.float64), colors=colors)
    return tmp_path


def test_points_come_back(root: Path) -> None:
    rooms = Recordings(root, SCANNET)
    assert rooms.names() == ["kitchen", "office"]
    assert rooms.splits() == {"all": ["kitchen", "office"]}
    for number, (name, points) in enumerate({"kitchen": 30, "office": 20}.items()):
        coords, colors = cloud(points, number)
        scan = rooms.read(name)
        np.testing.assert_array_equal(scan.coords, coords)
        np.testing.assert_array_equal(scan.colors, colors)
        assert scan.labels is None
        assert rooms.expected_points(name) > 0
    assert rooms.expected_points("kitchen") == 30


def test_labels_are_classes(root: Path) -> None:
    labels = np.arange(30, dtype=np.uint8) % 21
    write_ply(root / "kitchen.ply", ply_fields(*cloud(30)) | {"label": labels})
    np.savez(root / "office.npz", coords=cloud(20)[0], labels=labels[:20].astype(np.int64))
    rooms = Recordings(root, SCANNET)
    np.testing.assert_array_equal(rooms.read("kitchen").labels, labels)
    np.testing.assert_array_equal(rooms.read("office").labels, labels[:20])


def test_points_without_colours_are_grey_and_told(root: Path) -> None:
    np.savez(root / "office.npz", coords=cloud(20)[0])
    fields = ply_fields(*cloud(30))
    write_ply(root / "kitchen.ply", {name: fields[name] for name in "xyz"})
    rooms = Recordings(root, SCANNET)
    for name in rooms.names():
        scan = rooms.read(name)
        assert (scan.colors == GREY).all()
        assert "no colours, grey stands for them" in scan.notes[0]


def test_splits_are_lists(root: Path) -> None:
    (root / "train.txt").write_text("office\n")
    (root / "val.txt").write_text("kitchen\n\n")
    (root / "scene_labels.txt").write_text("office: desk\n")
    assert Recordings(root, SCANNET).splits() == {"train": ["office"], "val": ["kitchen"]}
    (root / "val.txt").write_text("kitchen\nbath\n")
    with pytest.raises(MissingFileError, match=r"val\.txt: the split names 1 rooms.*first is bath"):
        Recordings(root, SCANNET)


def test_a_room_in_two_lists_is_refused(root: Path) -> None:
    (root / "train.txt").write_text("office\n")
    (root / "val.txt").write_text("kitchen\noffice\n")
    with pytest.raises(RoomError, match=r"val\.txt: office stands in the list of 'train' too"):
        Recordings(root, SCANNET)
    (root / "val.txt").write_text("kitchen\nkitchen\n")
    with pytest.raises(RoomError, match=r"val\.txt: kitchen stands in this list more than once"):
        Recordings(root, SCANNET)
    # A list of another name is no split to be judged on.
    (root / "val.txt").write_text("kitchen\n")
    (root / "small.txt").write_text("office\n")
    assert set(Recordings(root, SCANNET).splits()) == {"train", "val", "small"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"points": np.zeros((3, 3))}, "no array coords in it"),
        ({"coords": np.zeros((3, 2))}, r"coordinates: expected numbers \[points, 3\]"),
        ({"coords": np.zeros((3, 3)), "labels": np.array([0, 21, 1])}, "labels: expected a whole"),
        (
            {"coords": np.zeros((3, 3)), "labels": np.array([0, -1, 1])},
            r"beginning with \[0, -1, 1\]",
        ),
        ({"coords": np.zeros((3, 3)), "labels": np.array([0, 0.5, 1])}, "labels: expected a whole"),
        ({"coords": np.zeros((3, 3)), "labels": np.array(["bed"] * 3)}, "labels: expected a whole"),
        ({"coords": np.array([[{}, 1, 2]], object)}, "not an .npz of plain arrays"),
    ],
)
def test_arrays_that_are_no_room_are_named(root: Path, arrays: dict, message: str) -> None:
    np.savez(root / "office.npz", allow_pickle=True, **arrays)
    with pytest.raises(RoomError, match=rf"office\.npz: .*{message}"):
        Recordings(root, SCANNET).read("office")


def test_files_that_cannot_be_used_are_named(root: Path) -> None:
    (root / "office.npz").write_bytes(b"no archive")
    (root / "kitchen.ply").write_bytes(b"no mesh")
    rooms = Recordings(root, SCANNET)
    assert rooms.expected_points("kitchen") == 0
    with pytest.raises(RoomError, match=r"office\.npz: not an \.npz"):
        rooms.read("office")
    with pytest.raises(PlyError, match=r"kitchen\.ply: not a PLY file"):
        rooms.read("kitchen")


def test_folders_that_cannot_be_used(root: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no \.ply or \.npz files of rooms"):
        Recordings(root / "nowhere", SCANNET)
    (root / "my room.ply").write_bytes(b"")
    with pytest.raises(RoomError, match="'my room' is no name for a room"):
        Recordings(root, SCANNET)
    (root / "my room.ply").rename(root / "office.ply")
    with pytest.raises(RoomError, match=r"office\.ply: the room is there already as .*office\.npz"):
        Recordings(root, SCANNET)
