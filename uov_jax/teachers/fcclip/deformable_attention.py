"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021, equation 3), plain PyTorch.

Its weights are named as in the published compiled operator, which this replaces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]  # height, width


class DeformableAttention(nn.Module):
    """Every query looks at a few learned places near its own in each of the feature levels."""

    def __init__(self, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)

    def forward(
        self, queries: Tensor, references: Tensor, features: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """Attend.

        Args:
            queries: float[B, N, C].
            references: float[N, 2], place (x, y) of each query, as shares of width and height.
            features: float[B, S, C], the levels' pixels one level after the other, row by row.
            sizes: height and width of each level; their products sum to S.

        Returns:
            float[B, N, C].

        """
        batch, count, _ = queries.shape
        value = self.value_proj(features).unflatten(2, (self.heads, -1))
        offsets = self.sampling_offsets(queries)
        offsets = offsets.view(batch, count, self.heads, self.levels, self.points, 2)
        # Offsets are in pixels of their level.
        extent = offsets.new_tensor([(width, height) for height, width in sizes])
        places = references[:, None, None, None] + offsets / extent[:, None]
        weights = self.attention_weights(queries).view(batch, count, self.heads, -1).softmax(-1)
        weights = weights.view(batch, count, self.heads, self.levels, self.points)
        return self.output_proj(sample(value, sizes, places, weights))


def sample(value: Tensor, sizes: Sequence[Size], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples; what lies outside a level counts as zero.

    Args:
        value: float[B, S, heads, D], the levels' pixels one level after the other, row by row.
        sizes: height and width of each level.
        places: float[B, N, heads, levels, points, 2] as (x, y) in 0..1 over a level's full extent.
        weights: float[B, N, heads, levels, points].

    Returns:
        float[B, N, heads * D].

    """
    batch, count, heads = places.shape[:3]
    levels = value.split([height * width for height, width in sizes], dim=1)
    total = value.new_zeros(batch * heads, value.shape[3], count)
    for level, (pixels, (height, width)) in enumerate(zip(levels, sizes, strict=True)):
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        grid = (2 * places[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        found = F.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total += torch.einsum("bdnp,bnp->bdn", found, weight)
    return total.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2)
