"""scripts/train.py as a person types it: its messages where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.tiny_dataset import write_dataset, write_dumps
from tests.training.test_parallel import free_port
from uov_jax.command_line import train
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distributed"], "several processes need --coordinator, --num-processes, --process-id"),
        (["--coordinator=a:1", "--num-processes=2"], "several processes need --process-id, which"),
        (
            ["--coordinator=a:1", "--num-processes=2", "--process-id=2"],
            "--process-id=2 with --num-processes=2: processes are numbered from 0 to 1",
        ),
        (
            ["--coordinator=node", "--num-processes=2", "--process-id=0"],
            "--coordinator=node: expected HOST:PORT of process 0",
        ),
        (["--host-timeout=0"], "--host-timeout=0.0: expected more than 0 seconds"),
        (["--join-timeout=-1"], "--join-timeout=-1.0: expected more than 0 seconds"),
    ],
)
def test_wrong_options_of_several_processes_get_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "KUBERNETES_", "JOB_", "OMPI_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)
    assert train.main(["--config=configs/tmp_san.py", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) == 1


def test_what_one_host_lacks_ends_all_with_its_text(tmp_path: Path, dataset: Path) -> None:
    """Long before the first step, while the other opens its data or waits for this one."""
    address = f"--coordinator=localhost:{free_port()}"
    roots = (dataset, tmp_path / "nowhere")
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(
                train_on,
                root,
                tmp_path / "run",
                *(address, "--num-processes=2", f"--process-id={number}", "--host-timeout=20"),
                "--config.batch_size=2",
            )
            for number, root in enumerate(roots)
        ]
    here, lacking = (future.result() for future in found)
    assert (here.returncode, lacking.returncode) == (1, 1), (here.stderr, lacking.stderr)
    reason = f"{roots[1]}: no nuScenes dataset of version v1.0-mini"
    assert f"error: {reason}" in lacking.stderr
    assert "error: process 1 on " in here.stderr
    assert f"failed: {reason}" in here.stderr
    assert "Traceback" not in here.stderr + lacking.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()


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
        ([], "2 samples do not fill one batch of 4 samples x 1 devices x 1 hosts"),
        (["--config.batch_size=0"], "config.batch_size = 0: expected at least 1"),
        (
            ["--config.batch_size=2", "--config.sweeps_per_shard=4"],
            "config.sweeps_per_shard = 4 does not divide config.batch_size = 2: expected 1 or 2",
        ),
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
