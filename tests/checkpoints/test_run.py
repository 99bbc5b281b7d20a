"""Checkpoints: what comes back, what is kept, what is refused and in which words."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax import files, sparse
from uov_jax.checkpoints import folder, run
from uov_jax.checkpoints.folder import (
    CheckpointError,
    NotSavedError,
    read_arrays,
    read_record,
)
from uov_jax.checkpoints.run import (
    RunCheckpoints,
    find_best_checkpoint,
    find_checkpoint,
    has_checkpoint,
    say_if_unfinished,
)
from uov_jax.checkpoints.state import TrainState
from uov_jax.datasets.keyframe import CAMERAS, LIDAR
from uov_jax.errors import InputError
from uov_jax.files import UnreadableFileError

ROOT = Path(__file__).parents[2]

CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"voxel_size": (0.1, 1.0, 0.1), "root": "here", "workers": 2},
    "run": {"log_every_steps": 50},
}
IDENTITY = {"vocabulary": "abc"}


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


@pytest.mark.parametrize(
    ("written", "devices", "run", "refused"),
    [
        # From before shards: the sweeps of one device formed one.
        ({}, 4, {"sweeps_per_shard": 4}, ""),
        ({}, 4, {"sweeps_per_shard": 4, "gather_shards": True, "accumulate_steps": 1}, ""),
        ({}, 1, {"sweeps_per_shard": None}, ""),
        ({}, 4, {"sweeps_per_shard": 1}, "config.sweeps_per_shard = 4, the run has 1"),
        ({}, 4, {"sweeps_per_shard": None}, "config.sweeps_per_shard = 4, the run has 16"),
        # The devices of losses that know no shards change nothing.
        ({}, 4, {}, ""),
        ({}, 4, {"accumulate_steps": 2}, ""),
        ({"sweeps_per_shard": 16}, None, {"sweeps_per_shard": None}, ""),
        ({"sweeps_per_shard": None}, None, {"sweeps_per_shard": 8}, "shard = 16, the run has 8"),
        ({"sweeps_per_shard": 2, "gather_shards": True}, None, {"sweeps_per_shard": 2}, ""),
    ],
)
def test_a_run_is_bound_to_its_shards_and_not_to_devices(
    tmp_path: Path,
    written: dict[str, Any],
    devices: int | None,
    run: dict[str, Any],
    refused: str,
) -> None:
    batch = {"batch_size": 16}
    identity = IDENTITY if devices is None else IDENTITY | {"devices": devices}
    checkpoints = RunCheckpoints(tmp_path, CONFIG | batch | written, identity)
    checkpoints.save(5, make_state())
    checkpoints.close()
    checkpoints = RunCheckpoints(tmp_path, CONFIG | batch | run, IDENTITY)
    if refused:
        with pytest.raises(CheckpointError, match=refused):
            checkpoints.restore(make_state())
    else:
        assert checkpoints.restore(make_state()).step == 5
    checkpoints.close()


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
    message = r"5/record/metadata: expected the record .*: No such file or directory. There is no"
    with pytest.raises(CheckpointError, match=message):
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


def arrays_of(directory: Path, step: int) -> list[Path]:
    """The files that hold a checkpoint's arrays, the largest first."""
    folder = directory / "checkpoints" / str(step) / "arrays"
    return sorted(folder.rglob("d/*"), key=lambda path: -path.stat().st_size)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"\d+ bytes, expected \d+"),
        (flip_a_bit, "has another content"),
        (Path.unlink, "this file of a checkpoint is gone"),
    ],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, message: str
) -> None:
    """A flipped bit too, which Orbax reads without a word."""
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(step))
    checkpoints.close()
    damage(arrays_of(tmp_path, 3)[0])
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=3)
    restored = checkpoints.restore(make_state())
    assert restored.step == 2
    np.testing.assert_array_equal(restored.state.parameters["conv.kernel"], np.full((3, 2), 2.0))
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "The checkpoint of step 3 is damaged and was left in" in said
    assert "the one before is taken, of step 2" in said
    assert arrays_of(tmp_path, 3) == []
    assert (tmp_path / "checkpoints" / "3.damaged" / "arrays").is_dir()
    # Its step comes again.
    checkpoints.save(3, make_state(4))
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["1", "2", "3", "3.damaged"]


