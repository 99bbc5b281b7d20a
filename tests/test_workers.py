"""Work spread over processes: the results of one, in order, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from uov_jax.errors import InputError
from uov_jax.workers import spread


def squared(number: int) -> tuple[int, int]:
    if number < 0:
        raise InputError(f"{number} is too small")
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    results = list(spread(squared, range(7), workers, chunk=2))
    assert [square for square, _ in results] == [0, 1, 4, 9, 16, 25, 36]
    elsewhere = {process for _, process in results} - {os.getpid()}
    assert bool(elsewhere) == (workers > 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_one_item_reaches_the_caller(workers: int) -> None:
    with pytest.raises(InputError, match="-1 is too small"):
        list(spread(squared, [3, -1, 4], workers))


def test_nothing_to_do_starts_nothing() -> None:
    assert list(spread(squared, [], 4)) == []


def test_work_needs_a_worker() -> None:
    with pytest.raises(InputError, match="workers must be at least 1, found 0"):
        list(spread(squared, [1, 2], 0))


ORPHAN = """
import multiprocessing, time
from uov_jax import workers

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    lives = context.Event()
    worker = context.Process(target=work, args=(lives,))
    worker.start()
    lives.wait()
    print(worker.pid, flush=True)
    time.sleep(60)
"""
WORK = """
import time
from uov_jax import workers

def work(lives):
    workers.start_worker(None)
    lives.set()
    time.sleep(60)
"""


def lives(process: int) -> bool:
    """Whether a process is there and not merely waiting to be looked at."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    script = tmp_path / "parent.py"
    script.write_text("from work import work\n" + ORPHAN)
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": search}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while lives(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(worker)
