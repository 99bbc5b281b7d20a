"""Directions and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.afi import geometry


def test_sphere_directions_are_even():
    directions = geometry.sphere_directions(20).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(directions[[0, -1]], [[0, 1, 0], [0, -1, 0]], atol=1e-6)
    # No direction is farther from its nearest one than 20 equal caps allow, nor half as near.
    cosine = directions @ directions.T - 2 * np.eye(20)
    nearest = np.degrees(np.arccos(cosine.max(axis=1)))
    assert nearest.min() > 26
    assert nearest.max() < 52


def test_unit_vectors_and_sums_leave_zeros():
    vectors = np.array([[3, 0, -4], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(geometry.unit(vectors), [[0.6, 0, -0.8], [0, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(geometry.unit_sum(np.abs(vectors))[1], 0)
    assert geometry.unit(vectors).dtype == geometry.unit_sum(vectors).dtype == np.float32


@pytest.mark.parametrize("count", [1, 7])
def test_nearest_is_exact_far_from_the_origin(count):
    # At 80 m an expanded float32 square is off by more than these neighbours differ.
    rng = np.random.default_rng(0)
    points = (rng.uniform(-0.1, 0.1, (500, 3)) + 80).astype(np.float32)
    queries = points[:50]
    square = np.sum((queries[:, None].astype(np.float64) - points) ** 2, axis=2)
    expected = np.argsort(square, axis=1, kind="stable")[:, :count]
    for workers in (1, 2, -1):
        rows = geometry.nearest(points, queries, count, workers)
        np.testing.assert_array_equal(rows, expected)


def test_all_workers_are_as_many_as_processors_are_available(monkeypatch):
    asked = []

    class Tree:
        def __init__(self, points, **options):
            del points, options

        def query(self, queries, k, workers):
            asked.append(workers)
            return None, np.zeros((len(queries), k), np.int64)

    monkeypatch.setattr(geometry, "cKDTree", Tree)
    monkeypatch.setattr(geometry.processors, "available", lambda: 3)
    points = np.zeros((4, 3), np.float32)
    for workers in (-1, 1, 5):
        geometry.nearest(points, points, 2, workers)
    assert asked == [3, 1, 5]
