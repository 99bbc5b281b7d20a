"""Shares of the work: nothing twice, nothing left out, and numbers from schedulers."""

from __future__ import annotations

import pytest

from uov_jax.job_array import Shard, parse_shard, shard_from_environment, unproven_tasks


@pytest.mark.parametrize(("items", "count"), [(0, 3), (2, 3), (17, 1), (17, 4), (16, 16)])
def test_shares_are_disjoint_and_together_everything(items, count):
    shares = [Shard(number, count).of(range(items)) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_are_counted_from_one():
    assert parse_shard("3/16") == Shard(3, 16)
    assert str(parse_shard("1/1")) == "1/1"
    for text in ("0/4", "5/4", "3", "3/", "-1/4", "a/b", ""):
        with pytest.raises(ValueError, match=r"expected NUMBER/COUNT"):
            parse_shard(text)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, Shard(1, 1)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Shard(1, 1)),
        ({"SLURM_PROCID": "15", "SLURM_STEP_NUM_TASKS": "16"}, Shard(16, 16)),
        # A job array of single tasks.
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_STEP_NUM_TASKS": "1",
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "5",
            },
            Shard(3, 4),
        ),
        # The same with two tasks each.
        (
            {
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "5",
            },
            Shard(7, 8),
        ),
        ({"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "8"}, Shard(3, 8)),
        # `sbatch --ntasks=8` with plain python: one process, which does everything.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Shard(1, 1)),
        # --array=0-6:2 has the members 0, 2, 4 and 6.
        *(
            (
                {
                    "SLURM_ARRAY_TASK_ID": str(2 * member),
                    "SLURM_ARRAY_TASK_COUNT": "4",
                    "SLURM_ARRAY_TASK_MIN": "0",
                    "SLURM_ARRAY_TASK_MAX": "6",
                    "SLURM_ARRAY_TASK_STEP": "2",
                },
                Shard(member + 1, 4),
            )
            for member in range(4)
        ),
    ],
)
def test_schedulers_number_the_shares(environment, shard):
    assert shard_from_environment(environment) == shard


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETIONS is not set"),
        # --array=1,5,9
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "9",
                "SLURM_ARRAY_TASK_STEP": "1",
            },
            "do not tell which share this is; give --shard",
        ),
        (
            {"SLURM_PROCID": "4", "SLURM_STEP_NUM_TASKS": "4"},
            "SLURM_PROCID=4, SLURM_STEP_NUM_TASKS=4: they do not tell",
        ),
        ({"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "4"}, "expected numbers"),
    ],
)
def test_variables_that_do_not_fit_together_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        shard_from_environment(environment)


def test_tasks_that_are_asked_for_but_not_started_are_told() -> None:
    assert unproven_tasks({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == 8
    started = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}
    assert unproven_tasks(started) == unproven_tasks({"SLURM_NTASKS": "1"}) == 0
    assert unproven_tasks({}) == 0
