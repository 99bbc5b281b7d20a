"""From a teacher's masks to the points under them: superpoints, and one word for each point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uov_jax.datasets.projection import Pairs, points_seen
from uov_jax.dumps.file import CameraMasks
from uov_jax.host import engine


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


def mask_ids(pairs: Pairs, cameras: list[CameraMasks]) -> np.ndarray:
    """int32[P]: the mask id under every pair's pixel; 0 is void."""
    ids = np.zeros(len(pairs.point), np.int32)
    for number, masks in enumerate(cameras):
        own = pairs.camera == number
        ids[own] = masks.lookup(pairs.v[own], pairs.u[own])
    return ids


def group_pairs(pairs: Pairs, cameras: list[CameraMasks]) -> Superpoints:
    """Group the pairs by camera and mask; pairs on void take no part."""
    images = [masks.runs.numbers(masks.num_masks) for masks in cameras]
    # Masks that no point hits would only make the loss's similarity matrix larger.
    pair_point, pair_superpoint, present = engine().group_pairs(pairs, images)
    return Superpoints(
        pair_point=pair_point,
        pair_superpoint=pair_superpoint,
        word=np.concatenate([masks.words for masks in cameras])[present],
        embedding=np.concatenate([masks.embeddings for masks in cameras])[present],
    )


class PointSuperpoints(NamedTuple):
    """The superpoint of every point of a sweep.

    groups: the superpoints. number: int32[N], 0..S-1, -1 where no mask was hit. seen: bool[N],
    whether a camera sees the point.
    """

    groups: Superpoints
    number: np.ndarray
    seen: np.ndarray

    def words(self) -> np.ndarray:
        """int32[N]: the word that the teacher gives each point, -1 where no mask has one."""
        return np.append(self.groups.word, np.int32(-1))[self.number]


def point_superpoints(
    pairs: Pairs, cameras: list[CameraMasks], num_points: int
) -> PointSuperpoints:
    """The superpoint that each point belongs to, numbered as `group_pairs` numbers them.

    A later camera overwrites an earlier one; void overwrites nothing (as the reference's script
    that turns superpixels into superpoints does, whose numbers these are too).
    """
    groups = group_pairs(pairs, cameras)
    number = np.full(num_points, -1, np.int32)
    # Pairs come camera by camera, and of several values for one row numpy keeps the last.
    number[groups.pair_point] = groups.pair_superpoint
    return PointSuperpoints(groups, number, points_seen(pairs, num_points))
