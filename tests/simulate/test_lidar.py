"""Sweeps: format, geometry, and statistics against a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, read_points
from uov_jax.simulate.casting import World
from uov_jax.simulate.kinds import EGO_RAW
from uov_jax.simulate.lidar import Sweep, sweep
from uov_jax.simulate.sensors import ELEVATIONS, FIRINGS, RINGS
from uov_jax.sparse import voxelize


@pytest.fixture(scope="module")
def spin(world: World) -> Sweep:
    return sweep(world, 0.6, np.random.default_rng(0))


def far(points: np.ndarray) -> np.ndarray:
    return points[np.hypot(points[:, 0], points[:, 1]) > 2.0]


def test_format(spin: Sweep) -> None:
    points = spin.points
    assert points.dtype == np.float32
    assert points.shape == (RINGS * FIRINGS, 5)
    assert spin.raw.shape == spin.instance.shape == (RINGS * FIRINGS,)
    np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(RINGS), FIRINGS))
    np.testing.assert_array_equal(points[:, 3], np.round(points[:, 3]))
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255
    assert np.isfinite(points).all()


def test_returns_lie_at_their_rings_elevation(spin: Sweep) -> None:
    points = far(spin.points)
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    # The car drives on by some 40 cm in a turn, which moves near points by some degrees.
    off = np.degrees(np.abs(elevation - ELEVATIONS[points[:, 4].astype(int)]))
    assert np.median(off) < 0.3
    assert np.percentile(off, 95) < 3.0


def test_lost_pulses_are_points_at_the_sensor_labelled_ego(spin: Sweep) -> None:
    lost = np.hypot(spin.points[:, 0], spin.points[:, 1]) < 0.3
    lost &= np.abs(spin.points[:, 2]) < 0.1
    assert 0.05 < lost.mean() < 0.3
    assert set(spin.raw[lost].tolist()) == {EGO_RAW}
    assert (spin.instance[lost] == 0).all()


def test_road_lies_under_the_sensor(spin: Sweep) -> None:
    road = spin.points[spin.raw == 24]
    near = road[np.hypot(road[:, 0], road[:, 1]) < 8]
    assert np.median(near[:, 2]) == pytest.approx(-1.84, abs=0.06)


def test_intensity_tells_something_but_not_everything(spin: Sweep) -> None:
    def of(raw: int) -> np.ndarray:
        return spin.points[spin.raw == raw, 3]

    assert np.median(of(24)) < np.median(of(28)) < np.median(of(12))  # road, buildings, cones
    # Kinds next to each other on the scale overlap: intensity alone does not label points.
    assert np.percentile(of(28), 80) > np.percentile(of(16), 20)  # buildings, buses
    assert (spin.raw != EGO_RAW).mean() > 0.6


def test_another_generator_gives_other_noise_only(world: World, spin: Sweep) -> None:
    again = sweep(world, 0.6, np.random.default_rng(0))
    np.testing.assert_array_equal(again.points, spin.points)
    other = sweep(world, 0.6, np.random.default_rng(1))
    both = (other.raw == spin.raw) & (spin.raw != EGO_RAW)
    assert both.mean() > 0.7
    error = np.linalg.norm(other.points[both, :3] - spin.points[both, :3], axis=1)
    assert 0.01 < np.median(error) < 0.08


def test_statistics_are_like_those_of_a_real_sweep(real_nuscenes: Path, spin: Sweep) -> None:
    (path,) = (real_nuscenes / "samples" / "LIDAR_TOP").glob("*.pcd.bin")
    real, ours = read_points(path, NUSCENES_COLUMNS), spin.points
    assert len(ours) == pytest.approx(len(real), rel=0.01)
    # Not the intensity: it tells more about the kind of thing than in reality, on purpose.
    for share in (10, 50, 90):
        a, b = (
            float(np.percentile(np.hypot(p[:, 0], p[:, 1]), share)) for p in (far(real), far(ours))
        )
        assert b == pytest.approx(a, rel=0.6, abs=1.0)
    counts = [
        len(voxelize(np.ascontiguousarray(p[:, :3]), (0.1, 1.0, 0.1), True).coords)
        for p in (real, ours)
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.3)
