"""FC-CLIP with `--autocast`: what is rounded, and how much of its masks and words that changes."""

from __future__ import annotations

import pytest
import torch

from tests.teachers.half_precision import (
    CAMERAS,
    assert_less_than_a_grey_level,
    camera_image,
)
from tests.teachers.recipe import text_rows
from uov_jax.teachers.clip_input import normalised
from uov_jax.teachers.fcclip import FcClip, FcClipTeacher
from uov_jax.teachers.runtime import mixed_precision
from uov_jax.vocabulary import load_vocabulary

CPU = torch.device("cpu")
ROUNDING = 2.0**-9  # of a number to bfloat16, at most, as a share of it
PRODUCTS = 3 + 3 * 36  # of the backbone: three reductions, and three in each block


def crop(camera: str) -> torch.Tensor:
    """float32[1, 3, 256, 384] of a camera's image."""
    return normalised(camera_image(camera)[200:456, 600:984])[None]


@pytest.mark.slow
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_backbone_is_off_by_its_roundings(fcclip_network: FcClip, camera: str):
    """Every product rounds both factors and itself; independent roundings add by their squares."""
    image = crop(camera)
    with torch.inference_mode():
        expected = fcclip_network.backbone(image)
        with mixed_precision(CPU, on=True):
            found = fcclip_network.backbone(image)
    for name, full in expected.items():
        error = (found[name].float() - full).square().mean() / full.square().mean()
        print(f"{name}: {float(error.sqrt()):.1e}")
        assert 0 < error.sqrt() < (3 * PRODUCTS) ** 0.5 * ROUNDING


@pytest.mark.slow
def test_half_precision_ends_with_the_backbone(
    fcclip_network: FcClip, monkeypatch: pytest.MonkeyPatch
):
    image, text = crop("CAM_BACK"), torch.from_numpy(text_rows())
    seen = torch.zeros(len(text), dtype=torch.bool)
    with torch.inference_mode():
        features = fcclip_network.backbone(image)
        monkeypatch.setattr(fcclip_network.backbone, "forward", lambda images: features)
        expected = fcclip_network(image, text, seen)
        with mixed_precision(CPU, on=True):
            found = fcclip_network(image, text, seen)
            # As they come from the backbone on some platforms.
            features = {name: level.bfloat16() for name, level in features.items()}
            rounded = fcclip_network(image, text, seen)
    for half, full in zip(found, expected, strict=True):
        assert torch.equal(half, full)
    assert all(part.dtype == torch.float32 for part in rounded)


@pytest.mark.slow
@pytest.mark.parametrize("camera", CAMERAS)
def test_whole_images_change_less_than_by_a_grey_level(fcclip_network: FcClip, camera: str):
    exact, half = (
        FcClipTeacher(fcclip_network, load_vocabulary(), text_rows(), "w", autocast=on)
        for on in (False, True)
    )
    assert_less_than_a_grey_level(exact, half, camera)
