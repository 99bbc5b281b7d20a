"""FC-CLIP's mask decoder: 250 queries that gather their regions by masked attention.

Architecture: Cheng et al., Mask2Former, 2022, section 3.2.2; the class embedding pooled over the
mask: Yu et al., FC-CLIP, 2023, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uov_jax.teachers.fcclip.pixel_decoder import CHANNELS, PixelFeatures
from uov_jax.teachers.fcclip.positions import sine_positions

QUERIES = 250
HEADS = 8
LAYERS = 9
LEVELS = 3
FEEDFORWARD = 2048
EMBEDDING_SIZE = 768


class Queries(NamedTuple):
    """The mask decoder's result: mask logits float[B, 250, h, w], embeddings float[B, 250, 768]."""

    mask_logits: Tensor
    class_embeddings: Tensor


class MaskDecoder(nn.Module):
    """Queries that attend to the image inside their own mask so far, and to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.transformer_self_attention_layers = _layers(SelfAttention)
        self.transformer_cross_attention_layers = _layers(CrossAttention)
        self.transformer_ffn_layers = _layers(Feedforward)
        self.decoder_norm = nn.LayerNorm(CHANNELS)
        self.query_feat = nn.Embedding(QUERIES, CHANNELS)
        self.query_embed = nn.Embedding(QUERIES, CHANNELS)
        self.level_embed = nn.Embedding(LEVELS, CHANNELS)
        self.mask_embed = Perceptron(CHANNELS)
        self._mask_pooling_proj = nn.Sequential(
            nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        )
        self.class_embed = Perceptron(EMBEDDING_SIZE)

    def forward(self, features: PixelFeatures) -> Queries:
        """Decode masks of the size of the mask features."""
        memory = [self._memory(number, level) for number, level in enumerate(features.levels)]
        queries = self.query_feat.weight.expand(len(features.mask_features), -1, -1)
        places = self.query_embed.weight
        for number in range(LAYERS):
            pixels, positions = memory[number % LEVELS]
            mask_logits = self.mask_logits(queries, features.mask_features)
            outside = self.outside(mask_logits, features.levels[number % LEVELS])
            queries = self.transformer_cross_attention_layers[number](
                queries, places, pixels, positions, outside
            )
            queries = self.transformer_self_attention_layers[number](queries, places)
            queries = self.transformer_ffn_layers[number](queries)
        return self.predict(queries, features.mask_features)

    def predict(self, queries: Tensor, mask_features: Tensor) -> Queries:
        """Masks and class embeddings of queries float[B, 250, 256]."""
        mask_logits = self.mask_logits(queries, mask_features)
        pooled = self._mask_pooling_proj(pool_inside(mask_features, mask_logits))
        return Queries(mask_logits, self.class_embed(pooled + self.decoder_norm(queries)))

    def mask_logits(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """float[B, 250, h, w]: positive inside the mask of each query."""
        embeddings = self.mask_embed(self.decoder_norm(queries))
        return torch.einsum("bqc,bchw->bqhw", embeddings, mask_features)

    @staticmethod
    def outside(mask_logits: Tensor, level: Tensor) -> Tensor:
        """bool[B, 250, h * w]: pixels of a level [B, C, h, w] that a query may not attend to.

        A query whose mask has no pixel there attends to all of them.
        """
        logits = F.interpolate(mask_logits, level.shape[-2:], mode="bilinear").flatten(2)
        outside = logits.sigmoid() < 0.5
        return outside & ~outside.all(dim=2, keepdim=True)

    def _memory(self, number: int, level: Tensor) -> tuple[Tensor, Tensor]:
        pixels = level.flatten(2).transpose(1, 2) + self.level_embed.weight[number]
        positions = sine_positions(level.shape[2], level.shape[3], CHANNELS, level.device)
        return pixels, positions.flatten(1).T


def pool_inside(features: Tensor, mask_logits: Tensor) -> Tensor:
    """float32[B, Q, C]: mean of features [B, C, h, w] where mask logits [B, Q, h, w] are positive.

    Exactly zero for a mask without a positive pixel. In float32, as half precision cannot count
    the pixels.
    """
    with torch.autocast(features.device.type, enabled=False):
        inside = (mask_logits > 0).float()
        sums = torch.einsum("bchw,bqhw->bqc", features.float(), inside)
        return sums / inside.sum(dim=(2, 3)).clamp(min=1)[..., None]


class CrossAttention(nn.Module):
    """Attention of the queries to one level's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(
        self, queries: Tensor, places: Tensor, pixels: Tensor, positions: Tensor, outside: Tensor
    ) -> Tensor:
        """Queries float[B, Q, 256], pixels float[B, P, 256], outside bool[B, Q, P]."""
        attended, _ = self.multihead_attn(
            queries + places,
            pixels + positions,
            pixels,
            attn_mask=outside.repeat_interleave(HEADS, dim=0),
            need_weights=False,
        )
        normalised: Tensor = self.norm(queries + attended)
        return normalised


class SelfAttention(nn.Module):
    """Attention of the queries to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        """Queries float[B, Q, 256], their learned places float[Q, 256]."""
        placed = queries + places
        attended, _ = self.self_attn(placed, placed, queries, need_weights=False)
        normalised: Tensor = self.norm(queries + attended)
        return normalised


class Feedforward(nn.Module):
    """Two linear layers with a residual, and a norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(CHANNELS, FEEDFORWARD)
        self.linear2 = nn.Linear(FEEDFORWARD, CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, queries: Tensor) -> Tensor:
        """Queries float[B, Q, 256]."""
        normalised: Tensor = self.norm(queries + self.linear2(self.linear1(queries).relu()))
        return normalised


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them, 256 wide inside."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        sizes = (CHANNELS, CHANNELS, out_channels)
        self.layers = nn.ModuleList(nn.Linear(CHANNELS, size) for size in sizes)

    def forward(self, rows: Tensor) -> Tensor:
        """float[..., 256] to float[..., out_channels]."""
        first, second, last = self.layers
        result: Tensor = last(second(first(rows).relu()).relu())
        return result


def _layers(kind: type[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(kind() for _ in range(LAYERS))
