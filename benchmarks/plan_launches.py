"""What a GPU launches to build a plan and to schedule its maps, counted from csrc/cuda.

A radix sort of CUB is a histogram, the sum of it, and a pass over every 8 bits of the keys, with a
memset before each pass and two before all; its sum of an array is two kernels. Of few rows a sort
is less: these are the most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uov_jax.sparse import Plan

KEY_BITS = 64
STRETCH_BITS = 16  # kStretchBits of csrc/cuda/schedule.cu
SUM_KERNELS = 2
PASS_BITS = 8


class Launches(NamedTuple):
    """Of one call."""

    kernels: int
    memsets: int


def sort(bits: int) -> Launches:
    """Of keys of so many bits."""
    passes = -(-bits // PASS_BITS)
    return Launches(2 + passes, 2 + passes)


def plan() -> Launches:
    """Keys of all levels, their sort, their order, and all maps at once."""
    of_sort = sort(KEY_BITS)
    return Launches(3 + of_sort.kernels, 1 + of_sort.memsets)


def schedule(offsets: int, rows: int) -> Launches:
    """Of one map: counts of pairs, their sum, places, pairs, keys, masks, and the rows' sort."""
    bits = offsets + max(rows - 1, 0).bit_length() - STRETCH_BITS
    bits = max(bits, offsets)
    words = [min(KEY_BITS, bits - word) for word in range(0, bits, KEY_BITS)]
    sorts = [sort(of_word) for of_word in words]
    takes = len(words) - 1  # of each word but the first, in the order that there is by then
    kernels = 5 + SUM_KERNELS + takes + sum(each.kernels for each in sorts)
    return Launches(kernels, sum(each.memsets for each in sorts))


def of_plan(built: Plan) -> dict[str, list[Launches]]:
    """Those of a plan and of every schedule that a UNet's step makes with it."""
    maps = [each.forward for each in built.same]
    maps += [side for each in built.down for side in (each.forward, each.transpose)]
    found: dict[str, list[Launches]] = {"plan": [plan()]}
    for entries in maps:
        offsets, rows = np.shape(entries)
        found.setdefault(f"schedule of {offsets} offsets", []).append(schedule(offsets, rows))
    return found
