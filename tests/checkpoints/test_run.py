"""Checkpoints: what comes back, what is kept, what is refused and in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.checkpoints.run import (
    CheckpointError,
    RunCheckpoints,
    find_best_checkpoint,
    find_checkpoint,
    has_checkpoint,
    read_arrays,
    read_record,
)
from uov_jax.checkpoints.state import TrainState
from uov_jax.datasets.keyframe import CAMERAS, LIDAR
from uov_jax.errors import InputError

CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"voxel_size": (0.1, 1.0, 0.1), "root": "here", "workers": 2},
    "run": {"log_every_steps": 50},
}
IDENTITY = {"devices": 2, "vocabulary": "abc"}


def make_state(value: float = 1.0) -> TrainState:
    parameters = {"conv.kernel": np.full((3, 2), value, np.float32), "bias": np.float32([0.5])}
    momentum = ({"conv.kernel": np.zeros((3, 2), np.float32)}, np.array(True))
    return TrainState(np.int32(7), parameters, {"mean": np.zeros(2, np.float32)}, momentum)


def saved(directory: Path, steps: tuple[int, ...] = (5,)) -> None:
    checkpoints = RunCheckpoints(directory, CONFIG, IDENTITY)
    for step in steps:
        checkpoints.save(step, make_state(step))
    checkpoints.close()


def test_everything_comes_back(tmp_path: Path) -> None:
    saved(tmp_path)
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    restored = checkpoints.restore(make_state())
    checkpoints.close()
    assert restored.step == 5
    assert isinstance(restored.state, TrainState)
    np.testing.assert_array_equal(restored.state.parameters["conv.kernel"], np.full((3, 2), 5.0))
    assert restored.state.step.dtype == np.int32
    assert bool(restored.state.optimizer[1])
    record = read_record(tmp_path / "checkpoints" / "5")
    assert record["versions"]["jax"]
    assert restored.kernels == record["kernels"] == sparse.current_kernels()


def test_a_checkpoint_from_before_kernels_were_named(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / "checkpoints" / "5" / "record" / "metadata"
    record = json.loads(file.read_text())
    del record["kernels"]
    file.write_text(json.dumps(record))
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    assert checkpoints.restore(make_state()).kernels is None
    checkpoints.close()


def test_arrays_can_be_looked_at_by_name(tmp_path: Path) -> None:
    saved(tmp_path)
    arrays = read_arrays(tmp_path / "checkpoints" / "5")
    assert arrays["parameters/conv.kernel"].shape == (3, 2)
    with pytest.raises(CheckpointError, match="no checkpoint; expected a folder"):
        read_arrays(tmp_path / "checkpoints" / "6")


def test_some_arrays_alone_are_read(tmp_path: Path) -> None:
    saved(tmp_path)
    arrays = read_arrays(tmp_path / "checkpoints" / "5", ("parameters", "statistics"))
    assert sorted(arrays) == ["parameters/bias", "parameters/conv.kernel", "statistics/mean"]
    np.testing.assert_array_equal(arrays["parameters/conv.kernel"], np.full((3, 2), 5.0))


def test_checkpoints_are_found_from_the_run_or_their_own_folder(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    saved(tmp_path, (5, 12))
    assert has_checkpoint(tmp_path)
    last = tmp_path / "checkpoints" / "12"
    for path in (tmp_path, tmp_path / "checkpoints", last):
        assert find_checkpoint(path) == last
    assert read_record(last)["config"]["seed"] == 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: a folder without a checkpoint; expected a"):
        find_checkpoint(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="nowhere: no such folder; expected a run directory"):
        find_checkpoint(tmp_path / "nowhere")
    (last / "record" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match="metadata: expected the record of a checkpoint"):
        read_record(last)


def test_only_the_last_is_kept_without_scores(tmp_path: Path) -> None:
    saved(tmp_path, (1, 2, 3))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_the_best_is_kept_even_over_a_restart(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    for step, score in ((1, 0.2), (2, 0.5), (3, None), (4, float("nan"))):
        checkpoints.save(step, make_state())
        checkpoints.record_evaluation(step, score)
    checkpoints.close()
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    assert checkpoints.best_step == 2
    assert checkpoints.is_evaluated(3)
    checkpoints.save(5, make_state())
    checkpoints.save(6, make_state())
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "6", "best.json"]


def test_the_best_checkpoint_of_a_run_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    folder = tmp_path / "checkpoints"
    checkpoints.save(1, make_state())
    checkpoints.wait()
    assert find_best_checkpoint(tmp_path) == folder / "1"  # without a score the last
    for step, score in ((2, 0.5), (3, 0.2)):
        checkpoints.save(step, make_state())
        checkpoints.record_evaluation(step, score)
    checkpoints.close()
    for place in (tmp_path, folder):
        assert find_best_checkpoint(place) == folder / "2"
    assert find_best_checkpoint(folder / "3") == folder / "3"
    assert not capsys.readouterr().err
    shutil.rmtree(folder / "2")
    assert find_best_checkpoint(tmp_path) == folder / "3"
    said = capsys.readouterr().err
    assert f"{folder / '2'}: this checkpoint, the best one by best.json, is not there" in said
    assert "the last one is taken, of step 3" in said
    (folder / "best.json").write_text('{"best_step": null, "scores": {"3": null}}')
    assert find_best_checkpoint(tmp_path) == folder / "3"
    assert not capsys.readouterr().err
    (folder / "best.json").write_text("{}")
    with pytest.raises(CheckpointError, match="name the folder of one checkpoint instead"):
        find_best_checkpoint(tmp_path)


def test_evaluations_of_steps_to_come_are_forgotten(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    for step, score in ((1, 0.2), (2, 0.5)):
        checkpoints.record_evaluation(step, score)
    checkpoints.forget_evaluations_after(1)
    checkpoints.close()
    assert checkpoints.best_step == 1
    assert not checkpoints.is_evaluated(2)


@pytest.mark.parametrize(
    ("config", "identity", "message"),
    [
        ({"seed": 1}, {}, r"checkpoints/5: .* written with config.seed = 0, the run has 1"),
        (
            {"data": {**CONFIG["data"], "voxel_size": (0.2, 1.0, 0.1)}},
            {},
            r"config.data.voxel_size = \[0.1, 1.0, 0.1\], the run has \[0.2",
        ),
        ({"extra": 3, "seed": 2}, {}, r"config.seed = 0, the run has 2 \(and 1 more\)"),
        ({}, {"vocabulary": "xyz"}, r"written with vocabulary = abc, the run has xyz"),
        ({}, {"devices": 4}, r"written with devices = 2, the run has 4"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_field(
    tmp_path: Path, config: dict[str, Any], identity: dict[str, Any], message: str
) -> None:
    saved(tmp_path)
    checkpoints = RunCheckpoints(tmp_path, CONFIG | config, IDENTITY | identity)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.restore(make_state())
    checkpoints.close()


def test_fields_that_change_no_parameter_may_differ(tmp_path: Path) -> None:
    saved(tmp_path)
    data = {**CONFIG["data"], "root": "elsewhere", "workers": 8, "worker_processes": True}
    data |= {"val_split": "val", "voxels": (1, 2), "pairs": (3, 4), "superpoints": (5, 6)}
    changed = CONFIG | {"run": {"log_every_steps": 1}, "data": data}
    checkpoints = RunCheckpoints(tmp_path, changed, IDENTITY)
    restored = checkpoints.restore(make_state())
    checkpoints.close()
    assert restored.step == 5


def test_a_run_that_names_no_rig_was_made_with_nuscenes(tmp_path: Path) -> None:
    saved(tmp_path)
    data = {**CONFIG["data"], "lidar": LIDAR, "cameras": CAMERAS}
    checkpoints = RunCheckpoints(tmp_path, CONFIG | {"data": data}, IDENTITY)
    assert checkpoints.restore(make_state()).step == 5
    checkpoints.close()
    data["lidar"] = "LIDAR_FRONT"
    checkpoints = RunCheckpoints(tmp_path, CONFIG | {"data": data}, IDENTITY)
    message = "written with config.data.lidar = LIDAR_TOP, the run has LIDAR_FRONT"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.restore(make_state())
    checkpoints.close()


def test_another_network_is_refused_by_array(tmp_path: Path) -> None:
    saved(tmp_path)
    other = make_state()
    other.parameters["conv.kernel"] = np.zeros((4, 2), np.float32)
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(
        CheckpointError, match=r"parameters/conv.kernel has shape \(3, 2\) .* \(4, 2\)"
    ):
        checkpoints.restore(other)
    other.parameters["more"] = other.parameters.pop("conv.kernel")
    with pytest.raises(CheckpointError, match=r"conv.kernel has shape \(3, 2\) .* and nothing"):
        checkpoints.restore(other)
    checkpoints.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_gone_on_with(tmp_path: Path, value: float) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    checkpoints.save(3, make_state(value))
    checkpoints.wait()
    with pytest.raises(InputError, match=r"checkpoints/3: 1 of \d+ tensors .*conv.kernel"):
        checkpoints.restore(make_state())
    checkpoints.close()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    saved(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "5" / "record")
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(CheckpointError, match=r"checkpoints/5: cannot read `record`"):
        checkpoints.restore(make_state())
    checkpoints.close()


def test_what_a_killed_writer_left_is_not_a_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path)
    unfinished = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp-1"
    shutil.copytree(tmp_path / "checkpoints" / "5", unfinished)
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    assert checkpoints.last_step == 5
    checkpoints.close()


def test_a_damaged_score_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"best.json: expected the scores"):
        RunCheckpoints(tmp_path, CONFIG, IDENTITY)


def test_a_folder_without_checkpoint_says_so(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    assert checkpoints.last_step is None
    with pytest.raises(FileNotFoundError, match="no checkpoint of step None"):
        checkpoints.restore(make_state())
    checkpoints.close()
