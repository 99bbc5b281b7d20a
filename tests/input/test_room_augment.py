"""Augmentation of rooms against what the published code makes of given noise and parameters."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from tests.conftest import DATA
from uov_jax.input import room_augment
from uov_jax.input.room_augment import (
    ELASTIC,
    auto_contrast,
    change_colors,
    distort,
    elastic_distortion,
    flip,
    noise_shape,
    shift_hue_and_saturation,
)


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "indoor_augment.npz") as file:
        return {name: file[name] for name in file.files}


def test_both_passes_of_elastic_distortion_are_the_published_ones(
    measured: dict[str, np.ndarray],
) -> None:
    """To 1e-5 m; the noise is float32, so that sums of some 27 of its numbers differ by 1e-6."""
    points = measured["xyz"]
    for number, (granularity, magnitude) in enumerate(ELASTIC):
        noise = measured[f"noise{number}"]
        assert noise_shape(points, granularity) == noise.shape
        points = elastic_distortion(points, noise, granularity, magnitude)
        np.testing.assert_allclose(points, measured[f"elastic{number}"], atol=1e-5, rtol=0)


def test_trilinear_noise_against_scipys_interpolator() -> None:
    """Places between the nodes, on them, and at both ends of the room."""
    from scipy.interpolate import RegularGridInterpolator

    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (2000, 3)) * [4.0, 3.0, 2.5]
    points[0], points[1] = 0, [4.0, 3.0, 2.5]
    points = points.astype(np.float32)
    granularity = 0.5
    noise = rng.standard_normal(noise_shape(points, granularity), np.float32)
    smooth = noise.astype(np.float64)
    for axis in (0, 1, 2, 0, 1, 2):
        padded = np.pad(smooth, [(int(a == axis),) * 2 for a in range(4)])
        parts = [np.take(padded, np.arange(n, n + smooth.shape[axis]), axis) for n in range(3)]
        smooth = sum(parts) / 3
    nodes = [points[:, a].min() + granularity * np.arange(-1, n - 1)
             for a, n in enumerate(noise.shape[:3])]  # fmt: skip
    expected = points + 0.7 * RegularGridInterpolator(nodes, smooth)(points)
    found = elastic_distortion(points, noise, granularity, 0.7)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_hue_and_saturation_are_the_published_ones(measured: dict[str, np.ndarray]) -> None:
    """Within one grey level, which a rounding before the way back to bytes may cost."""
    found = shift_hue_and_saturation(
        measured["rgb"], float(measured["hue"]), float(measured["saturation"])
    )
    assert np.abs(found - measured["hue_saturation"]).max() <= 1
    assert found.dtype == np.float32


@pytest.mark.parametrize("hue", [-0.5, -0.2, 0.0, 0.31])
@pytest.mark.parametrize("saturation", [0.8, 1.2])
def test_hue_and_saturation_against_pythons_own(hue: float, saturation: float) -> None:
    rng = np.random.default_rng(3)
    colors = rng.uniform(0, 255, (300, 3)).astype(np.float32)
    colors[:3] = [[0, 0, 0], [255, 255, 255], [80, 80, 80]]
    found = shift_hue_and_saturation(colors, hue, saturation)
    for color, own in zip(colors.astype(float), found, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(color / 255))
        expected = colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), v)
        np.testing.assert_allclose(own, np.floor(np.array(expected) * 255), atol=1)


def test_auto_contrast_is_the_published_one(measured: dict[str, np.ndarray]) -> None:
    found = auto_contrast(measured["rgb"], float(measured["blend"]))
    np.testing.assert_allclose(found, measured["auto_contrast"], atol=1e-3)
    assert found.dtype == np.float32


def test_auto_contrast_of_one_color_is_finite() -> None:
    found = auto_contrast(np.full((5, 3), 77, np.float32), 0.5)
    assert np.isfinite(found).all()


def test_colors_stay_bytes_and_change_nearly_always() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (500, 3)).astype(np.float32)
    for _ in range(50):
        found = change_colors(colors, rng)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 255
        np.testing.assert_array_equal(found, np.floor(found))
        assert not np.array_equal(found, colors)


def test_distortion_comes_19_times_of_20_and_is_smooth() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3, (200, 3)).astype(np.float32)
    points[100:] = points[:100] + np.float32(1e-3)
    moved = 0
    for _ in range(400):
        found = distort(points, rng)
        moved += found is not points
        shift = found - points
        assert np.abs(shift[100:] - shift[:100]).max() < 0.05
    assert 0.9 < moved / 400 < 0.99


def test_flips_mirror_within_the_clouds_own_extent() -> None:
    rng = np.random.default_rng(0)
    coords = rng.integers(0, 60, (100, 3)).astype(np.int32)
    seen = set()
    for _ in range(200):
        found = flip(coords, rng)
        np.testing.assert_array_equal(found[:, 2], coords[:, 2])
        key = []
        for axis in range(2):
            mirrored = coords[:, axis].max() - coords[:, axis]
            same = np.array_equal(found[:, axis], coords[:, axis])
            assert same or np.array_equal(found[:, axis], mirrored)
            key.append(same)
        seen.add(tuple(key))
    assert len(seen) == 4


def test_a_thin_room_still_has_nodes_around_it() -> None:
    flat = np.array([[0, 0, 0], [1, 1, 0]], np.float32)
    assert noise_shape(flat, 0.8) == (4, 4, 3, 3)
    noise = np.ones((4, 4, 3, 3), np.float32)
    assert np.isfinite(elastic_distortion(flat, noise, 0.8, 1.6)).all()
    assert room_augment.ALL_AUGMENTATIONS.elastic
