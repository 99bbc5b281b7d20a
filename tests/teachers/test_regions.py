"""Regions of coarse maps against maps that are resized as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from uov_jax.teachers.regions import Resizing, best_words, region_sums, segment_by_word

PADDED = Resizing(size=(64, 96), image=(50, 90))
# Cut, whole, at the map's own size, and smaller than it.
RESIZINGS = [PADDED, *(Resizing(size, size) for size in ((60, 100), (8, 12), (4, 6)))]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(maps: torch.Tensor, resizing: Resizing) -> torch.Tensor:
    full = F.interpolate(maps[None], size=resizing.size, mode="bilinear", align_corners=False)[0]
    return full[:, : resizing.image[0], : resizing.image[1]]


@pytest.mark.parametrize(
    "resizing", [PADDED, Resizing((60, 100), (60, 100)), Resizing((8, 12), (8, 12))]
)
@pytest.mark.parametrize("words_at_once", [1, 4, 100])
def test_the_best_word_is_that_of_all_maps_together(resizing, words_at_once):
    scores = random(11, 8, 12)
    expected = whole(scores, resizing).argmax(dim=0)
    assert torch.equal(best_words(scores, resizing, words_at_once), expected)


def test_the_first_of_equal_words_wins():
    scores = random(3, 8, 12)[[0, 1, 2, 1, 0]]
    for words_at_once in (1, 2, 5):
        assert best_words(scores, PADDED, words_at_once).max() <= 2


@pytest.mark.parametrize(
    "resizing",
    [PADDED, Resizing((60, 100), (60, 100)), Resizing((8, 12), (8, 12)), Resizing((4, 6), (4, 6))],
)
def test_sums_over_regions_are_those_of_the_resized_features(resizing):
    features = random(5, 8, 12)
    masks = np.random.default_rng(0).integers(0, 7, resizing.image)
    masks[masks == 6] = 4
    dense = whole(features, resizing).double().numpy()
    expected = [dense[:, masks == number].sum(axis=1) for number in range(1, 8)]
    found = region_sums(masks, 7, features.numpy(), resizing.size)
    # float32 weights in PyTorch's resizing, of sums over some hundred pixels.
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert (found[5:] == 0).all()


def test_a_mask_for_every_word():
    words = np.full(PADDED.image, 7)
    words[:20, :30] = words[40:, 60:] = 3
    features = random(5, 8, 12)
    found = segment_by_word(words, features.numpy(), PADDED)
    assert found.words.tolist() == [3, 7]
    np.testing.assert_array_equal(found.masks, np.where(words == 3, 1, 2))
    assert (found.masks.dtype, found.words.dtype) == (np.uint16, np.int32)
    dense = whole(features, PADDED).double().numpy()
    for row, word in zip(found.embeddings, (3, 7), strict=True):
        expected = dense[:, words == word].sum(axis=1)
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_mask_for_every_connected_region():
    words = np.full(PADDED.image, 7)
    words[:20, :30] = words[40:, 60:] = 3
    words[20, 30] = 3  # touches by a corner
    found = segment_by_word(words, random(5, 8, 12).numpy(), PADDED, connected=True)
    assert found.words.tolist() == [3, 7, 3]
    assert found.masks[0, 0] == found.masks[20, 30] == 1
    assert found.masks[0, 89] == 2
    assert found.masks[49, 89] == 3
    assert not np.allclose(found.embeddings[0], found.embeddings[2], atol=0.1)
