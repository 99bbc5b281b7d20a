"""Pictures of a teacher's masks over the images of a keyframe."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from uov_jax.datasets.image_file import read_image
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.pictures import canvas
from uov_jax.pictures.lettering import drawable, font
from uov_jax.vocabulary import Vocabulary

# As one stands in the car and looks round: left, ahead, right; below, what is behind.
NUSCENES_LAYOUT = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
COLUMNS = 3
PANEL = (800, 450)  # largest width and height of one image
GAP = 6
OPACITY = 0.5
SMALLEST_NAMED = 0.004  # share of the image
MOST_NAMES = 14
GOLDEN = 0.61803  # turns of hue from one mask to the next: neighbours differ


def draw_masks(keyframe: Keyframe, dump: TeacherDump, vocabulary: Vocabulary, path: Path) -> None:
    """Draw the images of all cameras with their masks, borders and words into one JPEG.

    A mask has its word's class colour; one without a word or of an ignored class has a hue of its
    own, paler. Void is left as it is. Written to a temporary name and renamed.

    Raises:
        InputError: the dump is of other images, or an image cannot be read.

    """
    views = {view.channel: view for view in keyframe.cameras}
    masks = {camera.channel: camera for camera in matching_cameras(keyframe, dump)}
    rows = [
        canvas.beside(
            [_panel(read_image(views[c].path), masks[c], vocabulary) for c in channels], GAP
        )
        for channels in layout(list(views))
    ]
    canvas.save(canvas.stack(rows, GAP), path, quality=88)


def layout(channels: Sequence[str]) -> list[Sequence[str]]:
    """Rows of cameras: nuScenes' as one looks round, those of other rigs in their order."""
    if set(channels) == {channel for row in NUSCENES_LAYOUT for channel in row}:
        return list(NUSCENES_LAYOUT)
    return [channels[first : first + COLUMNS] for first in range(0, len(channels), COLUMNS)]


def _panel(image: np.ndarray, masks: CameraMasks, vocabulary: Vocabulary) -> Image.Image:
    height, width = image.shape[:2]
    scale = min(PANEL[0] / width, PANEL[1] / height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    ids = np.asarray(Image.fromarray(masks.masks).resize(size, Image.Resampling.NEAREST))
    colors = _colors(masks, vocabulary)
    covered = (ids > 0)[..., None]
    mixed = np.where(covered, (1 - OPACITY) * small + OPACITY * colors[ids], small)
    mixed[_borders(ids)] = 255
    panel = Image.fromarray(mixed.round().astype(np.uint8))
    drawing = ImageDraw.Draw(panel)
    _write(drawing, (8, 6), masks.channel, 20)
    for place, word in _names(ids, masks, vocabulary):
        _write(drawing, place, word, 16, anchor="mm", width=panel.width)
    return panel


def _colors(masks: CameraMasks, vocabulary: Vocabulary) -> np.ndarray:
    """float64[M + 1, 3]: RGB of every mask id."""
    own = [colorsys.hsv_to_rgb(GOLDEN * i % 1, 0.45, 0.95) for i in range(masks.num_masks + 1)]
    colors = 255 * np.array(own)
    named = np.flatnonzero(masks.words >= 0)
    classes = vocabulary.word_eval_class[masks.words[named]]
    colors[named[classes > 0] + 1] = vocabulary.colors[classes[classes > 0]]
    return colors


def _borders(ids: np.ndarray) -> np.ndarray:
    borders = np.zeros(ids.shape, bool)
    borders[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    borders[1:] |= ids[1:] != ids[:-1]
    return borders


def _names(
    ids: np.ndarray, masks: CameraMasks, vocabulary: Vocabulary
) -> list[tuple[tuple[int, int], str]]:
    """Words of the largest masks, each where its mask is widest."""
    areas = np.bincount(ids.ravel(), minlength=masks.num_masks + 1)
    areas[0] = 0
    names = []
    for mask in np.argsort(-areas, kind="stable")[:MOST_NAMES]:
        if areas[mask] < SMALLEST_NAMED * ids.size or masks.words[mask - 1] < 0:
            continue
        # A frame of zeros: the image's edge is a border too.
        depth = distance_transform_edt(np.pad(ids == mask, 1))[1:-1, 1:-1]
        v, u = np.unravel_index(int(depth.argmax()), depth.shape)
        names.append(((int(u), int(v)), vocabulary.words[masks.words[mask - 1]].strip()))
    return names


def _write(
    drawing: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    anchor: str = "la",
    width: int = PANEL[0],
) -> None:
    text, letters = drawable(text), font(size)
    half = drawing.textlength(text, letters) / 2 if anchor == "mm" else 0
    # Words stay inside the image.
    u = min(max(place[0], half + 4), width - half - 4) if half else place[0]
    drawing.text(
        (u, place[1]), text, "white", letters, anchor=anchor, stroke_width=2, stroke_fill="black"
    )
