"""Who builds batches ahead: threads of this process, or processes that belong to threads of it."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.context
import multiprocessing.resource_tracker
import multiprocessing.util
import pickle
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, Protocol

from uov_jax import sparse
from uov_jax.daemon_threads import PATIENCE
from uov_jax.errors import UserError
from uov_jax.input.handover import Memory, Views
from uov_jax.workers import start_worker

STOPS = {signal.SIGINT, signal.SIGTERM}


class WorkerError(UserError, RuntimeError):
    """A process that builds batches is gone, or gives no sign of life; names it and its samples."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A step's batch.

    Attributes:
        batch: arrays by name, or a tuple of such batches.
        damaged: samples that others stand for, by their number, and what is wrong with them.

    """

    batch: Any
    damaged: dict[int, str]


class Work(Protocol):
    """What builders build (`Steps`); it is sent to processes once."""

    def build(self, step: int, allocate: Callable[..., Any] | None = None) -> Built:
        """Build the batch of a step in arrays that `allocate` makes; None for `np.empty`."""
        ...

    def names(self, step: int) -> str:
        """The samples of a step, for messages."""
        ...


class _Process(multiprocessing.context.SpawnProcess):
    """A process that is not waited for in vain.

    One that a file system holds in the kernel outlives SIGKILL, and multiprocessing joins all
    processes at the program's end.
    """

    _until: float | None = None

    def end(self) -> None:
        """Kill it."""
        if self._until is None:
            self._until = time.monotonic() + PATIENCE
        self.kill()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end; after `end` for `PATIENCE` since then at most."""
        if timeout is None and self._until is not None:
            timeout = max(0.0, self._until - time.monotonic())
        super().join(timeout)


class ProcessBuilder:
    """One worker process; a thread of this one asks it for batch after batch."""

    def __init__(self, work: Work, number: int) -> None:
        """Start the process.

        Args:
            work: what it builds.
            number: of the worker, for messages.

        """
        self._work, self._number = work, number
        self._connection, theirs = multiprocessing.Pipe()
        self._process = _Process(
            target=_serve, args=(theirs, work), name=f"batches-{number}", daemon=True
        )
        with _signals_kept_from_children():
            self._process.start()
        theirs.close()
        self._views = Views()
        _started.add(self)

    def build(self, step: int) -> Built:
        """The batch of a step, in memory that the process has written to.

        Raises:
            WorkerError: the process has died.
            Exception: what the building has raised, with the traceback there as a note.

        """
        number, new_file = self._views.borrow()
        try:
            self._connection.send((step, number, new_file is not None))
            if new_file is not None:
                send_handle(self._connection, new_file, self._process.pid)
            wait([self._connection, self._process.sentinel])
            answer, error = self._connection.recv()
        except (EOFError, OSError) as gone:
            self._process.join(1)
            raise self._died(step) from gone
        if error is not None:
            self._views.give_back(number)
            raise error
        return dataclasses.replace(answer, batch=self._views.arrays(answer.batch, number))

    def __str__(self) -> str:
        """For messages."""
        return f"worker process {self._number} (pid {self._process.pid})"

    def end(self) -> None:
        """End the process, at once and whatever it does: it writes nothing that is kept."""
        self._process.end()

    def stop(self) -> None:
        """End the process, and wait for that; for `PATIENCE` at most."""
        _started.discard(self)
        self._process.end()
        self._process.join()

    def close(self) -> None:
        """Let go of what led to the process, once it has stopped and no thread asks it any more."""
        self._connection.close()
        self._views.close()

    def _died(self, step: int) -> WorkerError:
        code = self._process.exitcode
        how = f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        memory = (
            ". That is what a system without memory left does: fewer workers "
            "(config.data.workers) need less"
            if code == -signal.SIGKILL
            else ""
        )
        return WorkerError(
            f"{self} {how} while it built the batch of step {step:,}, of "
            f"{self._work.names(step)}{memory}"
        )


class ThreadBuilder:
    """The caller's own thread as a builder."""

    def __init__(self, work: Work, number: int) -> None:
        """Nothing starts."""
        self._work, self._number = work, number

    def build(self, step: int) -> Built:
        """The batch of a step."""
        return self._work.build(step)

    def __str__(self) -> str:
        """For messages."""
        return f"worker thread {self._number}"

    def end(self) -> None:
        """Nothing to do: a thread ends when its batch is built."""

    def stop(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


# Processes that run. They are ended before multiprocessing, which was imported before and so comes
# later, waits for them.
_started: weakref.WeakSet[ProcessBuilder] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    _stop(list(_started))


def _stop(builders: Sequence[ProcessBuilder | ThreadBuilder]) -> None:
    """End all, and only then wait for them."""
    for builder in builders:
        builder.end()
    for builder in builders:
        builder.stop()


@contextlib.contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """A process that is started here never sees SIGINT and SIGTERM, from its first moment on.

    They reach all processes of a group, and it is for the parent to say what they mean.
    """
    multiprocessing.resource_tracker.ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Work) -> None:
    """In a worker process: build what is asked for until nobody asks any more."""
    start_worker(None)
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    sparse.keep_freed_memory()
    memories: dict[int, Memory] = {}
    while True:
        try:
            step, number, is_new = connection.recv()
            if is_new:
                memories[number] = Memory(recv_handle(connection))
        except (EOFError, OSError):
            return  # the parent has closed its end
        answer = _answer(work, step, memories[number])
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and so are we
            connection.send(answer)


def _answer(work: Work, step: int, memory: Memory) -> tuple[Built | None, Exception | None]:
    """The batch with `Placed` for its arrays, or what went wrong."""
    memory.begin()
    try:
        built = work.build(step, memory.empty)
        return dataclasses.replace(built, batch=memory.placed(built.batch)), None
    except Exception as error:
        where = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # Whatever an exception's own constructor wants.
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(f"In a worker process:\n{where}")
        return None, error


class Builders:
    """As many builders as there are threads that use them, each started when it is needed."""

    def __init__(self, work: Work, processes: bool) -> None:
        """Nothing starts yet."""
        self._work, self._kind = work, ProcessBuilder if processes else ThreadBuilder
        self._own = threading.local()
        self._all: list[ProcessBuilder | ThreadBuilder] = []
        self._busy: dict[int, str] = {}
        self._starting, self._lock = threading.Lock(), threading.Lock()
        self._closed = False

    def build(self, step: int) -> Built:
        """The batch of a step, by the builder of the calling thread; errors as theirs."""
        builder = getattr(self._own, "builder", None)
        if builder is None:
            builder = self._own.builder = self._start()
        self._busy[step] = str(builder)
        try:
            return builder.build(step)
        finally:
            del self._busy[step]

    def _start(self) -> ProcessBuilder | ThreadBuilder:
        # `stop` does not wait for it: a process that hangs before it has read what it shall do
        # keeps the one that starts it.
        with self._starting:
            if not self._closed:
                builder = self._kind(self._work, len(self._all) + 1)
                with self._lock:
                    self._all.append(builder)
                    if not self._closed:
                        return builder
                builder.stop()
        raise RuntimeError("the batches were closed")

    def builder_of(self, step: int) -> str | None:
        """Who builds a step just now."""
        return self._busy.get(step)

    def stop(self) -> None:
        """End all; what they build just now fails."""
        with self._lock:
            self._closed = True
            _stop(self._all)

    def close(self) -> None:
        """Let go of all, once they have stopped and no thread builds any more."""
        for builder in self._all:
            builder.close()
