"""Commands that other commands print: each of them works, and none gets in another one's way."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.dumps.test_write import OneSize
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.command_line import (
    dump_teacher,
    evaluate,
    make_superpoints,
    next_steps,
    simulate,
)
from uov_jax.config import load_config
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
# Two steps of the family's smallest network.
SMALL = (
    "--config.total_steps=2",
    "--config.model.variant=minkunet14a",
    "--config.run.tensorboard=False",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type commands in, where runs and data go."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a command as it is typed, and return those that it says come next."""
    python, script, *arguments = shlex.split(command)
    assert (python, script.partition("/")[0]) == ("python", "scripts")
    assert (ROOT / script).is_file()
    module = importlib.import_module(f"uov_jax.command_line.{Path(script).stem}")
    if module.__name__.endswith(".train"):
        arguments += [*SMALL, "--devices=1"]
    status = module.main(arguments)
    captured = capsys.readouterr()
    assert status == 0, f"{command}\n{captured.err}"
    lines = [line.strip() for line in captured.out.splitlines()]
    starts = ("Next: python ", "or: python ")
    return [line.partition(": ")[2] for line in lines if line.startswith(starts)]


def test_every_command_of_the_simulated_chain_leads_to_the_next(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = "python scripts/simulate.py --output drive --scenes 2 --keyframes 2 --workers 1"
    waiting, done = [f"{begin} --image-scale 0.2"], []
    while waiting:
        command = waiting.pop(0)
        done.append(Path(shlex.split(command)[1]).stem)
        waiting += run(command, capsys)
    assert done == ["simulate", "train", "evaluate", "make_superpoints", "train", "evaluate"]
    # Neither run is where the plain recipes' go.
    assert {path.name for path in (checkout / "runs").iterdir()} == {
        "tmp_san-sim-drive",
        "annotation_free_san-sim-drive-simulated",
        *(path.name for path in (checkout / "runs").glob("evaluate-*")),
    }


def test_dumps_lead_to_a_training_of_their_own_and_stay_verified(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(checkout / "data")
    options = "--data data --version v1.0-mini --split mini_train --output dumps/slic"
    (training,) = run(f"python scripts/dump_teacher.py --teacher slic {options}", capsys)
    assert run(f"python scripts/dump_teacher.py --check {options}", capsys) == [training]
    assert "--workdir runs/tmp_slic-data-slic-mini_train" in training
    assert run(training, capsys) == []  # It has no words, so there is nothing to judge.


def test_commands_for_another_rig_name_it_and_lead_to_the_next(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seventeen cameras of two sizes and another LiDAR: every command, typed as it is printed."""
    sizes = {f"CAM_{i:02d}": ((90, 160), (60, 80))[i % 2] for i in range(17)}
    write_dataset(checkout / "data", lidar="LIDAR_FRONT", cameras=sizes)
    monkeypatch.setattr(dump_teacher, "create_teacher", lambda *_: OneSize(175))
    rig = f"--lidar LIDAR_FRONT --cameras {' '.join(sizes)}"
    dataset = f"--data data --version v1.0-mini {rig}"
    command = f"python scripts/dump_teacher.py {dataset} --teacher san --batch 6 --output dumps/own"
    for split in ("mini_val", "mini_train"):
        (training,) = run(f"{command} --split {split}", capsys)
    assert f"--config.data.cameras={tuple(sizes)}" in shlex.split(training)
    assert "--config.data.lidar=LIDAR_FRONT" in training
    # Room for what seventeen cameras see.
    assert "--config.data.pairs=(16384, 185686)" in shlex.split(training)
    assert "--config.data.superpoints=(768, 5803)" in shlex.split(training)
    judged = f"{training} --config.data.val_split=mini_val"
    evaluation, superpoints = run(judged, capsys)
    assert rig in superpoints
    assert run(evaluation, capsys) == []
    (second,) = run(superpoints, capsys)
    assert f"--config.data.cameras={tuple(sizes)}" in shlex.split(second)
    (evaluation,) = run(f"{second} --config.batch_size=2", capsys)
    assert run(f"{evaluation} --predictions", capsys) == []
    others = f"{dataset} --dumps dumps/own --output"
    assert run(f"python scripts/report_dump.py {others} report --split mini_val", capsys) == []
    assert run(f"python scripts/draw.py {others} drawn --scene scene-0103", capsys) == []
    workdir_ = workdir(training)
    query = f"python scripts/query.py --checkpoint {workdir_} --text car --output asked"
    assert run(query, capsys) == []


def test_labels_without_pretraining_say_so_and_start_from_random_weights(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(checkout / "data")
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(checkout / "dumps", keyframes, load_vocabulary())
    options = "--data data --version v1.0-mini --split mini_train --split mini_val --workers 1"
    command = f"python scripts/make_superpoints.py {options} --dumps dumps --output labels"
    (training,) = run(command, capsys)
    assert "--config.init.checkpoint=" in shlex.split(training)
    assert "--config.data.train_split=mini_train --config.data.val_split=mini_val" in training


def test_the_recipes_own_run_is_left_to_the_recipes_own_command() -> None:
    recipe = "configs/tmp_san.py"
    plain, directory = next_steps.training(recipe, {"data.version": "v1.0-trainval"}, "train")
    assert (plain, directory) == (
        f"python scripts/train.py --config {recipe}",
        Path("runs/tmp_san"),
    )
    # Where the data lie binds no run, which keyframes they are does.
    moved, directory = next_steps.training(recipe, {"data.root": "/datasets/nuscenes"}, "train")
    assert directory == Path("runs/tmp_san")
    assert moved.endswith("--config.data.root=/datasets/nuscenes")
    other, directory = next_steps.training(recipe, {"data.train_split": "train:1%"}, "train:1%")
    assert directory == Path("runs/tmp_san-train-1")
    assert "--workdir runs/tmp_san-train-1" in other


def test_dumps_of_all_that_a_recipe_wants_lead_to_the_plain_recipe(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"parametrize": ("scene-0061",), "verify": ("scene-0103",)}
    root = write_dataset(checkout / "data", version="v1.0-trainval", own_splits=splits | {
        "train": ("scene-0061", "scene-0103")
    })  # fmt: skip
    config = load_config("configs/tmp_san.py")
    assert {config.data.train_split, config.data.val_split} == set(splits)
    arguments = ["--teacher=san", "--data", str(root), "--output=data/dumps/san"]
    options = dump_teacher.parse(arguments)
    tables = NuScenesTables(root)
    command = dump_teacher.training_command(options, "san", tables)
    assert (
        command == f"python scripts/train.py --config configs/tmp_san.py --config.data.root={root}"
    )
    options = dump_teacher.parse([*arguments, "--split=parametrize"])
    command = dump_teacher.training_command(options, "san", tables)
    assert "--workdir runs/tmp_san-data-san-parametrize" in command


def test_two_drives_get_in_no_ones_way(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in training nor after it, though all folders in them are named alike."""
    found: dict[str, set[str]] = {"train": set(), "evaluate": set()}
    for drive in ("one", "two"):
        root = write_dataset(checkout / drive, version="v1.0-sim", own_splits={
            "sim_train": ["scene-0061"], "sim_val": ["scene-0103"],
        })  # fmt: skip
        keyframes = NuScenesTables(root, "v1.0-sim").keyframes(["scene-0061", "scene-0103"])
        write_dumps(root / "dumps" / "simulated", keyframes, load_vocabulary())
        options = ["--data", drive, "--version", "v1.0-sim", "--split", "sim_train"]
        options += ["--dumps", f"{drive}/dumps/simulated"]
        options += ["--output", f"{drive}/superpoints/simulated"]
        words = make_superpoints.parse([*options, "--split", "sim_val"])
        found["train"].add(workdir(make_superpoints.training_command(words, "simulated")))
        report = SimpleNamespace(output=Path(drive), dumps=Path(drive, "dumps", "simulated"))
        training = simulate.training_command(report)
        found["train"].add(workdir(training))
        found["evaluate"].add(str(evaluate._directory([workdir(training)], "sim_val")))
    assert len(found["train"]) == 4
    assert len(found["evaluate"]) == 2


def workdir(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("--workdir") + 1]


@pytest.mark.parametrize("teacher", ["maskclip", "catseg"])
def test_dumps_that_are_not_the_recipes_lead_to_runs_of_their_own(
    checkout: Path, teacher: str
) -> None:
    """Another teacher, or other settings: a run is bound to them, though no field says so."""
    splits = {"parametrize": ("scene-0061",), "verify": ("scene-0103",)}
    root = write_dataset(checkout / "data", version="v1.0-trainval", own_splits=splits | {
        "train": ("scene-0061", "scene-0103")
    })  # fmt: skip
    arguments = [f"--teacher={teacher}", "--data", str(root), "--output=data/dumps/other"]
    command = dump_teacher.training_command(
        dump_teacher.parse(arguments), teacher, NuScenesTables(root)
    )
    assert workdir(command).endswith("-data-other-train")
