"""Pictures of a run: sweeps from above with their labels, and the course of the loss."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from uov_jax.evaluation.confusion import class_names

PANEL_ORDER = ("truth", "teacher", "prediction")
REFERENCES = PANEL_ORDER[:2]  # what a prediction is compared with, in this order
UNLABELLED = (0.82, 0.82, 0.82)
RIGHT = (0.55, 0.75, 0.62)
WRONG = (0.84, 0.10, 0.11)
INK = "#333333"
_RING = "#9a9a9a"


def bird_eye(
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    radius: float = 42.0,
) -> None:
    """Draw one sweep from above, one panel per labelling, and where prediction and truth differ.

    Args:
        points: float32 [N, 3 or more], metres in the LiDAR frame (x right, y ahead in nuScenes).
        panels: integers [N] of classes by name. "truth", "teacher" and "prediction" come in that
            order, others after them. With a "prediction", and a "truth" or else a "teacher", one
            more panel shows where the two differ. Class 0 is unlabelled and grey.
        colors: uint8 [C, 3], RGB of every class.
        path: the PNG, 4 panels about 2000 x 700 pixels; written to a temporary name and renamed.
        names: of all C classes, for the legend; None numbers them.
        title: heading; None takes the file's stem.
        radius: half the side of the square that is shown, in metres.

    Raises:
        ValueError: a panel is not one class below C per point, there is no panel, or not C names.

    """
    path = Path(path)
    labels = checked_panels(points, panels, len(colors))
    names = class_names(len(colors), names)
    inside = (np.abs(points[:, :2]) <= radius).all(axis=1)
    # From the ground up, so that what is on top in the world is on top in the picture.
    order = np.flatnonzero(inside)[np.argsort(points[inside, 2], kind="stable")]
    xy = points[order, :2]
    labels = {name: label[order] for name, label in labels.items()}
    palette = np.concatenate([[UNLABELLED], colors[1:] / 255.0])

    reference = next((n for n in REFERENCES if n in labels), None)
    compared = "prediction" in labels and reference is not None
    count = len(labels) + compared
    figure = Figure(figsize=(5.0 * count, 6.7), dpi=100, facecolor="white")
    figure.suptitle(
        path.stem if title is None else title, x=0.012, y=0.985, ha="left", va="top", fontsize=13,
        color=INK, fontweight="bold",
    )  # fmt: skip
    axes = figure.subplots(1, count, squeeze=False)[0]
    figure.subplots_adjust(left=0.008, right=0.992, top=0.855, bottom=0.12, wspace=0.025)
    for axis, (name, label) in zip(axes, labels.items(), strict=False):
        draw_ground(axis, radius, _panel_title(name, label, labels.get("truth")))
        axis.scatter(xy[:, 0], xy[:, 1], s=3.2, c=palette[label], linewidths=0)
    if compared and reference is not None:
        _draw_errors(axes[-1], xy, labels["prediction"], labels[reference], reference, radius)
    present = np.unique(np.concatenate(list(labels.values()))) if len(xy) else np.zeros(0, int)
    _draw_legend(figure, present, palette, names)
    save_figure(figure, path)


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
        FileNotFoundError: no such CSV.
        ValueError: it has no step or no loss in it, or a cell is not a number; names the line.

    """
    metrics, path = Path(metrics), Path(path)
    series = _read_series(metrics)
    losses = {name: xy for name, xy in series.items() if name == "loss" or name.endswith("_loss")}
    words = ("miou", "agreement", "accuracy")
    scores = {name: xy for name, xy in series.items() if any(word in name for word in words)}
    if not losses:
        raise ValueError(f"{metrics}: no column 'loss' or '*_loss' with a number in it")
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


def checked_panels(
    points: np.ndarray, panels: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, np.ndarray]:
    """The labellings as int64 [N], those of `PANEL_ORDER` first; ValueError if one does not fit."""
    if not panels:
        raise ValueError("a picture needs at least one labelling")
    for name, label in panels.items():
        if np.shape(label) != (len(points),):
            raise ValueError(
                f"panel {name!r} has shape {np.shape(label)}, expected one class for each of "
                f"{len(points)} points"
            )
        if len(points) and (np.min(label) < 0 or np.max(label) >= num_classes):
            raise ValueError(
                f"panel {name!r} holds classes {np.min(label)} to {np.max(label)}, "
                f"colours are given for 0 to {num_classes - 1}"
            )
    first = [name for name in PANEL_ORDER if name in panels]
    rest = [name for name in panels if name not in PANEL_ORDER]
    return {name: np.asarray(panels[name]).astype(np.int64) for name in first + rest}


