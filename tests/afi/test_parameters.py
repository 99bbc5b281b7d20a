"""Sizes of the levels, and parameters that cannot work."""

from __future__ import annotations

import pytest

from uov_jax.afi import PUBLISHED, FlatInteraction


def test_published_levels():
    assert PUBLISHED.level_sizes == (1365, 455, 151, 50)


def test_sizes_divide_as_the_reference_does():
    # It divides and rounds down level by level: the same as by the power at once.
    for points in range(5000, 5030):
        size, sizes = points, []
        for _ in range(4):
            size //= 3
            sizes.append(size)
        assert FlatInteraction(points=points).level_sizes == tuple(sizes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"stages": 0}, "1 or more"),
        ({"decoder_neighbours": 0}, "1 or more"),
        ({"directions": 1}, "directions must be 2 or more"),
        ({"line_cosine": 1.0}, "line_cosine in"),
        ({"least_count": -1}, "least_count 0 or more"),
        ({"points": 300}, "levels of 100, 33, 11, 3 centres have too few for 20 neighbours"),
        ({"stages": 6}, "levels of 1365, 455, 151, 50, 16, 5 centres"),
    ],
)
def test_impossible_parameters_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        FlatInteraction(**bad)
