"""The loop: resuming to the same bits, signals, broken losses, evaluations and what it says."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.training.tiny_task import TinyTask, tiny_config
from uov_jax import files, sparse
from uov_jax.checkpoints import lock
from uov_jax.checkpoints.folder import CheckpointError, read_arrays, read_record
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.sparse.kernels import VARIABLE
from uov_jax.training import loop, usage
from uov_jax.training.device_memory import DeviceMemoryError

PROGRAM = Path(__file__).parent / "tiny_task.py"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> ConfigDict:
    return tiny_config(tmp_path / "cache")


@pytest.fixture
def whole(tmp_path: Path, config: ConfigDict) -> dict[str, np.ndarray]:
    """Everything at the end of a run that was never stopped."""
    loop.train(TinyTask(), config, tmp_path / "whole")
    return final_arrays(tmp_path / "whole")


def final_arrays(directory: Path) -> dict[str, np.ndarray]:
    return read_arrays(directory / "checkpoints" / "20")


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def metrics(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        # Of the machine, not of the training.
        for name in ("sweeps_per_second", "data_wait", "memory_gb", "device_memory_gb"):
            row.pop(name, None)
    return rows


class StopAt(TinyTask):
    """Sends the process a signal from within the loss of a step's data."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)
        task = self

        class Stopping(type(batches)):  # type: ignore[misc]
            def __next__(self) -> Any:
                batch = super().__next__()
                if self._number == task.step:
                    os.kill(os.getpid(), signal.SIGTERM)
                return batch

        batches.__class__ = Stopping
        return batches


