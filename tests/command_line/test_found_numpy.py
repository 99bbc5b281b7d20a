"""A NumPy that cannot be used is named before anything builds on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROKEN = 'raise ImportError("no multiarray\\nfor this Python")\n'


def run_with(folder: Path | None, *options: str) -> subprocess.CompletedProcess[str]:
    places = [str(folder)] if folder else []
    return subprocess.run(
        [sys.executable, *options, ROOT / "scripts" / "train.py", "--help"],
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join([*places, str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("numpy/__init__.py", '__version__ = "1.21.5"\n', "is NumPy 1.21.5, but 2.0 or newer is"),
        ("numpy/__init__.py", "", "is NumPy 0, but 2.0 or newer is needed"),
        ("numpy.py", BROKEN, "cannot be imported (no multiarray). "),
    ],
)
def test_a_foreign_numpy_is_one_line_with_its_file(tmp_path, file, text, said):
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    done = run_with(tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(place) in line
    assert said in line
    assert f"PYTHONPATH names {tmp_path}, " in line
    assert line.endswith("`unset PYTHONPATH` first")


def test_a_python_without_numpy_is_one_line(tmp_path):
    done = run_with(None, "-S")  # without the packages of the environment
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {sys.executable} has no NumPy: ")
    assert ".venv/bin/python" in line


def test_the_numpy_of_the_environment_is_not_refused():
    assert run_with(None).returncode == 0
