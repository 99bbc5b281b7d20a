"""The lock of a run's directory: who is refused, what is taken over, and what is said."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from uov_jax import files
from uov_jax.checkpoints import lock
from uov_jax.checkpoints.lock import DirectoryInUseError
from uov_jax.files import UnreadableFileError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from uov_jax.checkpoints.lock import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
held.release()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def holder(directory: Path) -> dict[str, Any]:
    return json.loads((directory / lock.NAME).read_text())


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    process = hold(tmp_path / "run")
    expected = f"run: process {process.pid} on {socket.gethostname()} is writing into this dir"
    with pytest.raises(DirectoryInUseError, match=expected):
        lock.lock(tmp_path / "run")
    process.communicate("")
    assert process.returncode == 0
    assert not (tmp_path / "run" / lock.NAME).exists()
    lock.lock(tmp_path / "run").release()
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_killed_process_left_is_taken_over_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    assert holder(tmp_path)["pid"] == process.pid
    held = lock.lock(tmp_path, watch_for=1e9)
    assert holder(tmp_path)["pid"] == os.getpid()
    held.require()
    held.release()
    assert not capsys.readouterr().out


def test_a_stopped_process_still_holds(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(DirectoryInUseError, match=f"process {process.pid} on"):
        lock.lock(tmp_path)
    process.send_signal(signal.SIGCONT)
    process.communicate("")


def left_by_another_machine(directory: Path) -> Path:
    path = directory / lock.NAME
    path.write_text(json.dumps({"pid": 7, "host": "node12", "machine": "another"}))
    return path


def test_a_process_of_another_machine_is_watched_for_a_sign_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_by_another_machine(tmp_path)
    lock.lock(tmp_path, watch_for=0.2).release()
    said = capsys.readouterr().out
    assert "process 7 on node12 has not left this directory as a run does that ends" in said
    assert "There was no sign of life of process 7 on node12: the run goes on here." in said


def test_a_sign_of_life_is_respected(tmp_path: Path) -> None:
    path = left_by_another_machine(tmp_path)
    os.utime(path, (0, 0))  # an hour, a day, or in the future: no clock is believed
    looked = threading.Event()

    def touch() -> None:
        looked.wait(60)
        os.utime(path, (1, 1))

    other = threading.Thread(target=touch)
    other.start()
    look = lock._look

    def noticed(path: Path) -> tuple[int, bytes]:
        found = look(path)
        looked.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_look", noticed)
        with pytest.raises(DirectoryInUseError, match="process 7 on node12 .* touched lock.json"):
            lock.lock(tmp_path, watch_for=60.0)
    other.join()
    assert holder(tmp_path)["pid"] == 7


def test_file_systems_without_locks_are_watched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    process = hold(tmp_path)
    process.kill()
    process.communicate()
    monkeypatch.setattr(lock.fcntl, "flock", flock)
    lock.lock(tmp_path, watch_for=0.2).release()
    assert f"no sign of life of process {process.pid}" in capsys.readouterr().out


def test_who_was_taken_for_dead_writes_no_more(tmp_path: Path) -> None:
    held = lock.lock(tmp_path)
    path = left_by_another_machine(tmp_path)
    with pytest.raises(DirectoryInUseError, match="process 7 on node12 has taken over"):
        held.require()
    held.release()
    assert path.exists()


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """A lock's content cannot be read so many times; the numbers of what is asked."""
    read, asked = os.pread, []

    def pread(file: int, number: int, start: int) -> bytes:
        asked.append(file)
        if len(asked) <= times:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(file, number, start)

    monkeypatch.setattr(lock.os, "pread", pread)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    return asked


def test_a_lock_that_cannot_be_read_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lock.lock(tmp_path)
    asked = failing(monkeypatch, 2)
    held.require()
    assert len(asked) == 3
    held.release()


def test_a_lock_that_stays_unreadable_is_not_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lock.lock(tmp_path)
    failing(monkeypatch, files.TRIES)
    with pytest.raises(UnreadableFileError, match="lock.json: could not be read 4 times: Stale"):
        held.require()
    held.require()
    held.release()


def test_the_holder_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "TOUCH_EVERY", 0.01)
    held = lock.lock(tmp_path)
    path = tmp_path / lock.NAME
    os.utime(path, (1, 1))
    touched = threading.Event()
    while path.stat().st_mtime <= 1:
        touched.wait(0.01)
    held.release()


def test_forked_children_do_not_hold_the_lock(tmp_path: Path) -> None:
    """They may outlive a process that is killed."""
    program = f"""
import os, sys, time
from pathlib import Path
from uov_jax.checkpoints.lock import lock
held = lock(Path({str(tmp_path)!r}))
if os.fork() == 0:
    print(os.getpid(), flush=True)  # from here on it is a process of its own
    sys.stdin.read()
    os._exit(0)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        lock.lock(tmp_path).release()
        process.communicate("")
