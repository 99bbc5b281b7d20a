"""Pixel and mask decoder: pooling, masked attention, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.teachers.recipe import tensor_for
from uov_jax.teachers.fcclip.pixel_decoder import PixelDecoder, PixelFeatures, pixel_centres
from uov_jax.teachers.fcclip.transformer_decoder import MaskDecoder, pool_inside
from uov_jax.teachers.weights import load_weights

CHANNELS = {"res2": 192, "res3": 384, "res4": 768, "res5": 1536}


def with_recipe(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    tensors = {
        name: torch.from_numpy(np.asarray(tensor_for(prefix + name, tuple(value.shape))))
        for name, value in module.state_dict().items()
    }
    load_weights(module, tensors, "recipe")
    return module


@pytest.fixture(scope="module")
def pixel_decoder() -> PixelDecoder:
    with torch.device("meta"):
        module = PixelDecoder()
    return with_recipe(module, "sem_seg_head.pixel_decoder.")


@pytest.fixture(scope="module")
def mask_decoder() -> MaskDecoder:
    with torch.device("meta"):
        module = MaskDecoder()
    return with_recipe(module, "sem_seg_head.predictor.")


def feature_maps(batch: int = 2) -> dict[str, torch.Tensor]:
    """Backbone features of images of 64 x 96 pixels."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(batch, channels, 64 // stride, 96 // stride, generator=generator)
        for (name, channels), stride in zip(CHANNELS.items(), (4, 8, 16, 32), strict=True)
    }


@pytest.fixture(scope="module")
def pixels(pixel_decoder: PixelDecoder) -> PixelFeatures:
    return pixel_decoder(feature_maps())


def test_levels_have_their_strides(pixels):
    assert [tuple(level.shape) for level in pixels.levels] == [
        (2, 256, 2, 3),
        (2, 256, 4, 6),
        (2, 256, 8, 12),
    ]
    assert pixels.mask_features.shape == (2, 256, 16, 24)


def test_the_pixel_decoder_is_in_float32_throughout(pixel_decoder, pixels):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pixel_decoder(feature_maps())
    assert found.mask_features.dtype == torch.float32
    assert torch.equal(found.mask_features, pixels.mask_features)


def test_pixel_centres_are_shares_of_the_image():
    found = pixel_centres([(1, 2), (2, 1)], torch.device("cpu"))
    np.testing.assert_allclose(found, [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])


def test_features_are_averaged_inside_the_mask():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 4, 6, generator=generator)
    masks = torch.randn(2, 3, 4, 6, generator=generator)
    masks[0, 1] = -masks[0, 1].abs()
    masks[1, 2] = 0.0  # zero is outside
    found = pool_inside(features, masks)
    for b, q in np.ndindex(2, 3):
        inside = features[b][:, masks[b, q] > 0]
        expected = inside.mean(1) if inside.shape[1] else torch.zeros(5)
        torch.testing.assert_close(found[b, q], expected, rtol=1e-5, atol=1e-6)
    assert (found[0, 1] == 0).all()
    assert (found[1, 2] == 0).all()


def test_pixels_are_counted_beyond_half_precision():
    features, masks = torch.ones(1, 1, 300, 400), torch.ones(1, 1, 300, 400)
    assert pool_inside(features.half(), masks.half()).item() == pytest.approx(1, rel=1e-6)


def test_a_query_without_a_pixel_attends_to_all():
    masks = torch.full((1, 2, 8, 8), -5.0)
    masks[0, 1, :4, :4] = 5.0
    outside = MaskDecoder.outside(masks, torch.zeros(1, 256, 4, 4))
    assert not outside[0, 0].any()
    expected = torch.ones(4, 4, dtype=torch.bool)
    expected[:2, :2] = False
    assert torch.equal(outside[0, 1].view(4, 4), expected)


def test_images_of_a_batch_are_independent(mask_decoder, pixels):
    together = mask_decoder(pixels)
    assert together.mask_logits.shape == (2, 250, 16, 24)
    assert together.class_embeddings.shape == (2, 250, 768)
    for b in range(2):
        levels = tuple(level[b : b + 1] for level in pixels.levels)
        alone = mask_decoder(PixelFeatures(levels, pixels.mask_features[b : b + 1]))
        for found, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(found[0], expected[b], rtol=1e-4, atol=1e-4)


def test_pixels_outside_a_mask_do_not_move_its_query(mask_decoder):
    layer = mask_decoder.transformer_cross_attention_layers[0]
    generator = torch.Generator().manual_seed(0)
    queries, places = torch.randn(1, 4, 256, generator=generator), torch.zeros(4, 256)
    memory, positions = torch.randn(1, 10, 256, generator=generator), torch.zeros(10, 256)
    outside = torch.zeros(1, 4, 10, dtype=torch.bool)
    outside[0, 1, 5:] = True
    changed = memory.clone()
    changed[0, 5:] += 1
    before = layer(queries, places, memory, positions, outside)
    after = layer(queries, places, changed, positions, outside)
    assert torch.equal(before[0, 1], after[0, 1])
    assert not torch.isclose(before[0, 0], after[0, 0]).all()
