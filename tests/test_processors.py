"""Processors that a process may use: made control groups, affinity, and who asks."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uov_jax import processors

ROOT = Path(__file__).parents[1]
VERSION_2 = "29 23 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = "32 31 0:29 {root} {point} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "35 31 0:32 / {point} rw,relatime - cgroup cgroup rw,memory\n"


class Machine:
    """A made /proc/self and the folders in which its control groups are mounted."""

    def __init__(self, folder: Path) -> None:
        self.process, self.point = folder / "self", folder / "cgroup"
        self.process.mkdir()
        self.belongs()
        self.mounts()

    def belongs(self, *lines: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mounts(self, *lines: str, root: str = "/", point: Path | None = None) -> None:
        written = str(point or self.point).replace(" ", "\\040")
        text = "".join(line.format(root=root, point=written) for line in lines)
        (self.process / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + text)

    def group(self, path: str, **files: str) -> None:
        folder = self.point / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"cpu.{name}").write_text(text + "\n")

    def quota(self) -> float | None:
        return processors.quota(self.process)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000", 2.0),
        ("150000 100000", 1.5),
        ("10000 100000", 0.1),
        ("100000 50000", 2.0),
        ("max 100000", None),
        ("0 100000", None),
        ("100000 0", None),
        ("100000", None),
        ("", None),
        ("many 100000", None),
    ],
)
def test_a_quota_of_version_2(machine: Machine, text: str, expected: float | None) -> None:
    machine.belongs("0::/pod/container")
    machine.mounts(VERSION_2)
    machine.group("pod/container", max=text)
    assert machine.quota() == expected


@pytest.mark.parametrize(
    ("time", "period", "expected"),
    [("250000", "100000", 2.5), ("-1", "100000", None), ("0", "0", None)],
)
def test_a_quota_of_version_1(
    machine: Machine, time: str, period: str, expected: float | None
) -> None:
    machine.belongs("9:memory:/elsewhere", "4:cpu,cpuacct:/pod/container", "0::/unified")
    machine.mounts(MEMORY, VERSION_1)
    machine.group("pod/container", cfs_quota_us=time, cfs_period_us=period)
    machine.group("elsewhere", cfs_quota_us="100000", cfs_period_us="100000")
    assert machine.quota() == expected


@pytest.mark.parametrize(("outer", "inner"), [(3, 2), (2, 3), (2, None), (None, 2)])
def test_of_nested_quotas_the_smallest_counts(
    machine: Machine, outer: int | None, inner: int | None
) -> None:
    machine.belongs("0::/a/b/c")
    machine.mounts(VERSION_2)
    machine.group("a/b/c/below", max="100000 100000")
    machine.group("a/b/c", max=f"{inner}00000 100000" if inner else "max 100000")
    machine.group("a/b", max="max 100000")
    machine.group("a", max=f"{outer}00000 100000" if outer else "max 100000")
    machine.group("sibling", max="100000 100000")
    assert machine.quota() == 2
    # What is above the mount is no group.
    (machine.point.parent / "cpu.max").write_text("100000 100000\n")
    assert machine.quota() == 2


def test_a_container_sees_its_own_group_as_the_mount(machine: Machine) -> None:
    """Without a namespace of its own, its paths are the host's: they begin with the mount's."""
    machine.belongs("5:cpu,cpuacct:/docker/abc/job")
    machine.mounts(VERSION_1, root="/docker/abc")
    machine.group(".", cfs_quota_us="400000", cfs_period_us="100000")
    assert machine.quota() == 4
    machine.group("job", cfs_quota_us="300000", cfs_period_us="100000")
    assert machine.quota() == 3
    machine.mounts(VERSION_1, root="/other")
    assert machine.quota() == 4


def test_both_versions_at_once(machine: Machine) -> None:
    machine.belongs("5:cpu,cpuacct:/one", "0::/two")
    machine.mounts(VERSION_1, VERSION_2)
    machine.group("one", cfs_quota_us="400000", cfs_period_us="100000")
    machine.group("two", max="300000 100000")
    assert machine.quota() == 3


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    machine = Machine(folder)
    machine.belongs("0::/")
    machine.mounts(VERSION_2)
    machine.group(".", max="200000 100000")
    assert machine.quota() == 2


def test_without_control_groups_there_is_no_quota(machine: Machine, tmp_path: Path) -> None:
    assert processors.quota(tmp_path / "nothing") is None  # as on macOS
    assert machine.quota() is None
    machine.mounts(VERSION_2)  # the process's group is not told
    machine.group(".", max="100000 100000")
    assert machine.quota() is None
    machine.belongs("0::/")
    (machine.process / "mountinfo").write_text("29 23\n - cgroup2\n29 23 0:26 / /x rw - cgroup2\n")
    assert machine.quota() is None


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"),
    [
        (64, None, 64),
        (64, 2.0, 2),
        (64, 1.5, 2),
        (64, 0.1, 1),
        (2, 1.5, 2),
        (1, 1.5, 1),
        (4, 8.0, 4),
        (4, 3.01, 4),
    ],
)
def test_affinity_and_quota_together(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(processors, "_allowed", lambda: allowed)
    monkeypatch.setattr(processors, "_own_quota", lambda: quota)
    assert processors.available() == expected


needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity"
)


def in_process(code: str, **environment: str) -> list[str]:
    """The words that a new process prints, whose affinity may be changed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_affinity
