"""Programs that are run for so long and no longer, and read line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

KEPT = 12  # last lines


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        status: its exit status.
        cut_off: whether its time was over before.
        said: the last lines that nobody took.

    """

    status: int
    cut_off: bool
    said: str


class Programs:
    """Those that run now; from several threads if need be."""

    def __init__(self, folder: Path) -> None:
        """Run them in this folder."""
        self._folder = folder
        self._running: set[int] = set()
        self._over = False
        self._lock = threading.Lock()

    def follow(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        take: Callable[[str], bool] = lambda line: False,
    ) -> Ended:
        """Run a program and hand on its lines; it and what it started end with this function.

        Args:
            command: the program and its arguments.
            environment: its variables.
            seconds: after which it is ended.
            take: gets each line, of output and of errors; whether it is done with.

        """
        cut_off = threading.Event()
        said: deque[str] = deque(maxlen=KEPT)
        with self._lock:
            if self._over:
                return Ended(-signal.SIGKILL, True, "")
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process.pid)

        def end() -> None:
            cut_off.set()
            _end_group(process.pid)

        timer = threading.Timer(max(0.0, seconds), end)
        timer.start()
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if not take(line.rstrip("\n")):
                        said.append(line.rstrip())
                status = process.wait()
            finally:
                timer.cancel()
                _end_group(process.pid)
                with self._lock:
                    self._running.discard(process.pid)
        return Ended(status, cut_off.is_set(), "\n".join(said))

    def end_all(self) -> None:
        """End those that run, and let none begin."""
        with self._lock:
            self._over = True
            for leader in self._running:
                _end_group(leader)


def _end_group(leader: int) -> None:
    """End a process and those that it started; nothing where they have ended."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
