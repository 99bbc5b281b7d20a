"""Chains of commands: the tables they read, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from uov_jax.command_line import chain
from uov_jax.errors import MissingFileError


def test_a_table_without_the_number_is_named(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("class,network\ncar,0.5\nmean IoU,0.25\n")
    assert chain.mean_iou(table, "network") == 0.25
    with pytest.raises(ValueError, match=r"scores.csv: no number in column 'teacher, seen'"):
        chain.mean_iou(table, "teacher, seen")
    with pytest.raises(MissingFileError, match=r"metrics.csv: the stage that writes this table"):
        chain.last_metric(tmp_path, "miou")
    (tmp_path / "metrics.csv").write_text("step,miou\n1,\n2,0.5\n3,0.75\n4,\n")
    assert chain.last_metric(tmp_path, "miou") == 0.75
    with pytest.raises(ValueError, match=r"metrics.csv: no value of 'zero_shot_miou'"):
        chain.last_metric(tmp_path, "zero_shot_miou")


def test_a_failed_stage_ends_the_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = [
        chain.Stage("First", "train", ("--config",), tmp_path / "nothing", 5.0),
        chain.Stage("Second", "train", (), tmp_path / "nothing", 5.0),
    ]
    assert chain.run(stages) == 2
    captured = capsys.readouterr()
    assert "Stopped in stage 1 of 2, First. Type the same command again" in captured.err
    assert "[2/2]" not in captured.out
