"""Rays cast at triangles in numpy alone: slow, but it runs wherever the rest does.

Rays that lie near each other are tested together, in bundles; triangles that do so share a box, and
boxes a larger box. A bundle is followed down to the boxes of single leaves that it may reach, and
its rays are tested against the triangles of those, the nearest first, until nothing nearer than
what each of its rays has met can come.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Indices = NDArray[np.int32]
Positions = NDArray[np.intp]

FAR = np.float32(1e30)  # the distance where there is only sky
LEAF = 8  # triangles that share a smallest box
BRANCHES = 4  # boxes that share a larger one
BUNDLE = 64  # rays that are tested together
AT_ONCE = 512  # pairs of a bundle and a leaf that are tested in one go: their numbers stay in cache
TOGETHER_AT = 20.0  # metres along rays at which those that are near each other go together
SPARE = 1e-6  # metres around boxes, for what is rounded


def _groups(points: Float64, most: int) -> Positions:
    """Points [N, 3] in groups of at most so many that are near each other, all of one size.

    Returns:
        Their positions [G, size], G a power of two; groups that follow each other are near too, and
        the last point stands for those that are missing in the last ones.

    """
    halvings = max(0, math.ceil(math.log2(len(points) / most)))
    size = math.ceil(len(points) / (1 << halvings))
    order = np.minimum(np.arange(size << halvings), len(points) - 1)[None]
    columns = np.ascontiguousarray(points.T)
    for _ in range(halvings):
        place = columns.take(order, axis=1)  # each axis contiguous, unlike by columns[:, order]
        widest = np.ptp(place, axis=2).argmax(axis=0)
        value = place[widest, np.arange(len(order))]
        half = value.shape[1] // 2
        order = np.take_along_axis(order, np.argpartition(value, half, axis=1), axis=1)
        order = order.reshape(-1, half)
    return order


class NumpyTriangles:
    """Triangles ready for casting, and the boxes around them."""

    def __init__(self, vertices: Float32, faces: Indices) -> None:
        """Vertices float32[V, 3], faces int32[F, 3]."""
        corners = vertices.astype(np.float64)[faces]
        low, high = corners.min(axis=1), corners.max(axis=1)
        order = _groups(0.5 * (low + high), LEAF)
        self._face = order.astype(np.int32)
        a, b, c = (corners[order, i] for i in range(3))
        self._corner, self._edges = a, (c - a, a - b)
        self._normal = np.cross(*self._edges)
        low = np.ascontiguousarray(low[order].min(axis=1).T)
        high = np.ascontiguousarray(high[order].max(axis=1).T)
        self._levels = [(0.5 * (low + high), 0.5 * (high - low))]
        while low.shape[1] > BRANCHES * BRANCHES:
            low = low.reshape(3, -1, BRANCHES).min(axis=2)
            high = high.reshape(3, -1, BRANCHES).max(axis=2)
            self._levels.append((0.5 * (low + high), 0.5 * (high - low)))

    def intersect(self, origins: Float32, directions: Float32) -> tuple[Float32, Indices]:
        """As `triangles.Triangles.intersect`."""
        if not len(directions):
            return np.zeros(0, np.float32), np.zeros(0, np.int32)
        rays = _Rays(origins, directions)
        pair_bundle, pair_leaf, enter = self._near(rays)
        order = np.lexsort((enter, pair_bundle))
        pair_leaf, enter = pair_leaf[order], enter[order]
        bundles = np.arange(rays.count)
        following = np.searchsorted(pair_bundle[order], bundles)
        end = np.searchsorted(pair_bundle[order], bundles, side="right")
        distance = np.full((rays.count, rays.size), FAR, np.float64)
        face = np.full((rays.count, rays.size), -1, np.int32)
        bundles = bundles[following < end]
        while len(bundles):
            # Few bundles take many leaves at a time: a round has its cost, however little is in it.
            leaves = max(1, AT_ONCE // len(bundles))
            for first in range(0, len(bundles), AT_ONCE):
                some = bundles[first : first + AT_ONCE]
                turn = np.minimum(following[some, None] + np.arange(leaves), end[some, None] - 1)
                leaf = pair_leaf[turn]
                depth, which = self._meet(rays, some, leaf)
                nearer = depth < distance[some]
                distance[some] = np.where(nearer, depth, distance[some])
                met = np.take_along_axis(self._face[leaf].reshape(len(some), -1), which, axis=1)
                face[some] = np.where(nearer, met, face[some])
            following[bundles] += leaves
            bundles = bundles[following[bundles] < end[bundles]]
            bundles = bundles[enter[following[bundles]] < distance[bundles].max(axis=1)]
        return rays.in_their_order(distance).astype(np.float32), rays.in_their_order(face)

    def blocks(self, origins: Float32, directions: Float32) -> NDArray[np.bool_]:
        """As `triangles.Triangles.blocks`."""
        return self.intersect(origins, directions)[1] >= 0

    def _near(self, rays: _Rays) -> tuple[Positions, Positions, Float64]:
        """Bundles and leaves that they may reach, with how far along the rays at least."""
        top = self._levels[-1][0].shape[1]
        bundle = np.repeat(np.arange(rays.count), top)
        box = np.tile(np.arange(top), rays.count)
        for number, (center, half) in reversed(list(enumerate(self._levels))):
            enter, leave = rays.through(bundle, center.take(box, axis=1), half.take(box, axis=1))
            kept = np.flatnonzero((enter <= leave) & (leave >= 0))
            bundle, box, enter = bundle[kept], box[kept], enter[kept]
            if number:
                bundle = np.repeat(bundle, BRANCHES)
                box = (box[:, None] * BRANCHES + np.arange(BRANCHES)).ravel()
        return bundle, box, enter

    def _meet(self, rays: _Rays, bundle: Positions, leaf: Positions) -> tuple[Float64, Positions]:
        """How far each ray gets before the nearest of the triangles of some leaves, and which.

        The test of Moeller and Trumbore, as Embree does it: edges belong to both triangles.

        Args:
            rays: of which bundles are tested.
            bundle: [n], which.
            leaf: [n, leaves], what each is tested against.

        Returns:
            float64[n, rays.size], infinite for nothing; [n, rays.size], counted through the leaves.

        """
        corner, normal, *edges = (
            shape[leaf].reshape(len(leaf), -1, 3)
            for shape in (self._corner, self._normal, *self._edges)
        )
        corner -= rays.middle[:, bundle].T[:, None]
        planes = np.stack([*(np.cross(edge, corner) for edge in edges), normal])
        direction = rays.direction[bundle]
        u, v, along = direction @ planes.swapaxes(2, 3)
        height = np.einsum("nti,nti->nt", normal, corner)[:, None]
        if rays.offset is not None:
            offset = rays.offset[bundle]
            lever = np.cross(direction, offset)
            u += lever @ edges[0].swapaxes(1, 2)
            v += lever @ edges[1].swapaxes(1, 2)
            height = height - offset @ normal.swapaxes(1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v, depth = u / along, v / along, height / along
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth >= 0)
        depth = np.where(inside, depth, np.inf)
        which = depth.argmin(axis=2)
        return np.take_along_axis(depth, which[..., None], axis=2)[..., 0], which


class _Rays:
    """Rays in bundles, each with a middle one and how far the others stray from it.

    count: of bundles; size: of each, at most `BUNDLE`. direction float64[count, size, 3]; offset
    float64[count, size, 3]: of the origins from `middle` float64[3, count], None where all are one.
    """

    def __init__(self, origins: Float32, directions: Float32) -> None:
        self._number = len(directions)
        self._order = _groups(origins + TOGETHER_AT * directions.astype(np.float64), BUNDLE)
        self.direction = directions[self._order].astype(np.float64)
        origin = origins[self._order].astype(np.float64)
        self.count, self.size = self._order.shape
        self.middle = np.ascontiguousarray(origin[:, self.size // 2].T)
        self.offset: Float64 | None = origin - self.middle.T[:, None]
        aim = self.direction[:, self.size // 2]
        self._stray = np.linalg.norm(self.offset, axis=2).max(axis=1)
        self._turn = np.linalg.norm(self.direction - aim[:, None], axis=2).max(axis=1)
        if not self._stray.any():
            self.offset = None
        self._inverse = np.ascontiguousarray(1 / np.where(np.abs(aim) < 1e-9, 1e-9, aim).T)

    def through(self, bundle: Positions, center: Float64, half: Float64) -> tuple[Float64, Float64]:
        """Where along their rays bundles enter and leave boxes; they do not if enter > leave."""
        toward = center - self.middle.take(bundle, axis=1)
        reach = np.sqrt((toward**2).sum(axis=0)) + np.sqrt((half**2).sum(axis=0))
        stray = self._stray[bundle]
        wide = half + (SPARE + stray + self._turn[bundle] * (reach + stray))
        inverse = self._inverse.take(bundle, axis=1)
        middle, width = toward * inverse, wide * np.abs(inverse)
        return (middle - width).max(axis=0), (middle + width).min(axis=0)

    def in_their_order(self, values: np.ndarray) -> np.ndarray:
        """Values [count, size] in the order in which the rays were given."""
        given = np.empty(self._number, values.dtype)
        given[self._order] = values
        return given
