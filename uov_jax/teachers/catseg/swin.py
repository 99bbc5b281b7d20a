"""Swin-B without its last stage: the appearance features that guide CAT-Seg's cost aggregation.

Swin Transformer (arXiv 2103.14030) in the state_dict layout of detectron2's port: a patch merging
belongs to the stage before it, and every stage has a norm of its own on the way out.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Mlp
from timm.models.swin_transformer import get_relative_position_index
from torch import nn

from uov_jax.teachers.catseg.windows import attend, from_windows, shift_mask, to_windows

WIDTH = 128
DEPTHS = (2, 2, 18)
HEADS = (4, 8, 16)
WINDOW = 12
PATCH = 4


class WindowAttention(nn.Module):
    """Attention within windows with a learned bias by relative position."""

    relative_position_index: torch.Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", get_relative_position_index(window, window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend within [batch * windows, length, width]; mask [windows, length, length]."""
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None]
        query, key, value = self.qkv(windows).chunk(3, dim=-1)
        return self.proj(attend(query, key, value, self.heads, bias.to(query.dtype)))


class Block(nn.Module):
    """Window attention and a two-layer network, each with norm and residual."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[batch, height, width, channels] to the same; the mask is of the shifted windows."""
        windows = to_windows(self.norm1(pixels), self.window, self.shift)
        windows = self.attn(windows, mask if self.shift else None)
        height, width = pixels.shape[1:3]
        pixels = pixels + from_windows(windows, self.window, self.shift, height, width)
        return pixels + self.mlp(self.norm2(pixels))


class PatchMerging(nn.Module):
    """Squares of 2 x 2 pixels become one pixel of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[batch, height, width, C] to float32 [batch, height / 2, width / 2, 2 C]."""
        corners = [pixels[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1))).float()


class Stage(nn.Module):
    """Blocks at one resolution, every second with shifted windows, then a patch merging."""

    def __init__(self, width: int, depth: int, heads: int, window: int, merge: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(width, heads, window, window // 2 * (number % 2)) for number in range(depth)
        )
        self.downsample = PatchMerging(width) if merge else None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[batch, height, width, channels] to the same, before the merging."""
        height, width = pixels.shape[1:3]
        mask = shift_mask(height, width, self.window, self.window // 2).to(pixels.device)
        for block in self.blocks:
            pixels = block(pixels, mask)
        return pixels


class PatchEmbedding(nn.Module):
    """Patches of 4 x 4 pixels become one pixel each."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, 3, height, width] to float32 [batch, height / 4, width / 4, channels].

        Under autocast too: see `clip_vision.embed_patches`.
        """
        with torch.autocast(image.device.type, enabled=False):
            return self.norm(self.proj(image).permute(0, 2, 3, 1))


class SwinTransformer(nn.Module):
    """Three stages; the defaults are Swin-B's at 384 x 384 pixels."""

    def __init__(
        self,
        width: int = WIDTH,
        depths: tuple[int, ...] = DEPTHS,
        heads: tuple[int, ...] = HEADS,
        window: int = WINDOW,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(width, PATCH)
        last = len(depths) - 1
        self.layers = nn.ModuleList(
            Stage(width * 2**i, depth, heads[i], window, merge=i < last)
            for i, depth in enumerate(depths)
        )
        for i in range(len(depths)):
            self.add_module(f"norm{i}", nn.LayerNorm(width * 2**i))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features of a normalised image [batch, 3, height, width].

        Returns:
            Per stage [batch, 128 * 2**i, height / 4 / 2**i, width / 4 / 2**i].

        """
        pixels = self.patch_embed(image)
        features = []
        stage: Any
        for i, stage in enumerate(self.layers):
            pixels = stage(pixels)
            norm: Any = self.get_submodule(f"norm{i}")
            features.append(norm(pixels).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                pixels = stage.downsample(pixels)
        return features
