"""From a teacher's masks to the points under them: superpoints, and one word for each point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uov_jax.data.dump import CameraMasks, DumpError, TeacherDump
from uov_jax.data.nuscenes import Keyframe
from uov_jax.data.projection import Pairs


class Superpoints(NamedTuple):
    """The S superpoints of one keyframe: the (camera, mask) groups of paired points.

    pair_point: int32[P], point of every pair that a mask was hit by.
    pair_superpoint: int32[P], its superpoint, 0..S-1; every superpoint has a pair.
    word: int32[S], -1 for none. embedding: float16[S, D], of any norm.
    """

    pair_point: np.ndarray
    pair_superpoint: np.ndarray
    word: np.ndarray
    embedding: np.ndarray


def matching_cameras(keyframe: Keyframe, dump: TeacherDump) -> list[CameraMasks]:
    """The dump's masks in the order of the keyframe's cameras.

    Raises:
        DumpError: a camera is missing, or its masks are of another image or of another size.

    """
    matched = []
    for view in keyframe.cameras:
        masks = dump.camera(view.channel)
        if masks.token != view.token:
            raise DumpError(
                f"dump of keyframe {keyframe.token}: the masks of {view.channel} are of the image "
                f"{masks.token}, expected {view.token}"
            )
        if masks.image_size != (view.height, view.width):
            raise DumpError(
                f"dump of keyframe {keyframe.token}: the masks of {view.channel} are "
                f"{masks.image_size} pixels (height, width), the image is "
                f"{(view.height, view.width)}"
            )
        matched.append(masks)
    return matched


def mask_ids(pairs: Pairs, cameras: list[CameraMasks]) -> np.ndarray:
    """int32[P]: the mask id under every pair's pixel; 0 is void."""
    ids = np.zeros(len(pairs.point), np.int32)
    for number, masks in enumerate(cameras):
        own = pairs.camera == number
        ids[own] = masks.lookup(pairs.v[own], pairs.u[own])
    return ids


def superpoints(pairs: Pairs, cameras: list[CameraMasks]) -> Superpoints:
    """Group the pairs by camera and mask; pairs on void take no part."""
    ids = mask_ids(pairs, cameras)
    hit = ids > 0
    first_mask = np.cumsum([0] + [masks.num_masks for masks in cameras])
    number = first_mask[pairs.camera[hit]] + ids[hit] - 1
    # Masks that no point hits would only make the loss's similarity matrix larger.
    present, pair_superpoint = np.unique(number, return_inverse=True)
    return Superpoints(
        pair_point=pairs.point[hit],
        pair_superpoint=pair_superpoint.astype(np.int32),
        word=np.concatenate([masks.words for masks in cameras])[present],
        embedding=np.concatenate([masks.embeddings for masks in cameras])[present],
    )


class PointSuperpoints(NamedTuple):
    """The superpoint of every point of a sweep.

    number: int32[N], 0..S-1, -1 where no mask was hit. word: int32[S], of every superpoint, -1 for
    none. seen: bool[N], whether a camera sees the point.
    """

    number: np.ndarray
    word: np.ndarray
    seen: np.ndarray


def point_superpoints(
    pairs: Pairs, cameras: list[CameraMasks], num_points: int
) -> PointSuperpoints:
    """The superpoint that each point belongs to, numbered as `superpoints` numbers them.

    A later camera overwrites an earlier one; void overwrites nothing (as the reference's script
    that turns superpixels into superpoints does, whose numbers these are too).
    """
    groups = superpoints(pairs, cameras)
    number = np.full(num_points, -1, np.int32)
    # Pairs come camera by camera, and of several values for one row numpy keeps the last.
    number[groups.pair_point] = groups.pair_superpoint
    seen = np.zeros(num_points, bool)
    seen[pairs.point] = True
    return PointSuperpoints(number, groups.word, seen)


def point_words(
    pairs: Pairs, cameras: list[CameraMasks], num_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """The word that the teacher gives each point, and which points a camera sees.

    Returns:
        int32[num_points], -1 where no mask with a word was hit; bool[num_points].

    """
    points = point_superpoints(pairs, cameras, num_points)
    word = np.append(points.word, np.int32(-1))[points.number]
    return word, points.seen
