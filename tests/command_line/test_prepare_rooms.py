"""The script that prepares rooms: what it says, its shares, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets.indoor_files import (
    cloud,
    ply_fields,
    write_openscene,
    write_ply,
    write_s3dis,
    write_scannet,
)
from uov_jax.command_line import prepare_rooms as script
from uov_jax.datasets.rooms import RoomStore, RoomWriter

ROOT = Path(__file__).parents[2]


def arguments(format: str, tmp_path: Path, *more: str) -> list[str]:
    words = ["--format", format, "--data", str(tmp_path / "data")]
    return [*words, "--output", str(tmp_path / "rooms"), "--workers", "1", *more]


def test_scannet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scannet(tmp_path / "data")
    assert script.main(arguments("scannet", tmp_path)) == 0
    said = capsys.readouterr().out
    assert "3 of 3 rooms to prepare, about 183 points: 2.9 kB into" in said
    assert "Wrote 3 rooms of 183 points" in said
    assert "Note: no class of NYU40 is called as these" in said
    assert "Next, with images of the rooms: scripts/fuse_features.py" in said
    store = RoomStore(tmp_path / "rooms")
    assert store.manifest.dataset == store.manifest.vocabulary == "scannet"
    assert store.split("val") == ["scene0011_00"]
    assert script.main(arguments("scannet", tmp_path)) == 0
    said = capsys.readouterr().out
    assert "0 of 3 rooms to prepare" in said
    assert "Wrote 0 rooms of 0 points" in said
    assert "3 were there already" in said


def test_s3dis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_s3dis(tmp_path / "data")
    assert script.main(arguments("s3dis", tmp_path, "--held-out", "Area_2")) == 0
    said = capsys.readouterr().out
    assert "Note: taken as the aligned release" in said
    assert "stairs_1.txt: 33 points of no class of their own are clutter" in said
    store = RoomStore(tmp_path / "rooms")
    assert store.manifest.vocabulary == "s3dis"
    assert store.split("val") == ["Area_2_WC_1"]


def test_another_release_wants_another_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_s3dis(tmp_path / "data")
    assert script.main(arguments("s3dis", tmp_path)) == 0
    assert script.main(arguments("s3dis", tmp_path, "--release", "unaligned")) == 1
    error = capsys.readouterr().err
    assert "settings.release = 'aligned', not of 'unaligned': give another folder" in error


def test_a_replaced_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("kitchen", "office"):
        write_ply(tmp_path / "data" / f"{name}.ply", ply_fields(*cloud(30)))
    assert script.main(arguments("recording", tmp_path)) == 0
    write_ply(tmp_path / "data" / "kitchen.ply", ply_fields(*cloud(40)))
    capsys.readouterr()
    assert script.main(arguments("recording", tmp_path)) == 0
    said = capsys.readouterr().out
    assert "Note: the files of 1 rooms, such as kitchen, were replaced since" in said
    assert "1 of 2 rooms to prepare, about 40 points" in said
    assert "1 of them were there, made from files that were replaced since" in said
    assert len(RoomStore(tmp_path / "rooms").room("kitchen")) == 40


def test_a_list_that_is_gone_is_gone_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("kitchen", "office"):
        write_ply(tmp_path / "data" / f"{name}.ply", ply_fields(*cloud(30)))
    (tmp_path / "data" / "train.txt").write_text("kitchen\n")
    (tmp_path / "data" / "val.txt").write_text("office\n")
    assert script.main(arguments("recording", tmp_path)) == 0
    assert "Note: the split" not in capsys.readouterr().out
    (tmp_path / "data" / "val.txt").unlink()
    (tmp_path / "data" / "train.txt").write_text("kitchen\noffice\n")
    assert script.main(arguments("recording", tmp_path)) == 0
    said = capsys.readouterr().out
    assert "Note: the split 'val' is none of the dataset's any more: removed." in said
    assert "Note: the split 'train' has 2 rooms, others than before." in said
    assert RoomStore(tmp_path / "rooms").splits() == ["train"]


def test_openscene_of_another_dataset(tmp_path: Path) -> None:
    write_openscene(tmp_path / "data" / "val" / "a.pth")
    assert script.main(arguments("openscene", tmp_path, "--dataset", "replica")) == 0
    assert RoomStore(tmp_path / "rooms").manifest.dataset == "replica"


def test_a_recording_with_classes_that_a_person_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ply(tmp_path / "data" / "kitchen.ply", ply_fields(*cloud(30)))
    (tmp_path / "data" / "scene_labels.txt").write_text("kitchen: table, chair\n")
    assert script.main(arguments("recording", tmp_path)) == 0
    assert "1 of them have no labels of their points" in capsys.readouterr().out
    store = RoomStore(tmp_path / "rooms")
    assert store.scene_classes("kitchen") == (5, 7)
    assert store.splits() == ["all"]
    other = tmp_path / "other.txt"
    other.write_text("kitchen: sink\n")
    assert script.main(arguments("recording", tmp_path, "--scene-labels", str(other))) == 0
    assert RoomStore(tmp_path / "rooms").scene_classes("kitchen") == (18,)


def test_shares_make_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        write_openscene(tmp_path / "data" / "train" / f"r{number}.pth", seed=number)
    for number in (1, 2):
        assert script.main(arguments("openscene", tmp_path, "--shard", f"{number}/2")) == 0
        said = capsys.readouterr().out
        assert f"Shard {number}/2: {4 - number} of {4 - number} rooms to prepare" in said
        assert "once every shard is done" in said
    assert RoomStore(tmp_path / "rooms").split("train") == [f"r{number}" for number in range(5)]


def test_shares_of_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        write_openscene(tmp_path / "data" / "train" / f"r{number}.pth")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    assert script.main(arguments("openscene", tmp_path)) == 0
    assert "Shard 2/3: 1 of 1 rooms" in capsys.readouterr().out
    assert RoomStore(tmp_path / "rooms").names() == ["r1"]


def test_rooms_that_fail_are_named_and_the_others_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_openscene(tmp_path / "data" / "train" / f"{name}.pth")
    (tmp_path / "data" / "train" / "a.pth").write_bytes(b"<html>")
    assert script.main(arguments("openscene", tmp_path)) == 1
    said = capsys.readouterr()
    assert "room a: " in said.err
    assert "error: 1 rooms could not be prepared: mend what is named" in said.err
    assert "Wrote 1 rooms" in said.out
    assert "Next" not in said.out
    write_openscene(tmp_path / "data" / "train" / "a.pth")
    assert script.main(arguments("openscene", tmp_path)) == 0
    assert RoomStore(tmp_path / "rooms").names() == ["a", "b"]


def test_many_notes_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.show_notes(f"note {number}" for number in range(25))
    said = capsys.readouterr().out
    assert said.count("Note: ") == script.SHOWN_NOTES
    assert "... and 5 more notes of this kind." in said


def test_interruption_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_openscene(tmp_path / "data" / "train" / f"{name}.pth")
    written = []

    def interrupted(writer: RoomWriter, name: str, *arguments: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(name)
        write(writer, name, *arguments)  # type: ignore[arg-type]

    write = RoomWriter.write
    with monkeypatch.context() as patch:
        patch.setattr(RoomWriter, "write", interrupted)
        assert script.main(arguments("openscene", tmp_path)) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
    assert RoomStore(tmp_path / "rooms").names() == ["a"]
    assert script.main(arguments("openscene", tmp_path)) == 0
    assert "1 of 2 rooms to prepare" in capsys.readouterr().out


def test_another_folder_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_openscene(tmp_path / "data" / "train" / "a.pth")
    assert script.main(arguments("openscene", tmp_path)) == 0
    assert script.main(arguments("openscene", tmp_path, "--dataset", "replica")) == 1
    error = capsys.readouterr().err
    assert "the folder holds prepared rooms of dataset = 'scannet', not of 'replica'" in error


def test_the_script_runs(tmp_path: Path) -> None:
    write_openscene(tmp_path / "data" / "train" / "a.pth")
    words = [sys.executable, "scripts/prepare_rooms.py", *arguments("openscene", tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Wrote 1 rooms of 40 points" in done.stdout


def test_a_batch_script_that_does_everything_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_openscene(tmp_path / "data" / "train" / "a.pth")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert script.main(arguments("openscene", tmp_path)) == 0
    assert (
        "The job has 8 tasks, but this process was not started by srun" in capsys.readouterr().out
    )
