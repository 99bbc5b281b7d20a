"""A confusion matrix as a picture: shares of every true class, with the IoU of each beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.pictures.lettering import drawable
from uov_jax.pictures.panels import INK, save_figure


def confusion_picture(
    matrix: ConfusionMatrix, path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Draw the matrix with rows that add up to 100 %.

    Args:
        matrix: the counts. The column of class 0 is drawn only where it was predicted.
        path: the PNG; written to a temporary name and renamed.
        title: heading; None takes the file's stem.

    """
    path = Path(path)
    counts = matrix.counts[1:]
    first = 0 if counts[:, 0].any() else 1
    names = [drawable(name.replace("_", " ")) for name in matrix.names]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    side = 2.6 + 0.44 * len(matrix.names)
    figure = Figure(figsize=(side + 1.2, side), dpi=110, facecolor="white")
    axis = figure.add_axes((0.2, 0.2, 0.68, 0.7))
    axis.imshow(shares[:, first:], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares[:, first:]):
        if share >= 0.005:
            shade = "white" if share > 0.55 else INK
            axis.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=shade
            )
    axis.set_xticks(range(len(names) - first), names[first:], rotation=45, ha="right", fontsize=9)
    axis.set_yticks(range(len(counts)), names[1:], fontsize=9)
    axis.set_xlabel("predicted", color=INK)
    axis.set_ylabel("true", color=INK)
    axis.tick_params(length=0, colors=INK)
    axis.spines[:].set_visible(False)
    beside = axis.secondary_yaxis("right")
    beside.set_yticks(range(len(counts)), [_iou(value) for value in matrix.iou()], fontsize=9)
    beside.tick_params(length=0, colors=INK)
    beside.spines[:].set_visible(False)
    axis.text(1.02, 1.02, "IoU", transform=axis.transAxes, fontsize=9, color=INK)
    heading = path.stem if title is None else title
    figure.text(0.02, 0.965, heading, fontsize=12, fontweight="bold", color=INK)
    figure.text(
        0.02, 0.935, f"{matrix.points:,} points, shares of each true class in %", fontsize=9,
        color=INK,
    )  # fmt: skip
    save_figure(figure, path)


def _iou(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
