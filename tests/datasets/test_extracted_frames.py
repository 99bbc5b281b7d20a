"""Folders of frames: order, poses that are lost, intrinsics, and files that are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import intrinsics_of, pose_at, write_frames, write_matrix
from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.frames import read_color, read_depth
from uov_jax.errors import InputError, MissingFileError


def test_frames_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_frames(tmp_path, "room", (100, 20, 0, 3))
    (tmp_path / "room" / "color" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "room" / "pose" / "readme.md").write_text("x")
    found = ExtractedFrames(tmp_path).frames("room")
    assert [frame.name for frame in found] == ["0", "3", "20", "100"]
    for frame in found:
        number = int(frame.name)
        np.testing.assert_allclose(
            frame.camera_to_world, pose_at(number / 100, 1, 1.5, number), atol=1e-6
        )
        assert frame.camera_to_world.dtype == np.float64
        assert frame.intrinsics.shape == (3, 3)
        assert read_color(frame).shape == (24, 32, 3)
        assert read_depth(frame).shape == (24, 32)
        assert read_depth(frame).max() <= 4


def test_intrinsics_of_a_room_come_before_those_of_all(tmp_path: Path) -> None:
    write_frames(tmp_path, "own")
    write_frames(tmp_path, "other", intrinsics=False)
    of_all = intrinsics_of((24, 32)) * np.array([[1.1], [1.1], [1], [1]])
    of_all[:2, 2] = intrinsics_of((24, 32))[:2, 2]
    write_matrix(tmp_path / "intrinsics.txt", of_all)
    frames = ExtractedFrames(tmp_path)
    np.testing.assert_allclose(
        frames.frames("own")[0].intrinsics, intrinsics_of((24, 32))[:3, :3], atol=1e-6
    )
    np.testing.assert_allclose(frames.frames("other")[0].intrinsics, of_all[:3, :3], atol=1e-6)
    write_matrix(tmp_path / "other" / "intrinsics.txt", intrinsics_of((24, 32))[:3, :3])
    assert frames.frames("other")[0].intrinsics[0, 0] == pytest.approx(0.9 * 32)


def test_exports_of_scannets_own_reader(tmp_path: Path) -> None:
    """Their intrinsics stand elsewhere, and depth may be smaller than the colours."""
    write_frames(tmp_path, "room", intrinsics=False)
    write_frames(tmp_path / "smaller", "room", size=(12, 16))
    depth = tmp_path / "room" / "depth"
    for path in depth.iterdir():
        path.write_bytes((tmp_path / "smaller" / "room" / "depth" / path.name).read_bytes())
    path = tmp_path / "room" / "intrinsic" / "intrinsic_color.txt"
    write_matrix(path, intrinsics_of((24, 32)))
    frame = ExtractedFrames(tmp_path).frames("room")[0]
    np.testing.assert_allclose(frame.intrinsics, intrinsics_of((24, 32))[:3, :3], atol=1e-6)
    assert read_depth(frame).shape == (24, 32)
    write_matrix(path, intrinsics_of((12, 16)))
    with pytest.raises(InputError, match=r"intrinsic_color\.txt: .*not of images of 32 x 24"):
        ExtractedFrames(tmp_path).frames("room")


def test_every_n_th_frame(tmp_path: Path) -> None:
    write_frames(tmp_path, "room", range(10, 17))
    write_matrix(tmp_path / "room" / "pose" / "13.txt", np.full((4, 4), np.inf))
    write_matrix(tmp_path / "room" / "pose" / "14.txt", np.full((4, 4), np.inf))
    said: list[str] = []
    frames = ExtractedFrames(tmp_path, every=3, say=said.append)
    assert [frame.name for frame in frames.frames("room")] == ["10", "16"]
    assert said == ["room: 1 of 3 frames are left out: their poses are not finite"]


def test_recordings_without_depth(tmp_path: Path) -> None:
    write_frames(tmp_path, "room", depth=False)
    assert [frame.depth for frame in ExtractedFrames(tmp_path).frames("room")] == [None] * 3


def test_units_of_depth(tmp_path: Path) -> None:
    write_frames(tmp_path, "room")
    frame = ExtractedFrames(tmp_path, 512.0, 65535).frames("room")[0]
    assert (frame.depth_units, frame.depth_missing) == (512.0, 65535)


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_frames_whose_pose_is_lost_are_left_out_and_counted_once(
    tmp_path: Path, value: float
) -> None:
    write_frames(tmp_path, "room", range(0, 100, 20))
    for number in (20, 80):
        write_matrix(tmp_path / "room" / "pose" / f"{number}.txt", np.full((4, 4), value))
    said: list[str] = []
    frames = ExtractedFrames(tmp_path, say=said.append)
    for _ in range(2):
        assert [frame.name for frame in frames.frames("room")] == ["0", "40", "60"]
    assert said == ["room: 2 of 5 frames are left out: their poses are not finite"]


def test_a_room_without_any_pose_is_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, "room")
    for path in (tmp_path / "room" / "pose").iterdir():
        write_matrix(path, np.full((4, 4), -np.inf))
    with pytest.raises(InputError, match="none of the 3 frames has a pose of finite numbers"):
        ExtractedFrames(tmp_path, say=lambda _: None).frames("room")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pose/20.txt", r"pose/20\.txt: missing, though there is .*color/20\.jpg; .* 1 among 3"),
        ("depth/100.png", r"depth/100\.png: missing, though there is .*color/100\.jpg"),
        ("color/20.jpg", r"pose/20\.txt: no image in color belongs to it; .*first of 1 among 3"),
        ("intrinsics.txt", r"room/intrinsics\.txt: no intrinsics of the room, nor .*intrinsics"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, missing: str, message: str) -> None:
    write_frames(tmp_path, "room")
    (tmp_path / "room" / missing).unlink()
    with pytest.raises(MissingFileError, match=message):
        ExtractedFrames(tmp_path).frames("room")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "pose/0.txt",
            "1 0 0 0\n0 1 0 0\n0 0 1 0\n",
            r"expected a matrix of 4 x 4, found \[3, 4\]",
        ),
        ("pose/0.txt", "1 0\n0 x\n", "not a matrix of numbers"),
        ("pose/0.txt", "1 0\n0\n", "not a matrix of numbers"),
        ("pose/0.txt", "", r"expected a matrix of 4 x 4, found \[0\]"),
        ("pose/0.txt", "2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n", "not a pose: expected a rotation"),
        ("intrinsics.txt", "1 0\n0 1\n", "expected a matrix of 4 x 4 or 3 x 3"),
        (
            "intrinsics.txt",
            "99 0 160\n0 99 120\n0 0 1\n",
            "are not of images of 32 x 24",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    write_frames(tmp_path, "room")
    (tmp_path / "room" / file).write_text(text)
    with pytest.raises(InputError, match=rf"room/{file}: .*{message}"):
        ExtractedFrames(tmp_path).frames("room")


def test_names_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, "room")
    color = tmp_path / "room" / "color"
    (color / "0.png").write_bytes((color / "0.jpg").read_bytes())
    with pytest.raises(InputError, match=r"0\.(png|jpg): the frame is there twice"):
        ExtractedFrames(tmp_path).frames("room")
    (color / "0.png").rename(color / "frame.png")
    with pytest.raises(InputError, match=r"frame\.png: names of frames are numbers"):
        ExtractedFrames(tmp_path).frames("room")


def test_no_frames_at_all(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no folder of frames: extract them with"):
        ExtractedFrames(tmp_path / "nowhere")
    frames = ExtractedFrames(tmp_path)
    assert not frames.has("room")
    with pytest.raises(MissingFileError, match="room/color: no images of the room"):
        frames.frames("room")
    write_frames(tmp_path, "room")
    assert frames.has("room")
