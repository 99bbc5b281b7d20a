"""Pictures of open-vocabulary queries: where a text is found in a sweep, and what word is where."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from uov_jax.errors import InputError
from uov_jax.pictures import panels
from uov_jax.vocabulary import Vocabulary

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
        InputError: not one similarity for every point.

    """
    if np.shape(similarity) != (len(points),):
        raise InputError(
            f"similarity of shape {np.shape(similarity)}, expected one for each of "
            f"{len(points)} points"
        )
    widths = [5.9, 12.0] if camera else [5.9]
    figure = Figure(figsize=(sum(widths) + 1.3, 7.3), dpi=110, facecolor="white")
    figure.suptitle(
        title, x=0.012, y=0.985, ha="left", va="top", fontsize=14, color=panels.INK,
        fontweight="bold",
    )  # fmt: skip
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    figure.subplots_adjust(left=0.012, right=0.93, top=0.90, bottom=0.02, wspace=0.02)
    scale = _scale(similarity)
    _draw_above(axes[0], points, similarity, places, scale, radius)
    if camera:
        _draw_camera(axes[1], camera, similarity, places, scale)
    mappable = matplotlib.cm.ScalarMappable(scale, COLOR_MAP)
    bar: Any = figure.colorbar(mappable, cax=figure.add_axes((0.945, 0.2, 0.011, 0.5)))
    bar.ax.set_title("cosine", fontsize=10, color=panels.INK)
    bar.outline.set_visible(False)
    panels.save_figure(figure, Path(path))


def word_picture(
    points: np.ndarray,
    words: np.ndarray,
    vocabulary: Vocabulary,
    path: str | os.PathLike[str],
    *,
    title: str,
    radius: float = 42.0,
) -> None:
    """Draw the word of every point from above, and beside it the word's evaluation class.

    Args:
        points: float[N, 3 or more], metres in the LiDAR frame (x right, y ahead in nuScenes).
        words: int[N], index of every point's word.
        vocabulary: gives names, classes and their colours.
        path: the PNG, about 2000 x 800 pixels; written to a temporary name and renamed.
        title: heading.
        radius: half the side of the square that is shown, in metres.

    """
    counts = np.bincount(words, minlength=len(vocabulary))
    frequent = np.argsort(-counts, kind="stable")[: len(DISTINCT)]
    frequent = frequent[counts[frequent] > 0]
    word_colors = np.tile(panels.UNLABELLED, (len(vocabulary), 1))
    word_colors[frequent] = DISTINCT[: len(frequent)]
    class_colors = vocabulary.colors / 255.0
    class_colors[0] = panels.UNLABELLED
    classes = vocabulary.word_eval_class[words]
    class_counts = np.bincount(classes, minlength=len(class_colors))

    figure = Figure(figsize=(18.4, 7.3), dpi=110, facecolor="white")
    figure.suptitle(
        title, x=0.012, y=0.985, ha="left", va="top", fontsize=14, color=panels.INK,
        fontweight="bold",
    )  # fmt: skip
    axes = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.012, right=0.86, top=0.90, bottom=0.02, wspace=0.45)
    number = np.count_nonzero(counts)
    names = [textwrap.shorten(vocabulary.words[word], 30, placeholder=" ...") for word in frequent]
    shown = (
        (f"{number} words, the {len(frequent)} most frequent in colours", word_colors[words]),
        ("their evaluation classes", class_colors[classes]),
    )
    for axis, (heading, colors) in zip(axes, shown, strict=True):
        panels.draw_ground(axis, radius, heading)
        order = np.argsort(points[:, 2], kind="stable")
        order = order[(np.abs(points[order, :2]) <= radius).all(axis=1)]
        axis.scatter(points[order, 0], points[order, 1], s=3.2, c=colors[order], linewidths=0)
    _list(axes[0], names, counts[frequent], word_colors[frequent], len(words))
    present = np.argsort(-class_counts, kind="stable")[: np.count_nonzero(class_counts)]
    own = [vocabulary.eval_classes[i].replace("_", " ") for i in present]
    _list(axes[1], own, class_counts[present], class_colors[present], len(words))
    panels.save_figure(figure, Path(path))


def _list(
    axis: Axes, names: Sequence[str], counts: np.ndarray, colors: np.ndarray, total: int
) -> None:
    """A legend right of a panel, with the share of the points."""
    handles = [
        panels.swatch(f"{name}  {100 * count / total:.1f} %", color)
        for name, count, color in zip(names, counts, colors, strict=True)
    ]
    axis.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10.5,
        labelcolor=panels.INK, handletextpad=0.3, labelspacing=0.32,
    )  # fmt: skip


def _distinct_colors() -> np.ndarray:
    """float[28, 3]: strong colours first, their pale relatives after them."""
    paired = np.array([matplotlib.colormaps["tab20"](i)[:3] for i in range(20)])
    dark = np.array([matplotlib.colormaps["Dark2"](i)[:3] for i in range(8)])
    return np.concatenate([paired[::2], dark, paired[1::2]])


DISTINCT = _distinct_colors()


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
    panels.draw_ground(axis, radius, "from above")
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
    axis.set_title(camera.name, fontsize=12, color=panels.INK)
    axis.set(xticks=[], yticks=[])
    axis.imshow(camera.image, alpha=0.7)  # pale, so that the points stand out
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
