"""The time of sweeps: by part, without compilations and pictures."""

from __future__ import annotations

import math
import time

import pytest

from uov_jax.evaluation.clock import SweepClock, peak_gib


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


def sweep(clock: SweepClock, clocked: Time, seconds: float, shapes: int = 0) -> None:
    clocked.now += seconds
    clock.note("network")
    clocked.now += 0.5
    clock.note("pictures")
    clock.sweep(shapes)


def test_sweeps_that_compile_and_pictures_are_left_out(clocked: Time) -> None:
    clock = SweepClock()
    clock.start()
    sweep(clock, clocked, 4.0)
    assert math.isnan(clock.seconds_per_sweep)
    assert str(clock) == "No sweep was timed: each compiled a program."
    for _ in range(3):
        sweep(clock, clocked, 0.25)
    sweep(clock, clocked, 8.0, shapes=1)
    assert clock.sweeps == 3
    assert clock.seconds["network"] == pytest.approx(0.75)
    assert clock.seconds_per_sweep == pytest.approx(0.25)
    assert "0.250 s a sweep over 3 sweeps (network 0.250" in str(clock)


def test_the_peak_is_a_plausible_size() -> None:
    assert 0.01 < peak_gib() < 1000
