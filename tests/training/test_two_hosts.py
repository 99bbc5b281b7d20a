"""Two processes of one run: what both say when one of them fails, and what is kept."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_parallel import free_port, start
from uov_jax.checkpoints.folder import read_arrays

ROOT = Path(__file__).parents[2]


def run(
    directories: Path | list[Path], *options: str, on: int = 1, every: tuple[str, ...] = ()
) -> list[subprocess.Popen[str]]:
    """Start both; `options` are of process `on` alone."""
    if isinstance(directories, Path):
        directories = [directories] * 2
    address = f"localhost:{free_port()}"
    return [
        start(
            "faulty_host.py",
            *(str(directory), address, str(n), *every),
            *(options if n == on else ()),
            devices=1,
        )
        for n, directory in enumerate(directories)
    ]


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Status and output of both."""
    found = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            found.append((process.returncode, output))
    finally:
        for process in processes:
            process.kill()
    return found


def steps_of(directory: Path) -> list[int]:
    folder = directory / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The arrays at the end of a run that was not stopped, where one sweep could not be judged.

    The batches of process 1 come late, for which process 0 waits, but not for data.
    """
    directory = tmp_path_factory.mktemp("whole") / "run"
    found = ends(run(directory, "--fault", "validation", "--at", "10", "--pause", "0.1"))
    assert [status for status, _ in found] == [0, 0], found
    # That ends no training.
    assert "The evaluation at step 10 failed: process 1 on " in found[0][1]
    assert "sweep 7: truncated. Training goes on" in found[0][1]
    # Of the next evaluation each judged half, and both know the whole.
    for _, output in found:
        assert "'judged': 10.0, 'sum': 45.0" in output
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sum"] for row in rows][9::10] == ["", "45"]
    assert float(rows[-1]["data_wait"]) < 0.5
    return read_arrays(directory / "checkpoints" / "20")


def assert_ends_as(directory: Path, whole: dict[str, np.ndarray]) -> None:
    """The same command again comes to the same end."""
    found = ends(run(directory))
    assert [status for status, _ in found] == [0, 0], found
    for name, array in read_arrays(directory / "checkpoints" / "20").items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_a_signal_to_one_stops_both_at_the_same_step(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    found = ends(run(tmp_path / "run", "--fault", "term", "--at", "7"))
    assert [status for status, _ in found] == [143, 143], found
    assert "Stopped by SIGTERM to process 1 on " in found[0][1]
    assert "after step 7 of 20; saved as" in found[0][1]
    assert steps_of(tmp_path / "run") == [7]
    assert_ends_as(tmp_path / "run", whole)


def test_data_that_one_cannot_read_end_both_with_the_text_and_lose_no_step(tmp_path: Path) -> None:
    found = ends(run(tmp_path / "run", "--fault", "data", "--at", "8"))
    assert [status for status, _ in found] == [1, 1], found
    assert "error: process 1 on " in found[0][1]
    assert "failed: InputError: sweep.bin: truncated" in found[0][1]
    assert "error: sweep.bin: truncated" in found[1][1]
    assert "Traceback" not in found[0][1] + found[1][1]
    assert steps_of(tmp_path / "run") == [8]


@pytest.mark.parametrize("fault", ["kill", pytest.param("hang", marks=pytest.mark.slow)])
def test_when_one_is_lost_the_other_ends_and_what_was_saved_is_whole(
    tmp_path: Path, whole: dict[str, np.ndarray], fault: str
) -> None:
    every = ("--patience", "3", "--pause", "0.05")
    processes = run(tmp_path / "run", "--fault", fault, "--at", "8", every=every)
    output, _ = processes[0].communicate(timeout=100)
    processes[1].kill()
    processes[1].communicate()
    assert processes[0].returncode == 1, output
    assert "error: process 1 on " in output
    assert "is lost: it has shown no sign of life for 3 seconds" in output
    assert steps_of(tmp_path / "run")[-1] in (6, 8)
    assert_ends_as(tmp_path / "run", whole)


@pytest.mark.slow
def test_when_the_first_hangs_the_other_ends_and_says_so(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    every = ("--patience", "3", "--pause", "0.05")
    processes = run(tmp_path / "run", "--fault", "hang", "--at", "8", every=every, on=0)
    output, _ = processes[1].communicate(timeout=100)
    processes[0].kill()
    processes[0].communicate()
    assert processes[1].returncode == 1, output
    assert "error: process 0 on " in output
    assert "is lost: it has " in output
    assert_ends_as(tmp_path / "run", whole)


@pytest.mark.slow
def test_when_the_first_is_killed_the_other_ends_too(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    """JAX's own message: its coordination service is gone with the first process."""
    processes = run(tmp_path / "run", "--fault", "kill", "--at", "8", on=0)
    (_, first), (status, output) = ends(processes)
    assert status != 0
    assert "leader task was preempted/died" in output, first
    assert steps_of(tmp_path / "run")[-1] in (3, 6)  # that of 6 may have been half written
    assert_ends_as(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("fault", "fact"),
    [
        ("seed", "config.seed is 0"),
        pytest.param("files", "a look at the training samples is tiny", marks=pytest.mark.slow),
    ],
)
def test_what_differs_ends_both_before_the_first_step(
    tmp_path: Path, fault: str, fact: str
) -> None:
    found = ends(run(tmp_path / "run", "--fault", fault))
    assert [status for status, _ in found] == [1, 1], found
    for _, output in found:
        assert f"error: the processes of this run do not agree: {fact} on process 0" in output
    assert not list((tmp_path / "run").glob("metrics.csv"))


@pytest.mark.slow
def test_a_directory_that_is_not_shared_is_named(tmp_path: Path) -> None:
    ends(run(tmp_path / "a", "--fault", "data", "--at", "4"))
    found = ends(run([tmp_path / "a", tmp_path / "b"]))
    assert [status for status, _ in found] == [1, 1], found
    message = "goes on from this checkpoint, which is not there for this process: --workdir must be"
    assert message in found[1][1]
    assert message in found[0][1]


REPLAY = """
import sys
from pathlib import Path
from tests.training.tiny_task import TinyTask
from uov_jax.training import broken_step, parallel
folder = broken_step.find_broken_step(Path(sys.argv[1]))
found = broken_step.run_again(TinyTask(), 0, folder, parallel.Parallel())
print("\\n".join(found.lines()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0, 1])
def test_a_step_that_breaks_on_one_is_kept_by_both_and_replayed_in_one_process(
    tmp_path: Path, slow: int
) -> None:
    """Also where one learns of the other's error before it has seen the step itself."""
    fault = ("--fault", "nan", "--at", "6", "--late-at", "8" if slow else "-1")
    late = ("--patience", "5", "--late-at", "-1" if slow else "8")
    found = ends(run(tmp_path / "run", *fault, every=late))
    assert [status for status, _ in found] == [1, 1], found
    assert "error: loss is nan at step 7 " in found[0][1]
    folder = tmp_path / "run" / "not_finite" / "step_7"
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch_of_process_0.npz",
        "batch_of_process_1.npz",
        "state",
        "step.json",
    ]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    replay = subprocess.run(
        [sys.executable, "-c", REPLAY, str(tmp_path / "run")],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Not finite in the batch: features (32 values)." in replay.stdout, replay.stderr
    assert "Built anew of today's files it differs, in features" in replay.stdout