def test_training_learns_and_says_what_it_does(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    task = TinyTask()
    result = loop.train(task, config, tmp_path / "run")
    assert result.finished
    assert task.evaluated == [10, 20]
    rows = metrics(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert rows[9]["validation_loss"] != ""
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Tiny task: 56 parameters, 20 steps (4 epochs of 5), 4 sweeps")
    assert any("of training to go" in line for line in lines)
    assert any("1 program(s)" in line for line in lines)
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
    assert (tmp_path / "run" / "config.json").exists()


def test_time_and_memory_are_logged(tmp_path: Path, config: ConfigDict) -> None:
    loop.train(TinyTask(), config, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert 0 <= float(last["data_wait"]) <= 1
    assert float(last["sweeps_per_second"]) > 0
    if usage.STATUS.exists():
        # As the operating system counts it: more than the libraries, less than the machine has.
        assert 0.1 < float(last["memory_gb"]) < 100


class LateHosts(TinyTask):
    """Batches that are built at once, and then taken late, as if other hosts were waited for."""

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)

        class Late(type(batches)):  # type: ignore[misc]
            def __next__(self) -> Any:
                batch = super().__next__()
                time.sleep(0.05)
                return batch

        batches.__class__ = Late
        return batches


@pytest.mark.parametrize(("task", "waits"), [(TinyTask(pause=0.05), True), (LateHosts(), False)])
def test_waiting_for_data_is_waiting_for_what_is_built(
    tmp_path: Path, config: ConfigDict, task: TinyTask, waits: bool
) -> None:
    loop.train(task, config, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert (float(last["data_wait"]) > 0.5) == waits


def test_a_trace_of_some_steps_can_be_had(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    config.run.profile_steps = 2
    loop.train(TinyTask(), config, tmp_path / "run")
    (trace,) = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = [event.get("name", "") for event in events]
    assert sum("PjRt" in name or "Execute" in name for name in names) >= 2
    assert "open its perfetto_trace.json.gz" in capsys.readouterr().out


def test_a_trace_that_a_stop_cuts_short_is_whole(tmp_path: Path, config: ConfigDict) -> None:
    config.run.profile_steps = 100
    loop.train(StopAt(8), config, tmp_path / "run")
    (trace,) = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]


class Probing(TinyTask):
    """Starts from weights of its own, and trains the last layer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.initialized = 0

    def initialize(self, model: Any) -> None:
        self.initialized += 1
        model.first.kernel.set_value(jnp.full_like(model.first.kernel.get_value(), 0.125))

    def parameter_group(self, path: str) -> str:
        return "head" if path.startswith("final.") else "frozen"


def test_frozen_parameters_keep_the_bits_they_were_given(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Probing()
    loop.train(task, config, tmp_path / "run")
    arrays = final_arrays(tmp_path / "run")
    np.testing.assert_array_equal(arrays["parameters/first.kernel"], np.full((4, 6), 0.125))
    np.testing.assert_array_equal(arrays["parameters/norm.scale"], np.ones(6))
    assert np.abs(arrays["parameters/final.bias"]).min() > 0
    buffers = [name for name in arrays if "buffer" in name]
    assert sorted(name.rpartition("/")[2] for name in buffers) == ["final.bias", "final.kernel"]
    assert "56 parameters, 14 trained, 20 steps" in capsys.readouterr().out
    # A run that goes on has its weights already.
    loop.train(task, config, tmp_path / "run")
    assert task.initialized == 1


def test_the_schedule_is_per_epoch(tmp_path: Path, config: ConfigDict) -> None:
    loop.train(TinyTask(), config, tmp_path / "run")
    rates = [float(row["learning_rate"]) for row in metrics(tmp_path / "run")]
    expected = 0.05 * (1 + np.cos(np.pi * (np.arange(20) // 5) / 4))
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_last_and_best_checkpoints_are_kept(tmp_path: Path, config: ConfigDict) -> None:
    class FirstIsBest(TinyTask):
        def score(self, metrics: dict[str, float]) -> float | None:
            return -float(len(self.evaluated))

    loop.train(FirstIsBest(), config, tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["10", "20", "best.json"]


@pytest.mark.parametrize("step", [1, 4, 10, 17])
def test_a_stopped_run_ends_with_the_same_bits(
    tmp_path: Path, config: ConfigDict, whole: dict[str, np.ndarray], step: int
) -> None:
    stopped = loop.train(StopAt(step), config, tmp_path / "run")
    assert stopped.step == step
    assert stopped.signal == signal.SIGTERM
    result = loop.train(TinyTask(), config, tmp_path / "run")
    assert result.finished
    assert_same_bits(final_arrays(tmp_path / "run"), whole)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


class Convolving(TinyTask):
    """A product by the engine, in which kernels round differently."""

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss, metrics = super().loss(model, batch, axis_name)
        generator = np.random.default_rng(0)
        corners = np.array([[0, i // 4, i // 2 % 2, i % 2] for i in range(8)], np.int32)
        found = sparse.submanifold_map(corners, 8, 3)
        wide = jnp.asarray(generator.standard_normal((6, 40)), jnp.float32)
        weights = jnp.asarray(generator.standard_normal((27, 40, 8)), jnp.float32)
        y = sparse.gather_gemm(model.first(batch["features"]) @ wide, weights, found)
        return loss + 0.01 * jnp.mean(jnp.square(jnp.sin(y))), metrics


class ConvolvingStopsAt(StopAt, Convolving):
    """The same, stopped."""


@pytest.fixture
def kernels_of_old(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Others than a new run takes."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = sparse.current_kernels()
    if before in ("generic", "xla"):
        pytest.skip("there are no others here")
    yield "generic"
    sparse.use_kernels(before)


def test_a_run_goes_on_with_the_kernels_of_its_checkpoint(
    tmp_path: Path, config: ConfigDict, kernels_of_old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = sparse.current_kernels()
    loop.train(Convolving(), config, tmp_path / "new")
    sparse.use_kernels(kernels_of_old)
    loop.train(Convolving(), config, tmp_path / "old")
    loop.train(ConvolvingStopsAt(8), config, tmp_path / "run")
    old = final_arrays(tmp_path / "old")
    with pytest.raises(AssertionError):
        assert_same_bits(final_arrays(tmp_path / "new"), old)
    sparse.use_kernels(new)
    capsys.readouterr()
    assert loop.train(Convolving(), config, tmp_path / "run").finished
    assert "It keeps to the generic kernels of its checkpoint" in capsys.readouterr().out
    assert_same_bits(final_arrays(tmp_path / "run"), old)
    assert read_record(tmp_path / "run" / "checkpoints" / "20")["kernels"] == kernels_of_old
    assert sparse.current_kernels() == new


def test_a_run_goes_on_where_its_kernels_are_missing(
    tmp_path: Path, config: ConfigDict, kernels_of_old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del kernels_of_old
    loop.train(ConvolvingStopsAt(8), config, tmp_path / "run")
    record = tmp_path / "run" / "checkpoints" / "8" / "record" / "metadata"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"kernels": "avx1024"}))
    capsys.readouterr()
    assert loop.train(Convolving(), config, tmp_path / "run").finished
    assert "with avx1024 kernels, which cannot run here" in capsys.readouterr().out
    last = read_record(tmp_path / "run" / "checkpoints" / "20")
    assert last["kernels"] == sparse.current_kernels()


def test_an_evaluation_cut_off_is_made_up_for(tmp_path: Path, config: ConfigDict) -> None:
    class StopInEvaluation(TinyTask):
        def evaluate(
            self, predict: Any, directory: Path, step: int, share: Share = WHOLE
        ) -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            return super().evaluate(predict, directory, step, share)

    stopped = loop.train(StopInEvaluation(), config, tmp_path / "run")
    assert stopped.step == 10
    assert not stopped.metrics
    task = TinyTask()
    loop.train(task, config, tmp_path / "run")
    assert task.evaluated == [10, 20]


class BadSweep(TinyTask):
    """A sweep of validation that cannot be read, or judged, at some evaluations."""

    def __init__(self, *steps: int, error: type[Exception] = InputError) -> None:
        super().__init__()
        self.steps, self.error = steps, error

    def evaluate(
        self, predict: Any, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        if step in self.steps:
            raise self.error("sweep 7: truncated")
        return super().evaluate(predict, directory, step, share)


@pytest.mark.parametrize("error", [InputError, NotFiniteError])
def test_an_evaluation_that_fails_does_not_end_the_training(
    tmp_path: Path,
    config: ConfigDict,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
) -> None:
    task = BadSweep(10, error=error)
    result = loop.train(task, config, tmp_path / "run")
    assert result.finished
    assert task.evaluated == [20]
    said = capsys.readouterr().out
    assert "The evaluation at step 10 failed: sweep 7: truncated. Training goes on" in said


@pytest.mark.parametrize("error", [InputError, NotFiniteError])
def test_the_last_evaluation_that_fails_is_an_error_and_is_made_up_for(
    tmp_path: Path, config: ConfigDict, error: type[Exception]
) -> None:
    for _ in range(2):  # The same command again meets the same file again, with nothing lost.
        with pytest.raises(error, match="sweep 7: truncated"):
            loop.train(BadSweep(20, error=error), config, tmp_path / "run")
        assert (tmp_path / "run" / "checkpoints" / "20").is_dir()
    task = TinyTask()
    result = loop.train(task, config, tmp_path / "run")
    assert result.finished
    assert task.evaluated == [20]
    assert result.metrics


def test_the_plot_shows_an_evaluation_made_up_for_at_the_end(
    tmp_path: Path, config: ConfigDict
) -> None:
    class StopInLastEvaluation(TinyTask):
        def evaluate(
            self, predict: Any, directory: Path, step: int, share: Share = WHOLE
        ) -> dict[str, float]:
            if step == 20:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
            return super().evaluate(predict, directory, step, share)

    loop.train(StopInLastEvaluation(), config, tmp_path / "run")
    (tmp_path / "run" / "loss.png").unlink()
    task = TinyTask()
    assert loop.train(task, config, tmp_path / "run").finished
    assert task.evaluated == [20]
    assert (tmp_path / "run" / "loss.png").exists()


class WorkersEnd(TinyTask):
    """The fifth batch fails because a signal came to the workers as well."""

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)

        class Ending(type(batches)):  # type: ignore[misc]
            def __next__(self) -> Any:
                if self._number == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.05)
                    raise RuntimeError("worker 0 is dead\nits stack")
                return super().__next__()

        batches.__class__ = Ending
        return batches


def test_workers_that_the_signal_ended_do_not_spoil_the_stop(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loop.train(WorkersEnd(), config, tmp_path / "run").step == 4
    assert "Not built any more: RuntimeError: worker 0 is dead\n" in capsys.readouterr().out


class Twice(TinyTask):
    """Every batch comes as two micro-batches that are the same."""

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)

        class Pairs(type(batches)):  # type: ignore[misc]
            def __next__(self) -> Any:
                batch = super().__next__()
                return batch, batch

        batches.__class__ = Pairs
        return batches


class TwiceStopsAt(StopAt, Twice):
    """And stops."""


def test_micro_batches_are_averaged_and_a_stopped_run_ends_with_the_same_bits(
    tmp_path: Path,
    config: ConfigDict,
    whole: dict[str, np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mean of two equal gradients is each; statistics move twice as often."""
    with config.unlocked():
        config.accumulate_steps = 2
    loop.train(Twice(), config, tmp_path / "steady")
    result = loop.train(TwiceStopsAt(7), config, tmp_path / "run")
    assert result.step == 7
    loop.train(Twice(), config, tmp_path / "run")
    out = capsys.readouterr().out
    assert "4 sweeps a step on 1 cpu device, in 2 micro-batches, into" in out
    assert "1 program(s) compiled" in out
    found = final_arrays(tmp_path / "run")
    assert_same_bits(found, final_arrays(tmp_path / "steady"))
    moved = {name for name in whole if name.startswith("statistics/")}
    assert len(moved) == 2
    for name, array in whole.items():
        if name in moved:
            assert np.any(found[name] != array)
        else:
            # Another program than that of one batch may round each of the 20 steps differently.
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_run_may_go_on_in_more_micro_batches_and_says_so(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a device without memory is answered with: the same command, in smaller parts."""
    with config.unlocked():
        config.accumulate_steps = 1
    assert loop.train(StopAt(7), config, tmp_path / "run").step == 7
    config.accumulate_steps = 2
    capsys.readouterr()
    assert loop.train(Twice(), config, tmp_path / "run").finished
    said = capsys.readouterr().out
    assert (
        "config.accumulate_steps is 2 from step 8 on, it was 1: batch norms see other parts of a "
        "step, so results differ a little.\n" in said
    )
    assert loop.train(Twice(), config, tmp_path / "run").finished
    assert "it was" not in capsys.readouterr().out


def test_a_finished_run_is_left_alone(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.train(TinyTask(), config, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    task = TinyTask()
    assert loop.train(task, config, tmp_path / "run").finished
    assert task.evaluated == []
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before
    assert "finished already" in capsys.readouterr().out


FULL_DISK = """
import resource, signal, sys, time
from pathlib import Path
from tests.training import tiny_task
from uov_jax.checkpoints.folder import NotSavedError
from uov_jax.training.loop import train

class FillsTheDisk(tiny_task.TinyTask):
    def train_batches(self, num_devices):
        batches = super().train_batches(num_devices)
        class Filling(type(batches)):
            def __next__(self):
                if self._number == 4:
                    while not (directory / "checkpoints" / "3" / "files.json").exists():
                        time.sleep(0.01)
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
                return super().__next__()
        batches.__class__ = Filling
        return batches

directory = Path(sys.argv[1])
# A program that was kept on a full disk is half one, and JAX warns when it reads it.
config = tiny_task.tiny_config(directory.parent / "cache_of_full_disk")
config.run.keep_checkpoints = 3
config.run.tensorboard = True
try:
    train(FillsTheDisk(), config, directory)
except NotSavedError as error:
    print("ended:", error)
"""


def test_a_disk_that_is_full_ends_the_run_late_and_costs_nothing_whole(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    """A true limit on the size of files, from the fifth step on: logs and checkpoints fail."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "run" / "checkpoints"
    left = f"The checkpoint of step 3 in {folder / '3'} is whole"
    # Saves are due at 6, 9, 10 and 12; the next one ends the run.
    (ended,) = [line for line in run.stdout.splitlines() if line.startswith("ended: ")]
    assert f"{folder / '10'}: this checkpoint could not be written: File too large. {left}" in ended
    assert "metrics.csv: not written (File too large): rows are kept" in run.stderr
    assert run.stderr.count("TensorBoard is switched off until the next start (OSError: ") == 1
    # Orbax may still have been writing; what it left then is removed by the next save.
    assert [path.name for path in folder.iterdir() if path.name.isdigit()] == ["3"]
    loop.train(TinyTask(), tiny_config(tmp_path / "cache"), tmp_path / "run")
    assert_same_bits(final_arrays(tmp_path / "run"), whole)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [str(n) for n in range(1, 21)]
    assert sorted(path.name for path in folder.iterdir()) == ["20", "best.json"]


def test_a_lock_that_cannot_be_looked_at_once_costs_no_step(
    tmp_path: Path,
    config: ConfigDict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_at, asked = lock._is_at, []

    def fails_at_the_second_save(file: int, path: Path) -> bool:
        asked.append(path)
        if 3 <= len(asked) < 3 + files.TRIES:  # the first is when it is taken
            raise OSError(errno.EIO, "Input/output error", str(path))
        return is_at(file, path)

    monkeypatch.setattr(lock, "_is_at", fails_at_the_second_save)
    assert loop.train(TinyTask(), config, tmp_path / "run").finished
    said = capsys.readouterr().err
    assert "checkpoints/6: this checkpoint could not be written: " in said
    assert "lock.json: could not be read 4 times: Input/output error" in said
    assert final_arrays(tmp_path / "run")


class Greedy(TinyTask):
    """Whose loss sorts four terabytes."""

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss, metrics = super().loss(model, batch, axis_name)
        rows = jnp.arange(2**20, dtype=jnp.float32)
        table = rows[:, None] * rows[None, :] * jax.lax.stop_gradient(loss)
        return loss + 0.0 * jnp.sort(table, axis=0)[0, 0], metrics


def test_too_little_memory_is_answered_with_the_fields_that_help(
    tmp_path: Path, config: ConfigDict
) -> None:
    """By the true error of the allocator."""
    with config.unlocked():
        config.accumulate_steps, config.model = 1, {"dtype": "float32"}
    with pytest.raises(DeviceMemoryError) as raised:
        loop.train(Greedy(), config, tmp_path / "run")
    message = str(raised.value)
    assert "has too little memory at step 1: RESOURCE_EXHAUSTED" in message
    here, _, anew = message.partition("As another run, with a new --workdir, need less: ")
    assert (
        "With the same command, going on with this run, need less: config.accumulate_steps = 1 (2 "
        "or 4 micro-batches, the same step but for batch norms)" in here
    )
    assert "config.model.dtype = float32 (bfloat16), config.batch_size = 4 (smaller, such" in anew
    assert "config.data" not in message  # this recipe has none
    assert message.endswith("No checkpoint had been written yet")


class Timed(TinyTask):
    """A task whose batches take a minute each, by a clock of their own."""

    def train_batches(self, num_devices: int) -> Any:
        self.batches = super().train_batches(num_devices)
        return self.batches

    def monotonic(self) -> float:
        return 60.0 * self.batches._number


def test_a_clock_that_jumps_changes_neither_cadence_nor_rates(
    tmp_path: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the day goes an hour forth and back with every step."""
    config.run.update(
        checkpoint_every_minutes=30.0,
        checkpoint_every_steps=0,
        evaluate_every_epochs=0,
        keep_checkpoints=9,
    )
    task, now = Timed(), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600.0 * (task.batches._number % 2))
    loop.train(task, config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["20"]
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rates = [row["sweeps_per_second"] for row in csv.DictReader(file)]
    assert all(0 < float(rate) < 1e6 for rate in rates if rate)
    assert any(rates)


def test_checkpoints_are_due_by_time_too(
    tmp_path: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.run.update(
        checkpoint_every_minutes=6.0,
        checkpoint_every_steps=0,
        evaluate_every_epochs=0,
        keep_checkpoints=9,
    )
    task = Timed()
    clock = SimpleNamespace(monotonic=task.monotonic, perf_counter=time.perf_counter)
    monkeypatch.setattr(loop, "time", clock)
    loop.train(task, config, tmp_path / "run")
    saved = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == [6, 12, 18, 20]


def test_no_checkpoint_at_all_is_refused(tmp_path: Path, config: ConfigDict) -> None:
    config.run.keep_checkpoints = 0
    with pytest.raises(InputError, match="config.run.keep_checkpoints = 0: expected at least 1"):
        loop.train(TinyTask(), config, tmp_path / "run")


def test_another_config_is_refused_by_field(tmp_path: Path, config: ConfigDict) -> None:
    loop.train(StopAt(4), config, tmp_path / "run")
    config.run.log_every_steps = 2
    config.optimizer.learning_rate = 0.3
    with pytest.raises(CheckpointError, match=r"config.optimizer.learning_rate = 0.1.* has 0.3"):
        loop.train(TinyTask(), config, tmp_path / "run")


def test_a_run_of_no_step_is_refused(tmp_path: Path, config: ConfigDict) -> None:
    config.total_steps = 0
    with pytest.raises(ValueError, match=r"config.total_steps = 0: there is not one step"):
        loop.train(TinyTask(), config, tmp_path / "run")


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path, config: ConfigDict) -> None:
    config.batch_size = 3
    two = jax.local_devices()[:1] * 2
    with pytest.raises(ValueError, match=r"2 devices cannot share out 3 shards .*: 1 or 3 can"):
        loop.train(TinyTask(), config, tmp_path / "run", two)


def start(directory: Path, *options: str, devices: int = 1) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory), *options],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for_step(directory: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Return when the run has logged a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = directory / "metrics.csv"
        if path.exists() and f"\n{step}," in path.read_text():
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"step {step} never came:\n{process.communicate()[0]}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_ends_with_the_same_bits(
    tmp_path: Path, whole: dict[str, np.ndarray], number: signal.Signals
) -> None:
    process = start(tmp_path / "run", "--pause", "0.15")
    wait_for_step(tmp_path / "run", 7, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert process.returncode == 0, output
        assert "Stopped by SIGTERM after step" in output
        assert "Type the same command again to go on" in output
    assert "20" not in os.listdir(tmp_path / "run" / "checkpoints")
    again = start(tmp_path / "run")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "Going on from the checkpoint of step" in output
    assert_same_bits(final_arrays(tmp_path / "run"), whole)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [str(s) for s in range(1, 21)]


def test_zero_is_never(tmp_path: Path, config: ConfigDict) -> None:
    """The first and the last step are logged, and the last one saved, all the same."""
    with config.unlocked():
        config.run.update(log_every_steps=0, checkpoint_every_steps=0, evaluate_every_epochs=0)
    task = TinyTask()
    assert loop.train(task, config, tmp_path / "run").finished
    assert task.evaluated == []
    assert [row["step"] for row in metrics(tmp_path / "run")] == ["1", "20"]
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert saved == {"20"}


@pytest.mark.parametrize(
    "field",
    [
        "log_every_steps",
        "checkpoint_every_steps",
        "checkpoint_every_minutes",
        "evaluate_every_epochs",
    ],
)
def test_less_than_never_is_refused(tmp_path: Path, config: ConfigDict, field: str) -> None:
    with config.unlocked():
        config.run[field] = -1
    with pytest.raises(InputError, match=rf"config.run.{field} = -1.*: expected 0, for never"):
        loop.train(TinyTask(), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Unreadable(TinyTask):
    """Whose seventh batch cannot be built."""

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)

        class Failing(type(batches)):  # type: ignore[misc]
            def __next__(self) -> Any:
                if self._number == 6:
                    raise InputError("sweep.bin: truncated")
                return super().__next__()

        batches.__class__ = Failing
        return batches


def test_data_that_cannot_be_read_lose_no_step(
    tmp_path: Path, config: ConfigDict, whole: dict[str, np.ndarray]
) -> None:
    with config.unlocked():
        config.run.checkpoint_every_steps = 4
    with pytest.raises(InputError, match="sweep.bin: truncated"):
        loop.train(Unreadable(), config, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
    # Mended, the run ends as one that never met it.
    loop.train(TinyTask(), config, tmp_path / "run")
    assert_same_bits(final_arrays(tmp_path / "run"), whole)
