"""How many processors this process may use: the one place that counts them.

A container often sees all processors of its host and may use the time of a few: its control group
has a quota, which neither `os.cpu_count` nor the affinity knows of. Threads beyond it stand in each
other's way.
"""

from __future__ import annotations

import functools
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# What libraries read when they start their threads: OpenMP and with it PyTorch, OpenBLAS, MKL; and
# XLA's CPU client.
ALGEBRA_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
XLA_VARIABLE = "NPROC"
PROCESS = Path("/proc/self")


def available() -> int:
    """As many as the calling thread may run on, but no more than the quota pays for, rounded up.

    Of a quota of 1.5 processors two threads use all, one would leave a third of it.
    """
    most = _allowed()
    limit = _own_quota()
    return most if limit is None else min(most, max(1, math.ceil(limit)))


def limit_libraries() -> None:
    """Let libraries start no more threads than the quota pays for; nothing without a quota.

    XLA sizes its pool when JAX first looks for devices, and it cannot be changed afterwards: to be
    called before. What the environment says already is left as it is.
    """
    count = available()
    if count >= _allowed():
        return  # which libraries count themselves
    for name in (XLA_VARIABLE, *ALGEBRA_VARIABLES):
        os.environ.setdefault(name, str(count))
    if "numpy" in sys.modules:  # its BLAS has started its threads
        from threadpoolctl import threadpool_info, threadpool_limits

        more = [pool["prefix"] for pool in threadpool_info() if pool["num_threads"] > count]
        threadpool_limits(dict.fromkeys(more, count))


def quota(process: Path = PROCESS) -> float | None:
    """Processors whose time the control groups of a process grant it; None if there is no limit.

    Each group around a process limits it: the smallest quota counts. A file that is missing or
    cannot be understood limits nothing.

    Args:
        process: its folder in /proc.

    """
    limits = [limit for group in _groups(process) if (limit := _limit(group)) is not None]
    return min(limits, default=None)


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _own_quota() -> float | None:
    return quota()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _groups(process: Path) -> Iterator[Path]:
    """Folders of the process's control groups that share out processors, the outer ones too."""
    own = {}  # path of the process's group by controller; "" is the hierarchy of version 2
    for line in _lines(process / "cgroup"):  # number:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in _lines(process / "mountinfo"):
        before, _, after = line.partition(" - ")
        mount, system = before.split(" "), after.split(" ")
        if len(mount) < 5 or len(system) < 3:
            continue
        root, point, kind, options = mount[3], mount[4], system[0], system[2].split(",")
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in own or (kind == "cgroup" and "cpu" not in options):
            continue
        top = Path(_unescaped(point))
        try:
            below = PurePosixPath(own[controller]).relative_to(_unescaped(root))
        except ValueError:
            below = PurePosixPath()  # the mount shows the process's own group
        inner = top / below
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _unescaped(path: str) -> str:
    """A path of mountinfo, where spaces and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _limit(group: Path) -> float | None:
    """The quota of one group in processors: version 2 has it in one file, version 1 in two."""
    words = " ".join(_lines(group / "cpu.max")).split()
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [word for name in names for word in _lines(group / name)]
    try:
        time, period = map(float, words)
    except ValueError:
        return None  # "max", or no such files
    return time / period if time > 0 and period > 0 else None
