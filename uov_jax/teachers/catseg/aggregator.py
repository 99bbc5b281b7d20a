"""CAT-Seg's cost aggregation: from the similarity of every word and place to masks of every word.

CAT-Seg (arXiv 2303.11797, section 3.3) as first released in August 2023, with the state_dict layout
of that release. Words meet only in the class attention, on pooled maps; all else is done for a few
words at a time, so that memory stays small. What is the same for all words (the image's guidance)
is multiplied once and added, where the released code repeats it for every word and concatenates.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

from uov_jax.teachers.catseg.windows import attend, from_windows, shift_mask, to_windows

WIDTH = 128
HEADS = 4
LAYERS = 2
WINDOW = 12
POOLING = 2
GRID = 24
PROMPTS = 80
TEXT_SIZE = 768
GUIDANCE_SIZE = 128
APPEARANCE_SIZES = (512, 256, 128)  # of Swin's stages at strides 16, 8 and 4
DECODER_SIZES = (64, 32)
DECODER_GUIDANCE_SIZES = (32, 16)
LINEAR_ATTENTION_EPSILON = 1e-6


class GuidedLinear(nn.Linear):
    """A linear layer over [input, guidance], where the guidance is shared by many inputs."""

    def __init__(self, width: int, guidance_size: int, out_features: int) -> None:
        super().__init__(width + guidance_size, out_features)
        self.width = width

    def guided(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """The output for inputs [..., width] and a guidance that broadcasts to them."""
        own, shared = self.weight.split([self.width, self.in_features - self.width], dim=1)
        return F.linear(x, own) + F.linear(guidance, shared, self.bias)


class GuidedWindowAttention(nn.Module):
    """Attention within windows; queries and keys see the image's guidance, values do not."""

    def __init__(self, width: int, guidance_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = GuidedLinear(width, guidance_size, width)
        self.k = GuidedLinear(width, guidance_size, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, windows: torch.Tensor, guidance: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Attend.

        Args:
            windows: [words * windows, length, width].
            guidance: [windows, length, guidance size].
            mask: [windows, length, length] or None.

        """
        words = windows.unflatten(0, (-1, len(guidance)))
        query = self.q.guided(words, guidance).flatten(0, 1)
        key = self.k.guided(words, guidance).flatten(0, 1)
        bias = None if mask is None else mask[:, None].to(query.dtype)
        return self.proj(attend(query, key, self.v(windows), self.heads, bias))


class GuidedBlock(nn.Module):
    """A Swin block over the places of every word's cost map."""

    def __init__(
        self, width: int, guidance_size: int, grid: int, heads: int, window: int, shift: int
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = GuidedWindowAttention(width, guidance_size, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        mask = shift_mask(grid, grid, window, shift) if shift else None
        self.register_buffer("attn_mask", mask)

    def forward(self, cost: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """[words, grid, grid, width] to the same, guidance [1, grid, grid, size]."""
        windows = to_windows(self.norm1(cost), self.window, self.shift)
        around = to_windows(guidance, self.window, self.shift)
        windows = self.attn(windows, around, self.attn_mask)
        height, width = cost.shape[1:3]
        cost = cost + from_windows(windows, self.window, self.shift, height, width)
        return cost + self.mlp(self.norm2(cost))


class SpatialAggregation(nn.Module):
    """Every word for itself: a plain and a shifted Swin block."""

    def __init__(self, width: int, guidance_size: int, grid: int, heads: int, window: int) -> None:
        super().__init__()
        shape = (width, guidance_size, grid, heads, window)
        self.block_1 = GuidedBlock(*shape, shift=0)
        self.block_2 = GuidedBlock(*shape, shift=window // 2)
        self.guidance_norm = nn.LayerNorm(guidance_size)

    def forward(
        self, cost: torch.Tensor, guidance: torch.Tensor, words_at_once: int
    ) -> torch.Tensor:
        """[words, grid, grid, width] to the same, guidance [1, grid, grid, size]."""
        guidance = self.guidance_norm(guidance)
        parts = [
            self.block_2(self.block_1(part, guidance), guidance)
            for part in cost.split(words_at_once)
        ]
        return torch.cat(parts)


class ClassAttention(nn.Module):
    """Linear attention (arXiv 2006.16236) between the words at one place."""

    def __init__(self, width: int, guidance_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = GuidedLinear(width, guidance_size, width)
        self.k = GuidedLinear(width, guidance_size, width)
        self.v = nn.Linear(width, width)

    def forward(self, words: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """[places, words, width] to the same, guidance [words, guidance size]."""
        query = self.q.guided(words, guidance)
        key = self.k.guided(words, guidance)
        heads = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, self.v(words)))
        return linear_attention(*heads).flatten(2)


def linear_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention with the kernel (elu(q) + 1) . (elu(k) + 1), in float32.

    Args:
        query: with key and value, [batch, length, heads, channels].
        key: see query.
        value: see query.

    Returns:
        float32 [batch, length, heads, channels].

    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = (F.elu(x.float()) + 1 for x in (query, key))
        pairs = torch.einsum("nshd,nshv->nhdv", key, value.float())
        weight = torch.einsum("nlhd,nhd->nlh", query, key.sum(dim=1)) + LINEAR_ATTENTION_EPSILON
        return torch.einsum("nlhd,nhdv->nlhv", query, pairs) / weight[..., None]


class ClassAggregation(nn.Module):
    """All words together, on pooled maps: class attention and a two-layer network."""

    def __init__(self, width: int, guidance_size: int, heads: int, pooling: int) -> None:
        super().__init__()
        self.pooling = pooling
        self.attention = ClassAttention(width, guidance_size, heads)
        self.MLP = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, cost: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """[words, grid, grid, width] to the same, guidance [words, guidance size]."""
        grid = cost.shape[1:3]
        pooled = F.avg_pool2d(cost.permute(0, 3, 1, 2), self.pooling)
        places = pooled.flatten(2).permute(2, 0, 1)
        places = places + self.attention(self.norm1(places), guidance)
        places = places + self.MLP(self.norm2(places))
        pooled = places.permute(1, 2, 0).unflatten(2, pooled.shape[2:])
        full = F.interpolate(pooled, size=grid, mode="bilinear", align_corners=True)
        return cost + full.permute(0, 2, 3, 1)


class AggregatorLayer(nn.Module):
    """Aggregation over places, then over words."""

    def __init__(self) -> None:
        super().__init__()
        self.swin_block = SpatialAggregation(WIDTH, GUIDANCE_SIZE, GRID, HEADS, WINDOW)
        self.attention = ClassAggregation(WIDTH, GUIDANCE_SIZE, HEADS, POOLING)

    def forward(
        self,
        cost: torch.Tensor,
        guidance: torch.Tensor,
        text_guidance: torch.Tensor,
        words_at_once: int,
    ) -> torch.Tensor:
        """[words, grid, grid, width] to the same."""
        return self.attention(self.swin_block(cost, guidance, words_at_once), text_guidance)


class GuidedConvolution(nn.Conv2d):
    """A 3 x 3 convolution without bias over [input, guidance], the guidance of one image."""

    def __init__(self, width: int, guidance_size: int, out_channels: int) -> None:
        super().__init__(width + guidance_size, out_channels, 3, padding=1, bias=False)
        self.width = width

    def guided(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """The output for [words, width, h, w] and the guidance [1, size, h, w]."""
        own, shared = self.weight.split([self.width, self.in_channels - self.width], dim=1)
        return F.conv2d(x, own, padding=1) + F.conv2d(guidance, shared, padding=1)


class DoubleConvolution(nn.Module):
    """Two 3 x 3 convolutions with group norm and ReLU; the first one is guided."""

    def __init__(self, width: int, guidance_size: int, out_channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            GuidedConvolution(width, guidance_size, out_channels),
            nn.GroupNorm(out_channels // 16, out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(out_channels // 16, out_channels),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """[words, width, height, width] to [words, out channels, height, width]."""
        first: Any
        first, *rest = self.double_conv
        x = first.guided(x, guidance)
        for layer in rest:
            x = layer(x)
        return x


class Up(nn.Module):
    """Twice the resolution, guided by the image at that resolution."""

    def __init__(self, in_channels: int, guidance_size: int, out_channels: int) -> None:
        super().__init__()
        width = in_channels - guidance_size
        self.up = nn.ConvTranspose2d(in_channels, width, 2, 2)
        self.conv = DoubleConvolution(width, guidance_size, out_channels)

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """[words, C, h, w] to [words, out channels, 2 h, 2 w]."""
        return self.conv(self.up(x), guidance)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU())


class Aggregator(nn.Module):
    """The whole of it, from CLIP's features to one map of logits per word."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AggregatorLayer() for _ in range(LAYERS))
        self.conv1 = nn.Conv2d(PROMPTS, WIDTH, 7, padding=3)
        appearance, *finer = APPEARANCE_SIZES
        self.guidance_projection = _projection(appearance, GUIDANCE_SIZE)
        self.text_guidance_projection = nn.Sequential(
            nn.Linear(TEXT_SIZE, GUIDANCE_SIZE), nn.ReLU()
        )
        self.decoder_guidance_projection = nn.ModuleList(
            map(_projection, finer, DECODER_GUIDANCE_SIZES)
        )
        self.decoder1 = Up(WIDTH, DECODER_GUIDANCE_SIZES[0], DECODER_SIZES[0])
        self.decoder2 = Up(DECODER_SIZES[0], DECODER_GUIDANCE_SIZES[1], DECODER_SIZES[1])
        self.head = nn.Conv2d(DECODER_SIZES[1], 1, 3, padding=1)

    def forward(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        appearance: list[torch.Tensor],
        words_at_once: int,
    ) -> torch.Tensor:
        """Logits of every word.

        Args:
            image: float32 [768, 24, 24], CLIP's dense features.
            text: float32 [words, 80, 768], CLIP's embeddings of every word in every prompt.
            appearance: [1, C, s, s] of Swin's stages at strides 4, 8 and 16 of 384 pixels.
            words_at_once: how many words share the memory.

        Returns:
            float32 [words, 96, 96].

        """
        fine, middle, coarse = appearance
        guidance = self.guidance_projection(coarse).permute(0, 2, 3, 1)
        finer = [
            project(features)
            for project, features in zip(
                self.decoder_guidance_projection, (middle, fine), strict=True
            )
        ]
        text_guidance = self.text_guidance_projection(F.normalize(text.mean(dim=1), dim=-1))
        cost = self._embed(image, text, words_at_once)
        for layer in self.layers:
            cost = layer(cost, guidance, text_guidance, words_at_once)
        parts = [self._decode(part, finer) for part in cost.split(words_at_once)]
        return torch.cat(parts)

    def _embed(self, image: torch.Tensor, text: torch.Tensor, words_at_once: int) -> torch.Tensor:
        """The cost volume over all prompts, float32 [words, 24, 24, width]."""
        image = F.normalize(image, dim=0)
        parts = []
        for words in text.split(words_at_once):
            # Cosines of like words differ by less than half precision can tell.
            with torch.autocast(image.device.type, enabled=False):
                similarity = torch.einsum("chw,tpc->tphw", image, F.normalize(words, dim=-1))
            # What the layers add to, in float32 as they leave it.
            parts.append(self.conv1(similarity).float().permute(0, 2, 3, 1))
        return torch.cat(parts)

    def _decode(self, cost: torch.Tensor, guidance: list[torch.Tensor]) -> torch.Tensor:
        # Words are compared by these logits, and nothing behind them averages over what is rounded
        # here: in bfloat16 the decoder changed more words than all else together.
        with torch.autocast(cost.device.type, enabled=False):
            fine, finest = (image.float() for image in guidance)
            features = self.decoder1(cost.permute(0, 3, 1, 2), fine)
            return self.head(self.decoder2(features, finest))[:, 0]
