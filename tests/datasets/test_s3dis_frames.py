"""2D-3D-S's images as frames: what a camera sees lies where the stored points are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import cloud, pose_at, write_2d3ds_frame
from uov_jax.datasets.frames import read_color, read_depth
from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.datasets.s3dis import alignment
from uov_jax.datasets.s3dis_frames import S3DISFrames
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary

POSE = pose_at(3, 4, 1.5, 25)
POINT = np.array([5.0, 5.0, 1.0, 1.0])  # in the building


def store(root: Path, matrix: np.ndarray | None, *rooms: str) -> RoomStore:
    writer = RoomWriter(root, "s3dis", load_vocabulary("s3dis"))
    for room in rooms or ("Area_1_office_1",):
        writer.write(room, *cloud(5), None, "", matrix)
    return RoomStore(root)


def in_camera(camera_to_world: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.linalg.inv(camera_to_world) @ point


def test_frames_of_an_unaligned_room(tmp_path: Path) -> None:
    for frame in (3, 1):
        write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE, frame)
    write_2d3ds_frame(tmp_path, "area_1", "office_10", pose_at(0, 0))
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", np.eye(4)))
    found = frames.frames("Area_1_office_1")
    assert [frame.name for frame in found] == [
        "camera_0a1_office_1_frame_1",
        "camera_0a3_office_1_frame_3",
    ]
    for frame in found:
        np.testing.assert_allclose(frame.camera_to_world, POSE, atol=1e-12)
        np.testing.assert_array_equal(frame.intrinsics[:2, 2], [540, 540])
    depth = read_depth(found[0])
    assert depth.shape == (1080, 1080)
    assert (depth[:540] == 2).all()  # 1024 / 512
    assert (depth[540:] == 0).all()  # 65535
    assert read_color(found[0]).shape == (1080, 1080, 3)


@pytest.mark.parametrize("degrees", [0, 90, 302])
def test_a_camera_sees_the_same_in_an_aligned_room(tmp_path: Path, degrees: float) -> None:
    rng = np.random.default_rng(0)
    aligned = rng.random((100, 3)) * [5, 6, 3]
    matrix = alignment(aligned, degrees)
    write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE)
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", matrix))
    (frame,) = frames.frames("Area_1_office_1")
    stored = matrix @ POINT
    np.testing.assert_allclose(
        in_camera(frame.camera_to_world, stored), in_camera(POSE, POINT), atol=1e-9
    )


def test_area_5_comes_in_two_parts(tmp_path: Path) -> None:
    """The same camera, written in the coordinates of either part."""
    room = "Area_5_office_1"
    # As DeepViewAgg says it of a camera's place: x' = y - 4.10, y' = -x + 6.25 (here to the cm).
    to_5a = np.array([[0, 1, 0, -4.097], [-1, 0, 0, 6.226], [0, 0, 1, 0], [0, 0, 0, 1]])
    pose_in_b = np.linalg.inv(to_5a) @ POSE
    write_2d3ds_frame(tmp_path, "area_5a", "office_1", POSE, 0)
    write_2d3ds_frame(tmp_path, "area_5b", "office_1", pose_in_b, 1)
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", np.eye(4), room)).frames(room)
    assert len(frames) == 2
    for frame in frames:
        np.testing.assert_allclose(frame.camera_to_world, POSE, atol=1e-3)
    # The two projects differ by 2.4 cm.
    np.testing.assert_allclose(
        (to_5a @ [1, 2, 3, 1])[:3], np.array([2 - 4.10, 6.25 - 1, 3]), atol=0.03
    )


def test_rooms_whose_turn_is_not_known_are_refused(tmp_path: Path) -> None:
    write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE)
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", None))
    with pytest.raises(
        InputError, match=r"not known how Area_1_office_1 is turned.*--angles, into another"
    ):
        frames.frames("Area_1_office_1")


def test_rooms_without_images(tmp_path: Path) -> None:
    rooms = ("Area_1_office_1", "Area_5_office_1", "kitchen")
    prepared = store(tmp_path / "store", np.eye(4), *rooms)
    with pytest.raises(MissingFileError, match="no 2D-3D-S here, expected area_1/data/pose"):
        S3DISFrames(tmp_path, prepared)
    write_2d3ds_frame(tmp_path, "area_1", "office_2", POSE)
    frames = S3DISFrames(tmp_path, prepared)
    with pytest.raises(MissingFileError, match="images of Area_5_office_1 in area_5a or area_5b"):
        frames.frames("Area_5_office_1")
    with pytest.raises(MissingFileError, match="no images of Area_1_office_1 in"):
        frames.frames("Area_1_office_1")
    with pytest.raises(InputError, match="'kitchen' is no room of S3DIS"):
        frames.frames("kitchen")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"camera_location": [3.0, 4.0, 1.6]},
            r"puts the camera 0\.100 m away from camera_location",
        ),
        ({"camera_location": None}, "not a pose of 2D-3D-S"),
        ({"camera_rt_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "not a pose of 2D-3D-S"),
        ({"camera_rt_matrix": POSE[:3].tolist()}, "m away from camera_location"),
        ({"camera_rt_matrix": (2 * POSE[:3]).tolist()}, "not a pose: expected a rotation"),
        ({"camera_k_matrix": [[1, 0], [0, 1]]}, "not a pose of 2D-3D-S"),
        (
            {"camera_k_matrix": np.diag([900.0, 900, 1]).tolist()},
            "are not of images of 1080 x 1080",
        ),
        ({"room": "office_2"}, "the pose is of the room 'office_2', its name of 'office_1'"),
    ],
)
def test_a_pose_that_cannot_be_used_is_named(tmp_path: Path, changed: dict, message: str) -> None:
    stem = write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE, changed=changed)
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", np.eye(4)))
    with pytest.raises(InputError, match=rf"{stem}_pose\.json: .*{message}"):
        frames.frames("Area_1_office_1")


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_a_missing_image_is_named(tmp_path: Path, kind: str) -> None:
    stem = write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE)
    (tmp_path / "area_1" / "data" / kind / f"{stem}_{kind}.png").unlink()
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", np.eye(4)))
    with pytest.raises(MissingFileError, match=rf"{stem}_{kind}\.png: missing, though there is"):
        frames.frames("Area_1_office_1")


def test_files_of_other_names_are_refused(tmp_path: Path) -> None:
    stem = write_2d3ds_frame(tmp_path, "area_1", "office_1", POSE)
    path = tmp_path / "area_1" / "data" / "pose" / f"{stem}_pose.json"
    assert json.loads(path.read_text())["room"] == "office_1"
    path.rename(path.with_name("pose_1.json"))
    frames = S3DISFrames(tmp_path, store(tmp_path / "store", np.eye(4)))
    with pytest.raises(InputError, match=r"pose_1\.json: expected a name as camera_"):
        frames.frames("Area_1_office_1")
