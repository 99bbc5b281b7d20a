"""What a user sees when samples, workers, disks or machines fail, and what is kept."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from tests.input.sources import Broken, Hanging, Killed, Numbers, collate_numbers
from tests.input.test_loader import tri_modal_batches
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax import files
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import UnreadableFileError
from uov_jax.input import builders
from uov_jax.input.builders import ProcessBuilder, WorkerError
from uov_jax.input.loader import train_batches
from uov_jax.input.sizes import counts_of
from uov_jax.input.tri_modal import TriModalSource
from uov_jax.vocabulary import load_vocabulary


def batches_of(source, **changes):
    settings = {"batch_size_per_device": 2, "workers": 0, "num_epochs": 1} | changes
    return train_batches(
        source, collate=collate_numbers, num_devices=1, capacities=None, seed=0, **settings
    )


@pytest.fixture(params=[(0, False), (2, False), (1, True)], ids=["caller", "threads", "process"])
def workers(request):
    """Every kind of builder."""
    return dict(zip(("workers", "processes"), request.param, strict=True))


def test_a_damaged_sample_ends_the_batches_with_its_own_message(workers):
    batches = iter(batches_of(Broken(8), **workers))
    with pytest.raises(InputError) as caught:
        list(batches)
    assert str(caught.value) == "scene-0003.pcd.bin: truncated"
    assert list(batches) == []


def test_a_bug_in_a_process_comes_with_where_it_happened():
    with pytest.raises(RuntimeError, match="Odd: a bug of this program at 3") as caught:
        list(batches_of(Broken(8, kind="bug"), workers=1, processes=True))
    assert "in sample" in caught.value.__notes__[0]


def test_other_samples_stand_for_damaged_ones(workers, capsys):
    """The same ones whoever builds them, from whatever step on."""
    damaged = Broken(20, broken=(3, 11))
    expected = [batch["index"] for batch in batches_of(Numbers(20))]
    batches = iter(batches_of(damaged, skip_damaged=0.1, **workers))
    found = [batch["index"] for batch in batches]
    assert batches.damaged == {
        f"number {index}": f"scene-{index:04}.pcd.bin: truncated" for index in (3, 11)
    }
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith("Left out, ")]
    assert [line.partition(", ")[2].partition(":")[0] for line in said] == [
        "the 1. damaged sample of at most 2",
        "the 2. damaged sample of at most 2",
    ]
    there = np.concatenate(expected), np.concatenate(found)
    changed = there[0] != there[1]
    assert sorted(there[0][changed]) == [3, 11]
    assert not np.isin(there[1], [3, 11]).any()
    again = batches_of(damaged, skip_damaged=0.5).starting_at(4)
    np.testing.assert_array_equal([batch["index"] for batch in again], found[4:])


def test_more_damaged_samples_than_the_share_end_the_batches(workers):
    batches = batches_of(Broken(20, broken=(3, 11, 12)), skip_damaged=0.1, **workers)
    with pytest.raises(
        InputError, match=r"3 of 20 samples are damaged, more than the 2 that "
    ) as c:
        list(batches)
    assert str(c.value).count("truncated") == 3


def test_where_all_are_damaged_there_is_no_end_of_tries():
    batches = iter(batches_of(Broken(20, broken=range(20)), skip_damaged=0.9))
    with pytest.raises(InputError, match="damaged, and so are 100 others"):
        next(batches)


@pytest.mark.parametrize(
    ("kind", "error"), [("missing", MissingFileError), ("unreadable", UnreadableFileError)]
)
def test_what_is_not_damage_is_never_left_out(kind, error):
    with pytest.raises(error, match="scene-0003"):
        list(batches_of(Broken(8, kind=kind), skip_damaged=0.9))


class Looked(Broken):
    """With samples that have attributes, as those of training."""

    def sample(self, index, rng):
        index, value = super().sample(index, rng)
        return SimpleNamespace(index=np.array(index), value=value)


def test_hosts_compare_damaged_samples_where_they_let_them_pass():
    whole, damaged = (Looked(20, broken) for broken in ((), (0,)))
    found = batches_of(damaged, skip_damaged=0.1).fingerprint()
    assert found == batches_of(damaged, skip_damaged=0.2, workers=2).fingerprint()
    # On a host whose file is whole others would stand in the same places.
    assert found != batches_of(whole, skip_damaged=0.1).fingerprint()
    with pytest.raises(InputError, match=r"scene-0000\.pcd\.bin: truncated"):
        batches_of(damaged).fingerprint()
    with pytest.raises(MissingFileError):
        batches_of(Looked(20, (0,), "missing"), skip_damaged=0.1).fingerprint()


def test_damaged_samples_are_counted_from_where_batches_begin():
    batches = batches_of(Broken(20, broken=(3, 11)), skip_damaged=0.05)  # one of them
    with pytest.raises(InputError, match="2 of 20 samples are damaged"):
        list(batches)
    where = {index: step for step in range(10) for index in batches.steps.indices(step).flat}
    first, second = sorted((where[3], where[11]))
    assert first < second
    assert len(list(batches.starting_at(first + 1))) == 9 - first


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share):
    with pytest.raises(InputError, match=rf"config.data.skip_damaged = {share}: expected a share"):
        batches_of(Numbers(8), skip_damaged=share)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", r"was killed by SIGKILL .*system without memory"),
        ("ended", "ended with status 7"),
    ],
)
def test_a_worker_that_dies_is_noticed_and_named_with_its_samples(how, said):
    source = Killed(8, 3, how)
    batches = iter(batches_of(source, workers=1, processes=True))
    steps = batches_of(source).steps
    step = next(step for step in range(4) if 3 in steps.indices(step))
    found = [next(batches) for _ in range(step)]
    with pytest.raises(WorkerError, match=said) as caught:
        next(batches)
    assert re.match(r"worker process 1 \(pid \d+\) ", str(caught.value))
    samples = ", ".join(f"number {i}" for i in steps.indices(step).flat)
    assert f"built the batch of step {step}, of {samples}" in str(caught.value)
    assert len(found) == step
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [False, True])
def test_a_worker_that_hangs_is_named_with_its_samples(processes, tmp_path):
    source = Hanging(4, at=2, until=tmp_path / "end")
    batches = batches_of(source, workers=1, processes=processes, timeout=0.2)
    step = next(step for step in range(2) if 2 in batches.steps.indices(step))
    try:
        with pytest.raises(
            WorkerError, match=r"for 0.2 s without an end \(config.data.worker_tim"
        ) as c:
            next(batches.starting_at(step))
        assert str(c.value).startswith("worker process 1" if processes else "worker thread 1")
        assert "number 2" in str(c.value)
        assert not multiprocessing.active_children()
    finally:
        (tmp_path / "end").touch()


STUCK = """
from pathlib import Path
from tests.input.sources import Stuck
from tests.input.test_loader_faults import batches_of
from uov_jax import daemon_threads
daemon_threads.PATIENCE = 0.5
from uov_jax.command_line import command
from uov_jax.evaluation.judging import prefetched
from uov_jax.input import builders
import sys

