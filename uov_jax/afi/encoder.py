"""From a cloud to ever fewer centres that know how flat their surroundings are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uov_jax import sparse
from uov_jax.afi import geometry
from uov_jax.afi.parameters import FlatInteraction


class Surroundings(NamedTuple):
    """What M centres have around them, by direction (D of them).

    share: float32 [M, D], of the centre's neighbours, sum 1 or 0.
    offset: float32 [M, D, 3], metres to their mean.
    labels: float32 [M, D, C], mean of their features, sum 1 or 0.
    """

    share: np.ndarray
    offset: np.ndarray
    labels: np.ndarray

    def at(self, rows: np.ndarray) -> Surroundings:
        """Those of some centres, rows int [...]."""
        return Surroundings(*(array[rows] for array in self))


class Level(NamedTuple):
    """M points with their features.

    points: float32 [M, 3], metres. features: float32 [M, C], class shares, sum 1 or 0.
    surroundings: of the centres; None for the cloud itself.
    influence: float32 [M], how much of them reaches a centre, 1 on average.
    """

    points: np.ndarray
    features: np.ndarray
    surroundings: Surroundings | None = None
    influence: np.ndarray | None = None


def encode(
    points: np.ndarray, features: np.ndarray, parameters: FlatInteraction, workers: int = 1
) -> list[Level]:
    """The cloud and its sampled levels, finest first.

    A level that would have more centres than there are points takes all points as centres.

    Args:
        points: float32 [N, 3], metres, N at least 1.
        features: float32 [N, C], one-hot labels; zero rows for points without one.
        parameters: of the method.
        workers: threads for the neighbours.

    """
    levels = [Level(points, features)]
    for size in parameters.level_sizes:
        levels.append(_coarser(levels[-1], size, parameters, workers))
    return levels


def _coarser(fine: Level, size: int, parameters: FlatInteraction, workers: int) -> Level:
    centre = sparse.farthest_points(fine.points, min(size, len(fine.points)))
    points = fine.points[centre]
    count = min(parameters.neighbours, len(fine.points))
    neighbour = geometry.nearest(fine.points, points, count, workers)
    offset = fine.points[neighbour] - points[:, None]
    features = fine.features[neighbour]
    # A centre's own offset is zero, and falls to direction 0.
    cosine = geometry.unit(offset) @ geometry.sphere_directions(parameters.directions).T
    member = cosine.argmax(axis=-1)[..., None] == np.arange(parameters.directions)
    counts = member.sum(axis=1)
    counts[:, 0] -= 1
    members = member.astype(np.float32).swapaxes(1, 2)
    mean_offset = members @ offset / (counts.astype(np.float32) + geometry.TINY)[..., None]
    labels = geometry.unit_sum(members @ features)
    if fine.surroundings is None:
        share = _share_of_counts(np.where(counts > parameters.least_count, counts, 0))
        influence = np.ones(len(points), np.float32)
    else:
        weight = flat_weights(
            offset,
            fine.surroundings.at(centre),
            fine.surroundings.at(neighbour),
            parameters.line_cosine,
        )
        total = weight.sum(axis=1)
        weight /= total[:, None] + np.float32(1e-7)
        share = (members @ weight[..., None])[..., 0]
        influence = total / (total.mean() + geometry.TINY)
    surroundings = Surroundings(share, mean_offset, labels)
    pooled = influence[:, None] * _mean_label(surroundings)
    # Of the maximum just enough that a class nearby is never quite forgotten.
    pooled += np.float32(0.1) * fine.features[centre] + geometry.TINY * features.max(axis=1)
    return Level(points, geometry.unit_sum(pooled), surroundings, influence)


def _share_of_counts(counts: np.ndarray) -> np.ndarray:
    counts = counts.astype(np.float32)
    return counts / (counts.sum(axis=1, keepdims=True) + geometry.TINY)


def _mean_label(surroundings: Surroundings) -> np.ndarray:
    """float32 [M, C]: near directions count more."""
    near = 1 / (geometry.lengths(surroundings.offset) + geometry.TINY)
    weight = geometry.unit_sum(surroundings.share * near)
    return (weight[:, None] @ surroundings.labels)[:, 0]


def flat_weights(
    offset: np.ndarray, centre: Surroundings, neighbour: Surroundings, line_cosine: float
) -> np.ndarray:
    """How much centres and their neighbours lie on one flat surface.

    (share of the centre's directions on the line between the two) x (share of the neighbour's) x
    (what both reach along that line, over its length): a wall goes on behind either point, a
    corner's sides do not.

    Args:
        offset: float32 [M, k, 3], metres from centre to neighbour.
        centre: surroundings of the M centres.
        neighbour: those of the M x k neighbours.
        line_cosine: |cosine| above which two directions are one line.

    Returns:
        float32 [M, k]; 0 for a neighbour at the centre's own place.

    """
    towards = geometry.unit(offset)
    on_centre = np.einsum("mkx,mdx->mkd", towards, geometry.unit(centre.offset))
    on_neighbour = np.einsum("mkx,mkdx->mkd", towards, geometry.unit(neighbour.offset))
    share_of_centre, ahead, behind = _on_line(
        on_centre, centre.share[:, None], geometry.lengths(centre.offset)[:, None], line_cosine
    )
    share_of_neighbour, beyond, back = _on_line(
        on_neighbour, neighbour.share, geometry.lengths(neighbour.offset), line_cosine
    )
    reach_of_centre, reach_of_neighbour = ahead + behind, beyond + back
    reach = np.where(
        (reach_of_centre != 0) & (reach_of_neighbour != 0), reach_of_centre + reach_of_neighbour, 0
    )
    length = geometry.lengths(offset) + behind + beyond + geometry.TINY
    return share_of_centre * share_of_neighbour * (reach / length)


def _on_line(
    cosine: np.ndarray, share: np.ndarray, length: np.ndarray, line_cosine: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of directions [..., D]: the share on the line, and the longest one each way."""
    same, opposite = cosine > np.float32(line_cosine), -cosine > np.float32(line_cosine)
    zero = np.float32(0)
    return (
        np.where(same | opposite, share, zero).sum(axis=-1),
        np.where(same, length, zero).max(axis=-1),
        np.where(opposite, length, zero).max(axis=-1),
    )
