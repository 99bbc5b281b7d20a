"""The command make_superpoints: what it says before and after, and how it fails."""

from __future__ import annotations

from pathlib import Path

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.command_line import make_superpoints as script
from uov_jax.datasets.nuscenes_tables import NuScenesTables


def arguments(root: Path, dumps: Path, output: Path, *more: str) -> list[str]:
    options = {"data": root, "version": "v1.0-mini", "dumps": dumps, "output": output}
    parts = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [*parts, "--split", "mini_train", "--split", "mini_val", "--workers", "1", *more]


def test_the_script_reports_purity_and_what_comes_next(tmp_path, tiny_root, tiny_dumps, capsys):
    output = tmp_path / "labels"
    assert script.main(arguments(tiny_root, tiny_dumps.root, output)) == 0
    out = capsys.readouterr().out
    assert "4 of 4 keyframes to label with the masks of 'tiny'" in out
    assert "Wrote 4 keyframes" in out
    assert "driveable_surface" in out
    assert f"--config.data.labels={output}" in out
    assert "--config.data.train_split=mini_train --config.data.val_split=mini_val" in out
    # No run has pre-trained on these dumps.
    assert "from random weights" in out
    assert "--config.init.checkpoint=\n" in out
    rows = (output / "purity.csv").read_text().splitlines()
    assert rows[0] == "class,points,coverage,right,purity,IoU"
    assert len(rows) == 18
    assert rows[-1].startswith("all,")
    assert len((output / "purity_confusion.csv").read_text().splitlines()) == 17
    assert script.main(arguments(tiny_root, tiny_dumps.root, output)) == 0
    again = capsys.readouterr().out
    assert "Wrote 0 keyframes (0 Bytes); 4 were there before" in again
    assert out.partition("Against")[2] == again.partition("Against")[2]


def test_the_script_works_without_true_labels(tmp_path, vocabulary, capsys):
    root = write_dataset(tmp_path / "data", lidarseg=False)
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    output = tmp_path / "labels"
    assert script.main(arguments(root, dumps.root, output, "--format", "npy")) == 0
    out = capsys.readouterr().out
    assert "The dataset has no true labels" in out
    assert len(list(output.glob("*_lidarseg.npy"))) == 4
    assert not (output / "purity.csv").exists()


def test_the_script_judges_what_is_labelled_and_counts_the_rest(tmp_path, vocabulary, capsys):
    root = write_dataset(tmp_path / "data", unlabelled=["scene-0061-sample-0"])
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    output = tmp_path / "labels"
    assert script.main(arguments(root, dumps.root, output)) == 0
    out = capsys.readouterr().out
    assert "Wrote 4 keyframes" in out
    assert "1 of 4 keyframes have no true labels: not in this table.\n" in out
    assert "Against the true labels of 3 keyframes" in out
    assert len(list(output.glob("scene-*.npz"))) == 4


def test_the_script_ends_with_one_clear_message(tmp_path, tiny_root, tiny_dumps, capsys):
    assert script.main(arguments(tiny_root, tmp_path, tmp_path / "labels")) == 1
    assert "dump.json: no teacher dumps here" in capsys.readouterr().err
    assert script.main(arguments(Path("/nowhere"), tiny_dumps.root, tmp_path / "labels")) == 1
    assert "To get nuScenes: register" in capsys.readouterr().err


def test_the_script_can_be_stopped(tmp_path, tiny_root, tiny_dumps, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "make_superpoints", stopped)
    assert script.main(arguments(tiny_root, tiny_dumps.root, tmp_path / "labels")) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