def train(processes):
    source = Stuck(4, at=2, pipe=Path(sys.argv[2]))
    list(batches_of(source, workers=2, processes=processes, timeout=0.2))

def validate():
    list(prefetched(lambda path: path.read_bytes(), [Path(sys.argv[2])], 2, 0.2))

def kill(process):
    \"\"\"As where the kernel keeps it.\"\"\"

if __name__ == "__main__":
    if sys.argv[1] == "process that outlives SIGKILL":
        builders._Process.kill = kill
    work = validate if sys.argv[1] == "validation" else lambda: train("process" in sys.argv[1])
    sys.exit(command.run(work))
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("thread", "error: worker thread "),
        ("process", "error: worker process "),
        ("process that outlives SIGKILL", "error: worker process "),
        ("validation", "pipe: has been read and prepared for 0.2 s without an end: "),
    ],
)
def test_a_command_ends_though_what_hangs_never_does(tmp_path, what, said):
    script, pipe = tmp_path / "stuck.py", tmp_path / "pipe"
    script.write_text(STUCK)
    os.mkfifo(pipe)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), what, str(pipe)]
    ended = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_stopping_waits_for_no_process_that_does_not_start(monkeypatch):
    """It may hang before it has read what it shall do, which keeps the thread that starts it."""
    begun, go_on = threading.Event(), threading.Event()
    stopped = []

    class Slow:
        def __init__(self, work, number):
            begun.set()
            go_on.wait(60)

        def end(self):
            pass

        def stop(self):
            stopped.append(self)

    monkeypatch.setattr(builders, "ProcessBuilder", Slow)
    found = builders.Builders(batches_of(Numbers(8)).steps, processes=True)
    with ThreadPoolExecutor(2) as pool:
        future = pool.submit(found.build, 0)
        begun.wait(60)
        try:
            pool.submit(found.stop).result(10)
        finally:
            go_on.set()
        with pytest.raises(RuntimeError, match="the batches were closed"):
            future.result(10)
    assert len(stopped) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to look into")
def test_no_signal_of_the_group_reaches_a_worker():
    """From its first moment on, when Python has not even started in it."""
    builder = ProcessBuilder(batches_of(Numbers(8)).steps, 1)
    try:
        status = Path(f"/proc/{builder._process.pid}/status").read_text()
        blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM):
            assert blocked & 1 << (number - 1)
            os.kill(builder._process.pid, number)
        assert builder.build(0).batch["process"][0, 0] == builder._process.pid
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(builder._process.pid, number)
        assert builder.build(1).batch["process"][0, 0] == builder._process.pid
    finally:
        builder.stop()
        builder.close()
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_batches_that_nobody_takes_any_more_end_their_workers():
    batches = iter(batches_of(Numbers(100), workers=1, processes=True))
    worker = psutil.Process(int(next(batches)["process"][0, 0]))
    circle = [batches]
    circle.append(circle)
    del batches, circle
    gc.collect()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


