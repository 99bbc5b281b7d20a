"""What pictures share: the order and colours of labellings, the ground from above, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uov_jax.errors import InputError
from uov_jax.files import replacing
from uov_jax.pictures.lettering import letter

PANEL_ORDER = ("truth", "teacher", "prediction")
REFERENCES = PANEL_ORDER[:2]  # what a prediction is compared with, in this order
UNLABELLED = (0.82, 0.82, 0.82)
RIGHT = (0.55, 0.75, 0.62)
WRONG = (0.84, 0.10, 0.11)
INK = "#333333"
# Degrees by which an arrow that points up is turned to point along an axis.
TURN = {"y": 0, "x": -90}
_RING = "#9a9a9a"


def checked_panels(
    points: np.ndarray, panels: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, np.ndarray]:
    """The labellings as int64 [N], those of `PANEL_ORDER` first; InputError if one does not fit."""
    if not panels:
        raise InputError("a picture needs at least one labelling")
    for name, label in panels.items():
        if np.shape(label) != (len(points),):
            raise InputError(
                f"panel {name!r} has shape {np.shape(label)}, expected one class for each of "
                f"{len(points)} points"
            )
        if len(points) and (np.min(label) < 0 or np.max(label) >= num_classes):
            raise InputError(
                f"panel {name!r} holds classes {np.min(label)} to {np.max(label)}, "
                f"colours are given for 0 to {num_classes - 1}"
            )
    first = [name for name in PANEL_ORDER if name in panels]
    rest = [name for name in panels if name not in PANEL_ORDER]
    return {name: np.asarray(panels[name]).astype(np.int64) for name in first + rest}


def draw_ground(axis: Axes, radius: float, title: str, ahead: str = "y") -> None:
    """Empty panel with rings every 20 m and an arrow at the sensor along the axis `ahead`."""
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
    axis.plot(
        [0], [0], marker=(3, 0, TURN[ahead]), ms=8, color="black", mec="white", mew=0.8, zorder=4
    )


def swatch(name: str, color: Sequence[float] | np.ndarray) -> Line2D:
    """A legend's entry: a square of one colour."""
    return Line2D([], [], marker="s", ls="", ms=9, color=tuple(color), label=name)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, without pyplot, which keeps global state and is not safe in threads."""
    letter(figure)
    with replacing(path, durable=False) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
