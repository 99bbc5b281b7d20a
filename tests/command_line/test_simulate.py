"""The script: what it says before and after, and how it fails."""

from __future__ import annotations

from pathlib import Path

from tests.simulate.conftest import drive
from uov_jax.command_line import simulate as script

__all__ = ["drive"]  # a fixture


def arguments(output: Path, seed: int = 3) -> list[str]:
    options = {"scenes": 2, "keyframes": 2, "seed": seed, "workers": 1, "image-scale": 0.2}
    return [f"--output={output}", *(f"--{name}={value}" for name, value in options.items())]


def test_says_what_is_there_and_what_comes_next(drive: Path, capsys) -> None:
    assert script.main(arguments(drive)) == 0
    said = capsys.readouterr().out
    assert "2 scenes of 2 keyframes" in said
    assert "MB" in said
    assert "Wrote 0 keyframes, 4 were there before" in said
    assert "simulated, the teacher too" in said
    assert "python scripts/train.py --config configs/tmp_san.py:sim" in said
    assert str(drive) in said


def test_error_is_one_line_and_a_status(drive: Path, capsys) -> None:
    assert script.main(arguments(drive, seed=9)) == 1
    error = capsys.readouterr().err
    assert "error: " in error
    assert "give another output folder" in error
    assert "Traceback" not in error


def test_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "simulate_drive", interrupted)
    assert script.main(arguments(tmp_path / "new")) == 130
    assert "The same command goes on" in capsys.readouterr().err
