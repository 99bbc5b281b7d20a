"""Pictures of open-vocabulary queries of rooms: where a text is found, from above and aslant."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from uov_jax.errors import InputError
from uov_jax.pictures import canvas
from uov_jax.pictures.lettering import font
from uov_jax.pictures.panels import UNLABELLED
from uov_jax.pictures.query import COLOR_MAP, HIGH, LOW, MARK
from uov_jax.pictures.room import COLORS, compose, room_views
from uov_jax.pictures.splatting import SUPERSAMPLING, View

WIDTH = 860  # pixels of a column
_PALE, _CONTRAST = 0.96, 0.35  # of white, where nothing fits
RING = 11  # pixels, radius of the mark of a place
_GAP = 4
_MARK = tuple(int(MARK[start : start + 2], 16) for start in (1, 3, 5))


def room_query_picture(
    points: np.ndarray,
    point_colors: np.ndarray,
    similarity: np.ndarray,
    places: np.ndarray,
    path: str | os.PathLike[str],
    *,
    title: str,
    width: int = WIDTH,
) -> None:
    """Draw how well every point of a room fits a text, beside what the room looks like.

    Args:
        points: float32[N, 3], metres, z upward.
        point_colors: uint8[N, 3].
        similarity: float32[N], cosines; NaN for a point that nothing is known of, which is grey.
        places: int[n], the best points, numbered from 1 in the picture.
        path: the PNG; written to a temporary name and renamed.
        title: heading.
        width: of a column in pixels.

    Raises:
        InputError: not one similarity for every point, or no point.

    """
    if np.shape(similarity) != (len(points),) or not len(points):
        raise InputError(
            f"similarity of shape {np.shape(similarity)}, expected one for each of "
            f"{len(points)} points of a room"
        )
    low, high = heat_range(similarity)
    views = room_views(points, width)
    shown = {COLORS: point_colors, "similarity": heat(similarity, low, high, point_colors)}
    rows = compose(views, shown)
    draw, top = ImageDraw.Draw(rows), 0
    for view in views:
        for left in (0, width + _GAP):
            for number, point in enumerate(places, start=1):
                _mark(draw, view, int(point), number, (left, top))
        top += view.point.shape[0] // SUPERSAMPLING + _GAP
    parts = [canvas.heading(title, rows.width), rows, _scale(low, high, rows.width)]
    canvas.save(canvas.stack(parts, _GAP), Path(path))


def heat_range(similarity: np.ndarray) -> tuple[float, float]:
    """The similarities at the two ends of the colours."""
    known = similarity[np.isfinite(similarity)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [LOW, HIGH])
    return float(low), float(max(high, low + 1e-6))


def heat(
    similarity: np.ndarray, low: float, high: float, point_colors: np.ndarray | None = None
) -> np.ndarray:
    """uint8[N, 3]: colours of similarities, grey for NaN.

    What does not fit fades into pale greys of the room's own colours uint8[N, 3], where given.
    """
    share = np.nan_to_num(np.clip((similarity - low) / (high - low), 0, 1))[:, None]
    ground = np.full((len(similarity), 3), _PALE)
    if point_colors is not None:
        grey = point_colors.astype(np.float64).mean(axis=1, keepdims=True) / 255
        ground = np.broadcast_to(_PALE - _CONTRAST * (1 - grey), ground.shape)
    weight = np.minimum(1, 2 * share)
    shades = weight * matplotlib.colormaps[COLOR_MAP](share[:, 0])[:, :3] + (1 - weight) * ground
    shades[~np.isfinite(similarity)] = UNLABELLED
    return np.round(255 * shades).astype(np.uint8)


def _mark(
    draw: ImageDraw.ImageDraw, view: View, point: int, number: int, corner: tuple[int, int]
) -> None:
    """A numbered ring where a point is seen; nothing where others hide it."""
    rows, columns = np.nonzero(view.point == point)
    if not len(rows):
        return
    x, y = columns.mean() / SUPERSAMPLING + corner[0], rows.mean() / SUPERSAMPLING + corner[1]
    draw.ellipse((x - RING, y - RING, x + RING, y + RING), outline=_MARK, width=3)
    box = draw.textbbox((x + RING, y - RING), str(number), font=font(15), anchor="lb")
    draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=_MARK)
    draw.text((x + RING, y - RING), str(number), font=font(15), fill=canvas.PAPER, anchor="lb")


def _scale(low: float, high: float, width: int) -> Image.Image:
    """A strip with the colours of the similarities."""
    strip = Image.new("RGB", (width, 34), canvas.PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((12, 8), f"cosine  {low:.3f}", font=font(16), fill=canvas.INK)
    left = 12 + round(font(16).getlength(f"cosine  {low:.3f}")) + 10
    bar = heat(np.linspace(low, high, 240), low, high)
    strip.paste(Image.fromarray(np.repeat(bar[None], 16, axis=0)), (left, 9))
    draw.text((left + 250, 8), f"{high:.3f} and more", font=font(16), fill=canvas.INK)
    return strip
