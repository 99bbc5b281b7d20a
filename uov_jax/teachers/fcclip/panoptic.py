"""From FC-CLIP's overlapping masks to one map of segments (Kirillov et al., 2019; Mask2Former)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OBJECT_THRESHOLD = 0.0  # queries of a lower score are left out
OVERLAP_THRESHOLD = 0.8  # share of a mask that must not be covered by better ones
CHUNK = 16  # masks at full resolution at a time


class Segments(NamedTuple):
    """masks: uint16[H, W], 0 = void, 1..M. queries: int64[M], the query behind each segment."""

    masks: np.ndarray
    queries: np.ndarray


class Winners(NamedTuple):
    """Of K masks, the best at every pixel: its number, and whether the pixel lies inside it.

    number: int64[H, W]. inside: bool[H, W]. areas: int64[K], pixels inside each mask on its own.
    """

    number: Tensor
    inside: Tensor
    areas: Tensor


def panoptic_segments(
    mask_logits: Tensor,
    scores: Tensor,
    words: Tensor,
    things: np.ndarray,
    padded: tuple[int, int],
    size: tuple[int, int],
) -> Segments:
    """Join masks to segments that do not overlap.

    Every pixel goes to the query with the largest product of score and mask probability. A query
    keeps its pixels of probability 0.5 and more, unless better ones took too much of its mask.
    Words that are no things have one segment: later queries of the same word are painted into it.

    Args:
        mask_logits: float[Q, h, w].
        scores: float32[Q], probability of each query's word.
        words: int64[Q], 0..W - 1, or W for void.
        things: bool[W], whether a word may have several segments.
        padded: height and width in pixels that the mask logits cover.
        size: height and width of the image, the upper left part of that.

    """
    kept = torch.nonzero((words < len(things)) & (scores > OBJECT_THRESHOLD))[:, 0]
    if not len(kept):
        return Segments(np.zeros(size, np.uint16), np.zeros(0, np.int64))
    winners = best_masks(mask_logits[kept], scores[kept], padded, size)
    numbers, queries = _number(winners, words[kept].cpu().numpy(), things)
    lookup = torch.from_numpy(numbers).to(winners.number.device)
    masks = torch.where(winners.inside, lookup[winners.number], 0)
    return Segments(masks.cpu().numpy().astype(np.uint16), kept.cpu().numpy()[queries])


def best_masks(
    mask_logits: Tensor, scores: Tensor, padded: tuple[int, int], size: tuple[int, int]
) -> Winners:
    """The mask of the largest score times probability at every pixel; the first one where equal."""
    best = torch.full(size, -1.0, device=mask_logits.device)
    number = torch.zeros(size, dtype=torch.int64, device=mask_logits.device)
    inside = torch.zeros(size, dtype=torch.bool, device=mask_logits.device)
    areas = []
    for start in range(0, len(mask_logits), CHUNK):
        chunk = mask_logits[None, start : start + CHUNK].float()
        logits = F.interpolate(chunk, padded, mode="bilinear")[0]
        probability = logits[:, : size[0], : size[1]].sigmoid()
        areas.append((probability >= 0.5).sum(dim=(1, 2)))
        value, index = (scores[start : start + CHUNK, None, None] * probability).max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        number = torch.where(better, index + start, number)
        own = probability.gather(0, index[None])[0] >= 0.5
        inside = torch.where(better, own, inside)
    return Winners(number, inside, torch.cat(areas))


def _number(
    winners: Winners, words: np.ndarray, things: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """int64[K] segment of every mask, 0 = none; int64[M] mask that began each segment."""
    count = len(words)
    won = winners.number.flatten().bincount(minlength=count).tolist()
    visible = winners.number[winners.inside].bincount(minlength=count).tolist()
    numbers = np.zeros(count, np.int64)
    first: list[int] = []
    segment_of_stuff: dict[int, int] = {}
    for mask, area in enumerate(winners.areas.tolist()):
        # Pixels won outside the mask count as well, as in the reference.
        if not visible[mask] or won[mask] / area < OVERLAP_THRESHOLD:
            continue
        word = int(words[mask])
        if word not in segment_of_stuff:
            first.append(mask)
            if not things[word]:
                segment_of_stuff[word] = len(first)
        numbers[mask] = segment_of_stuff.get(word, len(first))
    return numbers, np.array(first, np.int64)
