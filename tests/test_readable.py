"""Sizes and durations as people say them."""

from __future__ import annotations

import pytest

from uov_jax.readable import duration, readable_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 Bytes"), (999, "999 Bytes"), (1000, "1.0 kB"), (2.5e9, "2.5 GB"), (7e13, "70.0 TB")],
)
def test_sizes_are_readable(size, text):
    assert readable_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"),
        (89, "1 minute and 29 seconds"),
        (90, "2 minutes"),
        (12_000, "3 hours and 20 minutes"),
        (187_200, "2 days and 4 hours"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
