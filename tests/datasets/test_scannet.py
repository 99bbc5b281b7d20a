"""ScanNet's raw release: points, classes by NYU40's names, split lists, and what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import (
    LABEL_TABLE,
    cloud,
    ply_fields,
    write_lists,
    write_ply,
    write_scannet,
    write_scene,
)
from uov_jax.datasets.ply_file import PlyError
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.scannet import ScanNetRooms, read_label_table, read_split_lists
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary

SCANNET = load_vocabulary("scannet")
# NYU40's numbers of the benchmark's classes, in its order (ScanNet's documentation of the task).
BENCHMARK = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
NYU40_NAMES = (
    "wall floor cabinet bed chair sofa table door window bookshelf picture counter blinds desk "
    "shelves curtain dresser pillow mirror floormat clothes ceiling books refridgerator television "
    "paper towel showercurtain box whiteboard person nightstand toilet sink lamp bathtub bag "
    "otherstructure otherfurniture otherprop"
).split()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_scannet(tmp_path)
    return tmp_path


def test_points_and_classes_of_a_scene(tmp_path: Path) -> None:
    numbers = write_scannet(tmp_path)
    rooms = ScanNetRooms(tmp_path, SCANNET)
    class_of = {0: 0, 1: 1, 2: 2, 3: 3, 5: 5, 8: 8, 24: 15, 28: 16, 22: 0, 39: 20, 40: 0}
    for seed, name in enumerate(("scene0000_00", "scene0001_00", "scene0011_00")):
        scan = rooms.read(name)
        coords, colors = cloud(60 + seed, seed)
        np.testing.assert_array_equal(scan.coords, coords)
        np.testing.assert_array_equal(scan.colors, colors)
        np.testing.assert_array_equal(scan.labels, [class_of[n] for n in numbers[name]])
        assert rooms.expected_points(name) == 60 + seed
        assert scan.notes == ()
    assert rooms.splits() == {"train": ["scene0000_00", "scene0001_00"], "val": ["scene0011_00"]}


def test_all_classes_of_the_benchmark_are_found_by_their_names(tmp_path: Path) -> None:
    rows = [f"{n}\t{name}" for n, name in enumerate(NYU40_NAMES, start=1)]
    (tmp_path / "table.tsv").write_text("\n".join(["nyu40id\tnyu40class", *rows]))
    found = read_label_table(tmp_path / "table.tsv", SCANNET)
    assert found.missing == ()
    expected = np.zeros(41, np.uint8)
    expected[list(BENCHMARK)] = np.arange(1, 21)
    np.testing.assert_array_equal(found.table, expected)


def test_classes_that_nyu40_does_not_have_are_told(root: Path) -> None:
    """Of the short table above many are."""
    (note,) = ScanNetRooms(root, SCANNET).notes
    assert "no class of NYU40 is called as these" in note
    lacking = "bed sofa table window bookshelf picture counter desk curtain toilet sink bathtub"
    assert note.endswith(", ".join(lacking.split()))


def test_test_scenes_have_no_labels(root: Path) -> None:
    write_lists(root, {"test": ["scene0707_00"]})
    write_scene(root, "scene0707_00", None)
    rooms = ScanNetRooms(root, SCANNET)
    assert rooms.splits()["test"] == ["scene0707_00"]
    assert rooms.read("scene0707_00").labels is None


def test_scenes_may_lie_in_the_root_itself(root: Path) -> None:
    (root / "scans" / "scene0000_00").rename(root / "scene0000_00")
    assert "scene0000_00" in ScanNetRooms(root, SCANNET).names()


def test_what_is_not_here_and_what_is_in_no_list_is_told(root: Path) -> None:
    write_lists(root, {"train": ["scene0000_00", "scene0002_00", "scene0003_00"]})
    rooms = ScanNetRooms(root, SCANNET)
    assert rooms.names() == ["scene0000_00", "scene0011_00"]
    assert any("2 of 3 scenes of 'train' are not in" in note for note in rooms.notes)
    assert any("1 scenes are in no list" in note and "scene0001_00" in note for note in rooms.notes)


def test_numbers_that_the_table_does_not_name_get_no_class_and_are_told(root: Path) -> None:
    write_scene(root, "scene0000_00", np.array([1, 2, 50, 50, 149, 4]))
    scan = ScanNetRooms(root, SCANNET).read("scene0000_00")
    np.testing.assert_array_equal(scan.labels, [1, 2, 0, 0, 0, 0])
    (note,) = scan.notes
    assert "labels.ply: 4 points have labels that the table does not name (4, 50, 149)" in note


def test_lists_and_table_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    lists = root / "lists"
    lists.mkdir()
    for path in [*root.glob("*.txt"), *root.glob("*.tsv")]:
        path.rename(lists / path.name)
    table = lists / "scannetv2-labels.combined.tsv"
    assert len(ScanNetRooms(root, SCANNET, table, lists).names()) == 3
    with pytest.raises(MissingFileError, match=r"no table of ScanNet's labels.*download"):
        ScanNetRooms(root, SCANNET, None, lists)
    with pytest.raises(MissingFileError, match=r"no scannetv2_train.*Tasks/Benchmark"):
        ScanNetRooms(root, SCANNET, table, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tname\n1\twall\n", "expected columns nyu40id and nyu40class .* found 'id', 'name'"),
        ("", "expected columns nyu40id and nyu40class"),
        ("nyu40id\tnyu40class\nwall\t1\n", r":2: nyu40id is 'wall', expected 0 to 40"),
        ("nyu40id\tnyu40class\n1\twall\n41\tx\n", r":3: nyu40id is '41'"),
        (
            "nyu40id\tnyu40class\n1\twall\n1\tdoor\n",
            ":3: NYU40's class 1 is 'door' here",
        ),
        ("nyu40id\tnyu40class\n1\tmoon\n", "none of the classes of the vocabulary 'scannet'"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(RoomError, match=rf"table\.tsv.*{message}"):
        read_label_table(path, SCANNET)


def test_a_table_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_bytes("nyu40id\tnyu40class\n1\tté".encode("latin1"))
    with pytest.raises(RoomError, match="not UTF-8 text"):
        read_label_table(tmp_path / "table.tsv", SCANNET)


def test_a_scene_in_two_lists_is_refused(root: Path) -> None:
    write_lists(root, {"val": ["scene0011_00", "scene0001_00"]})
    with pytest.raises(RoomError, match="scene0001_00 stands in the list of 'train' too"):
        read_split_lists(root)


def test_a_scene_twice_in_a_list_is_refused(root: Path) -> None:
    write_lists(root, {"val": ["scene0011_00", "scene0011_00"]})
    with pytest.raises(RoomError, match=r"val\.txt: scene0011_00 stands in this list more than"):
        read_split_lists(root)


def test_no_scenes(tmp_path: Path) -> None:
    write_lists(tmp_path)
    with pytest.raises(MissingFileError, match="no ScanNet here, expected a folder scans"):
        ScanNetRooms(tmp_path, SCANNET)
    write_scene(tmp_path, "scene0500_00", np.zeros(3))
    with pytest.raises(RoomError, match="none of its 1 scenes stands in a split list"):
        ScanNetRooms(tmp_path, SCANNET)


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        ("no mesh", MissingFileError, r"scene0000_00_vh_clean_2\.ply: no such PLY file"),
        ("no labels", MissingFileError, r"scene0000_00_vh_clean_2\.labels\.ply: no such PLY file"),
        ("fewer labels", PlyError, r"labels\.ply: 5 labels, but the mesh has 60 points"),
        ("no label", PlyError, r"labels\.ply: the vertices have no 'label'"),
        ("no colours", PlyError, r"clean_2\.ply: the vertices have no colours"),
    ],
)
def test_a_broken_scene_is_named(
    root: Path, break_it: str, error: type[InputError], message: str
) -> None:
    folder = root / "scans" / "scene0000_00"
    mesh = folder / "scene0000_00_vh_clean_2.ply"
    labels = folder / "scene0000_00_vh_clean_2.labels.ply"
    fields = ply_fields(*cloud(60))
    if break_it == "no mesh":
        mesh.unlink()
    elif break_it == "no labels":
        labels.unlink()
    elif break_it == "fewer labels":
        write_ply(labels, ply_fields(*cloud(5)) | {"label": np.zeros(5, np.uint16)})
    elif break_it == "no label":
        write_ply(labels, fields)
    else:
        write_ply(mesh, {name: fields[name] for name in "xyz"})
    rooms = ScanNetRooms(root, SCANNET)
    with pytest.raises(error, match=message):
        rooms.read("scene0000_00")


def test_the_short_table_above_is_of_the_same_form_as_nyu40() -> None:
    for _, _, number, name in LABEL_TABLE:
        assert not number or NYU40_NAMES[int(number) - 1] == name.replace(" ", "")