def test_what_does_not_write_leaves_damage_where_it_is(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=2)
    for step in (1, 2):
        checkpoints.save(step, make_state(step))
    checkpoints.close()
    (tmp_path / "checkpoints" / "2" / "record" / "metadata").unlink()
    onlooker = RunCheckpoints(tmp_path, CONFIG, IDENTITY, writes=False)
    assert onlooker.restore(make_state()).step == 1
    assert (tmp_path / "checkpoints" / "2" / "arrays").is_dir()


def test_a_file_that_cannot_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hiccups is asked again, and else the run ends without giving a step up."""
    saved(tmp_path, (5,))
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=2)
    checkpoints.save(6, make_state(6))
    checkpoints.wait()
    asked = []

    def file_sum(path: Path) -> tuple[int, int]:
        asked.append(path)
        raise UnreadableFileError(f"{path}: could not be read 4 times: Input/output error")

    monkeypatch.setattr(folder, "file_sum", file_sum)
    with pytest.raises(UnreadableFileError, match=r"checkpoints/6/.*Input/output error") as raised:
        checkpoints.restore(make_state())
    assert len(asked) == 1
    assert checkpoints.last_step == 6
    newest = tmp_path / "checkpoints" / "6"
    assert str(raised.value).endswith(
        f". Type the same command again when it can be read, or move {newest} away to go on from "
        "step 5"
    )
    # That is a way out.
    newest.rename(tmp_path / "6")
    monkeypatch.undo()
    assert checkpoints.restore(make_state()).step == 5
    checkpoints.close()


@pytest.mark.parametrize("what", ["metadata", "arrays"])
def test_rights_that_are_lacking_leave_a_way_out_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Of the record, and of the folder itself."""
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=2)
    for step in (5, 6):
        checkpoints.save(step, make_state(step))
    checkpoints.wait()
    open_, stat = Path.open, Path.stat

    def refused(path: Path) -> bool:
        return path.parent.name in ("6", "record") and "6" in path.parts

    def open_file(path: Path, *arguments: Any, **named: Any) -> Any:
        if refused(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_(path, *arguments, **named)

    def look(path: Path, **named: Any) -> Any:
        if what == "arrays" and refused(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **named)

    monkeypatch.setattr(Path, "open", open_file)
    monkeypatch.setattr(Path, "stat", look)
    with pytest.raises(UnreadableFileError, match=r"6: could not be read: Permission.* step 5$"):
        checkpoints.restore(make_state())
    shutil.rmtree(tmp_path / "checkpoints" / "5")
    with pytest.raises(UnreadableFileError, match=r"the file may be whole$"):
        checkpoints.restore(make_state())
    checkpoints.close()


def test_several_are_kept(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=3)
    for step in range(1, 7):
        checkpoints.save(step, make_state(step))
        if step == 2:
            checkpoints.record_evaluation(step, 1.0)
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "4", "5", "6", "best.json"]