PARENT = """
from tests.input.sources import Numbers
from tests.input.test_loader_faults import batches_of
import sys, time

if __name__ == "__main__":
    batches = iter(batches_of(Numbers(100), workers=2, processes=True))
    found = [next(batches)["process"][0, 0] for _ in range(3)]
    print(*sorted({int(process) for process in found}), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["killed", "at its end"])
def test_workers_leave_with_the_program(tmp_path, end):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script], env=environment, text=True, **pipes) as parent:
        workers = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
        assert workers
        if end == "killed":
            parent.kill()
        parent.stdin.close()
        assert parent.wait(60) == (-signal.SIGKILL if end == "killed" else 0)
    assert not psutil.wait_procs(workers, timeout=60)[1]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc to look into")
def test_nothing_lies_in_the_systems_shared_memory():
    """Which is 64 MB in a container; what is mapped, here and in the workers, is not from there."""
    batches = iter(batches_of(Numbers(100), workers=2, processes=True))
    held = [next(batches) for _ in range(4)]
    processes = {os.getpid(), *(int(batch["process"][0, 0]) for batch in held)}
    assert len(processes) > 1
    mapped = [Path(f"/proc/{process}/maps").read_text() for process in processes]
    opened = [
        os.readlink(file)
        for process in processes
        for file in Path(f"/proc/{process}/fd").iterdir()
        if file.is_symlink()
    ]
    assert sum("uov_jax batch" in each for each in mapped) == len(processes)
    batches.close()
    # Locks lie there too, such as that of progress bars: a page each.
    there = [line for each in mapped for line in each.splitlines() if "/dev/shm/" in line]
    assert not [line for line in there if "/dev/shm/sem." not in line]
    assert not [file for file in opened if file.startswith("/dev/shm/")]


@pytest.fixture
def source(tiny_keyframes, tiny_dumps) -> TriModalSource:
    return TriModalSource(tiny_keyframes, tiny_dumps)


def grown(process: psutil.Process, before: int) -> float:
    """By how many MB a process has grown."""
    return (process.memory_info().rss - before) / 2**20


@pytest.mark.parametrize("processes", [False, True])
def test_memory_is_flat_over_batches(source, processes):
    """Neither the program nor a worker keeps anything of a batch that nobody holds any more."""
    batches = iter(tri_modal_batches(source, workers=1, processes=processes, num_epochs=200))
    for _ in range(100):
        next(batches)
    children = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    watched = [psutil.Process(), *children]
    assert len(watched) == 1 + processes
    before = [process.memory_info().rss for process in watched]
    descriptors = watched[0].num_fds()
    for _ in range(300):
        next(batches)
    # A batch is 1.2 MB: of 300 that were kept it would be 360. What else a process that has run
    # other tests gives back or takes meanwhile is some MB.
    found = [grown(*each) for each in zip(watched, before, strict=True)]
    assert max(found) < 40, found
    assert watched[0].num_fds() <= descriptors
    batches.close()


class Hiccups:
    """Reading fails so many times, and then works."""

    def __init__(self, number: int, times: int, path: str) -> None:
        self.number, self.left, self.path, self.calls = number, times, path, 0
        self.read = Path.read_bytes

    def __call__(self, path: Path) -> bytes:
        if self.path in str(path) and self.left:
            self.left -= 1
            self.calls += 1
            raise OSError(self.number, os.strerror(self.number))
        return self.read(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("file", [".pcd.bin", ".npz"])
def test_a_disks_hiccups_change_no_batch(source, monkeypatch, number, file):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    expected = list(tri_modal_batches(source, workers=0, num_epochs=1))
    hiccups = Hiccups(number, files.TRIES - 1, file)
    monkeypatch.setattr(Path, "read_bytes", lambda path: hiccups(path))
    found = list(tri_modal_batches(source, workers=0, num_epochs=1))
    assert hiccups.calls == files.TRIES - 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["features"], other["features"])


def test_a_disk_that_fails_is_told_from_damage(source, monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    hiccups = Hiccups(errno.EIO, 99, ".npz")
    monkeypatch.setattr(Path, "read_bytes", lambda path: hiccups(path))
    with pytest.raises(UnreadableFileError, match=r"\.npz: could not be read 4 times: .*be whole"):
        list(tri_modal_batches(source, workers=0, skip_damaged=0.9))
    assert hiccups.calls == files.TRIES


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything below a folder."""
    places = [folder, *sorted(folder.rglob("*"))]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in places}


def test_a_dataset_that_cannot_be_written_to_is_trained_on(tmp_path, monkeypatch):
    root, vocabulary = write_dataset(tmp_path / "data"), load_vocabulary()
    dumps = write_dumps(
        tmp_path / "dumps", NuScenesTables(root, "v1.0-mini").keyframes("mini_train"), vocabulary
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = [root, dumps.root]
    before = [contents(folder) for folder in folders]
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.callback(path.chmod, path.stat().st_mode)
            path.chmod(path.stat().st_mode & ~0o222)
        keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
        source = TriModalSource(keyframes, dumps)
        assert len(counts_of(source).pairs) >= 256
        assert len(list(tri_modal_batches(source, workers=1))) == 2
        # Root may write all the same, but nothing did.
        assert [contents(folder) for folder in folders] == before
