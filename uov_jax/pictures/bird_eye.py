"""Sweeps from above with their labels, one panel a labelling."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uov_jax.evaluation.confusion import class_names
from uov_jax.pictures.panels import (
    INK,
    REFERENCES,
    RIGHT,
    UNLABELLED,
    WRONG,
    checked_panels,
    draw_ground,
    save_figure,
    swatch,
)


def bird_eye(
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    radius: float = 42.0,
    ahead: str = "y",
) -> None:
    """Draw one sweep from above, one panel per labelling, and where prediction and truth differ.

    Args:
        points: float32 [N, 3 or more], metres in the LiDAR frame.
        panels: integers [N] of classes by name. "truth", "teacher" and "prediction" come in that
            order, others after them. With a "prediction", and a "truth" or else a "teacher", one
            more panel shows where the two differ. Class 0 is unlabelled and grey.
        colors: uint8 [C, 3], RGB of every class.
        path: the PNG, 4 panels about 2000 x 700 pixels; written to a temporary name and renamed.
        names: of all C classes, for the legend; None numbers them.
        title: heading; None takes the file's stem.
        radius: half the side of the square that is shown, in metres.
        ahead: the axis along which the vehicle goes, "x" or "y"; an arrow shows it.

    Raises:
        InputError: a panel is not one class below C per point, there is no panel, or not C names.

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
        draw_ground(axis, radius, _panel_title(name, label, labels.get("truth")), ahead)
        axis.scatter(xy[:, 0], xy[:, 1], s=3.2, c=palette[label], linewidths=0)
    if compared and reference is not None:
        _draw_errors(
            axes[-1], xy, labels["prediction"], labels[reference], reference, radius, ahead
        )
    present = np.unique(np.concatenate(list(labels.values()))) if len(xy) else np.zeros(0, int)
    _draw_legend(figure, present, palette, names)
    save_figure(figure, path)


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


def _draw_errors(
    axis: Axes,
    xy: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    name: str,
    radius: float,
    ahead: str,
) -> None:
    judged = reference > 0
    wrong = judged & (prediction != reference)
    what = "errors" if name == "truth" else f"prediction against {name}"
    draw_ground(
        axis, radius, f"{what}\n{_share(wrong[judged])} of the labelled points differ", ahead
    )
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
