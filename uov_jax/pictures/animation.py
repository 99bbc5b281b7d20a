"""A scene as a moving picture: cameras ahead with the labels, and the sweep from above."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.errors import InputError
from uov_jax.evaluation.confusion import class_names
from uov_jax.pictures import canvas
from uov_jax.pictures.cameras import AHEAD, ahead, overlay

ENDINGS = (".webp", ".gif", ".png")
PREFERRED = ("prediction", "truth", "teacher")  # which labelling is drawn over the images
_WIDTH, _GAP = 480, 4


class Frame(NamedTuple):
    """One moment: a sweep float32[N, 3 or more], classes [N] by name, its cameras if there are.

    Or a room, which has `colors` uint8[N, 3].
    """

    points: np.ndarray
    panels: Mapping[str, np.ndarray]
    keyframe: Keyframe | None = None
    colors: np.ndarray | None = None


def animate(
    frames: Iterable[Frame],
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    seconds: float = 0.5,
    radius: float = 42.0,
) -> int:
    """Write an animation, one picture a frame.

    Every frame has up to three cameras ahead with the prediction (or else the truth, or the
    teacher) over them, and below the sweep from above, once per labelling and once for the errors.

    Args:
        frames: with the same panels each.
        colors: uint8[C, 3], RGB of every class.
        path: .webp, .gif or .png (an animated PNG); written to a temporary name and renamed.
        names: of all C classes, for the legend; None numbers them.
        title: heading; None takes the file's stem.
        seconds: that a frame is shown.
        radius: half the side of the square from above, in metres.

    Returns:
        The number of frames.

    Raises:
        InputError: no frame, another ending, or panels that do not fit their points.

    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: an animation is one of {', '.join(ENDINGS)}")
    names = class_names(len(colors), names)
    title = path.stem if title is None else title
    pictures, present = [], set()
    for number, frame in enumerate(frames, start=1):
        present |= set(canvas.present_classes(frame.panels))
        pictures.append(_frame_picture(frame, colors, f"{title}, {number}", radius))
    if not pictures:
        raise InputError(f"{path}: an animation needs at least one frame")
    strip = canvas.legend(names, colors, sorted(present), pictures[0].width)
    whole = [canvas.stack([picture, strip], _GAP) for picture in pictures]
    canvas.save(
        whole[0],
        path,
        save_all=True,
        append_images=whole[1:],
        duration=round(1000 * seconds),
        quality=90,  # of .webp alone
        loop=0,
    )
    return len(whole)


def _frame_picture(frame: Frame, colors: np.ndarray, title: str, radius: float) -> Image.Image:
    shown = canvas.panel_colors(frame.points, frame.panels, colors)
    parts = []
    if frame.keyframe is not None and frame.keyframe.cameras:
        name = next((name for name in PREFERRED if name in shown), next(iter(shown)))
        shades, drawn = shown[name]
        images = [
            Image.fromarray(
                overlay(frame.points[drawn], shades[drawn], frame.keyframe, view, _WIDTH)
            )
            for view in ahead(frame.keyframe)
        ]
        canvas.caption(ImageDraw.Draw(images[0]), (12, 10), name)
        parts.append(canvas.beside(images, _GAP))
    width = (_WIDTH + _GAP) * (len(AHEAD) if parts else len(shown)) - _GAP
    side = (width + _GAP) // len(shown) - _GAP
    above = []
    for name, (shades, drawn) in shown.items():
        image = Image.fromarray(canvas.bird_eye_image(frame.points, shades, drawn, side, radius))
        canvas.caption(ImageDraw.Draw(image), (12, 10), name)
        above.append(image)
    parts.append(canvas.beside(above, _GAP))
    return canvas.stack([canvas.heading(title, width), *parts], _GAP)
