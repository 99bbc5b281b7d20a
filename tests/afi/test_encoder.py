"""Levels equal the reference's, and weights between flat surroundings their definition."""

from __future__ import annotations

import numpy as np
import pytest

from tests.afi.surroundings import random_surroundings
from uov_jax.afi import FlatInteraction
from uov_jax.afi.encoder import Surroundings, encode, flat_weights

# Float32 sums of up to 20 terms in another order: measured 1e-6.
TOLERANCE = 1e-5


def test_levels_equal_the_reference(street, street_parameters):
    cloud, *levels = encode(street["points"], street["enc_x_0"], street_parameters)
    np.testing.assert_array_equal(cloud.points, street["points"])
    assert len(levels) == 3
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(level.points, street[f"enc_xyz_{i + 1}"])
        np.testing.assert_allclose(level.features, street[f"enc_x_{i + 1}"], atol=TOLERANCE)
        for name, array in (
            ("percentage", level.surroundings.share),
            ("direction", level.surroundings.offset),
            ("features", level.direction_features),
            ("influence", level.influence),
        ):
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, street[f"enc_{name}_{i}"], atol=TOLERANCE)


def test_shares_and_features_sum_to_one(street, street_parameters):
    for level in encode(street["points"], street["enc_x_0"], street_parameters)[1:]:
        np.testing.assert_allclose(level.features.sum(axis=1), 1, atol=1e-5)
        total = level.surroundings.share.sum(axis=1)
        assert np.all((np.abs(total - 1) < 1e-3) | (np.abs(total) < 1e-3))
        assert level.influence.mean() == pytest.approx(1, abs=1e-4)


def test_directions_with_few_neighbours_may_count_as_empty(street):
    parameters = FlatInteraction(points=768, stages=1, neighbours=12, least_count=2)
    _, level = encode(street["points"], street["enc_x_0"], parameters)
    # Of the fixture's counts, out of 11, those above 2.
    counts = np.round(street["enc_percentage_0"] * 11)
    counts[counts <= 2] = 0
    expected = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(level.surroundings.share, expected, atol=TOLERANCE)


def scalar_flat_weight(offset, centre, neighbour, line_cosine) -> float:
    """One centre and one neighbour in float64, by the words of the definition."""
    distance = np.linalg.norm(offset)
    if distance == 0:
        return 0.0
    shares, ways = [], []
    for share, directions in (centre, neighbour):
        total, along, against = 0.0, 0.0, 0.0
        for part, direction in zip(share, directions.astype(np.float64), strict=True):
            length = np.linalg.norm(direction)
            if length == 0:
                continue
            cosine = direction @ offset / (length * distance)
            assert abs(abs(cosine) - line_cosine) > 1e-6  # clear of rounding
            if abs(cosine) > line_cosine:
                total += part
                along = max(along, length * (cosine > 0))
                against = max(against, length * (cosine < 0))
        shares.append(total)
        ways.append((along, against))
    (ahead, behind), (beyond, back) = ways
    if ahead + behind == 0 or beyond + back == 0:
        return 0.0
    return shares[0] * shares[1] * (ahead + behind + beyond + back) / (distance + behind + beyond)


def test_flat_weights_are_their_definition():
    rng = np.random.default_rng(1)
    offset = rng.normal(size=(30, 5, 3)).astype(np.float32)
    offset[:, 0] = 0
    surroundings = random_surroundings(rng, 50, 8)
    centre, neighbour = rng.permutation(50)[:30], rng.integers(0, 50, (30, 5))
    weights = flat_weights(offset, centre, neighbour, surroundings, 0.6)
    for m in range(30):
        for k in range(5):
            expected = scalar_flat_weight(
                offset[m, k].astype(np.float64),
                tuple(array[centre[m]] for array in surroundings),
                tuple(array[neighbour[m, k]] for array in surroundings),
                0.6,
            )
            assert weights[m, k] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert np.mean(weights[:, 1:] > 0) > 0.5
    assert not weights[:, 0].any()


def test_a_wall_interacts_and_a_corner_does_not():
    # Point 0 and point 1 have their surroundings along x, 0.3 m each way, point 2 along y.
    x, y = np.eye(3, dtype=np.float32)[:2] * np.float32(0.3)
    offset = np.array([[x, -x], [x, -x], [y, -y]])
    surroundings = Surroundings(np.full((3, 2), 0.5, np.float32), offset)
    # Of point 0, neighbours 1 m along x on the same wall, there but on another, and beside it.
    to_neighbour = np.array([[[1, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    rows = np.array([[1, 2, 1]])
    weights = flat_weights(to_neighbour, np.array([0]), rows, surroundings, 0.995)
    same_wall, corner, beside = weights[0]
    # Both reach 0.3 m each way: 1.2 m in all, of 1 m between them and 0.3 m beyond each.
    assert same_wall == pytest.approx(1.2 / 1.6, rel=1e-6)
    assert corner == beside == 0


def test_a_cloud_smaller_than_the_levels_keeps_all_its_points():
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    features = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    levels = encode(points, features, FlatInteraction())
    assert [len(level.points) for level in levels] == [40] * 5
    assert all(np.isfinite(level.features).all() for level in levels)
