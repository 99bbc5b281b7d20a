"""The command dump_teacher: what it says before and after, and how it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.dumps.test_write import Halves
from tests.tiny_dataset import write_dataset
from uov_jax.command_line import dump_teacher as script
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder


def arguments(root: Path, output: Path, **changes: str) -> list[str]:
    options = {"teacher": "slic", "data": str(root), "version": "v1.0-mini"}
    options |= {"split": "mini_val", "output": str(output)} | changes
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def test_the_script_dumps_says_what_it_wrote_and_what_comes_next(tmp_path, tiny_root, capsys):
    assert script.main(arguments(tiny_root, tmp_path)) == 0
    out = capsys.readouterr().out
    assert "2 keyframes (12 images) to do" in out
    assert "Wrote 2 keyframes" in out
    assert "scripts/train.py --config configs/tmp_slic.py" in out
    # Two keyframes do not fill the recipe's batch of 16, nor one of its shards of 4.
    fields = "--config.batch_size=2 --config.total_steps=400 --config.sweeps_per_shard=2"
    assert f"{fields} --devices=1\n" in out
    folder = DumpFolder(tmp_path)
    assert folder.teacher == "slic"
    assert folder.text_embeddings is None
    keyframes = NuScenesTables(tiny_root, "v1.0-mini").keyframes("mini_val")
    folder.check(keyframes, contents=True)
    assert script.main(arguments(tiny_root, tmp_path)) == 0
    assert "Wrote 0 keyframes (0 Bytes)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "/nowhere"}, "To get nuScenes: register"),
        ({"split": "valid"}, "unknown split 'valid'"),
        ({"vocabulary": "klingon"}, "no vocabulary of that name"),
    ],
)
def test_the_script_ends_with_one_clear_message(tmp_path, tiny_root, capsys, changes, message):
    assert script.main(arguments(tiny_root, tmp_path / "dumps", **changes)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert not (tmp_path / "dumps").exists()


def test_a_package_that_is_not_installed_is_named(tmp_path, tiny_root, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "uov_jax.teachers.san", raising=False)
    assert script.main(arguments(tiny_root, tmp_path / "dumps", teacher="san")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the teacher 'san' needs the package 'torch'")
    assert "pip install -r requirements/teachers.txt" in error
    assert not (tmp_path / "dumps").exists()


def test_the_script_can_be_stopped(tmp_path, tiny_root, capsys, monkeypatch):
    monkeypatch.setattr(script, "create_teacher", lambda *_: Halves(fail_after=7))
    assert script.main(arguments(tiny_root, tmp_path)) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


def test_the_script_names_what_failed_and_does_not_end_well(tmp_path, capsys):
    root = write_dataset(tmp_path / "data", keyframes=2)
    (broken, *_) = sorted((root / "samples" / "CAM_BACK").glob("scene-0103*.jpg"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:500])
    assert script.main(arguments(root, tmp_path / "dumps")) == 1
    captured = capsys.readouterr()
    assert f"{broken}: corrupt or truncated image" in captured.err
    assert "1 keyframes failed twice and have no dump" in captured.err
    assert script.main([*arguments(root, tmp_path / "dumps"), "--check"]) == 1
    assert "keyframe scene-0103-sample-0 has no dump" in capsys.readouterr().err
    broken.write_bytes(whole)
    assert script.main(arguments(root, tmp_path / "dumps")) == 0
    assert script.main([*arguments(root, tmp_path / "dumps"), "--check"]) == 0
    assert "All 2 keyframes have a complete dump" in capsys.readouterr().out
    (damaged, *_) = (tmp_path / "dumps").glob("scene*.npz")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert script.main([*arguments(root, tmp_path / "dumps"), "--check"]) == 1
    assert f"{damaged}: corrupt or truncated teacher dump" in capsys.readouterr().err


def test_the_script_does_its_share(tmp_path, tiny_root, capsys, monkeypatch):
    assert script.main(arguments(tiny_root, tmp_path, shard="2/2")) == 0
    out = capsys.readouterr().out
    assert "Shard 2/2: 1 of 2 keyframes." in out
    assert "with --check and without --shard" in out
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert script.main(arguments(tiny_root, tmp_path)) == 0
    assert "Shard 1/2: 1 of 2 keyframes." in capsys.readouterr().out
    assert len(list(tmp_path.glob("scene*.npz"))) == 2
    assert script.main(arguments(tiny_root, tmp_path, shard="3/2")) == 1
    assert "expected NUMBER/COUNT" in capsys.readouterr().err


def test_missing_weights_are_one_clear_message(tmp_path, tiny_root, capsys):
    assert script.main(arguments(tiny_root, tmp_path, teacher="san")) == 1
    assert "san_vit_large_14.pth (1.75 GB)" in capsys.readouterr().err
