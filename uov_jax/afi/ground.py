"""Ground close to the vehicle, where its own body and shadow mislead the labels."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, RANSACRegressor


@dataclasses.dataclass(frozen=True)
class GroundRing:
    """Where a plane is fitted to the ground, how, and which classes ground may have."""

    classes: tuple[int, ...]
    """That points of the plane may get."""
    near: float
    """Metres of range; what is nearer (the vehicle itself) gives no labels."""
    far: float
    """Metres of range."""
    below: float
    """Metres: ground is lower than this in the sensor's frame."""
    samples: int = 10
    """Points that a trial plane is fitted to."""
    residual: float = 0.1
    """Metres of height that a point of the plane may be off."""
    trials: int = 20
    seed: int = 42


NUSCENES_GROUND = GroundRing(classes=(11, 12, 13, 14), near=2.0, far=5.0, below=-1.4)
"""Driveable surface, other flat, sidewalk and terrain, around nuScenes' roof-top LiDAR."""


def ground_ring(classes: tuple[int, ...]) -> GroundRing | None:
    """`NUSCENES_GROUND` with the classes that a vocabulary says ground may have; None for none."""
    return dataclasses.replace(NUSCENES_GROUND, classes=classes) if classes else None


def ranges(points: np.ndarray) -> np.ndarray:
    """float32 [N]: horizontal distance of points float32 [N, 3] from the sensor, metres."""
    return np.sqrt(points[:, 0] ** 2 + points[:, 1] ** 2)


def ground_points(points: np.ndarray, ring: GroundRing) -> np.ndarray:
    """Which points of the ring lie on its plane z = f(x, y), found by RANSAC.

    None do where the ring has fewer points than a trial needs, or no plane has any.

    Args:
        points: float32 [N, 3], metres in the sensor's frame.
        ring: where and how.

    Returns:
        bool [N].

    """
    distance = ranges(points)
    ring_points = (distance > ring.near) & (distance < ring.far) & (points[:, 2] < ring.below)
    (candidate,) = np.nonzero(ring_points)
    ground = np.zeros(len(points), bool)
    if len(candidate) < ring.samples:
        return ground
    plane = RANSACRegressor(
        LinearRegression(),
        min_samples=ring.samples,
        residual_threshold=ring.residual,
        max_trials=ring.trials,
        random_state=ring.seed,
    )
    with warnings.catch_warnings():
        # A plane with one point has no score, and is the best one if all others have none.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        try:
            plane.fit(points[candidate, :2], points[candidate, 2])
        except ValueError:  # no trial's plane had a single point: this is no ground
            return ground
    ground[candidate[plane.inlier_mask_]] = True
    return ground
