"""A share of the work for each of several processes: by argument, or as a scheduler numbers it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from uov_jax.errors import InputError

T = TypeVar("T")

# Number of this process (counted from the third variable, or 0), and how many there are. Slurm's
# tasks and job arrays; Kubernetes' indexed jobs, which only give the number: set JOB_COMPLETIONS.
SCHEDULERS = (
    ("SLURM_PROCID", "SLURM_NTASKS", None),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", None),
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
    for names in SCHEDULERS:
        index, count = _share(environment, *names)
        # Tasks of a job array: each array member has its own tasks.
        shard = Shard((shard.number - 1) * count + index + 1, shard.total * count)
    return shard


def _share(
    environment: Mapping[str, str], number: str, count: str, first: str | None
) -> tuple[int, int]:
    if number not in environment:
        return 0, 1
    if count not in environment:
        raise InputError(
            f"{number}={environment[number]}, but {count} is not set: set it, or give --shard"
        )
    names = [number, count]
    if first is not None and first in environment:
        names.append(first)
    try:
        values = [int(environment[name]) for name in names]
    except ValueError as error:
        raise InputError(f"{', '.join(names)}: expected numbers: {error}") from error
    index = values[0] - sum(values[2:])
    if not 0 <= index < values[1]:
        found = ", ".join(f"{name}={environment[name]}" for name in names)
        raise InputError(f"{found}: no share of that number; give --shard")
    return index, values[1]
