"""Progress where there is no terminal: plain lines from time to time, nothing rewritten."""

from __future__ import annotations

import io
import time

import pytest

from uov_jax.bar import SECONDS_BETWEEN_LINES, Bar


class Terminal(io.StringIO):
    """A terminal of no size."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which stands still until its only element is changed."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_one_line_an_interval_and_one_at_the_end(clock: list[float]) -> None:
    log = io.StringIO()
    with Bar(total=100, unit="room", desc="fuse", file=log, mininterval=0) as bar:
        for _ in range(100):
            clock[0] += SECONDS_BETWEEN_LINES / 40
            bar.update()
    lines = log.getvalue().splitlines()
    # The bar took 2.5 intervals.
    assert [line.split(" (")[0] for line in lines] == [
        "fuse: 40 of 100",
        "fuse: 80 of 100",
        "fuse: 100 of 100",
    ]
    assert all("to go" in line and "room" in line for line in lines)
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_lines_between_do_not_bring_more_of_them(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Bar(total=10, mininterval=0)
    for _ in range(10):
        Bar.write("hello")
        bar.set_postfix_str("loss 1")
        bar.update()
    bar.close()
    captured = capsys.readouterr()
    assert captured.out == "hello\n" * 10
    assert captured.err.count("\n") == 1
    assert "loss 1" in captured.err


def test_what_the_last_line_says_is_not_said_again(clock: list[float]) -> None:
    log = io.StringIO()
    with Bar(total=2, file=log, mininterval=0) as bar:
        bar.update()
        clock[0] += 2 * SECONDS_BETWEEN_LINES
        bar.update()
    assert [line.split(" (")[0] for line in log.getvalue().splitlines()] == ["2 of 2"]


def test_bars_that_do_not_stay_and_short_work_leave_nothing(clock: list[float]) -> None:
    log = io.StringIO()
    assert list(Bar([1, 2, 3], file=log, leave=False)) == [1, 2, 3]
    assert list(Bar([1, 2, 3], file=log, delay=2)) == [1, 2, 3]
    assert list(Bar([1, 2, 3], file=log, disable=True)) == [1, 2, 3]
    assert log.getvalue() == ""


def test_an_unknown_number_is_counted(clock: list[float]) -> None:
    log = io.StringIO()
    assert len(list(Bar(iter("abcd"), file=log))) == 4
    assert log.getvalue().startswith("4it [")


def test_terminals_have_a_bar_that_rewrites_itself() -> None:
    terminal = Terminal()
    with Bar(total=2, file=terminal, mininterval=0, ascii=True) as bar:
        bar.update()
        bar.update()
    assert "\r100%|" in terminal.getvalue()
