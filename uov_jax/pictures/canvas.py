"""Painting of labelled points into images, pixel by pixel, and the words around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from uov_jax.files import replacing
from uov_jax.pictures.lettering import drawable, font
from uov_jax.pictures.panels import REFERENCES, RIGHT, UNLABELLED, WRONG, checked_panels

INK, PAPER = (51, 51, 51), (255, 255, 255)
_GREY, _RIGHT, _WRONG = (np.round(255 * np.array(c)) for c in (UNLABELLED, RIGHT, WRONG))
SWATCH, LINE = 14, 26  # pixels


def panel_colors(
    points: np.ndarray, panels: Mapping[str, np.ndarray], colors: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each panel shows: uint8[N, 3] colours, and bool[N] which points have one.

    Beside the labellings, in the order truth, teacher, prediction, there are "errors": where a
    prediction differs from the truth, or else from the teacher. Errors are red, the rest green.
    """
    labels = checked_panels(points, panels, len(colors))
    shown = {name: (colors[label], label > 0) for name, label in labels.items()}
    reference = next((name for name in REFERENCES if name in labels), None)
    if "prediction" in labels and reference is not None:
        right = labels["prediction"] == labels[reference]
        shades = np.where(right[:, None], _RIGHT, _WRONG).astype(np.uint8)
        name = "errors" if reference == "truth" else f"prediction against {reference}"
        shown[name] = (shades, labels[reference] > 0)
    return shown


def paint(
    image: np.ndarray, u: np.ndarray, v: np.ndarray, colors: np.ndarray, radius: np.ndarray
) -> None:
    """Paint discs into uint8[H, W, 3], in place; later points over earlier ones.

    Args:
        image: the picture.
        u: float[n], columns of the centres in pixels; outside is left out.
        v: float[n], rows of the centres.
        colors: uint8[n, 3].
        radius: float[n], in pixels; 0.5 is a single pixel.

    """
    height, width = image.shape[:2]
    column, row = np.round(u).astype(np.int64), np.round(v).astype(np.int64)
    reach = int(np.ceil(radius.max())) if len(radius) else 0
    steps = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    # The pixel of each point that is painted last must win, whatever the step: one pass over all
    # (point, step) pairs in the order of the points.
    covered = np.array([np.hypot(*step) <= radius for step in steps])
    x = np.stack([column + step[1] for step in steps])
    y = np.stack([row + step[0] for step in steps])
    inside = covered & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    point, step = np.nonzero(inside.T)
    image[y[step, point], x[step, point]] = colors[point]


def bird_eye_image(
    points: np.ndarray, colors: np.ndarray, shown: np.ndarray, side: int, radius: float
) -> np.ndarray:
    """uint8[side, side, 3]: a sweep from above, x to the right and y up, `radius` m to each edge.

    Points that are not `shown` are grey. Points are painted from the ground up.
    """
    image = np.full((side, side, 3), 255, np.uint8)
    scale = side / (2 * radius)
    _ring(image, 20 * scale)
    _ring(image, 40 * scale)
    order = np.argsort(points[:, 2], kind="stable")
    xy = points[order, :2]
    shades = np.where(shown[order, None], colors[order], _GREY).astype(np.uint8)
    u, v = side / 2 + xy[:, 0] * scale, side / 2 - xy[:, 1] * scale
    paint(image, u, v, shades, np.full(len(u), 1.0))
    centre = np.array([side / 2])
    paint(image, centre, centre, np.zeros((1, 3), np.uint8), np.array([4.0]))
    return image


def _ring(image: np.ndarray, radius: float) -> None:
    turn = np.linspace(0, 2 * np.pi, max(8, int(8 * radius)))
    middle = len(image) / 2
    shade = np.full((len(turn), 3), 220, np.uint8)
    paint(
        image,
        middle + radius * np.cos(turn),
        middle + radius * np.sin(turn),
        shade,
        np.full(len(turn), 0.5),
    )


def caption(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int = 15) -> None:
    """White words on a dark box, for the corner of an image."""
    text = drawable(text)
    box = draw.textbbox(place, text, font=font(size))
    draw.rectangle((box[0] - 5, box[1] - 4, box[2] + 5, box[3] + 4), fill=(25, 25, 25))
    draw.text(place, text, font=font(size), fill=PAPER)


def legend(
    names: Sequence[str], colors: np.ndarray, present: Sequence[int], width: int
) -> Image.Image:
    """A strip of colour swatches with the names of the present classes, as wide as asked."""
    words = font(16)
    places, x, y = [], 12, 6
    for index in present:
        text = drawable(names[index].replace("_", " "))
        length = SWATCH + 8 + round(words.getlength(text)) + 22
        if x + length > width and x > 12:
            x, y = 12, y + LINE
        places.append((index, text, x, y))
        x += length
    strip = Image.new("RGB", (width, y + LINE), PAPER)
    draw = ImageDraw.Draw(strip)
    for index, text, x, y in places:
        box = (x, y + 3, x + SWATCH, y + 3 + SWATCH)
        draw.rectangle(box, fill=tuple(int(c) for c in colors[index]))
        draw.text((x + SWATCH + 8, y), text, font=words, fill=INK)
    return strip


def present_classes(panels: Mapping[str, np.ndarray]) -> list[int]:
    """Classes but 0 that any of the labellings has, in order."""
    found = np.unique(np.concatenate([np.unique(label) for label in panels.values()]))
    return [int(index) for index in found if index > 0]


def heading(text: str, width: int) -> Image.Image:
    """A strip with a heading, as wide as asked."""
    strip = Image.new("RGB", (width, 36), PAPER)
    ImageDraw.Draw(strip).text((12, 7), drawable(text), font=font(20), fill=INK)
    return strip


def beside(images: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images one beside the other, their upper edges in line."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), PAPER)
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + gap
    return whole


def stack(images: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images one below the other, their left edges in line."""
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    whole = Image.new("RGB", (max(image.width for image in images), height), PAPER)
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + gap
    return whole


def save(image: Image.Image, path: Path, **options: Any) -> None:
    """Write an image by the path's ending; temporary name first, then renamed."""
    with replacing(path, durable=False) as temporary:
        image.save(temporary, **options)
