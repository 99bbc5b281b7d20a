"""The command predict on a folder of hundreds of sweeps, killed again and again, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

import uov_jax
from tests.pages import ROOT
from tests.tasks.test_prediction import run
from uov_jax.clouds import read_label
from uov_jax.datasets.nuscenes_tables import NuScenesTables

__all__ = ["run"]  # a fixture

SWEEPS, KILLS = 500, 5
GROWTH = 1.02
CONSOLE = "import sys; from uov_jax.command_line.console import main; sys.exit(main())"


def write_sweeps(run: Path, folder: Path) -> list[np.ndarray]:
    """Files of x, y, z and intensity: one sweep turned again and again, and of growing length."""
    (keyframe, *_) = NuScenesTables(run.parent, "v1.0-mini").keyframes("mini_val")
    points = keyframe.points()
    folder.mkdir()
    made = []
    for number in range(SWEEPS):
        angle = 2 * np.pi * number / SWEEPS
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = points.copy()
        turned[:, :2] = points[:, :2] @ turn.T
        made.append(turned[: len(points) - number % 97])
        made[-1].tofile(folder / f"{number:04d}.bin")
    return made


def journal(folder: Path) -> list[str]:
    """The clouds of the journal's whole lines, in their order."""
    path = folder / "predicted.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
    found = []
    for line in lines:
        try:
            found.append(str(json.loads(line)["cloud"]))
        except ValueError:  # A kill cut it off.
            continue
    return found


def labelling(run: Path, folder: Path) -> list[str]:
    words = ["predict", run, folder, "--output", folder / "labels", "--pictures", 3]
    return [sys.executable, "-c", CONSOLE, *map(str, words), "--columns", "x y z intensity"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::uov_jax.tasks.prediction.CloudWarning")
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read in /proc")
def test_hundreds_of_sweeps_killed_again_and_again(run: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "sweeps", tmp_path / "sweeps" / "labels"
    points = write_sweeps(run, folder)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = labelling(run, folder)
    log = (tmp_path / "log").open("w")
    random = np.random.default_rng(0)
    labels: dict[str, Any] = {}
    for _ in range(KILLS):
        before = len(journal(output))
        until = before + int(random.integers(10, 60))
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            while len(journal(output)) < until and process.poll() is None:
                time.sleep(0.01 * random.random())
        finally:
            process.kill()
            process.wait()
        assert process.returncode < 0, (tmp_path / "log").read_text()
        written = {path.name: path.stat().st_mtime_ns for path in output.glob("*.label")}
        # What was done stays as it was.
        assert all(written[name] == stamp for name, stamp in labels.items())
        done = journal(output)
        labels = {name: stamp for name, stamp in written.items() if name.partition(".")[0] in done}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    memory: list[tuple[int, int]] = []
    while process.poll() is None:
        pages = (Path("/proc") / str(process.pid) / "statm").read_text().split()
        memory.append((len(journal(output)), int(pages[1]) if len(pages) > 1 else 0))
        time.sleep(0.05)
    log.close()
    assert process.returncode == 0, (tmp_path / "log").read_text()
    written = {path.name: path.stat().st_mtime_ns for path in output.glob("*.label")}
    assert all(written[name] == stamp for name, stamp in labels.items())
    # Nothing twice, nothing lost, nothing unfinished.
    names = [f"{number:04d}" for number in range(SWEEPS)]
    assert sorted(journal(output)) == names
    kinds = {"label": SWEEPS, "npz": SWEEPS, "ply": SWEEPS, "png": 3}
    assert {kind: len(list(output.glob(f"*.predicted.{kind}"))) for kind in kinds} == kinds
    others = {path.name for path in output.iterdir() if ".predicted." not in path.name}
    assert others == {"predicted.txt", "predicted.jsonl"}
    network = uov_jax.load(run)
    for number in range(0, SWEEPS, 50):
        expected = network.predict(points[number][:, :3], intensity=points[number][:, 3])
        path = output / f"{number:04d}.predicted.label"
        np.testing.assert_array_equal(read_label(path, len(expected)), expected)
    early = median(pages for done, pages in memory if SWEEPS - 200 <= done < SWEEPS - 150)
    late = median(pages for done, pages in memory if SWEEPS - 50 <= done < SWEEPS)
    assert late <= GROWTH * early
