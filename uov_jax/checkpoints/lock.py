"""One run at a time writes into a directory: a lock that a killed process does not leave behind.

The lock is the kernel's on an open file (flock), so that it goes with its process, whatever ends
it. Not every network file system passes it on to other machines. There, a sign of life decides: the
holder touches the file every few seconds, and who comes from another machine watches it for a
while. What is measured is how long nothing changes, never an age by somebody's clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path

from uov_jax.errors import UserError
from uov_jax.files import tried_again

NAME = "lock.json"
TOUCH_EVERY, WATCH_FOR = 5.0, 30.0  # seconds
# What file systems answer that have no such locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class DirectoryInUseError(UserError):
    """Another process writes into a directory; the message names it, and how to proceed."""


@dataclasses.dataclass(frozen=True)
class _Holder:
    """Who holds a lock: process and host as people know them, and the machine's own name."""

    pid: int
    host: str
    machine: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lock:
    """The lock of a directory, while it is held."""

    def __init__(self, path: Path, file: int, holder: _Holder) -> None:
        """Of an open file with its holder's name in it."""
        self._path, self._file, self._holder = path, file, holder
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._touch, name="lock", daemon=True)
        self._thread.start()
        _held.add(file)

    def require(self) -> None:
        """See to it that no other process has taken this one for dead, and goes on.

        Raises:
            DirectoryInUseError: one has.
            UnreadableFileError: the lock cannot be looked at, which says nothing of its being lost.

        """
        holder, is_there = tried_again(
            self._path, lambda: (_read(self._file), _is_at(self._file, self._path))
        )
        if holder != self._holder or not is_there:
            raise DirectoryInUseError(
                f"{self._path.parent}: {holder or 'another process'} has taken over this directory "
                "after this process had shown no sign of life: nothing more is written here"
            )

    def release(self) -> None:
        """Give the directory free."""
        self._stopped.set()
        self._thread.join()
        _held.discard(self._file)
        with contextlib.suppress(OSError, DirectoryInUseError):
            self.require()
            self._path.unlink()
        os.close(self._file)

    def _touch(self) -> None:
        while not self._stopped.wait(TOUCH_EVERY):
            with contextlib.suppress(OSError):
                os.utime(self._file)


# Processes that are forked from this one shall not go on holding its locks.
_held: set[int] = set()


def _close_held() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_held)


def lock(directory: Path, watch_for: float = WATCH_FOR) -> Lock:
    """Take the lock of a directory, which is made where it is missing.

    Args:
        directory: of a run.
        watch_for: seconds without a sign of life, after which a process of another machine counts
            as gone.

    Raises:
        DirectoryInUseError: another process holds it.

    """
    directory.mkdir(parents=True, exist_ok=True)
    me = _Holder(os.getpid(), socket.gethostname(), _machine())
    path = directory / NAME
    return Lock(path, _acquire(path, me, watch_for), me)


def _acquire(path: Path, me: _Holder, watch_for: float) -> int:
    """An open, locked file with this process's name in it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            is_sure = _lock(file, path)
            holder = _read(file)
            # Where the kernel locks, the lock of a process of this machine went with it.
            if holder is not None and not (is_sure and holder.machine == me.machine):
                _require_lifeless(path, holder, watch_for)
            if not _is_at(file, path):
                os.close(file)
                continue  # Its holder removed it while it was opened here.
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(dataclasses.asdict(me)).encode(), 0)
            return file
        except BaseException:
            os.close(file)
            raise


def _lock(file: int, path: Path) -> bool:
    """Lock a file; False where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(file)
        raise DirectoryInUseError(
            f"{path.parent}: {holder or 'another process'} is writing into this directory. Wait "
            "for it or stop it, or give another --workdir"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _require_lifeless(path: Path, holder: _Holder, watch_for: float) -> None:
    """Watch for a sign of life of a process that no lock tells of."""
    before = _look(path)
    print(
        f"{path}: {holder} has not left this directory as a run does that ends. It is watched for "
        f"{watch_for:.0f} seconds.",
        flush=True,
    )
    deadline = time.monotonic() + watch_for
    while time.monotonic() < deadline:
        time.sleep(min(1.0, watch_for / 10))
        if _look(path) != before:
            raise DirectoryInUseError(
                f"{path.parent}: {holder} is writing into this directory: it touched {path.name} "
                "just now. Wait for it or stop it, or give another --workdir"
            )
    print(f"There was no sign of life of {holder}: the run goes on here.", flush=True)


def _look(path: Path) -> tuple[int, bytes]:
    """Time and content of a file, opened anew: network file systems ask their server then."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return 0, b""


def _read(file: int) -> _Holder | None:
    """Who is written in a lock; None if nobody is."""
    try:
        content = json.loads(os.pread(file, 4096, 0))
        return _Holder(int(content["pid"]), str(content["host"]), str(content["machine"]))
    except (ValueError, KeyError, TypeError):
        return None


def _is_at(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _machine() -> str:
    """A name of the running kernel: containers on it share it, a reboot changes it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return socket.gethostname()
