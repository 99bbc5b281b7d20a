"""The script: what it says before and after, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulate.rooms.conftest import SETTINGS, rooms
from uov_jax.command_line import simulate_rooms as script

__all__ = ["rooms"]  # a fixture


def arguments(output: Path, seed: int = SETTINGS.seed) -> list[str]:
    options = {
        "rooms": SETTINGS.rooms,
        "seed": seed,
        "density": SETTINGS.density,
        "frames": SETTINGS.frames,
        "lost-poses": SETTINGS.lost_poses,
        "workers": 1,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [f"--output={output}", *words, "--formats", *SETTINGS.formats]


def test_says_what_is_there_and_what_comes_next(
    rooms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(arguments(rooms)) == 0
    said = capsys.readouterr().out
    assert "3 rooms of about 4000 points and 5 frames" in said
    assert "MB" in said
    assert "Wrote 0 rooms, 3 were there before" in said
    assert "simulated, the teacher too" in said
    store, frames = rooms / "store", rooms / "frames"
    assert f"fuse_features.py --teacher simulated --rooms {store} --frames {frames}" in said


def test_error_is_one_line_and_a_status(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(arguments(rooms, seed=9)) == 1
    error = capsys.readouterr().err
    assert "error: " in error
    assert "give another folder" in error
    assert "Traceback" not in error


def test_interruption_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "simulate_rooms", interrupted)
    assert script.main(arguments(tmp_path / "new")) == 130
    assert "The same command goes on" in capsys.readouterr().err
