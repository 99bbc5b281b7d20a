"""From a cloud to ever fewer centres that know how flat their surroundings are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uov_jax import sparse
from uov_jax.afi import geometry
from uov_jax.afi.parameters import FlatInteraction


class Surroundings(NamedTuple):
    """Where M centres have their neighbours, by direction (D of them).

    share: float32 [M, D], of the neighbours, sum 1 or 0.
    offset: float32 [M, D, 3], metres to their mean; 0 where there are none.
    """

    share: np.ndarray
    offset: np.ndarray

    def axes(self) -> np.ndarray:
        """float32 [M, 3, D]: unit vectors of the directions; the long side last, for speed."""
        return np.ascontiguousarray(geometry.unit(self.offset).swapaxes(1, 2))


class Level(NamedTuple):
    """M points with their features; the cloud itself has no more than these.

    points: float32 [M, 3], metres. features: float32 [M, C], class shares, sum 1 or 0.
    surroundings: of the centres.
    direction_features: float32 [M, D, C], mean of the neighbours' features, sum 1 or 0.
    influence: float32 [M], how much of them reaches the centre, 1 on average.
    """

    points: np.ndarray
    features: np.ndarray
    surroundings: Surroundings | None = None
    direction_features: np.ndarray | None = None
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
    offset, features = fine.points[neighbour] - points[:, None], fine.features[neighbour]
    members, counts = _divide(offset, parameters.directions)
    if fine.surroundings is None:
        share = np.where(counts > parameters.least_count, counts, np.float32(0))
        share /= share.sum(axis=1, keepdims=True) + geometry.TINY
        influence = np.ones(len(points), np.float32)
    else:
        weight = flat_weights(offset, centre, neighbour, fine.surroundings, parameters.line_cosine)
        total = weight.sum(axis=1)
        weight /= total[:, None] + np.float32(1e-7)
        share = (members @ weight[..., None])[..., 0]
        influence = total / (total.mean() + geometry.TINY)
    surroundings = Surroundings(share, members @ offset / (counts + geometry.TINY)[..., None])
    direction_features = geometry.unit_sum(members @ features)
    pooled = influence[:, None] * _mean_features(surroundings, direction_features)
    # Of the maximum just enough that a class nearby is never quite forgotten.
    pooled += np.float32(0.1) * fine.features[centre] + geometry.TINY * features.max(axis=1)
    return Level(points, geometry.unit_sum(pooled), surroundings, direction_features, influence)


def _divide(offset: np.ndarray, directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Each neighbour, offset float32 [M, k, 3], to its nearest direction.

    Returns:
        float32 [M, D, k], 1 at the neighbours of a direction; float32 [M, D], how many they are
        without the centre itself, whose offset of zero falls to direction 0.

    """
    cosine = geometry.unit(offset) @ geometry.sphere_directions(directions).T
    member = cosine.argmax(axis=-1)[:, None] == np.arange(directions)[:, None]
    counts = member.sum(axis=2)
    counts[:, 0] -= 1
    return member.astype(np.float32), counts.astype(np.float32)


def _mean_features(surroundings: Surroundings, direction_features: np.ndarray) -> np.ndarray:
    """float32 [M, C]: near directions count more."""
    near = 1 / (geometry.lengths(surroundings.offset) + geometry.TINY)
    weight = geometry.unit_sum(surroundings.share * near)
    return (weight[:, None] @ direction_features)[:, 0]


def flat_weights(
    offset: np.ndarray,
    centre: np.ndarray,
    neighbour: np.ndarray,
    surroundings: Surroundings,
    line_cosine: float,
) -> np.ndarray:
    """How much centres and their neighbours lie on one flat surface.

    (share of the centre's directions on the line between the two) x (share of the neighbour's) x
    (what both reach along that line, over its length): a wall goes on behind either point, a
    corner's sides do not.

    Args:
        offset: float32 [M, k, 3], metres from centre to neighbour.
        centre: int [M], rows of the centres among S points.
        neighbour: int [M, k], rows of their neighbours.
        surroundings: of the S points.
        line_cosine: |cosine| above which two directions are one line.

    Returns:
        float32 [M, k]; 0 for a neighbour at the centre's own place.

    """
    # Directions without a share still reach as far as their neighbours.
    share, length = surroundings.share, geometry.lengths(surroundings.offset)
    axes, towards = surroundings.axes(), geometry.unit(offset)
    cosine = np.einsum("mxd,mkx->mkd", axes[centre], towards)
    share_of_centre, ahead, behind = _on_line(
        cosine, share[centre][:, None], length[centre][:, None], line_cosine
    )
    cosine = np.einsum("mkxd,mkx->mkd", axes[neighbour], towards)
    share_of_neighbour, beyond, back = _on_line(
        cosine, share[neighbour], length[neighbour], line_cosine
    )
    both = (ahead + behind != 0) & (beyond + back != 0)
    reach = np.where(both, ahead + behind + (beyond + back), np.float32(0))
    whole = geometry.lengths(offset) + behind + beyond + geometry.TINY
    return share_of_centre * share_of_neighbour * (reach / whole)


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
