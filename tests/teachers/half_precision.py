"""How much of what a teacher says of an image half precision changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.conftest import real_nuscenes_root
from uov_jax.dumps.write import read_image
from uov_jax.teachers.teacher import ImageMasks, Teacher

CAMERAS = (
    *("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"),
    *("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
)
BOTH_WAYS = ("CAM_FRONT", "CAM_BACK")  # for tests of minutes an image


class Agreement(NamedTuple):
    """What two segmentations of an image have in common.

    A mask is matched if one of the other image covers it by an intersection over union above a
    half; then it is the only one. All are 1 where the segmentations are equal.

    words: share of the pixels inside a mask, in either, that have the same word in both.
    masks: share of those pixels that lie in a mask and in its match.
    matched: share of the first one's masks, each by its area.
    matched_count: share of the first one's masks, each counted once.
    cosine: of the embeddings of matched masks, the mean by area.
    """

    words: float
    masks: float
    matched: float
    matched_count: float
    cosine: float


def agreement(first: ImageMasks, second: ImageMasks) -> Agreement:
    """Compare segmentations of one image; one without masks agrees with its like alone."""
    pairs = np.zeros((len(first.words) + 1, len(second.words) + 1), np.int64)
    np.add.at(pairs, (first.masks.ravel(), second.masks.ravel()), 1)
    inside = pairs.sum() - pairs[0, 0]
    if not inside:
        return Agreement(1.0, 1.0, 1.0, 1.0, 1.0)
    same_word = np.append(-1, first.words)[:, None] == np.append(-1, second.words)
    same_word[0, 0] = False  # inside neither
    common = pairs[1:, 1:]
    areas = pairs.sum(axis=1)[1:]
    union = areas[:, None] + pairs.sum(axis=0)[1:] - common
    rows, columns = np.nonzero(2 * common > union)
    unit = [
        s.embeddings / np.linalg.norm(s.embeddings, axis=1, keepdims=True) for s in (first, second)
    ]
    cosines = (unit[0][rows] * unit[1][columns]).sum(axis=1)
    matched = areas[rows].sum()
    return Agreement(
        words=float(pairs[same_word].sum() / inside),
        masks=float(common[rows, columns].sum() / inside),
        matched=float(matched / max(areas.sum(), 1)),
        matched_count=float(len(rows) / max(len(areas), 1)),
        cosine=float(areas[rows] @ cosines / matched) if matched else 0.0,
    )


def camera_image(camera: str) -> np.ndarray:
    """uint8[900, 1600, 3]: a camera's image of the real keyframe; skips where there is none."""
    (path,) = (real_nuscenes_root() / "samples" / camera).glob("*.jpg")
    return read_image(path)


def noisy(image: np.ndarray) -> np.ndarray:
    """The image with every value one grey level up or down, or as it was, at random."""
    step = np.random.default_rng(0).integers(-1, 2, image.shape)
    return np.clip(image + step, 0, 255).astype(np.uint8)


def segmented(teacher: Teacher, image: np.ndarray) -> ImageMasks:
    """What a teacher says of one image."""
    (found,) = teacher.segment([image])
    return found


def assert_less_than_a_grey_level(exact: Teacher, half: Teacher, camera: str) -> None:
    """Half precision changes no more of a camera's masks and words than noise in its image does.

    That is the measure since it follows the image and the weights: where two words are nearly
    equally good, both change many.
    """
    image = camera_image(camera)
    expected = segmented(exact, image)
    found = agreement(expected, segmented(half, image))
    noise = agreement(expected, segmented(exact, noisy(image)))
    print(f"\n{exact.name}, {camera}: half precision {found}\n  one grey level of noise {noise}")
    assert found != (1, 1, 1, 1, 1)  # it was on
    assert found.words >= noise.words
    assert found.masks >= noise.masks
