"""Features of images added to points: equal to features spread over every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.errors import InputError
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures, MaskFeatures
from uov_jax.fusion.views import SeenPoints
from uov_jax.sparse.engine import engine

SIZE = (90, 120)
POINTS = 3000


def seen(number: int = 2500, seed: int = 0) -> SeenPoints:
    """Some of `POINTS` points, in order, at pixels of chance; corners are among them."""
    rng = np.random.default_rng(seed)
    point = np.sort(rng.choice(POINTS, number, replace=False)).astype(np.int32)
    row, column = (rng.integers(0, n, number).astype(np.int32) for n in SIZE)
    row[:4], column[:4] = [0, 0, 89, 89], [0, 119, 0, 119]
    return SeenPoints(point, row, column)


def added(features: ImageFeatures, pixels: np.ndarray, channels: int, threads: int = 0) -> None:
    """Adding equals the same of float64 [D, H, W] for all pixels; sums are added to."""
    found = seen()
    start = np.random.default_rng(9).normal(size=(POINTS, channels)).astype(np.float32)
    sums = start.copy()
    rows = features.add_to(sums, found, SIZE, threads)
    np.testing.assert_array_equal(rows, found.point)
    expected = start.astype(np.float64)
    expected[found.point] += pixels[:, found.row, found.column].T
    # One rounding to float32 of a sum of a few numbers around 1.
    np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=2e-6)


def bilinear(planes: np.ndarray) -> np.ndarray:
    """float64[D, H, W]: half-pixel centres, the outermost cells repeated at the border."""

    def matrix(cells: int, pixels: int) -> np.ndarray:
        place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
        return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))

    (_, h, w), (height, width) = planes.shape, SIZE
    wide = np.tensordot(planes.astype(float), matrix(w, width), (2, 1))  # [D, h, W]
    return np.tensordot(wide, matrix(h, height), (1, 1)).transpose(0, 2, 1)


def nearest(planes: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(n) * c // n for n, c in zip(SIZE, planes.shape[1:], strict=True))
    return planes[:, rows[:, None], columns].astype(float)


def grid(channels: int, shape: tuple[int, int], dtype: type = np.float16) -> np.ndarray:
    planes = np.random.default_rng(1).normal(size=(channels, *shape)).astype(dtype)
    planes[0, 0, 0], planes[1, -1, -1] = 6e-8, -1e-5  # subnormal halves
    return planes


@pytest.mark.parametrize("kernels", engine().runnable_kernels())
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("shape", "channels"),
    # A few patches, one cell, more cells than are made rows of, the image's own size.
    [((8, 11), 70), ((1, 1), 5), ((70, 64), 37), (SIZE, 33)],
)
def test_grids(kernels, dtype, shape, channels):
    before = sparse.current_kernels()
    assert sparse.use_kernels(kernels)
    try:
        planes = grid(channels, shape, dtype)
        added(FeatureGrid(planes, "nearest"), nearest(planes), channels)
        added(FeatureGrid(planes), bilinear(planes), channels)
        added(FeatureGrid(planes), bilinear(planes), channels, threads=1)
    finally:
        sparse.use_kernels(before)


def test_a_grid_that_is_no_array_of_rows_is_one_all_the_same():
    planes = grid(12, (9, 12))
    turned = np.asarray(planes.transpose(1, 2, 0), order="C").transpose(2, 0, 1)
    assert not turned.flags.c_contiguous
    added(FeatureGrid(turned, "nearest"), nearest(planes), 12)


def test_results_do_not_depend_on_the_number_of_threads():
    found = seen()
    for planes in (grid(64, (8, 11)), grid(64, (80, 110))):
        for resize in ("bilinear", "nearest"):
            sums = [np.zeros((POINTS, 64), np.float32) for _ in range(3)]
            for threads, part in enumerate(sums, start=1):
                FeatureGrid(planes, resize).add_to(part, found, SIZE, threads)
            np.testing.assert_array_equal(sums[0], sums[1])
            np.testing.assert_array_equal(sums[0], sums[2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("number", [20, 5000])  # fewer masks than points, and more
def test_a_pixel_has_the_embedding_of_its_mask(dtype, scale, number):
    rng = np.random.default_rng(2)
    masks = rng.integers(1, number + 1, (SIZE[0] // scale, SIZE[1] // scale)).astype(np.uint16)
    embeddings = rng.normal(size=(number, 48)).astype(dtype)
    pixels = embeddings[nearest(masks[None])[0].astype(int) - 1].transpose(2, 0, 1).astype(float)
    added(MaskFeatures(masks, embeddings), pixels, 48)


def test_pixels_of_no_mask_have_no_feature():
    masks = np.zeros(SIZE, np.uint16)
    masks[:, 60:] = 1
    sums = np.zeros((POINTS, 3), np.float32)
    found = seen()
    rows = MaskFeatures(masks, np.array([[1, 2, 3]], np.float16)).add_to(sums, found, SIZE)
    np.testing.assert_array_equal(rows, found.point[found.column >= 60])
    assert 0 < len(rows) < len(found)
    np.testing.assert_array_equal(sums[rows], np.tile([[1, 2, 3]], (len(rows), 1)))
    assert sums.sum() == 6 * len(rows)
    void = MaskFeatures(np.zeros((1, 1), np.uint16), np.zeros((0, 3), np.float16))
    assert len(void.add_to(sums, found, SIZE)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_features_that_are_not_finite_are_refused(value, dtype):
    sums = np.zeros((POINTS, 40), np.float32)
    for shape in ((8, 11), SIZE):
        planes = grid(40, shape, dtype)
        planes[39] = value
        with pytest.raises(InputError, match="the features are not finite"):
            FeatureGrid(planes).add_to(sums, seen(), SIZE)
    for number in (1, 5000):
        rows = np.full((number, 40), value, dtype)
        masks = np.full((1, 1), 1, np.uint16)
        with pytest.raises(InputError, match="the features are not finite"):
            MaskFeatures(masks, rows).add_to(sums, seen(), SIZE)


def test_features_of_another_length_are_refused():
    sums = np.zeros((POINTS, 40), np.float32)
    with pytest.raises(InputError, match="features of 41 numbers, expected 40"):
        FeatureGrid(grid(41, (3, 4))).add_to(sums, seen(), SIZE)
    one = MaskFeatures(np.ones((1, 1), np.uint16), np.ones((1, 39), np.float16))
    with pytest.raises(InputError, match="features of 39 numbers, expected 40"):
        one.add_to(sums, seen(), SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": np.array([0, 9], np.int32)}, "target must be 0 up to 8"),
        ({"target": np.array([0, -1], np.int32)}, "target must be 0 up to 8"),
        ({"row": np.array([0, 90], np.int32)}, "row must be 0 up to 89"),
        ({"column": np.array([0], np.int32)}, "there must be a pixel for every target"),
        ({"planes": np.ones((4, 3, 3))}, "features must be float16 or float32"),
        ({"planes": np.ones((4, 3, 6), np.float16)[..., ::2]}, "must lie row after row"),
        ({"planes": np.ones((5, 3, 3), np.float16)}, r"sums must have shape \[N, 5\]"),
        ({"planes": np.ones((4, 3), np.float16)}, r"planes must have shape \[D, h, w\]"),
        ({"planes": np.ones((4, 0, 3), np.float16)}, r"planes must have shape \[D, h, w\]"),
    ],
)
def test_the_engine_writes_nowhere_else(change, message):
    given = {
        "sums": np.zeros((9, 4), np.float32),
        "target": np.array([0, 8], np.int32),
        "planes": np.ones((4, 3, 3), np.float16),
        "row": np.array([0, 89], np.int32),
        "column": np.array([0, 119], np.int32),
        "size": SIZE,
        "bilinear": True,
        "threads": 1,
    }
    with pytest.raises(ValueError, match=message):
        engine().add_planes(**(given | change))
    engine().add_planes(**given)
    assert given["sums"][[0, 8]].tolist() == [[1] * 4] * 2


def test_the_engine_reads_only_rows_that_there_are():
    sums, target = np.zeros((9, 4), np.float32), np.array([0, 8], np.int32)
    table = np.ones((2, 4), np.float16)
    for index, message in (([0, 2], "index must be 0 up to 1"), ([0], "an index for every target")):
        with pytest.raises(ValueError, match=message):
            engine().add_rows(sums, target, table, np.array(index, np.int32), 1)
