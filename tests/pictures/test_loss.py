"""The loss plot: what it draws and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pictures.test_bird_eye import pixels
from uov_jax.pictures.loss import _running_mean, loss_plot


def test_loss_plot_draws_losses_and_scores(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    rows = [f"{step},{step / 10},{9 / step:.6f},{4 / step:.6f},0.5," for step in range(1, 101)]
    table.write_text("step,epoch,loss,text_loss,learning_rate,zero_shot_miou\n" + "\n".join(rows))
    loss_plot(table, tmp_path / "loss.png")
    plain = pixels(tmp_path / "loss.png")
    table.write_text(table.read_text() + "0.25\n")
    loss_plot(table, tmp_path / "loss.png")
    found = pixels(tmp_path / "loss.png")
    assert len(found) > len(plain)
    # Two losses and a score: blue, orange, and blue again below.
    for color in ((31, 119, 180), (255, 127, 14)):
        assert (np.abs(found - color).max(-1) <= 2).sum() > 100
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["loss.png", "metrics.csv"]


def test_running_mean_is_of_the_last_values() -> None:
    values = np.array([4.0, 2.0, 6.0, 0.0, 8.0])
    expected = [np.mean(values[max(0, i - 2) : i + 1]) for i in range(5)]
    np.testing.assert_allclose(_running_mean(values, 3), expected)


def test_loss_plot_refuses_what_it_cannot_draw(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv"):
        loss_plot(table, tmp_path / "loss.png")
    table.write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: no column 'step'"):
        loss_plot(table, tmp_path / "loss.png")
    table.write_text("step,epoch,loss\n1,0,nan\n")
    with pytest.raises(
        ValueError, match=r"metrics\.csv: no column 'loss' or '\*_loss' with a number"
    ):
        loss_plot(table, tmp_path / "loss.png")
    table.write_text("step,epoch,loss\n1,0,2.0\n2,0,oops\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: line 3 is not a row of numbers.*oops"):
        loss_plot(table, tmp_path / "loss.png")
