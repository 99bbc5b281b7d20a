"""Whether a cloud looks like training clouds: what is said, and which option it names."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from uov_jax.clouds.cloud import TURNS, Reading, Stored, cloud_of
from uov_jax.clouds.likeness import (
    CloudFigures,
    density_difference,
    differences,
    figures_of,
    fullest_layer,
    medians,
)


def street(points: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, 3] and float32[N]: ground 1.8 m below the sensor, walls, intensities to 255."""
    rng = np.random.default_rng(seed)
    ground = np.column_stack([rng.uniform(-40, 40, (points, 2)), rng.normal(-1.8, 0.02, points)])
    side = rng.choice([-20.0, 20.0], points // 3)
    along, up = rng.uniform(-40, 40, points // 3), rng.uniform(-1.8, 6, points // 3)
    xyz = np.concatenate([ground, np.column_stack([along, side, up])]).astype(np.float32)
    return xyz, rng.uniform(0, 255, len(xyz)).astype(np.float32)


@pytest.fixture
def trained() -> CloudFigures:
    return medians([figures_of(*street(seed=seed), voxels=4000) for seed in range(3)])


def test_figures_are_those_of_the_scene(trained: CloudFigures) -> None:
    x, y, z = trained.extent
    assert 76 < x < 80
    assert 76 < y < 80
    assert 6 < z < 8
    assert trained.ground == pytest.approx(-1.8, abs=0.13)
    assert trained.intensity == pytest.approx(252, abs=2)
    assert (trained.points, trained.points_per_voxel) == (8000, 2.0)


def test_figures_survive_json(trained: CloudFigures) -> None:
    assert CloudFigures.from_json(trained.as_json()) == trained
    room = figures_of(street()[0])
    again = CloudFigures.from_json(room.as_json())
    assert math.isnan(again.intensity)
    assert again.extent == room.extent


def test_the_fullest_layer_is_the_one_with_most_points() -> None:
    heights = np.array([0.1, 0.2, 5.0, -3.3, -3.4, -3.26], np.float32)
    assert fullest_layer(heights) == pytest.approx(-3.375)


def test_another_street_is_alike(trained: CloudFigures) -> None:
    assert differences(*street(seed=9), trained, sensor=True) == []
    # Half or twice as large is still a street.
    xyz, intensity = street(seed=9)
    near = xyz * np.float32([0.5, 0.5, 1.0])
    assert differences(near, intensity, trained, sensor=True) == []


def test_points_at_one_place_are_said_to_be(trained: CloudFigures) -> None:
    for points in (np.float32([[1, 2, 3]]), np.zeros((10, 3), np.float32)):
        light = np.ones(len(points), np.float32)
        (said,) = differences(points, light, trained, sensor=True)
        assert said.startswith("all its points lie at one place, training clouds measure ")


def test_a_sweep_that_is_not_around_its_sensor_is_told_of(trained: CloudFigures) -> None:
    xyz, intensity = street(seed=9)
    moved = xyz + np.float32([0, 700, 0])
    (said,) = differences(moved, intensity, trained, sensor=True)
    assert re.match(
        r"the middle of its points lies (69|70)\d m from the origin, where a sweep", said
    )
    # A sensor that looks ahead alone.
    assert differences(xyz[xyz[:, 0] > 0], None, trained, sensor=True) == []
    assert differences(moved, intensity, trained, sensor=False) == []


def mended(xyz: np.ndarray, intensity: np.ndarray, reading: Reading) -> list[np.ndarray]:
    """A cloud as a reader mends it."""
    cloud = cloud_of(Stored(xyz, intensity, None, "made", ("x",)), "made", "made", reading)
    assert cloud.intensity is not None
    return [cloud.xyz, cloud.intensity]


@pytest.mark.parametrize(
    ("wrong", "option", "reading"),
    [
        (lambda xyz: xyz * np.float32(1000), "--scale 0.001", Reading(scale=0.001)),
        (lambda xyz: xyz * np.float32(100), "--scale 0.01", Reading(scale=0.01)),
        # Of a file with y upward, and of a camera's coordinates with y downward.
        (lambda xyz: xyz[:, [0, 2, 1]] * np.float32([1, 1, -1]), "--up y", Reading(up="y")),
        (lambda xyz: xyz[:, [0, 2, 1]] * np.float32([1, -1, 1]), "--up=-y", Reading(up="-y")),
        (lambda xyz: xyz * np.float32([1, -1, -1]), "--up=-z", Reading(up="-z")),
    ],
)
def test_wrong_units_and_axes_name_the_option_that_mends_them(
    trained: CloudFigures, wrong, option: str, reading: Reading
) -> None:
    xyz, intensity = street(seed=4)
    (said,) = differences(wrong(xyz), intensity, trained, sensor=True)
    assert said.rstrip(")").endswith(option)
    again = mended(np.ascontiguousarray(wrong(xyz)), intensity, reading)
    assert differences(*again, trained, sensor=True) == []


@pytest.mark.parametrize(
    ("factor", "options"),
    [
        (210.0, ["0.01", "0.001"]),  # of twice the size in centimetres, a fifth in millimetres
        (400.0, ["0.001", "0.01"]),
        (2000.0, ["0.001"]),
        (50.0, ["0.01"]),
    ],
)
def test_clouds_of_another_size_in_another_unit_name_all_that_it_may_be(
    trained: CloudFigures, factor: float, options: list[str]
) -> None:
    xyz, intensity = street(seed=4)
    (said,) = differences(xyz * np.float32(factor), intensity, trained, sensor=True)
    assert re.findall(r"--scale ([\d.]+)", said) == options


@pytest.mark.parametrize("up", ["z", "-z", "y", "-y", "x", "-x"])
@pytest.mark.parametrize("wrong", ["z", "-z", "y", "-y"])
def test_what_is_named_is_to_be_given_in_place_of_what_was(
    trained: CloudFigures, up: str, wrong: str
) -> None:
    """A file with one axis upward, read with another: the option named mends it."""
    xyz, intensity = street(seed=4)
    stored = np.empty_like(xyz)
    for own, (axis, sign) in enumerate(TURNS[up]):
        stored[:, axis] = sign * xyz[:, own]

    def said(up: str) -> list[str]:
        reading = Reading(up=up)
        points, light = mended(stored, intensity, reading)
        return differences(points, light, trained, True, reading)

    assert said(up) == []
    if wrong != up:
        (sentence,) = said(wrong)
        if "--up" in sentence:
            (option,) = re.findall(r"--up[ =](\S+)", sentence)
            assert option == up
        else:
            # The world on its head about another axis than that which was looked for.
            assert "--lift" in sentence


def test_totals_are_named_of_what_was_given(trained: CloudFigures) -> None:
    xyz, intensity = street(seed=2)
    low = xyz + np.float32([0, 0, 2.5])
    (said,) = differences(low, intensity, trained, True, lift=-1.0)
    assert said.endswith("(--lift -3.5)")
    dark, scaled = intensity / np.float32(510), Reading(intensity_scale=0.5)
    (said,) = differences(xyz, dark, trained, True, scaled)
    assert said.endswith("--intensity-scale 127.5")
    darker = dark / np.float32(8)  # too dark for a sensor whose full scale is 1
    (said,) = differences(xyz, darker, trained, True, scaled)
    assert float(said.split()[-1]) == pytest.approx(0.5 * 252 * 510 * 8 / 252, rel=0.05)
    small, scaled = xyz * np.float32(100), Reading(scale=10.0)
    (said,) = differences(small, intensity, trained, True, scaled)
    assert said.endswith("--scale 0.1")


@pytest.mark.parametrize("full", [4095.0, 1023.0])
def test_a_sensor_of_12_bits_is_scaled_to_training_of_8(trained: CloudFigures, full: float) -> None:
    xyz, intensity = street(seed=4)
    other = intensity * np.float32(16 * full / 4095)
    found = differences(xyz, other, trained, sensor=True)
    if full == 4095.0:
        (said,) = found
        assert said.endswith(f"--intensity-scale {255 / 4095:.6g}")
    else:
        assert found == []  # A factor of four is within what sensors differ by.


def test_points_from_the_ground_on_are_lowered_and_not_turned_over(trained: CloudFigures) -> None:
    xyz, intensity = street(seed=2)
    raised = xyz + np.float32([0, 0, 3.2])
    (said,) = differences(raised, intensity, trained, sensor=True)
    assert said.endswith("(--lift -3.2)")


@pytest.mark.parametrize(("factor", "option"), [(1 / 255, "255"), (257.0, "0.00389105")])
def test_other_intensities_name_their_scale(
    trained: CloudFigures, factor: float, option: str
) -> None:
    xyz, intensity = street(seed=4)
    other = intensity * np.float32(factor)
    (said,) = differences(xyz, other, trained, sensor=True)
    assert said.endswith(f"--intensity-scale {option}")
    scaled = mended(xyz, other, Reading(intensity_scale=float(option)))
    assert differences(*scaled, trained, sensor=True) == []


def test_intensities_of_zeros_are_no_intensities(trained: CloudFigures) -> None:
    xyz, intensity = street()
    (said,) = differences(xyz, np.zeros_like(intensity), trained, sensor=True)
    assert "--columns" in said


def test_a_sensor_at_another_height_is_lifted(trained: CloudFigures) -> None:
    xyz, intensity = street(seed=2)
    low = xyz + np.float32([0, 0, 1.5])
    (said,) = differences(low, intensity, trained, sensor=True)
    assert said.endswith("(--lift -1.5)")
    assert differences(low, intensity, trained, sensor=False) == []  # a room has no sensor


def test_unlike_in_size_without_a_known_unit(trained: CloudFigures) -> None:
    xyz, intensity = street()
    (said,) = differences(xyz / np.float32(30), intensity, trained, sensor=True)
    assert "(--scale)" in said


def test_density_is_compared(trained: CloudFigures) -> None:
    assert density_difference(3.0, trained) is None
    assert "20 points a voxel" in str(density_difference(20.0, trained))
    assert density_difference(0.2, trained) is not None
    unknown = figures_of(street()[0])
    assert density_difference(20.0, unknown) is None
