"""Logs: rows, growing columns, resuming without duplicates, and damaged files."""

from __future__ import annotations

import csv
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from uov_jax.errors import InputError
from uov_jax.training.logging import MetricsTable, RunLog

ROOT = Path(__file__).parents[2]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_the_disk_at_once(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.add(1, 0.1, {"loss": 2.5})
    table.add(2, 0.2, {"loss": 2.25})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,epoch,loss",
        "1,0.1,2.5",
        "2,0.2,2.25",
    ]


def test_new_metrics_become_columns_and_join_the_row_of_their_step(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.add(1, 0.5, {"loss": 2.0})
    table.add(2, 1.0, {"loss": 1.0})
    table.add(2, 1.0, {"miou": 0.5})
    rows = read(tmp_path / "metrics.csv")
    assert [row["miou"] for row in rows] == ["", "0.5"]
    assert [row["loss"] for row in rows] == ["2", "1"]


def test_whatever_comes_is_what_a_table_in_memory_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, joined rows, new columns, resumed runs, and disks that are full for a while."""
    random, path = np.random.default_rng(0), tmp_path / "metrics.csv"
    table, expected, step = MetricsTable(path), [], 0
    plain = MetricsTable._write

    def full(self: MetricsTable) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(400):
        names = random.choice(list("abcdefgh")[: 2 + len(expected) // 20], 2, replace=False)
        metrics = {str(name): float(random.integers(100)) for name in names}
        kind = random.integers(10)
        if kind == 0 and step:
            table = MetricsTable(path, step := max(step - 3, 0))
            expected = [row for row in expected if int(row["step"]) <= step]
        joins = kind < 4 and bool(expected) and int(expected[-1]["step"]) == step
        step += not joins
        if not joins:
            expected.append({"step": str(step), "epoch": "0.5"})
        expected[-1] |= {name: format(value, "g") for name, value in metrics.items()}
        monkeypatch.setattr(MetricsTable, "_write", full if kind in (7, 8) else plain)
        table.add(step, 0.5, metrics)
        if kind in (7, 8):
            monkeypatch.setattr(MetricsTable, "_write", plain)
            table.add(step, 0.5, {})  # there is room again
        found = [{n: v for n, v in row.items() if v} for row in read(path)]
        assert found == expected
        assert len(table._rows) == 1


def test_rows_wait_for_room_with_all_their_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path)
    table.add(1, 0.1, {"loss": 1.0})
    with monkeypatch.context() as patch:

        def full(self: MetricsTable, columns: list[str]) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(MetricsTable, "_widen", full)
        table.add(2, 0.2, {"loss": 2.0, "miou": 0.5})
        assert [row["step"] for row in read(path)] == ["1"]
    table.add(3, 0.3, {"loss": 3.0})
    assert [row["miou"] for row in read(path)] == ["", "0.5", ""]
    path.unlink()
    table.add(4, 0.4, {"loss": 4.0})
    assert [row["step"] for row in read(path)] == ["3", "4"]


def test_resuming_drops_the_steps_that_come_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path)
    for step in range(1, 8):
        table.add(step, step / 10, {"loss": 1 / step})
    table = MetricsTable(path, resume_step=4)
    for step in range(5, 8):
        table.add(step, step / 10, {"loss": 1 / step})
    assert [row["step"] for row in read(path)] == [str(step) for step in range(1, 8)]


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,loss\n1,0.1,2\n2,0.")
    MetricsTable(path, resume_step=9)
    assert [row["step"] for row in read(path)] == ["1"]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("time,loss\n1,2\n")
    with pytest.raises(ValueError, match="line 1: expected a header that starts with step,epoch"):
        MetricsTable(path)
    path.write_text("step,epoch\nfive,1\n2,1\n")
    with pytest.raises(ValueError, match="line 2"):
        MetricsTable(path)


def events_of(directory: Path) -> list[Any]:
    """What TensorBoard reads, of all files: records of a length, its sum, a message, its sum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((directory / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_run_log_writes_tensorboard_events(tmp_path: Path) -> None:
    for start in (0, 1):
        log = RunLog(tmp_path, start)
        log.add(1 + start, 0.1, {"loss": 3.0 - start, "miou": 0.5})
        log.close()
    events = events_of(tmp_path)
    assert [each.file_version for each in events[::4]] == ["brain.Event:2"] * 2
    # What stands of this step and later ones in files before is hidden.
    starts = [each.step for each in events if each.HasField("session_log")]
    assert starts == [1, 2]
    values = [(each.step, value) for each in events for value in each.summary.value]
    assert [(step, value.tag, value.simple_value) for step, value in values] == [
        (1, "loss", 3.0),
        (1, "miou", 0.5),
        (2, "loss", 2.0),
        (2, "miou", 0.5),
    ]


FULL_DISK = """
import resource, signal, sys
sys.modules["torch"] = None  # which tensorboardX would import, in seconds
from uov_jax.training import logging

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

directory, logging.FLUSH_SECONDS, steps = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
log = logging.RunLog(directory, 0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit(50)
for step in range(1, steps):
    log.add(step, 0.1 * step, {"loss": 1.0})
limit(resource.RLIM_INFINITY)
log.add(steps, 0.1 * steps, {"loss": 1.0})
limit(50)
log.close()
print("went on")
"""


@pytest.mark.parametrize(
    ("flush_seconds", "steps"),
    [
        pytest.param(0, 20, id="at the first event"),
        pytest.param(1000, 400, id="when a buffer is full"),
        pytest.param(1000, 20, id="when it is closed"),
    ],
)
def test_a_disk_that_is_full_switches_tensorboard_off(
    tmp_path: Path, flush_seconds: int, steps: int
) -> None:
    """By a true limit on the size of files."""
    options = [str(tmp_path), str(flush_seconds), str(steps)]
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "went on\n"), run.stderr
    table, said = sorted(run.stderr.splitlines())
    assert "metrics.csv: not written (File too large)" in table
    assert said == (
        "TensorBoard is switched off until the next start (OSError: [Errno 27] File too large): "
        "metrics.csv has what is missing there"
    )
    found = [row["step"] for row in read(tmp_path / "metrics.csv")]
    assert found == [str(step) for step in range(1, steps + 1)]


def test_a_folder_that_cannot_be_written_switches_tensorboard_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    log = RunLog(tmp_path, 0)
    log.add(1, 0.1, {"loss": 3.0})
    log.close()
    assert capsys.readouterr().err.startswith("TensorBoard is switched off until the next start (")
    assert len(read(tmp_path / "metrics.csv")) == 1


def test_a_plot_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(table: Path, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("uov_jax.pictures.loss.loss_plot", full)
    log = RunLog(tmp_path, 0)
    log.add(1, 0.1, {"loss": 3.0})
    assert log.plot() is None
    log.close()
    assert "loss.png is left out: [Errno 28] No space left" in capsys.readouterr().out


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, on=False)
    log.add(1, 0.1, {"loss": 3.0})
    assert log.plot() is None
    log.close()
    assert list(tmp_path.iterdir()) == []


class StandIn:
    """As much of the package wandb as a run calls: keeps runs by id, as its server does.

    Its own step of a row rises by itself or is given; a row of a step that has passed is dropped.
    """

    def __init__(self, fails: str = "") -> None:
        """With the name of the call that fails."""
        self._fails = fails
        self.runs: dict[str, dict[int, dict[str, float]]] = {}
        self.axes: dict[str, str | None] = {}
        self.finished: list[str] = []
        self.asked: list[dict[str, Any]] = []

    def init(self, **options: Any) -> Any:
        self.asked.append(options)
        rows = self.runs.setdefault(options["id"], {})

        def fail(call: str) -> None:
            if call == self._fails:
                raise RuntimeError("the service is gone\nand more")

        def define_metric(name: str, step_metric: str | None = None) -> None:
            self.axes[name] = step_metric

        def log(values: dict[str, float], step: int | None = None) -> None:
            fail("log")
            last = max(rows, default=-1)
            step = last + 1 if step is None else step
            if step >= last:
                rows.setdefault(step, {}).update(values)

        def finish() -> None:
            fail("finish")
            self.finished.append(options["id"])

        return SimpleNamespace(log=log, finish=finish, define_metric=define_metric)

    def chart(self, name: str) -> list[tuple[float, float]]:
        """The points of a metric in the only run, over the metric that is its axis."""
        (rows,) = self.runs.values()
        axis = self.axes.get(name, self.axes.get("*"))
        return [
            (own if axis is None else row[axis], row[name])
            for own, row in rows.items()
            if name in row
        ]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In the place of the package."""
    service = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", service)
    return service


def test_a_resumed_run_is_the_same_one_of_weights_and_biases(
    tmp_path: Path, service: StandIn
) -> None:
    for step in (1, 2):
        log = RunLog(tmp_path, step - 1, tensorboard=False, wandb_project="uov", config={"a": 1})
        log.add(step, 0.1 * step, {"loss": 1.0 / step})
        log.add(step, 0.1 * step, {"miou": 0.5})
        log.close()
    (identity,) = service.runs
    assert service.chart("loss") == [(1, 1.0), (2, 0.5)]
    assert service.chart("miou") == [(1, 0.5), (2, 0.5)]
    assert service.finished == [identity, identity]
    assert service.asked[0]["project"] == "uov"
    assert service.asked[0]["config"] == {"a": 1}
    assert service.asked[1]["resume"] == "allow"


def test_weights_and_biases_gets_the_steps_that_are_taken_again(
    tmp_path: Path, service: StandIn
) -> None:
    """A run is killed after step 7, goes on from its checkpoint of step 5, and logs every step."""
    for first, last in ((1, 7), (6, 9)):
        log = RunLog(tmp_path, first - 1, tensorboard=False, wandb_project="uov")
        for step in range(first, last + 1):
            log.add(step, 0.1 * step, {"loss": 1.0 / step})
    expected = [(step, 1.0 / step) for step in (*range(1, 8), *range(6, 10))]
    assert service.chart("loss") == expected


def test_weights_and_biases_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="`pip install wandb`, or leave the field empty"):
        RunLog(tmp_path, 0, tensorboard=False, wandb_project="uov")


@pytest.mark.parametrize("fails", ["log", "finish"])
def test_a_service_that_fails_is_switched_off(
    fails: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also when it is closed, which would hide the error that ends a run."""
    monkeypatch.setitem(sys.modules, "wandb", StandIn(fails))
    log = RunLog(tmp_path, 0, tensorboard=False, wandb_project="uov")
    for step in (1, 2):
        log.add(step, 0.1 * step, {"loss": 3.0})
    log.close()
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "Weights & Biases is switched off until the next start (RuntimeError: the service is gone):"
    )
    assert len(read(tmp_path / "metrics.csv")) == 2
