"""The plane around the vehicle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax.afi import NUSCENES_GROUND
from uov_jax.afi.ground import ground_points


def ring_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points between 2 and 5 m on a road that falls by 2 %, within 3 cm."""
    radius, angle = rng.uniform(2.01, 4.99, count), rng.uniform(0, 2 * np.pi, count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    z = -1.8 + 0.02 * x + rng.uniform(-0.03, 0.03, count)
    return np.stack([x, y, z], axis=1).astype(np.float32)


def test_ground_is_told_from_what_stands_on_it():
    rng = np.random.default_rng(0)
    road, kerb = ring_of(rng, 400), ring_of(rng, 60) + np.float32([0, 0, 0.3])
    road_far, road_under = ring_of(rng, 50), ring_of(rng, 50)
    road_far[:, :2] *= 3
    road_under[:, :2] *= 0.3
    ground = ground_points(np.concatenate([road, kerb, road_far, road_under]), NUSCENES_GROUND)
    np.testing.assert_array_equal(ground, np.arange(560) < 400)


def test_points_above_the_limit_are_no_candidates():
    road = ring_of(np.random.default_rng(1), 300)
    higher = dataclasses.replace(NUSCENES_GROUND, below=-1.8)
    ground = ground_points(road, higher)
    assert not ground[road[:, 2] >= -1.8].any()
    assert ground[road[:, 2] < -1.8].all()


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_candidates_are_no_ground(count):
    assert not ground_points(ring_of(np.random.default_rng(2), count), NUSCENES_GROUND).any()


def test_points_without_a_plane_are_hardly_ground():
    # Spread over 1 km of height: a trial's plane has the odd point by chance, or none.
    rng = np.random.default_rng(3)
    for _ in range(5):
        points = ring_of(rng, 12)
        points[:, 2] = rng.uniform(-1000, -1.4, 12)
        assert ground_points(points, NUSCENES_GROUND).sum() <= 2
