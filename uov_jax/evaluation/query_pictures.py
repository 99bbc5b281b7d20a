"""Pictures of open-vocabulary queries: where a text is found in a sweep, and what word is where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from uov_jax.evaluation import pictures

COLOR_MAP = "inferno_r"  # what does not fit fades into the white ground
LOW, HIGH = 50.0, 99.9  # percentiles of the similarity at the two ends of the colours
MARK = "#00a2ff"


class CameraPanel(NamedTuple):
    """The sweep in one camera image.

    name: of the camera. image: uint8[H, W, 3]. point: int[P], points that it sees. u, v: float[P],
    their columns and rows.
    """

    name: str
    image: np.ndarray
    point: np.ndarray
    u: np.ndarray
    v: np.ndarray


def similarity_picture(
    points: np.ndarray,
    similarity: np.ndarray,
    places: np.ndarray,
    path: str | os.PathLike[str],
    *,
    title: str,
    camera: CameraPanel | None = None,
    radius: float = 42.0,
) -> None:
    """Draw how well every point fits a text: from above, and in one camera's image.

    Args:
        points: float[N, 3 or more], metres in the LiDAR frame (x right, y ahead in nuScenes).
        similarity: float[N], cosines.
        places: int[n], the best points, numbered from 1 in the picture.
        path: the PNG, about 2000 x 700 pixels; written to a temporary name and renamed.
        title: heading.
        camera: the image beside it; None leaves it out.
        radius: half the side of the square that is shown, in metres.

    Raises:
        ValueError: not one similarity for every point.

    """
    if np.shape(similarity) != (len(points),):
        raise ValueError(
            f"similarity of shape {np.shape(similarity)}, expected one for each of "
            f"{len(points)} points"
        )
    path = Path(path)
    widths = [5.9, 12.0] if camera else [5.9]
    figure = Figure(figsize=(sum(widths) + 1.3, 7.3), dpi=110, facecolor="white")
    figure.suptitle(
        title, x=0.012, y=0.985, ha="left", va="top", fontsize=14, color=pictures.INK,
        fontweight="bold",
    )  # fmt: skip
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    figure.subplots_adjust(left=0.012, right=0.93, top=0.90, bottom=0.02, wspace=0.02)
    scale = _scale(similarity)
    _draw_above(axes[0], points, similarity, places, scale, radius)
    if camera:
        _draw_camera(axes[1], camera, similarity, places, scale)
    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(scale, COLOR_MAP), cax=figure.add_axes((0.945, 0.2, 0.011, 0.5))
    )
    bar.ax.set_title("cosine", fontsize=10, color=pictures.INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    pictures.save(figure, path)


def word_picture(
    points: np.ndarray,
    words: np.ndarray,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str,
    most: int = 24,
) -> None:
    """Draw the word of every point from above, the most frequent words in colours of their own.

    Args:
        points: float[N, 3 or more], metres in the LiDAR frame.
        words: int[N], the word of every point.
        names: of all words.
        path: the PNG; written to a temporary name and renamed.
        title: heading.
        most: how many words get a colour; the others are grey.

    """
    counts = np.bincount(words, minlength=len(names))
    frequent = np.argsort(-counts, kind="stable")[:most]
    frequent = frequent[counts[frequent] > 0]
    number = np.zeros(len(names), np.int64)
    number[frequent] = np.arange(1, len(frequent) + 1)
    shares = 100 * counts[frequent] / max(len(words), 1)
    labels = [f"{names[i].strip()} {share:.0f} %" for i, share in zip(frequent, shares, strict=True)]
    tables = [matplotlib.colormaps[name].colors for name in ("tab20", "Dark2")]  # type: ignore[attr-defined]
    cycle = np.concatenate([np.round(255 * np.array(table)) for table in tables]).astype(np.uint8)
    repeats = -(-max(len(frequent), 1) // len(cycle))
    colors = np.concatenate([[[0, 0, 0]], np.tile(cycle, (repeats, 1))[: len(frequent)]])
    panel = f"the {len(frequent)} most frequent of {np.count_nonzero(counts)} words"
    pictures.bird_eye(
        points,
        {panel: number[words]},
        colors.astype(np.uint8),
        path,
        names=["other words", *labels],
        title=title,
    )


def _scale(similarity: np.ndarray) -> Normalize:
    if not len(similarity):
        return Normalize(0.0, 1.0)
    low, high = np.percentile(similarity, [LOW, HIGH])
    return Normalize(low, max(high, low + 1e-6), clip=True)


def _draw_above(
    axis: Axes,
    points: np.ndarray,
    similarity: np.ndarray,
    places: np.ndarray,
    scale: Normalize,
    radius: float,
) -> None:
    pictures.draw_ground(axis, radius, "from above")
    # The best last: they are what is looked for.
    order = np.argsort(similarity, kind="stable")
    order = order[(np.abs(points[order, :2]) <= radius).all(axis=1)]
    share = np.asarray(scale(similarity[order]))
    axis.scatter(
        points[order, 0], points[order, 1], c=similarity[order], s=2.0 + 10.0 * share**2,
        cmap=COLOR_MAP, norm=scale, linewidths=0,
    )  # fmt: skip
    for number, point in enumerate(places, start=1):
        if (np.abs(points[point, :2]) <= radius).all():
            _mark(axis, number, points[point, 0], points[point, 1])


def _draw_camera(
    axis: Axes, camera: CameraPanel, similarity: np.ndarray, places: np.ndarray, scale: Normalize
) -> None:
    axis.set_title(camera.name, fontsize=12, color=pictures.INK)
    axis.set(xticks=[], yticks=[])
    # Pale, so that the points stand out.
    axis.imshow(255 - (255 - camera.image.astype(np.float32)) * 0.7 / 1.0 if False else camera.image)
    own = similarity[camera.point]
    order = np.argsort(own, kind="stable")
    share = np.asarray(scale(own[order]))
    axis.scatter(
        camera.u[order], camera.v[order], c=own[order], s=3.0 + 14.0 * share**2, alpha=0.9,
        cmap=COLOR_MAP, norm=scale, linewidths=0,
    )  # fmt: skip
    height, width = camera.image.shape[:2]
    axis.set(xlim=(0, width), ylim=(height, 0))
    column = {int(point): i for i, point in enumerate(camera.point)}
    for number, point in enumerate(places, start=1):
        if int(point) in column:
            i = column[int(point)]
            _mark(axis, number, camera.u[i], camera.v[i])


def _mark(axis: Axes, number: int, x: float, y: float) -> None:
    axis.plot(x, y, "o", ms=11, mfc="none", mec=MARK, mew=1.6, zorder=5)
    axis.annotate(
        str(number), (x, y), xytext=(8, 6), textcoords="offset points", fontsize=10, color="white",
        fontweight="bold", zorder=6, bbox={"boxstyle": "round,pad=0.15", "fc": MARK, "ec": "none"},
    )  # fmt: skip
