"""Threads that nobody waits for in vain: one that a file system holds does not hold the program."""

from __future__ import annotations

import atexit
import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from uov_jax.errors import UserError

Found = TypeVar("Found")
Work = queue.SimpleQueue[Callable[[], None] | None]

TIMEOUT = 600.0  # seconds for one piece of work, such as a batch, before it counts as hanging
PATIENCE = 5.0  # seconds for work that has begun when all shall end; hardly any takes as long


class HangingError(UserError, RuntimeError):
    """A thread has been at one piece of work for very long; names it."""


class DaemonThreads:
    """Threads that work one thing off after the other, as those of a `ThreadPoolExecutor` do.

    They differ in their end: the program gives those that are at work `PATIENCE` at its own end,
    and leaves them behind then. An executor's are waited for without a limit.
    """

    def __init__(self, number: int, name: str) -> None:
        """Nothing starts yet.

        Args:
            number: of threads.
            name: theirs begin with it.

        """
        self._number, self._name = number, name
        self._work: Work = queue.SimpleQueue()
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._threads: list[threading.Thread] = []
        weakref.finalize(self, _end, self._work, self._threads).atexit = False

    def submit(self, work: Callable[..., Found], *arguments: Any) -> Future[Found]:
        """Have something done, after what was asked for before."""
        future: Future[Found] = Future()
        self._futures.add(future)
        self._work.put(functools.partial(_do, future, work, *arguments))
        if len(self._threads) < self._number:
            self._start()
        return future

    def close(self, seconds: float) -> bool:
        """Cancel what has not begun, wait so long for the rest; whether no thread is left."""
        for future in list(self._futures):
            future.cancel()
        _end(self._work, self._threads)
        return _join(self._threads, seconds)

    def _start(self) -> None:
        _end_with_the_program()
        name = f"{self._name}-{len(self._threads) + 1}"
        thread = threading.Thread(target=_work_off, args=(self._work,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        _started.add(thread)
        _pools.add(self)


_pools: weakref.WeakSet[DaemonThreads] = weakref.WeakSet()
_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def _work_off(work: Work) -> None:
    while (do := work.get()) is not None:
        do()
        del do  # With what it has led to, while the next is waited for.


def _do(future: Future[Found], work: Callable[..., Found], *arguments: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work(*arguments))
    except BaseException as error:
        future.set_exception(error)
        del future  # The error leads here.


def _end(work: Work, threads: list[threading.Thread]) -> None:
    for _ in threads:
        work.put(None)


def _join(threads: Iterable[threading.Thread], seconds: float) -> bool:
    """Wait for threads, so long for all of them together; whether they have ended."""
    until = time.monotonic() + seconds
    others = [thread for thread in threads if thread is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in others)


@functools.cache
def _end_with_the_program() -> None:
    """See to it, once: what is registered last comes first, so before JAX lets go of its own."""

    @atexit.register
    def _end_all() -> None:
        for pool in list(_pools):
            pool.close(0)
        _join(list(_started), PATIENCE)