def _panel_title(name: str, label: np.ndarray, truth: np.ndarray | None) -> str:
    if name == "truth" or truth is None or not (truth > 0).any():
        return f"{name}\n{_share(label > 0)} of the points labelled"
    judged = truth > 0
    right = _share(label[judged] == truth[judged])
    if (label[judged] > 0).all():
        return f"{name}\n{right} right"
    given = judged & (label > 0)
    right = _share(label[given] == truth[given])
    return f"{name}\n{_share(given[judged])} labelled, {right} of it right"


def _share(mask: np.ndarray) -> str:
    return f"{100 * mask.mean():.0f} %" if mask.size else "none"


def draw_ground(axis: Axes, radius: float, title: str) -> None:
    """Empty panel with rings every 20 m and an arrow at the sensor, pointing ahead."""
    axis.set_title(title, fontsize=12, color=INK, linespacing=1.35)
    axis.set(xlim=(-radius, radius), ylim=(-radius, radius), aspect="equal", xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_color("#cccccc")
    turn = np.linspace(0, 2 * np.pi, 181)
    for ring in np.arange(20, radius + 0.1, 20):
        axis.plot(
            ring * np.cos(turn), ring * np.sin(turn), color=_RING, lw=0.6, alpha=0.6, zorder=0
        )
        axis.text(
            ring * 0.7071, -ring * 0.7071, f"{ring:.0f} m", fontsize=7.5, color="#666666", zorder=3
        )
    axis.plot([0], [0], marker=(3, 0, 0), ms=8, color="black", mec="white", mew=0.8, zorder=4)


def _draw_errors(
    axis: Axes,
    xy: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    name: str,
    radius: float,
) -> None:
    judged = reference > 0
    wrong = judged & (prediction != reference)
    what = "errors" if name == "truth" else f"prediction against {name}"
    draw_ground(axis, radius, f"{what}\n{_share(wrong[judged])} of the labelled points differ")
    # Errors last: they are what is looked for.
    for mask, color, size in (
        (~judged, UNLABELLED, 2.0),
        (judged & ~wrong, RIGHT, 2.6),
        (wrong, WRONG, 3.4),
    ):
        axis.scatter(xy[mask, 0], xy[mask, 1], s=size, color=color, linewidths=0)
    handles = [swatch("same", RIGHT), swatch("different", WRONG)]
    axis.legend(
        handles=handles, loc="lower left", fontsize=10, labelcolor=INK, handletextpad=0.2,
        frameon=True, framealpha=0.85, edgecolor="none",
    )  # fmt: skip


def swatch(name: str, color: Sequence[float] | np.ndarray) -> Line2D:
    """A legend's entry: a square of one colour."""
    return Line2D([], [], marker="s", ls="", ms=9, color=tuple(color), label=name)


def _draw_legend(
    figure: Figure, present: np.ndarray, palette: np.ndarray, names: Sequence[str]
) -> None:
    entries = [(names[i].replace("_", " "), palette[i]) for i in present if i > 0]
    if (present == 0).any():
        entries.append(("unlabelled", palette[0]))
    handles = [swatch(name, color) for name, color in entries]
    width = figure.get_figwidth()
    columns = max(1, min(len(handles), int(width / 1.75)))
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=11,
        labelcolor=INK, handletextpad=0.3, columnspacing=1.4, bbox_to_anchor=(0.5, 0.005),
    )  # fmt: skip


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
            raise ValueError(f"{path}: no column 'step' in its first line: {reader.fieldnames}")
        pairs: dict[str, list[tuple[float, float]]] = {}
        for line, row in enumerate(reader, start=2):
            try:
                numbers = {name: float(cell) for name, cell in row.items() if cell and name}
                step = numbers.pop("step")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: line {line} is not a row of numbers: {row}") from error
            for name, value in numbers.items():
                if name != "epoch" and np.isfinite(value):
                    pairs.setdefault(name, []).append((step, value))
    columns = {name: np.asarray(values).T for name, values in pairs.items()}
    return {name: (table[0], table[1]) for name, table in columns.items()}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, without pyplot, which keeps global state and is not safe in threads."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        FigureCanvasAgg(figure).print_png(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
