"""A program that is run for so long and no longer, and read line by line."""

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


def follow(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    take: Callable[[str], bool],
) -> Ended:
    """Run a program and hand on its lines; it and what it started end with this function.

    Args:
        command: the program and its arguments.
        folder: to run it in.
        environment: its variables.
        seconds: after which it is ended.
        take: gets each line, of output and of errors; whether it is done with.

    """
    over = threading.Event()
    said: deque[str] = deque(maxlen=KEPT)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:

        def end() -> None:
            over.set()
            _end_group(process.pid)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if not take(line.rstrip("\n")):
                    said.append(line.rstrip())
            status = process.wait()
        finally:
            timer.cancel()
            _end_group(process.pid)
    return Ended(status, over.is_set(), "\n".join(said))


def _end_group(leader: int) -> None:
    """End a process and those that it started; nothing where they have ended."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
