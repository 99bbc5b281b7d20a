"""Teachers with `--autocast`: how much of the masks and words of whole images that changes.

At made-up weights, where the best words of a pixel are nearly equally good: with trained ones fewer
should change. `pytest -m slow -s -k half_precision tests/teachers` prints the figures.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.teachers.catseg.made_up import recipe_weights
from tests.teachers.half_precision import (
    BOTH_WAYS,
    agreement,
    assert_less_than_a_grey_level,
    camera_image,
)
from tests.teachers.recipe import text_rows
from uov_jax.teachers.clip_input import normalised
from uov_jax.teachers.clip_vision import build_clip
from uov_jax.teachers.maskclip import MaskClipTeacher
from uov_jax.teachers.runtime import mixed_precision
from uov_jax.teachers.san import SanTeacher
from uov_jax.teachers.san_network import SanNetwork
from uov_jax.teachers.teacher import ImageMasks
from uov_jax.teachers.weights import load_weights


def segmentation(masks: list[list[int]], words: list[int], embeddings: list[list[float]]):
    return ImageMasks(
        np.array(masks, np.uint16), np.array(words, np.int32), np.array(embeddings, np.float32)
    )


def test_agreement_is_counted_by_pixels_and_masks():
    first = segmentation([[1, 1, 1, 2, 2, 0, 0, 3]], [7, 8, 9], [[2, 0], [0, 1], [1, 0]])
    # The first mask has lost a pixel, the second has another word, the third is gone for a new one.
    second = segmentation([[2, 2, 0, 1, 1, 0, 3, 0]], [5, 7, 9], [[0, 3], [1, 1], [1, 0]])
    found = agreement(first, second)
    assert found.words == pytest.approx(2 / 7)
    assert found.masks == pytest.approx(4 / 7)
    assert found.matched == pytest.approx(5 / 6)
    assert found.matched_count == pytest.approx(2 / 3)
    assert found.cosine == pytest.approx((3 * 0.5**0.5 + 2) / 5)
    assert agreement(first, first) == pytest.approx((1, 1, 1, 1, 1))


def test_agreement_without_masks():
    empty = segmentation([[0, 0]], [], np.zeros((0, 2)))
    one = segmentation([[1, 0]], [4], [[1, 0]])
    assert agreement(empty, empty) == (1, 1, 1, 1, 1)
    assert agreement(one, empty) == (0, 0, 0, 0, 0)
    assert agreement(empty, one) == (0, 0, 0, 0, 0)


# ---- whole images -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    """OpenAI's CLIP at the made-up weights of CAT-Seg's."""
    with torch.device("meta"):
        network = build_clip()
    load_weights(network, recipe_weights("sem_seg_head.predictor.clip_model."), "recipe")
    return network


@pytest.mark.slow
@pytest.mark.parametrize("camera", BOTH_WAYS)
def test_san_changes_less_than_by_a_grey_level(san_network: SanNetwork, camera: str):
    exact, half = (SanTeacher(san_network, text_rows(), "w", autocast=on) for on in (False, True))
    assert_less_than_a_grey_level(exact, half, camera)


@pytest.mark.slow
@pytest.mark.parametrize("camera", BOTH_WAYS)
def test_maskclip_changes_less_than_by_a_grey_level(clip: torch.nn.Module, camera: str):
    exact, half = (MaskClipTeacher(clip, text_rows(), autocast=on) for on in (False, True))
    assert_less_than_a_grey_level(exact, half, camera)


# ---- what stays in float32 ----------------------------------------------------------------------

CPU = torch.device("cpu")
ROUNDING = 2.0**-9  # of a number to bfloat16, at most, as a share of it
PRODUCTS = 6 * 24  # of CLIP's blocks: q, k and v, two of the attention, its output, two layers


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(seed))


def crop(camera: str) -> torch.Tensor:
    """float32[1, 3, 128, 160] of a camera's image."""
    return normalised(camera_image(camera)[300:428, 600:760])[None]


@pytest.mark.parametrize(
    ("draw", "which"), [(noise, 0), (noise, 1), *((crop, camera) for camera in BOTH_WAYS)]
)
def test_san_is_off_by_its_roundings(san_network: SanNetwork, draw, which):
    image = draw(which)
    with torch.inference_mode():
        exact_masks, exact = san_network(image)
        with mixed_precision(CPU, on=True):
            masks, embeddings = san_network(image)
    assert masks.dtype == embeddings.dtype == torch.float32
    # The side network is not rounded, only what it takes from CLIP: less than what one rounding of
    # the masks would do. Measured on these and the other cameras: a third of that.
    error = (masks - exact_masks).square().mean() / exact_masks.square().mean()
    assert 0 < error.sqrt() < ROUNDING
    # Every product rounds both factors and itself; independent roundings add by their squares, and
    # a unit vector that is moved by d has the cosine 1 - d^2 / 2.
    assert (embeddings * exact).sum(-1).min() > 1 - 3 * PRODUCTS * ROUNDING**2 / 2


def test_sans_side_network_is_in_float32_throughout(san_network: SanNetwork):
    image = noise(2)
    with torch.inference_mode():
        reduced = F.interpolate(image, scale_factor=0.7, mode="bilinear")
        features = san_network.clip_visual_extractor(reduced)
        expected = san_network.side_adapter_network(image, features)
        with mixed_precision(CPU, on=True):
            found = san_network.side_adapter_network(image, features)
            fast = san_network.clip_visual_extractor(reduced)
    for half, full in zip(found, expected, strict=True):
        assert torch.equal(half, full)
    # The first tokens are whole, and the sums of what the blocks add.
    assert torch.equal(fast.patches[0], features.patches[0])
    assert all(level.dtype == torch.float32 for level in fast.patches.values())
    assert not torch.equal(fast.patches[18], features.patches[18])
