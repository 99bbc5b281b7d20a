"""Work on many items, spread over processes that leave with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from uov_jax.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, chunk: int = 1
) -> Iterator[Result]:
    """The results of all items, in their order, as they are finished.

    Args:
        work: what to do with an item; sent to each process once.
        items: to work on.
        workers: processes; 1 works in this one.
        chunk: items that a process takes at a time.

    Raises:
        InputError: fewer than one worker.

    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, found {workers}")
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), context, start_worker, (work,))
    try:
        yield from pool.map(_do, items, chunksize=chunk)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any] | None = None  # in a worker process


def start_worker(work: Callable[[Any], Any] | None) -> None:
    """Make this process one that does `work` and stops when its parent says so, or is gone."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # It was killed: nobody is there to wait for more work from. Files are renamed when whole.
    os._exit(1)


def _do(item: Any) -> Any:
    assert _work is not None
    return _work(item)
