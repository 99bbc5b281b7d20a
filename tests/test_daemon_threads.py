"""Threads that work things off in order, and that nobody waits for in vain."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

from uov_jax.daemon_threads import DaemonThreads


@pytest.mark.parametrize("number", [1, 3])
def test_everything_is_done_once_and_by_so_many_threads(number):
    threads = DaemonThreads(number, "squares")
    futures = [threads.submit(lambda x: (x * x, threading.current_thread()), x) for x in range(50)]
    found = [future.result(10) for future in futures]
    assert [square for square, _ in found] == [x * x for x in range(50)]
    assert len({thread for _, thread in found}) <= number
    assert {thread.name for _, thread in found} <= {f"squares-{n}" for n in (1, 2, 3)}
    assert threads.close(10)
    assert not any(thread.is_alive() for _, thread in found)


def test_errors_come_where_the_result_is_asked_for():
    threads = DaemonThreads(1, "errors")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(10)
    assert threads.submit(int, "7").result(10) == 7
    assert threads.close(10)


def test_closing_cancels_what_has_not_begun_and_says_what_is_left():
    threads, go_on = DaemonThreads(1, "waits"), threading.Event()
    first, second = threads.submit(go_on.wait), threads.submit(int)
    while not first.running():
        time.sleep(0.001)
    assert not threads.close(0.01)
    with pytest.raises(CancelledError):
        second.result(0)
    go_on.set()
    assert first.result(10)
    assert threads.close(10)


def test_threads_of_nobody_end():
    threads = DaemonThreads(2, "nobody's")
    for future in [threads.submit(int) for _ in range(2)]:
        assert future.result(10) == 0
    own = list(threads._threads)
    del threads, future
    gc.collect()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


def test_nothing_is_kept_of_what_was_found():
    class Batch:
        pass

    threads, alive = DaemonThreads(1, "batches"), []

    def build():
        batch = Batch()
        alive.append(weakref.ref(batch))
        return batch

    future = threads.submit(build)
    future.result(10)
    del future
    deadline = time.monotonic() + 10
    while alive[0]() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive[0]() is None
    assert threads.close(10)
