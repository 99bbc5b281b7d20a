"""CLIP's dense embeddings against attention in which every token sees itself alone."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from timm.layers import resample_abs_pos_embed

from uov_jax.teachers.clip_vision import (
    EMBEDDING_SIZE,
    RESOLUTION,
    build_clip,
    dense_embeddings,
    embed_patches,
    position_embedding,
)


@pytest.fixture(scope="module")
def visual() -> VisionTransformer:
    """Open_clip's image tower at a size of 4 x 4 patches, with random weights."""
    torch.manual_seed(0)
    tower = VisionTransformer(
        image_size=56, patch_size=14, width=16, layers=3, heads=2, mlp_ratio=4.0, output_dim=12,
        act_layer=QuickGELU,
    )  # fmt: skip
    for name, parameter in tower.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if ".ln_" in name else 0.0, 0.2)
    return tower.eval()


def image(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def by_masked_attention(
    visual: VisionTransformer, pixels: torch.Tensor, whole_block: bool
) -> torch.Tensor:
    """The same by PyTorch's attention, which may look at no other token in the last block."""
    patches = visual.conv1(pixels)
    rows, columns = patches.shape[2:]
    tokens = patches.flatten(2).mT
    tokens = torch.cat([visual.class_embedding.expand(len(tokens), 1, -1), tokens], dim=1)
    positions = resample_abs_pos_embed(
        visual.positional_embedding[None], [rows, columns], interpolation="bicubic", antialias=False
    )
    tokens = visual.ln_pre(tokens + positions)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    length = tokens.shape[1]
    others = torch.full((length, length), float("-inf")).fill_diagonal_(0)
    normed = last.ln_1(tokens)
    values = last.attn(normed, normed, normed, need_weights=False, attn_mask=others)[0]
    if whole_block:
        tokens = tokens + values
        values = tokens + last.mlp(last.ln_2(tokens))
    return visual.ln_post(values) @ visual.proj


@pytest.mark.parametrize("size", [(56, 56), (42, 84)])
@pytest.mark.parametrize("whole_block", [True, False])
def test_the_last_block_takes_every_token_by_itself(visual, size, whole_block):
    with torch.inference_mode():
        found = dense_embeddings(visual, image(*size), whole_block=whole_block)
        expected = by_masked_attention(visual, image(*size), whole_block)
    assert found.shape == (2, 1 + size[0] * size[1] // 14**2, 12)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_nearly_the_same_embeddings(visual):
    with torch.inference_mode():
        expected = dense_embeddings(visual, image(56, 56), whole_block=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = dense_embeddings(visual, image(56, 56), whole_block=True)
            first = embed_patches(visual, image(56, 56))
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)
    assert not torch.equal(found, expected)
    # Where the image comes in nothing is rounded, nor where the embeddings come out.
    assert torch.equal(first, embed_patches(visual, image(56, 56)))
    assert not torch.equal(found, found.bfloat16().float())


def test_positions_are_kept_at_the_native_size(visual):
    assert position_embedding(visual, 4, 4) is visual.positional_embedding
    wide = position_embedding(visual, 4, 8)
    assert torch.equal(wide[0], visual.positional_embedding[0])


def test_clip_is_openais_at_336_pixels():
    with torch.device("meta"):
        clip = build_clip()
    assert clip.visual.image_size == (RESOLUTION, RESOLUTION)
    assert clip.visual.proj.shape == (1024, EMBEDDING_SIZE)
    assert isinstance(clip.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)
    assert not list(clip.buffers())
    assert open_clip.get_model_config("ViT-L-14-336")["text_cfg"]["layers"] == 12