def test_what_killed_processes_left_is_removed_by_the_next_save(tmp_path: Path) -> None:
    saved(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    for rest in ("9.orbax-checkpoint-tmp", "3.removed"):
        shutil.copytree(checkpoints / "5", checkpoints / rest)
    assert find_checkpoint(tmp_path) == checkpoints / "5"
    saved(tmp_path, (6,))
    assert [path.name for path in checkpoints.iterdir()] == ["6"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from tests.checkpoints.test_run import CONFIG, IDENTITY, RunCheckpoints, make_state

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoints = RunCheckpoints(sys.argv[1], CONFIG, IDENTITY, keep=2)
state = make_state(1)
state.parameters["big"] = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
checkpoints.save(1, state)
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for step in (2, 3, 4, 5):
    print("saving", step, flush=True)
    try:
        checkpoints.save(step, state)
    except OSError as error:
        print("given up:", error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
checkpoints.save(6, state)
checkpoints.wait()
"""


def test_a_disk_that_takes_no_more_costs_no_whole_checkpoint(tmp_path: Path) -> None:
    """A real limit on the size of files; what a save leaves half written is removed at once."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "checkpoints"
    message = f"{folder / '2'}: this checkpoint could not be written: File too large"
    assert f"{message}. The checkpoint of step 1 in {folder / '1'} is whole." in run.stderr
    # One is borne, three in a row are not.
    assert run.stdout.splitlines()[:4] == [f"saving {step}" for step in (2, 3, 4, 5)]
    assert f"given up: {folder / '4'}: this checkpoint could not" in run.stdout
    assert "ERROR:absl" not in run.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["1", "6"]
    assert read_arrays(folder / "6")["parameters/big"].shape == (200_000,)


def test_a_full_disk_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    checkpoints.save(1, make_state())
    message = r"1: this .* written: No space left on device: \d+ Bytes are needed, 10 Bytes are fr"
    with pytest.raises(NotSavedError, match=message):
        checkpoints.wait()
    checkpoints.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_scores_that_cannot_be_written_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_text(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    monkeypatch.setattr(run, "write_text", write_text)
    assert checkpoints.record_evaluation(5, 0.5)
    assert checkpoints.best_step == 5
    assert "best.json: not written (No space left on device): a run" in capsys.readouterr().err
    checkpoints.close()


def test_a_disk_that_hiccups_while_saving_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    errors = [OSError(errno.ESTALE, "hiccup"), OSError(errno.EIO, "hiccup"), TimeoutError("clock")]

    def disk_usage(path: Path) -> Any:
        if errors:
            raise errors.pop()
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder.write_folder(tmp_path / "1", {"a": np.zeros(3)}, {"format": 1}, pause=0.0)
    assert not errors
    np.testing.assert_array_equal(read_arrays(tmp_path / "1")["a"], np.zeros(3))


def fail_listing(monkeypatch: pytest.MonkeyPatch, times: float) -> list[Path]:
    """The folder of checkpoints cannot be listed so many times; what was asked."""
    listing, asked = Path.iterdir, []

    def iterdir(path: Path) -> Any:
        if path.name == "checkpoints":
            asked.append(path)
            if len(asked) <= times:
                raise OSError(errno.EIO, "Input/output error", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    return asked


@pytest.mark.parametrize("saves", [0, 1])
def test_a_listing_that_fails_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    for step in range(saves):
        checkpoints.save(step, make_state())
    fail_listing(monkeypatch, 3)
    checkpoints.save(5, make_state())
    checkpoints.wait()
    checkpoints.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


def test_three_listings_in_a_row_that_fail_are_borne_like_checkpoints_that_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    fail_listing(monkeypatch, float("inf"))
    for step in (1, 2, 3):
        checkpoints.save(step, make_state())
    said = capsys.readouterr().err
    assert f"{tmp_path / 'checkpoints' / '1'}: this checkpoint could not be written: " in said
    assert "could not be read 4 times: Input/output error" in said
    with pytest.raises(NotSavedError, match="3: this checkpoint could not be written"):
        checkpoints.save(4, make_state())
    monkeypatch.undo()
    checkpoints.save(5, make_state())
    checkpoints.wait()
    checkpoints.close()
    assert has_checkpoint(tmp_path)


def test_the_last_checkpoint_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    def may_write() -> None:
        raise UnreadableFileError("lock.json: could not be read 4 times: Stale file handle")

    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    checkpoints.save(1, make_state(), may_write)
    with pytest.raises(NotSavedError, match="1: this .* written: lock.json: could not be read 4"):
        checkpoints.wait()
    checkpoints.close()


def test_weights_of_a_run_in_its_middle_are_taken_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY, keep=2, total_steps=2000)
    checkpoints.save(1500, make_state())
    checkpoints.wait()
    say_if_unfinished(tmp_path)
    expected = (
        f"{tmp_path}: this run is not finished: its last checkpoint is of step 1,500 of 2,000"
    )
    assert expected in capsys.readouterr().err
    say_if_unfinished(tmp_path / "checkpoints" / "1500")
    checkpoints.save(2000, make_state())
    checkpoints.close()
    say_if_unfinished(tmp_path)
    saved(tmp_path / "without_an_end")
    say_if_unfinished(tmp_path / "without_an_end")
    assert not capsys.readouterr().err


def test_a_checkpoint_that_names_its_devices_is_gone_on_with(tmp_path: Path) -> None:
    """As older ones do; today a batch is the same on any number of them."""
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY | {"devices": 8})
    checkpoints.save(5, make_state())
    checkpoints.close()
    checkpoints = RunCheckpoints(tmp_path, CONFIG, IDENTITY)
    assert checkpoints.restore(make_state()).step == 5
    checkpoints.close()
