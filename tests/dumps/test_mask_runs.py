"""Run-length coded masks: equal to the image, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.dumps.mask_runs import MaskRuns

IMAGES = {
    "one pixel": np.array([[7]], np.uint16),
    "one value": np.full((4, 5), 3, np.uint8),
    "all different": np.arange(35).reshape(5, 7),
    "runs over row ends": np.array([[1, 1, 2], [2, 2, 2], [0, 0, 1]], np.int32),
    "largest id": np.array([[0, 65535]], np.int64),
}


@pytest.mark.parametrize("name", IMAGES)
def test_runs_decode_to_the_image_and_answer_every_pixel(name):
    image = IMAGES[name]
    runs = MaskRuns.from_image(image)
    np.testing.assert_array_equal(runs.to_image(), image)
    assert runs.to_image().dtype == np.uint16
    v, u = np.indices(image.shape).reshape(2, -1)
    np.testing.assert_array_equal(runs.lookup(v, u), image[v, u])
    assert runs.largest_id == image.max()
    assert runs.lengths.sum() == image.size
    again = MaskRuns.from_lengths(*image.shape, runs.lengths, runs.ids)
    np.testing.assert_array_equal(again.to_image(), image)


def test_runs_are_maximal():
    runs = MaskRuns.from_image(np.array([[1, 1, 2], [2, 2, 2], [0, 0, 1]]))
    np.testing.assert_array_equal(runs.ids, [1, 2, 0, 1])
    np.testing.assert_array_equal(runs.lengths, [2, 4, 2, 1])


@pytest.mark.parametrize("longest", [1, 2, 3, 20])
def test_splitting_keeps_the_image(longest):
    image = np.array([[1, 1, 2], [2, 2, 2], [0, 0, 1], [1, 1, 1]])
    runs = MaskRuns.from_image(image).split_longer_than(longest)
    assert runs.lengths.max() == min(longest, 4)
    np.testing.assert_array_equal(runs.to_image(), image)
    v, u = np.indices(image.shape).reshape(2, -1)
    np.testing.assert_array_equal(runs.lookup(v, u), image[v, u])


def test_areas_count_pixels_of_every_id():
    image = np.random.default_rng(0).integers(0, 5, (20, 30))
    areas = MaskRuns.from_image(image).areas(6)
    np.testing.assert_array_equal(areas, np.bincount(image.ravel(), minlength=7))


def test_lookup_of_no_pixel_is_empty():
    found = MaskRuns.from_image(IMAGES["one pixel"]).lookup(np.zeros(0, int), np.zeros(0, int))
    assert found.shape == (0,)


@pytest.mark.parametrize(("v", "u"), [(-1, 0), (0, -1), (4, 0), (0, 5)])
def test_pixels_outside_are_refused(v, u):
    runs = MaskRuns.from_image(IMAGES["one value"])
    with pytest.raises(ValueError, match="leave the image of 4 x 5 pixels"):
        runs.lookup(np.array([0, v]), np.array([0, u]))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((2, 2)), "found float64"),
        (np.zeros((2, 2, 3), np.uint8), r"shape \(2, 2, 3\)"),
        (np.zeros((0, 2), np.uint8), "non-empty"),
        (np.array([[0, -1]]), "from -1 to 0"),
        (np.array([[0, 65536]]), "to 65536"),
    ],
)
def test_other_images_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        MaskRuns.from_image(masks)


@pytest.mark.parametrize(
    ("lengths", "ids"), [([3, 2], [1, 2]), ([4, 0, 2], [1, 2, 3]), ([6], [1, 2]), ([], [])]
)
def test_runs_that_do_not_fill_the_image_are_refused(lengths, ids):
    with pytest.raises(ValueError, match="expected non-empty runs over the 2 x 3 = 6 pixels"):
        MaskRuns.from_lengths(2, 3, np.array(lengths, int), np.array(ids, int))
