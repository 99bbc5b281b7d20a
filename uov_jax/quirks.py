"""Behaviour of the reference that is a mistake, which a recipe may ask for: `reference_quirks`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from uov_jax.errors import InputError

STEP_BEFORE_EPOCH = "step_before_epoch"
FIRST_STEP_RATE = "first_step_rate"
UNDISTORTED_ROOMS = "undistorted_rooms"
HALF_SCORES = "half_scores"
QUIRKS = {
    STEP_BEFORE_EPOCH: "the step schedule is stepped before an epoch, so that it decays one early",
    FIRST_STEP_RATE: "the poly schedule has a tenth of its rate in the first step",
    HALF_SCORES: "rooms are judged by scores, and sums of them, in half precision",
    UNDISTORTED_ROOMS: "elastic distortion is computed and not used: rooms are left as they are",
}


def quirks_of(config: Any) -> frozenset[str]:
    """Those that a recipe asks for in its `reference_quirks`, none where it has no such field.

    Raises:
        InputError: one is not known, or the field is no collection of names.

    """
    return checked(config.get("reference_quirks", ()))


def checked(names: Collection[str]) -> frozenset[str]:
    """The names as a set; errors as `quirks_of`."""
    wrong = [names] if isinstance(names, str) else [name for name in names if name not in QUIRKS]
    if wrong:
        raise InputError(
            f"config.reference_quirks: expected a tuple of some of {sorted(QUIRKS)}, found "
            f"{wrong[0]!r}"
        )
    return frozenset(names)
