"""The course of a run's losses and scores."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from uov_jax.errors import InputError
from uov_jax.pictures.panels import INK, save_figure


def loss_plot(
    metrics: str | os.PathLike[str], path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the losses of a run over its steps, and its scores below where it has any.

    Args:
        metrics: the run's CSV; columns step, epoch, then metrics; a cell may be empty. Columns
            named "loss" or "*_loss" are losses; those with "miou", "agreement" or "accuracy" in
            their name are scores (shares, drawn in percent).
        path: the PNG; written to a temporary name and renamed.
        title: heading; None takes the name of the CSV's folder.

    Raises:
        MissingFileError: no such CSV.
        InputError: it has no step or no loss in it, or a cell is not a number; names the line.

    """
    metrics, path = Path(metrics), Path(path)
    series = _read_series(metrics)
    losses = {name: xy for name, xy in series.items() if name == "loss" or name.endswith("_loss")}
    words = ("miou", "agreement", "accuracy")
    scores = {name: xy for name, xy in series.items() if any(word in name for word in words)}
    if not losses:
        raise InputError(f"{metrics}: no column 'loss' or '*_loss' with a number in it")
    figure = Figure(figsize=(9.0, 4.6 + 3.2 * bool(scores)), dpi=110, facecolor="white")
    heights = [4.2, 3.2] if scores else [1.0]
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    heading = metrics.resolve().parent.name if title is None else title
    axes[0].set_title(heading, loc="left", fontsize=12, fontweight="bold", color=INK)
    for index, (name, (steps, values)) in enumerate(losses.items()):
        _draw_loss(axes[0], name, steps, values, f"C{index}")
    axes[0].set_ylabel("loss")
    if scores:
        for index, (name, (steps, values)) in enumerate(scores.items()):
            label = f"{name.replace('miou', 'mIoU').replace('_', ' ')}: {100 * values[-1]:.1f} %"
            axes[1].plot(steps, 100 * values, "o-", ms=4, lw=1.6, color=f"C{index}", label=label)
        axes[1].set_ylabel("score in %")
        axes[1].set_ylim(bottom=0)
    for axis in axes:
        axis.grid(color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.tight_layout()
    save_figure(figure, path)


def _draw_loss(axis: Axes, name: str, steps: np.ndarray, values: np.ndarray, color: str) -> None:
    """Every value faintly, and their running mean, which is what one reads."""
    smooth = _running_mean(values, max(1, len(values) // 50))
    label = f"{name.replace('_', ' ')}: {smooth[-1]:.4g}"
    if len(values) < 50:
        axis.plot(steps, values, "o-", ms=3, lw=1.6, color=color, label=label)
        return
    axis.plot(steps, values, lw=0.6, alpha=0.3, color=color)
    axis.plot(steps, smooth, lw=1.8, color=color, label=label)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the last `width` values at each place, of fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def _read_series(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(steps, values) of every column that has a finite number, in the order of the columns."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise InputError(f"{path}: no column 'step' in its first line: {reader.fieldnames}")
        pairs: dict[str, list[tuple[float, float]]] = {}
        for line, row in enumerate(reader, start=2):
            try:
                numbers = {name: float(cell) for name, cell in row.items() if cell and name}
                step = numbers.pop("step")
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: line {line} is not a row of numbers: {row}") from error
            for name, value in numbers.items():
                if name != "epoch" and np.isfinite(value):
                    pairs.setdefault(name, []).append((step, value))
    columns = {name: np.asarray(values).T for name, values in pairs.items()}
    return {name: (table[0], table[1]) for name, table in columns.items()}
