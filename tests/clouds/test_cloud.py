"""Units, axes, origin and rows that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax.clouds import Cloud, CloudError, Reading, read_cloud
from uov_jax.clouds.cloud import TURNS
from uov_jax.errors import InputError

UPWARD = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}


def saved(folder: Path, table: np.ndarray, reading: Reading | None = None) -> Cloud:
    np.save(folder / "a.npy", table)
    return read_cloud(folder / "a.npy", reading or Reading())


@pytest.mark.parametrize("up", TURNS)
def test_an_axis_is_turned_upward_and_nothing_is_mirrored(tmp_path: Path, up: str) -> None:
    cloud = saved(tmp_path, np.eye(3), Reading(up=up))
    sign = -1 if up.startswith("-") else 1
    upward = sign * np.array(UPWARD[up.removeprefix("-")])
    np.testing.assert_array_equal(upward @ cloud.xyz, [0, 0, 1])
    assert np.linalg.det(cloud.xyz) == 1
    np.testing.assert_array_equal(cloud.positions, np.eye(3), strict=True)


@pytest.mark.parametrize("up", TURNS)
def test_a_turn_is_exact(tmp_path: Path, up: str) -> None:
    table = np.random.default_rng(0).normal(0, 20, (50, 3)).astype(np.float32)
    cloud = saved(tmp_path, table, Reading(up=up))
    assert (np.sort(np.abs(cloud.xyz)) == np.sort(np.abs(table))).all()


def test_millimetres_become_metres(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(-5000, 5000, (50, 3)).astype(np.float32)
    cloud = saved(tmp_path, table, Reading(scale=0.001))
    np.testing.assert_array_equal(cloud.xyz, (table.astype(np.float64) * 0.001).astype(np.float32))
    np.testing.assert_array_equal(cloud.positions, table, strict=True)


@pytest.mark.parametrize("up", ["z", "-y"])
def test_far_coordinates_are_moved_near_without_loss(tmp_path: Path, up: str) -> None:
    """Eighths of a metre, which float32 has exactly once the origin is near."""
    rng = np.random.default_rng(0)
    table = rng.integers(-400, 400, (500, 3)) / 8 + [691_000.0, 5_336_000.0, -2_000.0]
    table[7] = np.nan
    table[8] = 1e300
    cloud = saved(tmp_path, table, Reading(up=up))
    assert np.flatnonzero(~cloud.finite).tolist() == [7, 8]
    whole = cloud.xyz[cloud.finite] + cloud.offset
    axes, signs = zip(*TURNS[up], strict=True)
    np.testing.assert_array_equal(whole, table[cloud.finite][:, axes] * signs)
    assert np.abs(cloud.xyz[cloud.finite]).max() < 110
    np.testing.assert_array_equal(cloud.positions, table, strict=True)


def test_a_far_point_does_not_move_the_sensor(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(0, 20, (50, 3)).astype(np.float32)
    table[3] = 90_000
    cloud = saved(tmp_path, table)
    assert not cloud.offset.any()
    np.testing.assert_array_equal(cloud.xyz, table, strict=True)


def test_intensities(tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    cloud = saved(tmp_path, table, Reading(columns="x y z intensity", intensity_scale=255))
    np.testing.assert_array_equal(
        cloud.intensity, (table[:, 3].astype(np.float64) * 255).astype(np.float32)
    )
    table[9, 3] = np.inf
    cloud = saved(tmp_path, table)
    assert cloud.finite.all()  # It has a place; whether it can be labelled, its network decides.
    table[:, 3] = np.nan
    cloud = saved(tmp_path, table, Reading(columns="x y z intensity"))
    assert cloud.finite.all()
    assert cloud.source.notes == ("the intensity is no number anywhere: taken as missing",)
    with pytest.raises(CloudError, match=r"a\.npy: the points have no intensity"):
        cloud.needed_intensity()


def test_a_cloud_is_lifted_where_a_network_sees_it(tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    cloud = saved(tmp_path, table)
    assert cloud.lifted(0.0) is cloud
    lifted = cloud.lifted(1.5).lifted(0.5)
    np.testing.assert_allclose(lifted.xyz, table + np.float32([0, 0, 2]), atol=2.4e-7)
    np.testing.assert_array_equal(lifted.positions, table)
    assert (cloud.source.lift, lifted.source.lift) == (0.0, 2.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_scale_and_no_axis_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match=f"scale {bad}: expected a positive number"):
        Reading(scale=bad)
    with pytest.raises(InputError, match=f"intensity_scale {bad}: expected a positive number"):
        Reading(intensity_scale=bad)
    with pytest.raises(InputError, match="up 'w': expected one of the axes z, -z, y, -y, x, -x"):
        Reading(up="w")
