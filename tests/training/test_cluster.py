"""Where processes find each other: options, and the variables of Slurm and Kubernetes."""

from __future__ import annotations

import pytest

from uov_jax.errors import InputError
from uov_jax.training.cluster import Member, find_member
from uov_jax.training.meeting import Place

SLURM = {
    "SLURM_JOB_ID": "70000",
    "SLURM_STEP_NODELIST": "node[003-006]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def find(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, *options: object) -> Member:
    """What a process finds, without options unless some are given."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)  # JAX looks there itself
    address, processes, process = options or (None, None, None)
    return find_member(address, processes, process, environment, 1.0)  # type: ignore[arg-type]


def test_options_say_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(SLURM, monkeypatch, "a:1", 2, 1)
    assert found == Member(Place("a:1", 2, 1))


def test_a_slurm_task_a_gpu_has_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1", "SLURM_GPUS_ON_NODE": "2"}
    found = find(SLURM | tasks, monkeypatch)
    port = 70000 % 4096 + 65535 - 4096 + 1  # JAX's
    assert found == Member(Place(f"node003:{port}", 4, 2), [1])


def test_a_slurm_task_a_node_has_all_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which JAX alone would give it the first."""
    node = {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_GPUS_ON_NODE": "8"}
    assert find(SLURM | node, monkeypatch).devices == list(range(8))


def test_nodes_without_gpus_have_their_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, monkeypatch).devices is None


def test_an_indexed_job_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {
        "JOB_COMPLETION_INDEX": "3",
        "JOB_COMPLETIONS": "4",
        "JAX_COORDINATOR_ADDRESS": "train-0.train:1234",
    }
    assert find(job, monkeypatch) == Member(Place("train-0.train:1234", 4, 3))
    del job["JOB_COMPLETIONS"]
    message = r"JOB_COMPLETION_INDEX=3 .*, but JOB_COMPLETIONS \(or --num-processes\) must be set"
    with pytest.raises(InputError, match=message):
        find(job, monkeypatch)
    assert find_member("b:2", 5, None, job, 1.0) == Member(Place("b:2", 5, 3))


def test_a_number_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="JOB_COMPLETION_INDEX=x: expected a whole number"):
        find({"JOB_COMPLETION_INDEX": "x"}, monkeypatch)


def test_what_nobody_says_is_named() -> None:
    with pytest.raises(InputError, match=r"need --coordinator, --num-processes, --process-id, whi"):
        find_member(None, None, None, {}, 1.0)
    with pytest.raises(InputError, match=r"several processes need --process-id, which"):
        find_member("a:1", 2, None, {}, 1.0)
