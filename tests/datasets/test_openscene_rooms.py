"""OpenScene's preprocessed points: files as it writes them, and none of their code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.datasets.indoor_files import cloud, openscene_pickle, write_openscene
from uov_jax.datasets.openscene_rooms import OpenSceneRooms, read_openscene
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scans import GREY
from uov_jax.errors import MissingFileError
from uov_jax.pickled import PickleError
from uov_jax.vocabulary import load_vocabulary, vocabulary_of_words

SCANNET = load_vocabulary("scannet")
NAME = "scene0000_00_vh_clean_2.pth"


def expected_classes(labels: np.ndarray) -> np.ndarray:
    return np.where((labels == 255) | (labels == -100), 0, labels + 1).astype(np.uint8)


def test_a_room_as_openscene_pickles_it(tmp_path: Path) -> None:
    coords, colors, labels = write_openscene(tmp_path / NAME)
    scan = read_openscene(tmp_path / NAME, SCANNET)
    np.testing.assert_array_equal(scan.coords, coords)
    np.testing.assert_array_equal(scan.colors, cloud(40)[1])
    assert scan.labels is not None
    np.testing.assert_array_equal(scan.labels, expected_classes(labels))
    assert (scan.coords.dtype, scan.colors.dtype, scan.labels.dtype) == (
        np.float32,
        np.uint8,
        np.uint8,
    )
    assert scan.notes == ()
    assert scan.source == str(tmp_path / NAME)


@pytest.mark.parametrize("way", ["zip", "legacy", "plain", "protocol5", "tensors", "list"])
def test_every_way_of_writing_is_read(tmp_path: Path, way: str) -> None:
    coords, colors, labels = write_openscene(tmp_path / "a.pth")
    path, content = tmp_path / "b.pth", (coords.astype(np.float64), colors, labels.astype(np.int64))
    if way == "plain":
        path.write_bytes(openscene_pickle(content))
    elif way in ("protocol5", "list"):
        path.write_bytes(pickle.dumps(list(content) if way == "list" else content, protocol=5))
    else:
        parts: Any = tuple(map(torch.from_numpy, content)) if way == "tensors" else content
        torch.save(parts, path, _use_new_zipfile_serialization=way != "legacy")
    scan, usual = (read_openscene(tmp_path / name, SCANNET) for name in ("b.pth", "a.pth"))
    np.testing.assert_array_equal(scan.coords, usual.coords)
    np.testing.assert_array_equal(scan.colors, usual.colors)
    np.testing.assert_array_equal(scan.labels, usual.labels)


def test_every_grey_level_survives(tmp_path: Path) -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    parts = np.zeros((256, 3), np.float32), (levels / np.float32(127.5) - 1).astype(np.float32)
    (tmp_path / NAME).write_bytes(openscene_pickle(parts))
    np.testing.assert_array_equal(read_openscene(tmp_path / NAME, SCANNET).colors, levels)


def test_test_scenes_have_no_labels(tmp_path: Path) -> None:
    write_openscene(tmp_path / NAME, labels=False)
    assert read_openscene(tmp_path / NAME, SCANNET).labels is None


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), np.array(0)])
def test_colours_may_be_the_number_zero(tmp_path: Path, zero: Any) -> None:
    coords = cloud(7)[0]
    (tmp_path / NAME).write_bytes(openscene_pickle((coords, zero, np.zeros(7))))
    scan = read_openscene(tmp_path / NAME, SCANNET)
    assert (scan.colors == GREY).all()
    assert scan.colors.shape == (7, 3)
    assert scan.notes == (f"{tmp_path / NAME}: no colours, grey stands for them",)


def test_grey_is_what_networks_see_as_nothing() -> None:
    assert abs(GREY / 127.5 - 1) < 0.5 / 127.5 + 1e-9


RAN: list[str] = []


def run(what: str) -> str:
    RAN.append(what)
    return what


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("place", ["whole", "part", "within"])
def test_any_other_constructor_is_refused_by_name_and_not_run(
    tmp_path: Path, place: str, protocol: int
) -> None:
    coords, colors = cloud(4)
    for function, arguments, name in (
        (run, ("harm",), f"{run.__module__}.run"),
        (os.system, (f"touch {tmp_path}/harmed",), "posix.system"),
        (eval, ("run('harm')",), ".eval"),
    ):
        call = Calls(function, *arguments)
        content: Any = {
            "whole": call,
            "part": (coords, colors / 127.5 - 1, call),
            "within": (coords, colors / 127.5 - 1, [call]),
        }[place]
        (tmp_path / NAME).write_bytes(pickle.dumps(content, protocol=protocol))
        expected = rf"{NAME}: expected a pickle of arrays, found .*{name}.*nothing of it was run"
        with pytest.raises(RoomError, match=expected):
            read_openscene(tmp_path / NAME, SCANNET)
    assert RAN == []
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"coords": 1}, "expected coordinates, colours and.*; found dict"),
        ((cloud(3)[0],), "found 1 parts"),
        ((cloud(3)[0],) * 4, "found 4 parts"),
        ((cloud(3)[0][:, :2], 0), r"coordinates: expected numbers .*, found .* \[3, 2\]"),
        ((np.array(["a"]), 0), r"coordinates: expected numbers"),
        ((cloud(3)[0], cloud(3)[1]), r"colours: expected fractions \[3, 3\].*found uint8"),
        ((cloud(3)[0], cloud(3)[0][:2]), r"colours: expected fractions \[3, 3\]"),
        ((cloud(3)[0], 1), r"colours: expected fractions"),
        (
            (cloud(3)[0], np.full((3, 3), 1.5)),
            r"point 0 has the colour \[1.5, 1.5, 1.5\], expected",
        ),
        ((cloud(3)[0], np.full((3, 3), np.nan)), "point 0 has the colour"),
        ((cloud(3)[0], 0, np.zeros(2)), "2 labels, but 3 points"),
        (
            (cloud(3)[0], 0, np.zeros((3, 1))),
            r"labels: expected a number a point, found .* \[3, 1\]",
        ),
        ((cloud(3)[0], 0, np.array([0, 20, 255])), "point 1 has the label 20, expected 0 to 19"),
        (
            (cloud(3)[0], 0, np.array([0, 1, -1])),
            "point 2 has the label -1, expected 0 to 19 or 255",
        ),
        ((cloud(3)[0], 0, np.array([0.5, 1, 2])), "point 0 has the label 0.5"),
        ((cloud(3)[0], 0, np.array([0, np.nan, 2])), "point 1 has the label nan"),
    ],
)
def test_what_is_no_room_is_named(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / NAME).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(RoomError, match=rf"{NAME}: .*{message}"):
        read_openscene(tmp_path / NAME, SCANNET)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    write_openscene(tmp_path / NAME)
    content = (tmp_path / NAME).read_bytes()
    changed = {"cut": content[: len(content) // 2], "text": b"<html>", "empty": b""}[damage]
    (tmp_path / NAME).write_bytes(changed)
    with pytest.raises(PickleError, match=NAME):
        read_openscene(tmp_path / NAME, SCANNET)
    with pytest.raises(MissingFileError, match="no such file"):
        read_openscene(tmp_path / "b.pth", SCANNET)


def test_labels_are_of_the_vocabulary_that_is_given(tmp_path: Path) -> None:
    """As ScanNet200's, Matterport's and Replica's are."""
    many = vocabulary_of_words([f"class {number}" for number in range(200)])
    labels = np.array([0, 199, 100, 255, -100])
    (tmp_path / NAME).write_bytes(openscene_pickle((cloud(5)[0], 0, labels)))
    scan = read_openscene(tmp_path / NAME, many)
    np.testing.assert_array_equal(scan.labels, [1, 200, 101, 0, 0])
    with pytest.raises(RoomError, match=r"label 199, expected 0 to 19.*their own --vocabulary"):
        read_openscene(tmp_path / NAME, SCANNET)


