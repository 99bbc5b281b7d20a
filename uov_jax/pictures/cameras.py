"""Labelled points over the camera images of a keyframe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from uov_jax.datasets.image_file import read_image
from uov_jax.datasets.keyframe import CameraView, Keyframe
from uov_jax.datasets.projection import project
from uov_jax.errors import InputError
from uov_jax.evaluation.confusion import class_names
from uov_jax.pictures import canvas

# As one turns to the right, starting at the left of what lies ahead.
AROUND = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
)
AHEAD = AROUND[:3]
COLUMNS = len(AROUND)  # cameras beside each other at most
# Of the image's brightness and colours, so that those of the points stand out.
_DIMMED, _COLORED = 0.55, 0.35
_GAP = 4


def camera_picture(
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    keyframe: Keyframe,
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    channels: Sequence[str] | None = None,
    width: int = 480,
) -> None:
    """Draw every labelling, and the errors, over the images: a row each, a column per camera.

    Of more than six cameras each labelling takes as many rows as they need.

    Args:
        points: float32[N, 3 or more], metres in the LiDAR frame.
        panels: integers [N] of classes by name, as for `pictures.bird_eye`. Points without a class
            are not drawn.
        keyframe: gives images and poses.
        colors: uint8[C, 3], RGB of every class.
        path: .jpg or .png; written to a temporary name and renamed.
        names: of all C classes, for the legend; None numbers them.
        title: heading; None takes the file's stem.
        channels: cameras, from left to right; None for all, as one turns to the right.
        width: of each image, in pixels.

    Raises:
        InputError: a panel is not one class below C per point, no panel, or no such camera.
        MissingFileError: an image is missing.

    """
    path = Path(path)
    names = class_names(len(colors), names)
    shown = canvas.panel_colors(points, panels, colors)
    views = around(keyframe) if channels is None else [camera(keyframe, c) for c in channels]
    rows: list[Image.Image] = []
    for name, (shades, drawn) in shown.items():
        images = [
            Image.fromarray(overlay(points[drawn], shades[drawn], keyframe, view, width))
            for view in views
        ]
        if not rows:
            for image, view in zip(images, views, strict=True):
                words = view.channel.removeprefix("CAM_").replace("_", " ").lower()
                canvas.caption(ImageDraw.Draw(image), (12, image.height - 26), words)
        canvas.caption(ImageDraw.Draw(images[0]), (12, 10), name)
        for first in range(0, len(images), COLUMNS):
            rows.append(canvas.beside(images[first : first + COLUMNS], _GAP))
    strip = canvas.legend(names, colors, canvas.present_classes(panels), rows[0].width)
    head = canvas.heading(path.stem if title is None else title, rows[0].width)
    options = {"quality": 90, "subsampling": 0} if path.suffix == ".jpg" else {}
    canvas.save(canvas.stack([head, *rows, strip], _GAP), path, **options)


def around(keyframe: Keyframe) -> list[CameraView]:
    """All views: nuScenes' as one turns to the right, then others in the order of the rig."""
    order = {channel: number for number, channel in enumerate(AROUND)}
    return sorted(keyframe.cameras, key=lambda view: order.get(view.channel, len(order)))


def ahead(keyframe: Keyframe) -> list[CameraView]:
    """The views of nuScenes' three cameras ahead; of a rig without those its first three."""
    views = around(keyframe)
    return [view for view in views if view.channel in AHEAD] or views[: len(AHEAD)]


def camera(keyframe: Keyframe, channel: str) -> CameraView:
    """The view of a camera; InputError if the keyframe has none of that name."""
    found = {view.channel: view for view in keyframe.cameras}
    if channel not in found:
        raise InputError(f"no camera {channel!r}, the keyframe has {', '.join(found)}")
    return found[channel]


def overlay(
    points: np.ndarray, shades: np.ndarray, keyframe: Keyframe, view: CameraView, width: int
) -> np.ndarray:
    """uint8[H, width, 3]: a camera's image, faint, with points in the colours uint8[N, 3].

    Near points are painted last and largest. The image's proportions are kept.

    Raises:
        MissingFileError: there is no such image.
        InputError: it cannot be decoded.

    """
    scale = width / view.width
    size = (width, round(view.height * scale))
    image = np.asarray(Image.fromarray(read_image(view.path)).resize(size), np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = np.round(_DIMMED * (grey + _COLORED * (image - grey))).astype(np.uint8)
    projection = project(points, keyframe, view)
    order = np.flatnonzero(projection.visible)
    order = order[np.argsort(-projection.depth[order], kind="stable")]
    u, v = (projection.uv[order] * scale).T
    radius = np.clip(14 / projection.depth[order], 0.8, 2.4) * width / 480
    canvas.paint(image, u, v, shades[order], radius)
    return image
