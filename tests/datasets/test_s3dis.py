"""S3DIS: rooms, classes, areas, and the matrix from the building to an aligned room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import write_s3dis, write_s3dis_object
from uov_jax.datasets.s3dis import S3DISRooms, alignment, read_angles
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary, vocabulary_of_words

S3DIS = load_vocabulary("s3dis")
CLASSES = S3DIS.eval_classes


def write_angles(folder: Path, area: str, **angles: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"## Global alignment angle per disjoint space in {area} ##"]
    lines += [f"{room} {angle:g}" for room, angle in angles.items()]
    (folder / f"{area}_alignmentAngle.txt").write_text("\n".join(lines) + "\n\n")


def test_rooms_and_areas(tmp_path: Path) -> None:
    rooms = S3DISRooms(write_s3dis(tmp_path), S3DIS)
    assert rooms.names() == ["Area_1_office_1", "Area_2_WC_1", "Area_5_office_1"]
    assert rooms.splits() == {
        "train": ["Area_1_office_1", "Area_2_WC_1"],
        "val": ["Area_5_office_1"],
    }
    held = S3DISRooms(tmp_path, S3DIS, held_out="Area_2").splits()
    assert held == {"train": ["Area_1_office_1", "Area_5_office_1"], "val": ["Area_2_WC_1"]}
    only = S3DISRooms(tmp_path, S3DIS, held_out="Area_6").splits()
    assert only == {"train": rooms.names()}
    with pytest.raises(InputError, match="no area 'Area_7' to hold out, expected one of Area_1"):
        S3DISRooms(tmp_path, S3DIS, held_out="Area_7")


def test_points_are_those_of_the_annotations(tmp_path: Path) -> None:
    write_s3dis(tmp_path)
    rooms = S3DISRooms(tmp_path, S3DIS)
    scan = rooms.read("Area_1_office_1")
    (tmp_path / "again").mkdir()
    names = ("ceiling_1", "chair_10", "chair_2", "stairs_1")  # as files are sorted
    points = {"ceiling_1": (30, 0), "chair_2": (31, 1), "chair_10": (32, 2), "stairs_1": (33, 3)}
    parts = [write_s3dis_object(tmp_path / "again", "a/b", name, *points[name]) for name in names]
    expected = np.concatenate(parts)
    np.testing.assert_array_equal(scan.coords, expected[:, :3].astype(np.float32))
    np.testing.assert_array_equal(scan.colors, expected[:, 3:].astype(np.uint8))
    classes = ("ceiling", "chair", "chair", "clutter")
    numbers = [CLASSES.index(name) for name in classes]
    np.testing.assert_array_equal(scan.labels, np.repeat(numbers, [len(p) for p in parts]))
    assert scan.labels is not None
    assert scan.labels.dtype == np.uint8
    (note,) = scan.notes
    assert "stairs_1.txt: 33 points of no class of their own are clutter" in note
    assert 0.5 < rooms.expected_points("Area_1_office_1") / len(scan.coords) < 1.5


def test_every_class_is_found_by_its_files_name(tmp_path: Path) -> None:
    for number, name in enumerate(CLASSES[1:]):
        write_s3dis_object(tmp_path, "Area_3/office_2", f"{name}_1", 5, seed=number)
    scan = S3DISRooms(tmp_path, S3DIS).read("Area_3_office_2")
    expected = np.repeat(
        [n for _, n in sorted((c + "_", n) for n, c in enumerate(CLASSES) if n)], 5
    )
    np.testing.assert_array_equal(scan.labels, expected)
    assert scan.notes == ()


def test_where_there_is_no_clutter_others_have_no_class(tmp_path: Path) -> None:
    write_s3dis_object(tmp_path, "Area_1/a", "stairs_1", 4)
    rooms = S3DISRooms(tmp_path, vocabulary_of_words(["wall", "chair"]))
    assert rooms.read("Area_1_a").labels.tolist() == [0] * 4


def test_damaged_lines_are_told(tmp_path: Path) -> None:
    write_s3dis_object(tmp_path, "Area_5/hallway_6", "ceiling_1", 9)
    path = tmp_path / "Area_5" / "hallway_6" / "Annotations" / "ceiling_1.txt"
    lines = path.read_bytes().split(b"\n")
    x, *others, red, green, blue = lines[4].split()
    lines[4] = b" ".join([x, *others, red, green + b"\x10" + blue])
    path.write_bytes(b"\n".join(lines))
    scan = S3DISRooms(tmp_path, S3DIS).read("Area_5_hallway_6")
    assert len(scan.coords) == 9
    assert f"{path}:5: " in scan.notes[0]


def test_no_s3dis(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no S3DIS here, expected Area_1/office_1"):
        S3DISRooms(tmp_path, S3DIS)
    (tmp_path / "Area_1" / "a" / "Annotations").mkdir(parents=True)
    with pytest.raises(MissingFileError, match="no text file of an object in the room"):
        S3DISRooms(tmp_path, S3DIS).read("Area_1_a")


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """As the release aligns a room: by minus the angle, about the middle of its bounding box."""
    angle = np.deg2rad(-degrees)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    out = points - middle
    x = np.cos(angle) * out[:, 0] - np.sin(angle) * out[:, 1]
    y = np.sin(angle) * out[:, 0] + np.cos(angle) * out[:, 1]
    return np.stack([x, y, out[:, 2]], axis=1) + middle


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 30, 302.5])
def test_the_matrix_aligns_the_building(degrees: float) -> None:
    """Found from the aligned points alone."""
    rng = np.random.default_rng(0)
    building = rng.random((500, 3)) * [4, 9, 3] + [-16, 40, 1]
    matrix = alignment(turned(building, degrees), degrees)
    there = building @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(there, turned(building, degrees), atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)


def test_releases(tmp_path: Path) -> None:
    aligned = tmp_path / "Stanford3dDataset_v1.2_Aligned_Version"
    unaligned = tmp_path / "Stanford3dDataset_v1.2"
    for root in (aligned, unaligned):
        write_s3dis(root)
    angles = {"office_1": 90.0}
    write_angles(unaligned / "Area_1", "Area_1", **angles)
    room = "Area_1_office_1"
    without = S3DISRooms(aligned, S3DIS)
    assert without.release == "aligned"
    assert without.read(room).world_to_room is None
    assert any("3 of 3 rooms have no alignment angle" in note for note in without.notes)
    plain = S3DISRooms(unaligned, S3DIS)
    assert plain.release == "unaligned"
    np.testing.assert_array_equal(plain.read(room).world_to_room, np.eye(4))
    known = S3DISRooms(aligned, S3DIS, angles=unaligned)
    scan = known.read(room)
    expected = alignment(scan.coords.astype(np.float64), 90)
    np.testing.assert_allclose(scan.world_to_room, expected, atol=1e-5)
    assert any("2 of 3 rooms have no alignment angle" in note for note in known.notes)


def test_a_release_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    root = write_s3dis(tmp_path / "s3dis")
    assert S3DISRooms(root, S3DIS).release == "aligned"
    write_angles(root / "Area_1", "Area_1", office_1=30.0)
    with pytest.raises(InputError, match="--release unaligned for Stanford3dDataset_v1.2"):
        S3DISRooms(root, S3DIS)
    assert S3DISRooms(root, S3DIS, release="unaligned").release == "unaligned"
    assert (
        S3DISRooms(root, S3DIS, release="aligned").read("Area_1_office_1").world_to_room[0, 0] != 1
    )


def test_angles(tmp_path: Path) -> None:
    write_angles(tmp_path / "Area_1", "Area_1", conferenceRoom_1=0.0, office_1=302.0)
    write_angles(tmp_path, "Area_5", office_1=180.0)
    assert read_angles(tmp_path) == {
        "Area_1_conferenceRoom_1": 0,
        "Area_1_office_1": 302,
        "Area_5_office_1": 180,
    }
    assert read_angles(tmp_path / "nowhere") == {}
    with pytest.raises(MissingFileError, match="they come with the unaligned release"):
        read_angles(tmp_path / "nowhere", required=True)
    for line in ("office_1", "office_1 x", "office_1 1 2"):
        (tmp_path / "Area_5_alignmentAngle.txt").write_text(f"# a\n{line}\n")
        with pytest.raises(InputError, match=r"alignmentAngle\.txt:2: expected a room and degrees"):
            read_angles(tmp_path)
