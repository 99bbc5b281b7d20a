"""The time of sweeps: by part, without compilations and pictures."""

from __future__ import annotations

import math
import time

import pytest

from uov_jax.evaluation.clock import SweepClock, peak_gib


def sweep(clock: SweepClock, seconds: float, shapes: int = 0) -> None:
    time.sleep(seconds)
    clock.note("network")
    time.sleep(0.02)
    clock.note("pictures")
    clock.sweep(shapes)


def test_sweeps_that_compile_and_pictures_are_left_out() -> None:
    clock = SweepClock()
    clock.start()
    sweep(clock, 0.2)
    assert math.isnan(clock.seconds_per_sweep)
    assert str(clock) == "No sweep was timed: each compiled a program."
    for _ in range(3):
        sweep(clock, 0.05)
    sweep(clock, 0.2, shapes=1)
    assert clock.sweeps == 3
    # Sleeping takes as long as asked, or longer on a busy machine, but 0.2 s are seen if counted.
    assert clock.seconds["network"] >= 0.15
    assert clock.seconds_per_sweep == pytest.approx(clock.seconds["network"] / 3)
    assert "s a sweep over 3 sweeps (network 0." in str(clock)


def test_the_peak_is_a_plausible_size() -> None:
    assert 0.01 < peak_gib() < 1000
