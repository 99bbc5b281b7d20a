"""scripts/train.py as a person types it: its messages where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert message.startswith("data/nuscenes: no nuScenes dataset of version v1.0-trainval")
    assert "nuscenes.org" in message
    assert "scripts/simulate.py" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/tmp_san.py", "--config.batchsize=3"], "did you mean batch_size"),
        (["--config", "configs/tmp_sam.py"], "configs/tmp_sam.py: no such config"),
        (["--config=configs/tmp_san.py:tiny"], "no variant 'tiny'"),
        ([], "Give a recipe: --config configs/tmp_san.py"),
        (["--config=configs/tmp_san.py", "--devices=77"], "--devices=77: this process has"),
        (["--config=configs/tmp_san.py", "sim"], "Not understood: sim"),
    ],
)
def test_wrong_arguments_get_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
