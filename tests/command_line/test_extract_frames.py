"""The script that extracts frames: what it says, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.test_extract_frames import recording
from uov_jax.command_line import extract_frames as script
from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.frames import read_color


def arguments(tmp_path: Path, *more: str) -> list[str]:
    words = ["--data", str(tmp_path / "scans"), "--output", str(tmp_path / "out")]
    return [*words, "--width", "32", "--height", "24", "--workers", "1", *more]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for name in ("scene0000_00", "scene0001_00"):
        recording(tmp_path / "scans" / name / f"{name}.sens")
    return tmp_path


def test_rooms_are_extracted_once(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(arguments(scans)) == 0
    said = capsys.readouterr().out
    assert "2 of 2 rooms to extract, 6 frames of 32 x 24: about" in said
    assert "Wrote 6 frames of 2 rooms" in said
    assert "2 frames have no finite pose" in said
    assert "scripts/prepare_rooms.py" in said
    frames = ExtractedFrames(scans / "out", say=lambda _: None).frames("scene0001_00")
    assert [frame.name for frame in frames] == ["0", "40"]
    assert read_color(frames[0]).shape == (24, 32, 3)
    assert script.main(arguments(scans)) == 0
    said = capsys.readouterr().out
    assert "0 of 2 rooms to extract" in said
    assert "2 rooms were there already" in said


def test_processes_change_nothing(scans: Path) -> None:
    assert script.main(arguments(scans, "--every", "7")) == 0
    one = {p.relative_to(scans): p.read_bytes() for p in (scans / "out").rglob("*.*")}
    (scans / "out").rename(scans / "one")
    assert script.main([*arguments(scans, "--every", "7"), "--workers", "2"]) == 0
    assert one == {p.relative_to(scans): p.read_bytes() for p in (scans / "out").rglob("*.*")}
    assert len(one) == 2 * (3 * 7 + 1)


def test_shares(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(arguments(scans, "--shard", "2/2")) == 0
    assert "Shard 2/2: 1 of 1 rooms to extract" in capsys.readouterr().out
    assert [path.name for path in (scans / "out").iterdir()] == ["scene0001_00"]


def test_what_a_killed_process_left_is_removed(scans: Path) -> None:
    (scans / "out" / ".scene0000_00.0a1b.tmp" / "color").mkdir(parents=True)
    assert script.main(arguments(scans)) == 0
    names = {path.name for path in (scans / "out").iterdir()}
    assert names == {"scene0000_00", "scene0001_00"}


def test_a_recording_that_fails_is_named(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scans / "scans" / "scene0000_00" / "scene0000_00.sens"
    path.write_bytes(path.read_bytes()[:-3000])
    assert script.main(arguments(scans)) == 1
    said = capsys.readouterr()
    assert "room scene0000_00: " in said.err
    assert "error: 1 recordings could not be extracted" in said.err
    assert [path.name for path in (scans / "out").iterdir()] == ["scene0001_00"]


def test_no_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(arguments(tmp_path)) == 1
    assert "no recordings here, expected .sens files" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
