"""Frames out of recordings: OpenScene's layout, which the reader of frames opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.indoor_files import intrinsics_of, pose_at, sens_bytes
from uov_jax.datasets import extract_frames as module
from uov_jax.datasets.extract_frames import (
    FrameJob,
    expected_frames,
    extract_frames,
    extracted,
    recordings,
)
from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.frames import adapted_intrinsics, read_color, read_depth
from uov_jax.datasets.sens_file import SensError

SIZE = (24, 32)
DEPTH = (np.arange(48 * 64, dtype=np.uint16) + 1).reshape(48, 64)


def recording(path: Path, frames: int = 45, **facts: object) -> Path:
    """Of smooth colours, which JPEG keeps, at twice and four times the size that is extracted."""
    ramp = np.linspace(0, 250, 128, dtype=np.uint8)
    color = np.stack([np.broadcast_to(ramp, (97, 128))] * 3, axis=-1)
    poses = [pose_at(number / 100, 1, 1.5, number) for number in range(frames)]
    poses[20:21] = [np.full((4, 4), -np.inf)] * len(poses[20:21])
    path.parent.mkdir(parents=True, exist_ok=True)
    intrinsics = intrinsics_of((48, 64))
    depths = [DEPTH + number for number in range(frames)]
    path.write_bytes(sens_bytes(poses, [color] * frames, depths, intrinsics, **facts))  # type: ignore[arg-type]
    return path


def test_frames_are_what_the_recording_shows(tmp_path: Path) -> None:
    path = recording(tmp_path / "scans" / "scene0000_00" / "scene0000_00.sens")
    result = extract_frames(path, tmp_path / "out", 10, SIZE)
    assert (result.name, result.frames, result.without_pose) == ("scene0000_00", 5, 1)
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert result.bytes == sum(file.stat().st_size for file in written)
    assert len(written) == 3 * 5 + 1
    said: list[str] = []
    frames = ExtractedFrames(tmp_path / "out", say=said.append).frames("scene0000_00")
    assert [frame.name for frame in frames] == ["0", "10", "30", "40"]
    assert said == ["scene0000_00: 1 of 5 frames are left out: their poses are not finite"]
    for frame in frames:
        number = int(frame.name)
        pose = pose_at(number / 100, 1, 1.5, number).astype(np.float32)
        np.testing.assert_array_equal(frame.camera_to_world.astype(np.float32), pose)
        stored = (DEPTH + number)[1::2, 1::2].astype(np.float32) / np.float32(1000)
        np.testing.assert_array_equal(read_depth(frame), stored)
        shown = read_color(frame).astype(float)
        assert shown.shape == (*SIZE, 3)
        # The mean of four of the ramp's pixels; one pixel further it is 8 grey levels brighter.
        middles = np.interp(np.arange(32) * 4 + 1.5, np.arange(128), np.linspace(0, 250, 128))
        inner = shown[:, 2:-2] - middles[None, 2:-2, None]
        np.testing.assert_allclose(inner, 0, atol=3)
        expected = adapted_intrinsics(intrinsics_of((48, 64)), (48, 64), SIZE)[:3, :3]
        np.testing.assert_allclose(frame.intrinsics, expected, rtol=1e-6)


def test_files_are_openscenes(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.sens")
    extract_frames(path, tmp_path / "out", 20, SIZE)
    folder = tmp_path / "out" / "a"
    assert {file.name for file in (folder / "color").iterdir()} == {"0.jpg", "20.jpg", "40.jpg"}
    with Image.open(folder / "depth" / "40.png") as image:
        assert image.size == (32, 24)
        assert image.mode.startswith("I")
    assert np.loadtxt(folder / "pose" / "20.txt").shape == (4, 4)
    assert np.isinf(np.loadtxt(folder / "pose" / "20.txt")).all()
    assert np.loadtxt(folder / "intrinsics.txt").shape == (4, 4)


def test_depth_in_other_units_becomes_millimetres(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.sens", 1, depth_units=500.0)
    extract_frames(path, tmp_path / "out", 1, SIZE)
    frame = ExtractedFrames(tmp_path / "out").frames("a")[0]
    np.testing.assert_allclose(read_depth(frame), DEPTH[1::2, 1::2] / 500, rtol=1e-6)
    far = recording(tmp_path / "b.sens", 1, depth_units=10.0)
    with pytest.raises(SensError, match=r"b\.sens: depth beyond 65 m"):
        extract_frames(far, tmp_path / "out", 1, SIZE)


def test_a_room_is_extracted_once(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.sens")
    assert not extracted(path, tmp_path / "out")
    extract_frames(path, tmp_path / "out", 20, SIZE)
    assert extracted(path, tmp_path / "out")
    path.unlink()
    assert extract_frames(path, tmp_path / "out", 20, SIZE).frames == 0


class Cut(Exception):
    """Power is cut."""


def test_a_room_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(tmp_path / "a.sens")
    written = []

    def cut(*arguments: object) -> None:
        written.append(arguments)
        if len(written) == 4:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(module, "_save", cut)
        with pytest.raises(Cut):
            extract_frames(path, tmp_path / "out", 20, SIZE)
    assert not extracted(path, tmp_path / "out")
    assert list((tmp_path / "out").glob("*")) == []
    assert extract_frames(path, tmp_path / "out", 20, SIZE).frames == 3


def test_a_broken_recording_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.sens")
    path.write_bytes(path.read_bytes()[:-2000])
    result = FrameJob(tmp_path / "out", 20, SIZE)(path)
    assert "a.sens: the file ends within frame" in result.failure
    assert (result.name, result.frames) == ("a", 0)
    assert list((tmp_path / "out").glob("**/*")) == []
    empty = recording(tmp_path / "b.sens", 1)
    content = empty.read_bytes()
    count = content.index(b"\x01" + bytes(7), content.index(np.float32(1000).tobytes()))
    empty.write_bytes(content[:count] + bytes(8))
    assert "the recording has no frames" in FrameJob(tmp_path / "out", 20, SIZE)(empty).failure


def test_recordings_are_found(tmp_path: Path) -> None:
    for name in ("scene0001_00", "scene0000_01"):
        recording(tmp_path / "scans" / name / f"{name}.sens", 41)
    (tmp_path / "scans" / "scene0001_00" / "._scene0001_00.sens").write_bytes(b"")
    found = recordings(tmp_path)
    assert [path.stem for path in found] == ["scene0000_01", "scene0001_00"]
    assert recordings(found[0]) == [found[0]]
    assert expected_frames(found, 20) == 6
    found[0].write_bytes(b"")
    assert expected_frames(found, 20) == 3