def test_rooms_and_splits_of_a_folder(tmp_path: Path) -> None:
    for split, names in {
        "train": ("scene0001_00", "scene0000_00"),
        "val": ("scene0011_00",),
    }.items():
        for name in names:
            write_openscene(tmp_path / split / f"{name}_vh_clean_2.pth")
    (tmp_path / "train" / "._scene0001_00_vh_clean_2.pth").write_bytes(b"")
    rooms = OpenSceneRooms(tmp_path, SCANNET)
    assert rooms.names() == ["scene0000_00", "scene0001_00", "scene0011_00"]
    assert rooms.splits() == {
        "train": ["scene0000_00", "scene0001_00"],
        "val": ["scene0011_00"],
    }
    assert len(rooms.read("scene0011_00").coords) == 40
    assert rooms.expected_points("scene0011_00") > 0


def test_files_without_folders_of_splits(tmp_path: Path) -> None:
    write_openscene(tmp_path / "office0.pth")
    rooms = OpenSceneRooms(tmp_path, SCANNET)
    assert rooms.splits() == {"all": ["office0"]}


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no \.pth files in it, nor in train, val or test"):
        OpenSceneRooms(tmp_path, SCANNET)
    for split in ("train", "val"):
        write_openscene(tmp_path / split / NAME)
    with pytest.raises(RoomError, match=rf"val/{NAME}: the room is there already as .*train"):
        OpenSceneRooms(tmp_path, SCANNET)
    write_openscene(tmp_path / "nuscenes_3d" / "train" / "0a1b.pth")
    with pytest.raises(RoomError, match="nuscenes_3d: sweeps of nuScenes, not rooms"):
        OpenSceneRooms(tmp_path / "nuscenes_3d", SCANNET)
