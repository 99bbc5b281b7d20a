"""Where a process of a run finds the others: by options, or by what its cluster's environment says.

Slurm, TPU pods and Open MPI are found by JAX itself. An indexed job of Kubernetes numbers its
members, but says neither how many they are nor where the first is: two variables add that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jax._src import clusters

from uov_jax.errors import InputError
from uov_jax.training.meeting import Place

KUBERNETES_NUMBER, KUBERNETES_COUNT = "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"
ADDRESS = "JAX_COORDINATOR_ADDRESS"
SLURM_NUMBER, SLURM_NODE_TASKS, SLURM_GPUS = (
    "SLURM_PROCID",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_GPUS_ON_NODE",
)


@dataclasses.dataclass(frozen=True)
class Member:
    """A process of a run.

    Attributes:
        place: its number, and where the first is.
        devices: numbers of the local devices that are its own; None for all.

    """

    place: Place
    devices: Sequence[int] | None = None


def find_member(
    address: str | None,
    processes: int | None,
    process: int | None,
    environment: Mapping[str, str],
    timeout: float,
) -> Member:
    """What this process is; options come before the environment.

    Args:
        address: host:port of process 0.
        processes: how many there are.
        process: number of this one.
        environment: variables.
        timeout: seconds to wait for the cluster's answers.

    Raises:
        InputError: something is not said by either; names what.

    """
    address = address or environment.get(ADDRESS)
    if process is None and KUBERNETES_NUMBER in environment:
        process = _number(environment, KUBERNETES_NUMBER)
        if processes is None and KUBERNETES_COUNT in environment:
            processes = _number(environment, KUBERNETES_COUNT)
        lacking = [
            f"{variable} (or {option})"
            for variable, option, value in (
                (ADDRESS, "--coordinator", address),
                (KUBERNETES_COUNT, "--num-processes", processes),
            )
            if value is None
        ]
        if lacking:
            raise InputError(
                f"{KUBERNETES_NUMBER}={process} numbers this process, but {' and '.join(lacking)} "
                "must be set too: host:port of the first pod, and the job's completions"
            )
    devices = None
    if None in (address, processes, process):
        # The only place where JAX says what it finds before it connects.
        address, processes, process, devices = (
            clusters.ClusterEnv.auto_detect_unset_distributed_params(
                address, processes, process, None, None, round(timeout)
            )
        )
    lacking = [
        option
        for option, value in (
            ("--coordinator", address),
            ("--num-processes", processes),
            ("--process-id", process),
        )
        if value is None
    ]
    if address is None or processes is None or process is None:
        raise InputError(
            f"several processes need {', '.join(lacking)}, which the environment does not say "
            "either: it is not that of srun, of an indexed job of Kubernetes or of a TPU pod"
        )
    if _alone_on_its_node(environment):
        devices = _gpus_of_the_node(environment)
    return Member(Place(address, int(processes), int(process)), devices)


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError as error:
        raise InputError(f"{name}={environment[name]}: expected a whole number") from error


def _alone_on_its_node(environment: Mapping[str, str]) -> bool:
    """Whether Slurm started one task on every node, such as "1(x4)".

    JAX gives a task of Slurm the one GPU of its number on the node, which is right for a task a GPU
    alone.
    """
    tasks = environment.get(SLURM_NODE_TASKS, "")
    return SLURM_NUMBER in environment and tasks.partition("(")[0] == "1" and "," not in tasks


def _gpus_of_the_node(environment: Mapping[str, str]) -> list[int] | None:
    gpus = environment.get(SLURM_GPUS, "")
    return list(range(int(gpus))) if gpus.isdecimal() and int(gpus) else None
