"""What the terminal is told."""

from __future__ import annotations

import os
import signal
import time

import pytest

from uov_jax.compilation import shapes
from uov_jax.signals import StopRequest
from uov_jax.training.progress import STEPS_OF_RATE, Progress


def test_compilation_and_pauses_do_not_slow_the_estimate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 100.0, 102.0, 1000.0, 1002.0, 1004.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    progress = Progress(0, 106, units_per_step=4)
    assert progress.step(1, 1.0, compiled=True) == 0.0
    assert progress.step(2, 1.0, compiled=True) == 0.0
    assert progress.step(3, 1.0, compiled=False) == 2.0
    progress.pause()
    for step in (4, 5, 6):
        assert progress.step(step, 1.0, compiled=False) == 2.0
    progress.close()
    assert "2.00 sweeps/s: about 3 minutes of training to go." in capsys.readouterr().out


def test_the_rate_is_that_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress(0, 1000, units_per_step=2)
    progress.step(1, 1.0, compiled=True)
    for step in range(2, 2 + STEPS_OF_RATE):
        now[0] += 1.0
        assert progress.step(step, 1.0, compiled=False) == pytest.approx(2.0, rel=1e-12)
    for step in range(STEPS_OF_RATE):
        now[0] += 4.0
        rate = progress.step(100 + step, 1.0, compiled=False)
    assert rate == pytest.approx(0.5, rel=1e-12)
    progress.close()


def test_waiting_for_data_is_a_share_of_the_time_and_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress(0, 10, 1)
    # Of the step that compiles it says nothing.
    progress.step(1, 1.0, compiled=True, waited=50.0)
    assert progress.data_wait == 0.0
    for step in (2, 3):
        now[0] += 2.0
        progress.step(step, 1.0, compiled=False, waited=0.5)
    assert progress.data_wait == pytest.approx(0.25, rel=1e-12)
    progress.close()
    assert "25% waiting for data" in capsys.readouterr().err


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(0, 10, 1, on=False)
    progress.say("hello")
    progress.step(1, 1.0, compiled=False)
    progress.close()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_the_first_signal_is_noted_and_the_second_acts() -> None:
    def raise_interrupt(number: int, frame: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        with StopRequest() as stop:
            assert not stop
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop
            assert stop.signal == signal.SIGTERM
            with pytest.raises(InterruptedError):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is raise_interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def test_shapes_tell_batches_apart() -> None:
    import numpy as np

    small = {"x": np.zeros((1, 3)), "y": np.zeros(2, np.int32)}
    assert shapes(small) == shapes({"x": np.ones((1, 3)), "y": np.ones(2, np.int32)})
    assert shapes(small) != shapes(small | {"x": np.zeros((1, 4))})
    assert shapes(small) != shapes(small | {"y": np.zeros(2, np.int64)})
