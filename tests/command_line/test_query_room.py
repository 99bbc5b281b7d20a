"""The command query on rooms: what it says before and after, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.test_room_query import folder
from uov_jax.command_line import query as script

__all__ = ["folder"]  # a fixture


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_a_network_is_asked(folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--text", "bed", "shower curtain", "--top", "2"]
    assert script.main(["--checkpoint", str(folder / "run"), *words]) == 0
    said = capsys.readouterr().out
    assert "teacher 'tiny'" in said
    assert "'shower curtain', the 2 best places of 1,550 points" in said
    assert f"Next: look at the pictures in {folder / 'run' / 'query'}" in said
    assert len(list((folder / "run" / "query").glob("scene0002_00_*.png"))) == 2


def test_features_are_asked_without_a_network(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--features", str(folder / "features"), "--data", str(folder / "rooms")]
    arguments += ["--text", "bed", "--output", str(tmp_path / "out")]
    assert script.main([*arguments, "--room", "scene0001_00"]) == 0
    assert "Picture: " in capsys.readouterr().out
    assert (tmp_path / "out" / "scene0001_00_bed.png").is_file()
    for more, message in (
        (["--room", "99"], "there are 3 rooms, numbers 0 to 2"),
        (["--vocabulary", "s3dis"], "words of the vocabulary 'scannet', not of 's3dis'"),
        (["--text", "bedd"], "'bedd' is neither a word nor a class"),
    ):
        assert script.main([*arguments, *more]) == 1
        assert message in capsys.readouterr().err


def test_something_is_to_be_asked(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        script.main(["--text", "bed"])
    assert "give --checkpoint; or, for rooms" in capsys.readouterr().err
