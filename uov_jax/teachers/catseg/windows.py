"""Attention inside windows of an image, plain and shifted (Swin Transformer, arXiv 2103.14030)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import window_partition, window_reverse

from uov_jax.errors import InputError

MASKED = -100.0  # added to the logits between pixels that only the cyclic shift made neighbours


def shift_mask(height: int, width: int, window: int, shift: int) -> torch.Tensor:
    """float32 [windows, window^2, window^2]: 0 between true neighbours, else `MASKED`."""
    _require_tiles(height, width, window)
    rows, columns = (_parts(size, window, shift) for size in (height, width))
    part = (3 * rows[:, None] + columns[None]).float()
    parts = window_partition(part[None, :, :, None], (window, window)).flatten(1)
    return torch.where(parts[:, :, None] == parts[:, None, :], 0.0, MASKED)


def to_windows(pixels: torch.Tensor, window: int, shift: int) -> torch.Tensor:
    """Cut [batch, height, width, channels] into [batch * windows, window^2, channels].

    Raises:
        InputError: the image is no whole number of windows.

    """
    _require_tiles(pixels.shape[1], pixels.shape[2], window)
    if shift:
        pixels = torch.roll(pixels, (-shift, -shift), dims=(1, 2))
    return window_partition(pixels, (window, window)).flatten(1, 2)


def from_windows(
    windows: torch.Tensor, window: int, shift: int, height: int, width: int
) -> torch.Tensor:
    """Undo `to_windows`."""
    tiles = windows.unflatten(1, (window, window))
    pixels = window_reverse(tiles, (window, window), height, width)
    return torch.roll(pixels, (shift, shift), dims=(1, 2)) if shift else pixels


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Multi-head attention within each row of [batch, length, channels].

    Args:
        query: [batch, length, channels].
        key: the same.
        value: the same.
        heads: number of heads, each with consecutive channels.
        bias: [1 or windows, 1 or heads, length, length], added to the logits; the windows of one
            image follow each other in the batch.

    Returns:
        [batch, length, channels].

    """
    query, key, value = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if bias is not None and len(bias) > 1:
        bias = bias.repeat(len(query) // len(bias), 1, 1, 1)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return mixed.transpose(1, 2).flatten(2)


def _require_tiles(height: int, width: int, window: int) -> None:
    if height % window or width % window:
        raise InputError(f"windows of {window} x {window} do not tile {height} x {width} pixels")


def _parts(size: int, window: int, shift: int) -> torch.Tensor:
    """int64 [size]: the three parts of an axis whose pixels may not see each other."""
    place = torch.arange(size)
    return (place >= size - window).long() + (place >= size - shift).long()
