"""A loss that is not finite: what the user sees, what is kept, and what a replay finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.training.tiny_task import TinyTask, tiny_config
from uov_jax.checkpoints import state
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.command_line import replay
from uov_jax.errors import InputError, MissingFileError
from uov_jax.tasks import build
from uov_jax.training import broken_step, loop, parallel, step
from uov_jax.training.optimizer import build_optimizer


@pytest.fixture
def config(tmp_path: Path) -> ConfigDict:
    return tiny_config(tmp_path / "cache")


def broken(directory: Path, config: ConfigDict, task: TinyTask) -> tuple[Path, str]:
    """The folder of a run's broken step, and what is said of it."""
    with pytest.raises(loop.NonFiniteLossError) as raised:
        loop.train(task, config, directory)
    assert "could be kept" not in str(raised.value)
    return broken_step.find_broken_step(directory), str(raised.value)


def test_the_state_before_the_step_is_kept_and_so_are_batch_and_seed(
    tmp_path: Path, config: ConfigDict
) -> None:
    folder, message = broken(tmp_path / "run", config, TinyTask(poison=9))
    assert message.startswith("loss is nan at step 9 (epoch 1.80); the run stops here. The state ")
    assert f"batch are in {folder}: python scripts/replay.py {tmp_path / 'run'} runs it" in message
    assert "The checkpoint of step 6 in" in message
    facts = json.loads((folder / "step.json").read_text())
    expected = {"step": 9, "seed": 0, "devices": 1, "processes": 1, "what": "loss", "value": "nan"}
    assert facts == expected
    # The checkpoints to go on from know nothing of it.
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["6"]
    with np.load(folder / "batch_of_process_0.npz") as batch:
        assert np.isnan(batch["features"]).all()
    # Bit for bit what a run has that is stopped there, though one more step had begun.
    kept = read_arrays(folder / "state")
    assert kept["step"] == 8
    config.run.checkpoint_every_steps = 8
    with pytest.raises(loop.NonFiniteLossError):
        loop.train(TinyTask(poison=9), config, tmp_path / "again")
    good = read_arrays(tmp_path / "again" / "checkpoints" / "8")
    assert kept.keys() == good.keys()
    for name, array in good.items():
        np.testing.assert_array_equal(kept[name], array, err_msg=name)


def test_a_replay_finds_what_was_wrong_in_the_batch(tmp_path: Path, config: ConfigDict) -> None:
    folder, _ = broken(tmp_path / "run", config, TinyTask(poison=9))
    found = broken_step.run_again(TinyTask(poison=9), 0, folder, parallel.Parallel())
    assert np.isnan(found.metrics["loss"])
    assert found.other_batch is None
    assert not found.weights
    assert found.batch == {"features": 32}
    first = next(iter(found.modules))
    assert first == "what comes into the network"
    assert len(found.gradients) == found.num_gradients == 6
    lines = found.lines()
    assert "Not finite in the batch: features (32 values)." in lines
    first = "The first that is not finite in the network: what comes into the network (32 values)."
    assert first in lines


class Overflowing(TinyTask):
    """Starts with weights of the last layer whose products do not fit into float32."""

    def initialize(self, model: Any) -> None:
        model.final.kernel.set_value(np.full((6, 2), 3e38, np.float32))


def test_a_replay_names_the_module_whose_numbers_grew_too_large(
    tmp_path: Path, config: ConfigDict
) -> None:
    folder, message = broken(tmp_path / "run", config, Overflowing())
    assert " at step 1 " in message
    assert "No checkpoint had been written yet" in message
    found = broken_step.run_again(TinyTask(), 0, folder, parallel.Parallel())
    assert not found.weights
    assert not found.batch
    assert list(found.modules) == ["final", "the network"]
    assert "\nThe first that is not finite in the network: final (" in "\n".join(found.lines())


def test_a_batch_that_is_another_today_is_named(tmp_path: Path, config: ConfigDict) -> None:
    folder, _ = broken(tmp_path / "run", config, TinyTask(poison=9))
    found = broken_step.run_again(TinyTask(), 0, folder, parallel.Parallel())
    assert found.batch == {"features": 32}  # the kept one
    assert found.other_batch is not None
    assert "Built anew of today's files it differs, in features" in found.other_batch


def test_a_step_that_does_not_break_here_is_said_so(tmp_path: Path, config: ConfigDict) -> None:
    folder, _ = broken(tmp_path / "run", config, TinyTask(poison=9))
    with np.load(folder / "batch_of_process_0.npz") as batch:
        whole = {name: np.zeros_like(array) for name, array in batch.items()}
    np.savez(folder / "batch_of_process_0.npz", **whole)
    found = broken_step.run_again(TinyTask(), 0, folder, parallel.Parallel())
    assert found.lines()[-1].startswith("All is finite here")


def test_as_many_devices_are_needed(tmp_path: Path, config: ConfigDict) -> None:
    folder, _ = broken(tmp_path / "run", config, TinyTask(poison=2))
    path = folder / "step.json"
    path.write_text(path.read_text().replace('"devices": 1', '"devices": 8'))
    with pytest.raises(InputError, match="was taken on 8 devices, this process has 1"):
        broken_step.run_again(TinyTask(), 0, folder, parallel.Parallel())


def test_the_command_replays_a_run(
    tmp_path: Path,
    config: ConfigDict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken(tmp_path / "run", config, TinyTask(poison=9))
    built: list[ConfigDict] = []

    def build_task(config: ConfigDict) -> TinyTask:
        built.append(config)
        return TinyTask(poison=9)

    monkeypatch.setattr(build, "build_task", build_task)
    capsys.readouterr()
    assert replay.main([str(tmp_path / "run"), "--config.run.tensorboard=True"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Step 9 of the run with seed 0, where loss was nan, on 1 device:\n")
    assert "The first that is not finite in the network: what comes into the network" in said
    assert built[0].run.tensorboard
    assert built[0].optimizer.to_dict() == config.optimizer.to_dict()


def test_where_nothing_is_kept_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no step is kept there whose loss was not finite"):
        broken_step.find_broken_step(tmp_path)


@pytest.mark.parametrize("poisoned", [0, 1])
def test_micro_batches_of_a_broken_step_leave_the_state_as_it_was(poisoned: int) -> None:
    """Its running statistics too, though the first micro-batch was good."""
    task: Any = TinyTask()
    devices = parallel.Parallel()
    skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
    groups = {name: task.parameter_group(name) for name in parameters}
    settings = tiny_config(Path()).optimizer.to_dict()
    optimizer, rate = build_optimizer(settings, {"name": "constant"}, groups, 10, 10, 4)
    train = step.spread_step(task, skeleton, optimizer, rate, devices, parameters, 2)
    first = jax.device_get(state.create(parameters, statistics, optimizer))
    batches = iter(task.train_batches(1))

    def good() -> tuple[Any, Any]:
        return next(batches), next(batches)

    current, _ = train(devices.replicate(first), devices.shard(good()))
    before = devices.first(current)
    assert before.step == 1
    pair = good()
    pair[poisoned]["features"][:] = np.nan
    for batch in (pair, good()):  # the step after it changes nothing either
        current, _ = train(current, devices.shard(batch))
    after = devices.first(current)
    assert after.step == -2
    after = step.before_broken_step(after)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
