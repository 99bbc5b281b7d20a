"""Work shared among processes: told of as it is finished, stopped between two parts of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from queue import Empty
from typing import Any, TypeVar

from uov_jax import processors

Piece = TypeVar("Piece")
Work = Callable[[Piece], Iterable[object]]


def share_out(
    work: Work[Piece], todo: Sequence[Piece], workers: int, report: Callable[[int], None]
) -> None:
    """Do all pieces in so many processes; one works in this process.

    Args:
        work: does a piece, and yields something whenever a part of it is finished; it is pickled.
        todo: the pieces.
        workers: processes.
        report: called with 1 for every part that is finished.

    """
    if workers > 1 and len(todo) > 1:
        _in_processes(work, todo, workers, report)
        return
    for piece in todo:
        for _ in work(piece):
            report(1)


# In a worker process: where finished parts are told of, and whether to stop.
_told: Any = None
_stop: Any = None


def _start_worker(told: Any, stop: Any) -> None:
    global _told, _stop
    _told, _stop = told, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop


def _do(work: Work[Piece], piece: Piece) -> None:
    if _stop.is_set():
        return
    for _ in work(piece):
        _told.put(1)
        if _stop.is_set():
            return


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Started processes get single-threaded linear algebra: they share the cores as it is."""
    names = processors.ALGEBRA_VARIABLES
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _in_processes(
    work: Work[Piece], todo: Sequence[Piece], workers: int, report: Callable[[int], None]
) -> None:
    context = multiprocessing.get_context("spawn")
    told, stop = context.Queue(), context.Event()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(workers, context, _start_worker, (told, stop)) as pool,
    ):
        futures = [pool.submit(_do, work, piece) for piece in todo]
        try:
            while not all(future.done() for future in futures):
                try:
                    report(told.get(timeout=0.2))
                except Empty:
                    continue
                if any(future.done() and future.exception() for future in futures):
                    break
        finally:
            if not all(future.done() for future in futures):
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            future.result()
        while True:
            try:
                report(told.get(timeout=0.05))
            except Empty:
                break
