"""From the coarsest centres back to every point of the cloud."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from uov_jax.afi import geometry
from uov_jax.afi.encoder import Level, Surroundings
from uov_jax.afi.parameters import FlatInteraction

# Pairs of a point and a centre handled at once: what they need stays in the second-level cache.
_PAIRS = 8192


def decode(levels: list[Level], parameters: FlatInteraction, workers: int = 1) -> np.ndarray:
    """float32 [N, C]: class shares of the points of the first level, from all levels.

    Args:
        levels: of `encode`.
        parameters: the same.
        workers: threads for the neighbours.

    """
    features = levels[-1].features
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        features = _spread(fine, coarse, features, parameters, workers)
    return features


def _spread(
    fine: Level, coarse: Level, features: np.ndarray, parameters: FlatInteraction, workers: int
) -> np.ndarray:
    """Features of the coarse level [S, C] given to the points of the fine one, float32 [N, C]."""
    assert coarse.surroundings is not None
    count = min(parameters.decoder_neighbours, len(coarse.points))
    neighbour = geometry.nearest(coarse.points, fine.points, count, workers)
    offset = coarse.points[neighbour] - fine.points[:, None]
    weight = line_weights(offset, neighbour, coarse.surroundings, parameters.line_cosine)
    influence = weight.sum(axis=1) + geometry.TINY
    # Where no centre points here, all count alike, but next to nothing.
    share = weight / influence[:, None] + np.float32(1e-6)
    share /= share.sum(axis=1, keepdims=True) + geometry.TINY
    rows = np.arange(0, share.size + 1, count)
    shape = (len(fine.points), len(coarse.points))
    mean = csr_array((share.ravel(), neighbour.ravel(), rows), shape=shape) @ features
    # The reference means the larger share for all sampled levels, but gives it only where sizes are
    # exact multiples: of the published ones, 1,365 over 455.
    exact = len(fine.points) == parameters.factor * len(coarse.points)
    own = np.float32(0.3 if exact else 0.01) * influence.mean() + geometry.TINY
    return geometry.unit_sum(mean * influence[:, None] + own * fine.features)


def line_weights(
    offset: np.ndarray, neighbour: np.ndarray, surroundings: Surroundings, line_cosine: float
) -> np.ndarray:
    """Share of a centre's directions that point at a point, or straight away from it.

    Args:
        offset: float32 [N, k, 3], metres from points to centres.
        neighbour: int [N, k], rows of those centres.
        surroundings: of S centres.
        line_cosine: |cosine| above which two directions are one line.

    Returns:
        float32 [N, k].

    """
    surroundings = _with_share(surroundings)
    share, axes = surroundings.share, surroundings.axes()
    towards, centre = geometry.unit(offset).reshape(-1, 3), neighbour.ravel()
    weight = np.empty(len(centre), np.float32)
    for start in range(0, len(centre), _PAIRS):
        pairs = slice(start, start + _PAIRS)
        rows = centre[pairs]
        cosine = np.einsum("pxd,px->pd", axes[rows], towards[pairs])
        on_line = (np.abs(cosine) > np.float32(line_cosine)).astype(np.float32)
        weight[pairs] = np.einsum("pd,pd->p", on_line, share[rows])
    return weight.reshape(neighbour.shape)


def _with_share(surroundings: Surroundings) -> Surroundings:
    """Of each centre only as many directions as any has with a share, those with one first.

    On a sweep they are half of all.
    """
    empty = surroundings.share == 0
    most = max(1, int((~empty).sum(axis=1).max()))
    order = np.argsort(empty, axis=1, kind="stable")[:, :most]
    return Surroundings(
        np.take_along_axis(surroundings.share, order, axis=1),
        np.take_along_axis(surroundings.offset, order[..., None], axis=1),
    )