def test_the_affinity_counts() -> None:
    code = """
import os
from uov_jax import processors
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(processors.available())
"""
    assert in_process(code) == ["1"]


# As if there were 64 processors and a quota of two; what the libraries say of it.
QUOTA = """
import os
from uov_jax import processors
processors._allowed = lambda: 64
processors._own_quota = lambda: {quota}
"""
VARIABLES = (processors.XLA_VARIABLE, *processors.ALGEBRA_VARIABLES)
UNSET = dict.fromkeys(VARIABLES, "")


def test_libraries_are_held_to_the_quota() -> None:
    code = """
import numpy, threadpoolctl
for name in {names}: os.environ.pop(name)
os.environ["MKL_NUM_THREADS"] = "7"
processors.limit_libraries()
print(*(os.environ.get(name) for name in {names}))
print(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()))
"""
    limited = in_process(QUOTA.format(quota=1.0) + code.format(names=VARIABLES), **UNSET)
    assert limited == ["1", "1", "1", "7", "1"]
    free = in_process(QUOTA.format(quota=None) + code.format(names=VARIABLES), **UNSET)
    assert free[:4] == ["None", "None", "None", "7"]


def test_a_smaller_number_in_the_environment_is_kept() -> None:
    code = """
import numpy, threadpoolctl
processors.limit_libraries()
print(os.environ["OPENBLAS_NUM_THREADS"])
print(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()))
"""
    set_already = dict.fromkeys(VARIABLES, "1")
    assert in_process(QUOTA.format(quota=2.0) + code, **set_already) == ["1", "1"]


def test_every_command_holds_libraries_to_the_quota() -> None:
    code = """
from uov_jax.command_line import command
command.run(lambda: print(os.environ["NPROC"]))
"""
    without = "os.environ.pop('NPROC', None)\n"
    assert in_process(QUOTA.format(quota=2.0) + without + code) == ["2"]


# XLA's pool has as many threads as NPROC says: more than there are processors here.
@pytest.mark.parametrize(("quota", "expected"), [(2.0, 2), (2.5, 3), (1.0, 1), (None, 8)])
def test_compiled_ops_use_no_more_threads_than_the_quota_pays_for(
    quota: float | None, expected: int
) -> None:
    pytest.importorskip("uov_jax._engine")
    code = """
from uov_jax.sparse.cpu import pool_threads
print(pool_threads())
"""
    assert in_process(QUOTA.format(quota=quota) + code, NPROC="8") == [str(expected)]


def test_nothing_else_counts_processors() -> None:
    asked = {"cpu_count", "process_cpu_count", "sched_getaffinity"}
    folders = ("uov_jax", "benchmarks", "scripts", "configs")
    files = [ROOT / "setup.py"]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {
        str(file.relative_to(ROOT))
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        and {getattr(node, part, None) for part in ("attr", "id", "name")} & asked
    }
    assert found == {"uov_jax/processors.py"}
