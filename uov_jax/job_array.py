"""A share of the work for each of several processes: by argument, or as a scheduler numbers it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from uov_jax.errors import InputError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Numbering:
    """The variables in which a scheduler numbers processes.

    Attributes:
        number: of this process.
        count: how many there are.
        first, step, last: of the numbers, where they need not be 0, 1, 2, ...

    """

    number: str
    count: str
    first: str | None = None
    step: str | None = None
    last: str | None = None


# The tasks of `srun`, members of job arrays, and Kubernetes' indexed jobs, which only give the
# number: set JOB_COMPLETIONS. SLURM_NTASKS says nothing of this process: `sbatch --ntasks=8` sets
# it for the batch script too, which is one process.
SCHEDULERS = (
    _Numbering("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    _Numbering(
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_STEP",
        "SLURM_ARRAY_TASK_MAX",
    ),
    _Numbering("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
)


class Shard(NamedTuple):
    """Share `number` of `total`, counted from 1."""

    number: int = 1
    total: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        """Every total-th item: the shares are disjoint, of like size, and together all items."""
        return list(items[self.number - 1 :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """The shard of a text such as "3/16"; InputError unless it is 1/N to N/N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    shard = Shard(*map(int, found.groups())) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.total:
        raise InputError(
            f"shard {text!r}: expected NUMBER/COUNT from 1/COUNT to COUNT/COUNT, such as 3/16"
        )
    return shard


def shard_from_environment(environment: Mapping[str, str]) -> Shard:
    """The shard that a scheduler's variables name; 1/1 where there are none.

    Raises:
        InputError: a scheduler numbers this process, but does not say how many there are, or its
            variables are not numbers that fit together.

    """
    shard = Shard()
    for numbering in SCHEDULERS:
        index, count = _share(environment, numbering)
        # Tasks of a job array: each array member has its own tasks.
        shard = Shard((shard.number - 1) * count + index + 1, shard.total * count)
    return shard


def unproven_tasks(environment: Mapping[str, str]) -> int:
    """Tasks that a Slurm job asked for, though nothing says that this process is one of them."""
    tasks = environment.get("SLURM_NTASKS", "")
    started_alone = "SLURM_STEP_NUM_TASKS" not in environment
    return int(tasks) if started_alone and tasks.isdecimal() and int(tasks) > 1 else 0


def _share(environment: Mapping[str, str], numbering: _Numbering) -> tuple[int, int]:
    if numbering.number not in environment:
        return 0, 1
    if numbering.count not in environment:
        if numbering.number == "SLURM_PROCID":
            return 0, 1  # A batch script, which `srun` did not start.
        raise InputError(
            f"{numbering.number}={environment[numbering.number]}, but {numbering.count} is not "
            "set: set it, or give --shard"
        )
    names = [
        name for name in dataclasses.astuple(numbering) if name is not None and name in environment
    ]
    try:
        values = {name: int(environment[name]) for name in names}
    except ValueError as error:
        raise InputError(f"{', '.join(names)}: expected numbers: {error}") from error
    count = values[numbering.count]
    first, step = values.get(numbering.first or "", 0), values.get(numbering.step or "", 1)
    index, rest = divmod(values[numbering.number] - first, step) if step > 0 else (-1, 0)
    # A list such as --array=1,5,9 has no step: its members cannot be counted.
    evenly = values.get(numbering.last or "", first + (count - 1) * step)
    if rest or not 0 <= index < count or evenly != first + (count - 1) * step:
        found = ", ".join(f"{name}={environment[name]}" for name in names)
        raise InputError(f"{found}: they do not tell which share this is; give --shard")
    return index, count
