"""The Swin backbone against timm's own Swin Transformer, and at full size against measurement."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer as TimmSwin

from tests.teachers.catseg.made_up import assert_close, recipe_weights
from uov_jax.teachers.catseg.network import (
    APPEARANCE_RESOLUTION,
    IMAGENET_MEAN,
    IMAGENET_STD,
    squash,
)
from uov_jax.teachers.catseg.swin import SwinTransformer
from uov_jax.teachers.weights import load_weights


def test_every_stage_is_that_of_timm():
    torch.manual_seed(0)
    own = SwinTransformer(width=8, depths=(2, 3), heads=(2, 4), window=4).eval()
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    timm = TimmSwin(
        img_size=64, window_size=4, embed_dim=8, depths=(2, 3), num_heads=(2, 4), num_classes=0
    ).eval()
    # timm merges patches at the start of a stage, and norms the last stage alone.
    state = {
        re.sub(r"layers\.0\.downsample", "layers.1.downsample", name).replace("norm1.", "norm.")
        if not name.startswith("layers.0.blocks") and not name.startswith("layers.1.blocks")
        else name: value
        for name, value in own.state_dict().items()
        if "relative_position_index" not in name and not name.startswith("norm0.")
    }
    timm.load_state_dict(state, strict=True)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        first, last = own(image)
        expected = timm.forward_features(image)
        stage = timm.layers[0](timm.patch_embed(image))
        norm = own.get_submodule("norm0")(stage)
    torch.testing.assert_close(last, expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first, norm.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_swin_b_gives_the_measured_features(front_image: np.ndarray, measured):
    with torch.device("meta"):
        network = SwinTransformer()
    load_weights(network, recipe_weights("backbone."), "recipe")
    pixels = torch.tensor(front_image).permute(2, 0, 1).float()
    squashed = squash(pixels, IMAGENET_MEAN, IMAGENET_STD, APPEARANCE_RESOLUTION)
    assert_close(squashed[0, :, ::16, ::16], measured["swin_in_slice"], "input")
    with torch.inference_mode():
        fine, middle, coarse = network(squashed)
    assert_close(fine[0, :8, ::4, ::4], measured["res2"], "res2")
    assert_close(middle[0, :8, ::2, ::2], measured["res3"], "res3")
    assert_close(coarse[0, :8], measured["res4"], "res4")


def test_other_sizes_are_refused():
    network = SwinTransformer(width=8, depths=(1,), heads=(2,), window=4)
    with pytest.raises(ValueError, match="do not tile 15 x 15"):
        network(torch.zeros(1, 3, 60, 60))


def test_half_precision_gives_nearly_the_same_features():
    torch.manual_seed(0)
    network = SwinTransformer(width=16, depths=(2, 2), heads=(2, 4), window=4).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(image)
    for half, full in zip(found, expected, strict=True):
        torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)
