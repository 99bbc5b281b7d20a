"""The loop: resuming to the same bits, signals, broken losses, evaluations and what it says."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.training.tiny_task import TinyTask, tiny_config
from uov_jax import sparse
from uov_jax.checkpoints.run import CheckpointError, read_arrays, read_record
from uov_jax.errors import InputError
from uov_jax.sparse.kernels import VARIABLE
from uov_jax.training import loop, usage

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
        def evaluate(self, predict: Any, directory: Path, step: int) -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            return super().evaluate(predict, directory, step)

    stopped = loop.train(StopInEvaluation(), config, tmp_path / "run")
    assert stopped.step == 10
    assert not stopped.metrics
    task = TinyTask()
    loop.train(task, config, tmp_path / "run")
    assert task.evaluated == [10, 20]


class BadSweep(TinyTask):
    """A sweep of validation that cannot be read, at some evaluations."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps = steps

    def evaluate(self, predict: Any, directory: Path, step: int) -> dict[str, float]:
        if step in self.steps:
            raise InputError("sweep 7: truncated")
        return super().evaluate(predict, directory, step)


def test_an_evaluation_that_fails_does_not_end_the_training(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    task = BadSweep(10)
    result = loop.train(task, config, tmp_path / "run")
    assert result.finished
    assert task.evaluated == [20]
    said = capsys.readouterr().out
    assert "The evaluation at step 10 failed: sweep 7: truncated. Training goes on" in said


def test_the_last_evaluation_that_fails_is_an_error_and_is_made_up_for(
    tmp_path: Path, config: ConfigDict
) -> None:
    for _ in range(2):  # The same command again meets the same file again, with nothing lost.
        with pytest.raises(InputError, match="sweep 7: truncated"):
            loop.train(BadSweep(20), config, tmp_path / "run")
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
        def evaluate(self, predict: Any, directory: Path, step: int) -> dict[str, float]:
            if step == 20:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
            return super().evaluate(predict, directory, step)

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


def test_of_several_processes_none_leaves_alone(
    tmp_path: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneOfTwo(loop.Parallel):
        def __init__(self, devices: Any = None) -> None:
            super().__init__(devices)
            self.num_processes = 2

    monkeypatch.setattr(loop, "Parallel", OneOfTwo)
    with pytest.raises(RuntimeError, match="worker 0 is dead"):
        loop.train(WorkersEnd(), config, tmp_path / "run")


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


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, config: ConfigDict) -> None:
    with pytest.raises(loop.NonFiniteLossError, match=r"loss is nan at step 9 .*checkpoint of st"):
        loop.train(TinyTask(poison=9), config, tmp_path / "run")
    kept = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert kept == ["6"]
    assert all(np.all(np.isfinite(a)) for a in read_arrays(tmp_path / "run/checkpoints/6").values())


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
    with pytest.raises(ValueError, match="config.batch_size = 3 does not divide over 2 devices"):
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
    "field", ["log_every_steps", "checkpoint_every_steps", "evaluate_every_epochs"]
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
