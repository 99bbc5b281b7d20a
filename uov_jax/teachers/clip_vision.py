"""CLIP's image tower, ViT-L/14 at 336 pixels, as a map of embeddings instead of one per image."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from uov_jax.teachers.attention import run_block

MODEL = "ViT-L-14-336-quickgelu"  # OpenAI's weights were trained with the quick GELU
RESOLUTION = 336
PATCH = 14
EMBEDDING_SIZE = 768


def build_clip() -> nn.Module:
    """OpenAI's CLIP ViT-L/14@336 with image and text towers, as open_clip builds it, untrained."""
    clip = open_clip.model.CLIP(**open_clip.get_model_config(MODEL))
    clip.attn_mask = None  # of the text tower, and no part of the state_dict; see `encode_prompts`
    return clip


def dense_embeddings(visual: Any, image: torch.Tensor, *, whole_block: bool) -> torch.Tensor:
    """Embeddings of the class token and of every patch.

    The last block's attention would mix the patches; its values are taken in the place of its
    mixture (MaskCLIP, arXiv 2112.01071, section 3.2).

    Args:
        visual: the image tower of `build_clip`.
        image: [batch, 3, height, width], normalised; a whole number of patches. Away from 336
            pixels the position embeddings are resized (bicubic).
        whole_block: keep the last block's residual and its two-layer network, as CAT-Seg does; else
            the values alone, as in the paper.

    Returns:
        float32 [batch, 1 + patches, 768], class token first, then the patches row by row.

    """
    tokens = embed_patches(visual, image)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
    # Nothing averages over what is rounded here: half precision ends with the last mixing.
    with torch.autocast(image.device.type, enabled=False):
        values = last_values(last, tokens)
        if whole_block:
            tokens = tokens + values
            values = tokens + last.mlp(last.ln_2(tokens))
        return visual.ln_post(values) @ visual.proj


def embed_patches(visual: Any, image: torch.Tensor) -> torch.Tensor:
    """The tokens that enter the first block, float32 [batch, 1 + patches, width].

    Under autocast too: bfloat16 has no more bits than the image's grey levels, and this first
    rounding would be the largest. Every block adds to these tokens, and they stay in float32.
    """
    with torch.autocast(image.device.type, enabled=False):
        patches = visual.conv1(image)
        positions = position_embedding(visual, patches.shape[2], patches.shape[3])
        patches = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(len(patches), 1, -1)
        tokens: torch.Tensor = visual.ln_pre(torch.cat([first, patches], dim=1) + positions)
        return tokens


def position_embedding(visual: Any, rows: int, columns: int) -> torch.Tensor:
    """Position embeddings [1 + rows * columns, width] for a grid of patches."""
    positions = visual.positional_embedding
    if (rows, columns) == visual.grid_size:
        return positions
    grid = positions[1:].T.unflatten(1, visual.grid_size)[None]
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], grid[0].flatten(1).T])


def last_values(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What the block's attention would give if every token saw itself alone."""
    attention = block.attn
    width = tokens.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    return attention.out_proj(F.linear(block.ln_1(tokens), weight, bias))
