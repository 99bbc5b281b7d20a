"""Sizes and durations as a person says them."""

from __future__ import annotations

import humanize


def readable_bytes(size: float) -> str:
    """A size as people read it, such as "3.2 MB"."""
    return humanize.naturalsize(size)


def duration(seconds: float) -> str:
    """Seconds as a person says them: "45 seconds", "12 minutes", "3 hours and 20 minutes"."""
    if seconds < 90:
        return humanize.precisedelta(round(seconds))
    if seconds < 48 * 3600:
        return humanize.precisedelta(round(seconds / 60) * 60, minimum_unit="minutes", format="%d")
    return humanize.precisedelta(round(seconds / 3600) * 3600, minimum_unit="hours", format="%d")
