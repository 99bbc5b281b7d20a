"""A mistake in any command's arguments is one line that names it, and nothing is written."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATASET = ("--data", "nowhere")
MISTAKES = {
    "convert_dump": (*DATASET, "--input", "nowhere", "--output", "out"),
    "draw": (*DATASET, "--scene", "scene-0001", "--output", "out"),
    "draw_rooms": ("--rooms", "nowhere", "--output", "out"),
    "dump_teacher": (*DATASET, "--teacher", "slic", "--output", "out"),
    "embed_words": ("--teacher", "maskclip", "--vocabulary", "nowhere.json", "--output", "out"),
    "evaluate": (
        "--config=configs/tmp_san.py",
        "--checkpoint=here",
        "--config.data.root=nowhere",
    ),
    "export_checkpoint": ("nowhere", "--output", "out.pt"),
    "export_features": ("--config=configs/ess_scannet.py", "--config.data.root=nowhere"),
    "extract_frames": ("--data", "nowhere", "--output", "out"),
    "fuse_features": (
        *("--rooms", "nowhere", "--frames", "nowhere"),
        *("--teacher", "simulated", "--output", "out"),
    ),
    "import_checkpoint": ("nowhere.pt", "--output", "out"),
    "make_pseudo_labels": ("--rooms", "nowhere", "--features", "nowhere", "--output", "out"),
    "make_superpoints": (*DATASET, "--dumps", "nowhere", "--output", "out"),
    "predict": ("here", "nowhere"),
    "prepare_rooms": ("--format", "recording", *DATASET, "--output", "out"),
    "query": ("--checkpoint", "nowhere", "--text", "a tree"),
    "replay": ("nowhere",),
    "report_dump": (*DATASET, "--dumps", "nowhere", "--output", "out"),
    "train": ("--config", "configs/tmp_san.py", "--config.data.root=nowhere", "--workdir=out"),
}
# They read nothing that could be missing.
WITHOUT_INPUT = {"demo", "demo_indoor", "gpu_check", "simulate", "simulate_rooms"}


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_tried() -> None:
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == MISTAKES.keys() | (
        WITHOUT_INPUT
    )


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_what_is_missing_is_one_line(
    name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = importlib.import_module(f"uov_jax.command_line.{name}")
    assert command.main([*MISTAKES[name]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere" in error
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert {path.name for path in empty_folder.iterdir()} == {"configs"}


@pytest.mark.parametrize(
    "name",
    [
        "extract_frames",
        "make_pseudo_labels",
        "make_superpoints",
        "prepare_rooms",
        "simulate",
        "simulate_rooms",
    ],
)
def test_work_needs_a_worker(
    name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = importlib.import_module(f"uov_jax.command_line.{name}")
    with pytest.raises(SystemExit) as left:
        command.main([*MISTAKES.get(name, ("--output", "out")), "--workers", "0"])
    assert left.value.code == 2
    assert "argument --workers: 0: expected at least 1" in capsys.readouterr().err
    assert {path.name for path in empty_folder.iterdir()} == {"configs"}


@pytest.mark.parametrize("name", sorted(MISTAKES.keys() | WITHOUT_INPUT))
def test_an_option_that_there_is_not_is_refused(
    name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = importlib.import_module(f"uov_jax.command_line.{name}")
    arguments = MISTAKES.get(name, ("--output", "out"))
    with pytest.raises(SystemExit) as left:
        command.main([*arguments, "--colour"])
    assert left.value.code == 2
    assert "--colour" in capsys.readouterr().err
    assert {path.name for path in empty_folder.iterdir()} == {"configs"}
