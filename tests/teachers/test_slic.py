"""The SLIC teacher: superpixels that tile the image, and descriptors that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab
from skimage.measure import label

from uov_jax.teachers import create_teacher, slic, teacher_names
from uov_jax.teachers.slic import BLOCKS, EMBEDDING_SIZE, describe
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def teacher():
    return create_teacher("slic", load_vocabulary())


def street(height: int = 300, width: int = 533, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise: sky, road, and blobs of colour."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 16, 3)).astype(np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def block(rows: np.ndarray, name: str) -> np.ndarray:
    names = list(BLOCKS)
    start = sum(BLOCKS[other] for other in names[: names.index(name)])
    return rows[:, start : start + BLOCKS[name]]


def test_superpixels_tile_the_image(teacher):
    image = street()
    (found,) = teacher.segment([image])
    assert found.masks.shape == (300, 533)
    assert found.masks.dtype == np.uint16
    count = len(found.words)
    assert 75 < count < 255
    np.testing.assert_array_equal(np.unique(found.masks), np.arange(1, count + 1))
    assert (found.words == -1).all()
    assert found.embeddings.shape == (count, EMBEDDING_SIZE) == (count, teacher.embedding_size)
    pieces = label(found.masks, background=0, connectivity=2, return_num=True)[1]
    assert pieces == count  # each in one piece


def test_equal_images_give_equal_results(teacher):
    image = street()
    one, again = teacher.segment([image, image])
    np.testing.assert_array_equal(one.masks, again.masks)
    np.testing.assert_array_equal(one.embeddings, again.embeddings)


def test_descriptors_tell_superpixels_apart(teacher):
    rows = teacher.segment([street()])[0].embeddings
    assert np.isfinite(rows).all()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T
    assert abs(cosine[~np.eye(len(unit), dtype=bool)].mean()) < 0.3
    np.fill_diagonal(cosine, -1)
    assert np.median(cosine.max(axis=1)) < 0.97


@pytest.mark.parametrize("size", [(40, 60), (41, 61), (1, 1)])
def test_any_image_size_works(teacher, size):
    (found,) = teacher.segment([street(*size)])
    assert found.masks.shape == size
    assert found.masks.min() == 1
    assert found.masks.max() == len(found.words) == len(found.embeddings)
    assert np.isfinite(found.embeddings).all()


def test_a_picture_of_one_colour_works(teacher):
    (found,) = teacher.segment([np.full((90, 160, 3), 77, np.uint8)])
    assert np.isfinite(found.embeddings).all()
    assert found.masks.max() == len(found.words)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_other_arrays_are_refused(teacher, image):
    with pytest.raises(ValueError, match="expected an RGB image"):
        teacher.segment([image])


def test_colour_blocks_are_mean_and_deviation_in_lab():
    image = street(60, 80)
    lab = rgb2lab(image)
    labels = np.repeat(np.arange(80)[None] * 4 // 80, 60, axis=0)
    rows = describe(lab, labels)
    for number in range(4):
        own = lab[labels == number]
        np.testing.assert_allclose(block(rows, "colour_mean")[number], own.mean(axis=0))
        np.testing.assert_allclose(block(rows, "colour_deviation")[number], own.std(axis=0))


def test_histograms_are_roots_of_shares():
    rows = describe(rgb2lab(street(60, 80)), np.arange(4800).reshape(60, 80) // 1200)
    for name in ("orientation", "pattern"):
        np.testing.assert_allclose((block(rows, name) ** 2).sum(axis=1), 1)


def test_orientation_follows_the_direction_of_the_gradient():
    ramp = np.linspace(0, 80, 60)
    lab = np.zeros((60, 60, 3))
    labels = np.zeros((60, 60), int)
    lab[..., 0] = ramp[None]
    along_x = block(describe(lab, labels), "orientation")[0]
    lab[..., 0] = ramp[:, None]
    along_y = block(describe(lab, labels), "orientation")[0]
    assert along_x.argmax() == 0
    assert along_y.argmax() == 4  # 90 of 180 degrees in nine bins


def test_height_and_shape_follow_the_mask():
    lab = np.zeros((40, 80, 3))
    labels = np.zeros((40, 80), int)
    labels[20:] = 1  # the lower half; both are four times as wide as high
    rows = describe(lab, labels)
    height = block(rows, "height")
    np.testing.assert_allclose(height[:, 1], [0.707, -0.707], atol=0.03)  # cosine: top is positive
    area, elongation, cosine, sine = block(rows, "shape").T
    np.testing.assert_allclose(area, np.log(0.5))
    np.testing.assert_allclose(elongation, np.log(4), rtol=0.02)
    np.testing.assert_allclose(cosine, elongation, rtol=1e-6)  # lies flat
    np.testing.assert_allclose(sine, 0, atol=1e-9)


def test_superpixels_of_a_full_image_are_found_on_a_quarter_of_its_pixels(teacher, monkeypatch):
    # Which is what makes it fast; `python -m benchmarks.teachers slic` says how fast.
    seen = []

    def counted(image, **settings):
        seen.append(image.shape)
        return find(image, **settings)

    find = slic.slic
    monkeypatch.setattr(slic, "slic", counted)
    (found,) = teacher.segment([street(900, 1600)])
    assert seen == [(450, 800, 3)]
    assert found.masks.shape == (900, 1600)
    assert 75 < len(found.words) < 255


def test_unknown_teachers_are_refused():
    assert "slic" in teacher_names()
    with pytest.raises(ValueError, match="unknown teacher 'sam', known are .*slic"):
        create_teacher("sam", load_vocabulary())
