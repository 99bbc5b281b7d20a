"""FC-CLIP's pixel decoder: deformable attention over three strides, then one step of a pyramid.

Architecture: Cheng et al., Mask2Former, 2022, section 3.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uov_jax.teachers.fcclip.deformable_attention import DeformableAttention, Size
from uov_jax.teachers.fcclip.positions import sine_positions

CHANNELS = 256
GROUPS = 32
HEADS = 8
POINTS = 4
LAYERS = 6
FEEDFORWARD = 1024
FINE = "res2"  # stride 4, 192 channels: the pyramid step alone
COARSE = {"res5": 1536, "res4": 768, "res3": 384}  # strides 32, 16, 8, in the order of the tokens


class PixelFeatures(NamedTuple):
    """The pixel decoder's result.

    levels: float32[B, 256, h, w] at strides 32, 16 and 8. mask_features: float32[B, 256, h, w] at
    stride 4, whose products with a query's mask embedding are the mask's logits.
    """

    levels: tuple[Tensor, Tensor, Tensor]
    mask_features: Tensor


class PixelDecoder(nn.Module):
    """From the backbone's four feature maps to the masks' features; in float32 throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, CHANNELS, 1), nn.GroupNorm(GROUPS, CHANNELS))
            for channels in COARSE.values()
        )
        self.transformer = Transformer()
        self.mask_features = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.adapter_1 = NormalisedConvolution(192, CHANNELS, 1)
        self.layer_1 = NormalisedConvolution(CHANNELS, CHANNELS, 3)

    def forward(self, features: Mapping[str, Tensor]) -> PixelFeatures:
        """Decode feature maps float[B, C, h, w] named res2..res5, of strides 4, 8, 16, 32."""
        # Places are shares of the image: half precision could not tell pixels apart.
        with torch.autocast(features[FINE].device.type, enabled=False):
            inputs = [
                project(features[name].float())
                for name, project in zip(COARSE, self.input_proj, strict=True)
            ]
            coarse, middle, fine = self.transformer(inputs)
            lateral = self.adapter_1(features[FINE].float())
            upsampled = F.interpolate(fine, lateral.shape[-2:], mode="bilinear")
            merged = self.layer_1(lateral + upsampled).relu()
            return PixelFeatures((coarse, middle, fine), self.mask_features(merged))


class NormalisedConvolution(nn.Conv2d):
    """A convolution without bias and its group norm, named as detectron2 names them."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out_channels)

    def forward(self, input: Tensor) -> Tensor:
        """float[B, in_channels, h, w] to float[B, out_channels, h, w]."""
        normalised: Tensor = self.norm(super().forward(input))
        return normalised


class Transformer(nn.Module):
    """Deformable self-attention of the pixels of all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.zeros(len(COARSE), CHANNELS))
        self.encoder = Encoder()

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Feature maps float32[B, 256, h, w] to feature maps of the same sizes."""
        sizes: list[Size] = [(level.shape[2], level.shape[3]) for level in levels]
        device = levels[0].device
        positions = torch.cat(
            [
                sine_positions(*size, CHANNELS, device).flatten(1).T + embed
                for size, embed in zip(sizes, self.level_embed, strict=True)
            ]
        )
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        tokens = self.encoder(tokens, positions, pixel_centres(sizes, device), sizes)
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        return [
            part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)
        ]


class Encoder(nn.Module):
    """The layers; a module of its own for the sake of the checkpoint's names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))

    def forward(
        self, tokens: Tensor, positions: Tensor, references: Tensor, sizes: list[Size]
    ) -> Tensor:
        """Run all layers on tokens float32[B, S, 256]."""
        for layer in self.layers:
            tokens = layer(tokens, positions, references, sizes)
        return tokens


class EncoderLayer(nn.Module):
    """Deformable attention and a feedforward network, each with residual and norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(CHANNELS, len(COARSE), HEADS, POINTS)
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.linear1 = nn.Linear(CHANNELS, FEEDFORWARD)
        self.linear2 = nn.Linear(FEEDFORWARD, CHANNELS)
        self.norm2 = nn.LayerNorm(CHANNELS)

    def forward(
        self, tokens: Tensor, positions: Tensor, references: Tensor, sizes: list[Size]
    ) -> Tensor:
        """Tokens float32[B, S, 256]; positions float32[S, 256]; references float32[S, 2]."""
        attended = self.self_attn(tokens + positions, references, tokens, sizes)
        tokens = self.norm1(tokens + attended)
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


def pixel_centres(sizes: list[Size], device: torch.device) -> Tensor:
    """float32[S, 2]: (x, y) of every pixel of every level as shares of the image."""
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack([columns, rows], dim=2).flatten(0, 1))
    return torch.cat(centres)
