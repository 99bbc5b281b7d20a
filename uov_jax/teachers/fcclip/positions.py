"""Sine position encoding of image grids (Carion et al., DETR, 2020, section A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """float32[channels, height, width]: rows in the first half of the channels, then columns.

    Rows and columns count from 1 and are scaled to end at 2 pi; sines and cosines alternate, and
    the frequency falls by a factor of `TEMPERATURE` over each half.
    """
    half = channels // 2
    pair = torch.arange(half, dtype=torch.float32, device=device) // 2
    period = TEMPERATURE ** (2 * pair / half)
    rows, columns = (_sines(size, period) for size in (height, width))
    rows = rows.T[:, :, None].expand(half, height, width)
    columns = columns.T[:, None, :].expand(half, height, width)
    return torch.cat([rows, columns])


def _sines(size: int, period: Tensor) -> Tensor:
    place = torch.arange(1, size + 1, dtype=torch.float32, device=period.device)
    angle = (place / (size + 1e-6) * (2 * math.pi))[:, None] / period
    return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
