"""scripts/train.py as a person types it: its messages where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_data_one_message_says_how_to_get_some(tmp_path: Path) -> None:
    result = run("--config", str(ROOT / "configs" / "tmp_san.py"), cwd=tmp_path)
    assert result.returncode == 1
    message = result.stderr
    assert "Traceback" not in message
    assert message.startswith("error: data/nuscenes: no nuScenes dataset of version v1.0-trainval")
    assert "nuscenes.org" in message
    assert "scripts/simulate.py" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/tmp_san.py", "--config.batchsize=3"], "did you mean batch_size"),
        (["--config", "configs/tmp_sam.py"], "configs/tmp_sam.py: no such config"),
        (["--config=configs/tmp_san.py:tiny"], "no variant 'tiny'"),
        ([], "give a recipe: --config configs/tmp_san.py"),
        (["--config=configs/tmp_san.py", "--devices=77"], "--devices=77: this process has"),
        (["--config=configs/tmp_san.py", "sim"], "not understood: sim"),
    ],
)
def test_wrong_arguments_get_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two training keyframes and their dumps."""
    root = write_dataset(tmp_path / "data")
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    return root


def train_on(root: Path, workdir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    fields = {
        "data.root": root,
        "data.version": "v1.0-mini",
        "data.train_split": "mini_train",
        "data.val_split": "",
        "data.dumps": root / "dumps",
        "model.variant": "minkunet14a",
        "run.compilation_cache": root / "cache",
        "run.tensorboard": False,
    }
    return run(
        "--config=configs/tmp_san.py",
        f"--workdir={workdir}",
        "--devices=1",
        *(f"--config.{name}={value}" for name, value in fields.items()),
        *arguments,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "2 samples do not fill one batch of 16 samples x 1 devices x 1 hosts"),
        (["--config.batch_size=0"], "config.batch_size = 0: expected at least 1"),
        (
            ["--config.batch_size=2", "--config.optimizer.name=lion"],
            "config.optimizer.name: expected",
        ),
    ],
)
def test_a_run_that_cannot_start_gets_one_line_and_no_directory(
    tmp_path: Path, dataset: Path, arguments: list[str], message: str
) -> None:
    result = train_on(dataset, tmp_path / "run", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_truncated_sweep_met_in_the_run_gets_one_line(tmp_path: Path, dataset: Path) -> None:
    sweeps = sorted((dataset / "samples" / "LIDAR_TOP").glob("scene-0061-*.pcd.bin"))
    for sweep in sweeps:
        sweep.write_bytes(sweep.read_bytes()[:-3])
    result = train_on(dataset, tmp_path / "run", "--config.batch_size=2")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(sweeps[0]) in result.stderr.splitlines()[-1]
