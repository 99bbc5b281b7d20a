"""The whole chain by its script: its commands, its table, stopping and going on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.datasets.devkit import small_drive
from uov_jax.command_line import demo as script
from uov_jax.config import check_overrides, load_config

ROOT = Path(__file__).parents[2]


def test_commands_are_those_of_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    for arguments in ([], ["--data=elsewhere", "--config.model.variant=minkunet14a"]):
        stages = script.Chain(script.parse(arguments), 1).stages
        assert len(stages) == 11
        for stage in stages:
            if stage.command != "make_superpoints":
                recipe = stage.arguments[1]
                check_overrides(load_config(str(ROOT / recipe)), stage.arguments)
            assert stage.words.startswith("python scripts/")
        starts = {stage.result.parent for stage in stages if stage.command == "train"}
        # Every checkpoint that is started from is one that the chain trained before.
        seen: set[Path] = set()
        for stage in stages:
            for argument in stage.arguments:
                if argument.startswith("--config.init.checkpoint=runs"):
                    assert Path(argument.partition("=")[2]) in seen
            seen.add(stage.result.parent)
        assert len(starts) == 9


def test_pretraining_of_make_train_is_used_only_where_it_is_the_same() -> None:
    def pretraining(seed: int, *arguments: str) -> Path:
        return script.Chain(script.parse(list(arguments)), seed).pretraining

    assert pretraining(0) == Path("runs/tmp_san-sim")
    assert pretraining(1) == Path("runs/demo/seed-1/tri_modal")
    assert pretraining(0, "--config.total_steps=9") == Path("runs/demo/seed-0/tri_modal")
    assert pretraining(0, "--data=elsewhere") == Path("runs/demo/seed-0/tri_modal")


def test_wrong_arguments_get_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["--seed=3"], "not understood: --seed=3"),
        (["--seeds=0"], "expected at least 1"),
    ):
        with pytest.raises(SystemExit):
            script.parse(arguments)
        assert message in capsys.readouterr().err
    assert script.main(["--data", str(tmp_path)]) == 1
    assert "no simulated drive there: python scripts/simulate.py" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_chain_in_two_steps_a_stage(tmp_path: Path) -> None:
    """Stopped once; then to its table."""
    data = small_drive(tmp_path / "drive")
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), f"--data={data}"]
    command += [f"--output={tmp_path / 'runs'}", "--config.total_steps=2"]
    command += ["--config.model.variant=minkunet14a", "--config.run.tensorboard=False"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started = tmp_path / "runs" / "seed-0" / "tri_modal" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not started.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[11/11] Fine-tuning on one scene from annotation-free training" in done.stdout
    table = (tmp_path / "runs" / "table.md").read_text()
    assert table.startswith("SIMULATED drive")
    assert table.count("hold") + table.count("HOLD") >= 5
    assert len([line for line in table.splitlines() if line.startswith("|")]) == 5
