"""The Makefile's environment is its own, whatever the shell and the user's settings say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Tried one by one, they break every step of Python's, pip's or pytest's.
SHELL = {
    "PYTHONHOME": "/nowhere",
    "PYTHONUSERBASE": "/nowhere",
    "PYTHONSAFEPATH": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTEST_ADDOPTS": "--no-such-option",
    "PYTEST_PLUGINS": "no_such_plugin",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "VIRTUAL_ENV": "/nowhere",
    "SETUPTOOLS_USE_DISTUTILS": "stdlib",
}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of another Python's: a NumPy and a plugin of pytest that cannot be imported."""
    folder = tmp_path / "foreign"
    info = folder / "foreign_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "numpy.py").write_text('raise ImportError("no multiarray\\nfor this Python")\n')
    (folder / "foreign_plugin.py").write_text('raise ImportError("of another Python")\n')
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nforeign = foreign_plugin\n")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this Makefile, whose environment is a single made-up package."""
    project = tmp_path / "a project"
    (project / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", project)
    shutil.copy(ROOT / "pyproject.toml", project)
    for name in ("base", "dev", "clouds", "nuscenes", "teachers"):
        (project / "requirements" / f"{name}.txt").write_text("made-up==1.0\n")
    return project


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that has that package and is an index of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "made_up-1.0-py3-none-any.whl", "w") as wheel:
        info = "made_up-1.0.dist-info"
        wheel.writestr("made_up.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        names = ("made_up.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return folder


def surroundings(home: Path, **changes: str) -> dict[str, str]:
    """The variables of a shell with this home, less what concerns Python here."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "PYTEST_"))}
    return ours | {"HOME": str(home)} | changes


def make(project: Path, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words],
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("named", [False, True], ids=["users file", "PIP_CONFIG_FILE"])
def test_pip_installs_into_the_environment_from_the_users_index(
    project, index, foreign, tmp_path, named
):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    settings = tmp_path / "settings" if named else home / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(
        f"[global]\nno-index = true\nfind-links = {index}\nuser = true\ntarget = {elsewhere}\n"
        f"[install]\nroot = {elsewhere}\n"
    )
    env = surroundings(
        home,
        **SHELL,
        **({"PIP_CONFIG_FILE": str(settings)} if named else {}),
        XDG_CONFIG_HOME=str(home / ".config"),
        PYTHONPATH=str(foreign),
        PIP_USER="1",
        PIP_PREFIX=str(elsewhere),
        PIP_PYTHON="/nowhere/python",
    )
    done = make(project, "env", f"PYTHON={sys.executable}", env=env)
    assert done.returncode == 0, done.stderr
    assert not elsewhere.exists()
    found = subprocess.run(
        [project / ".venv/bin/python", "-c", "import made_up; print(made_up.__file__)"],
        env=surroundings(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(project / ".venv/lib"))


INSIDE = """
import os

import numpy


def test_nothing_came_in():
    assert numpy.ones(1).sum() == 1
    assert not {names} & os.environ.keys()
"""


def test_what_runs_sees_nothing_of_the_shell(project, foreign, tmp_path):
    tests = project / "tests"
    tests.mkdir()
    names = SHELL.keys() | {"PYTHONPATH"}
    (tests / "test_inside.py").write_text(INSIDE.replace("{names}", repr(names)))
    (project / "setup.py").touch()
    (project / ".venv").mkdir()
    for target in ("installed", "clouds", "teachers", "built"):
        (project / ".venv" / target).touch()
    env = surroundings(tmp_path, **SHELL, PYTHONPATH=str(foreign))
    done = make(project, "test", f"RUN={sys.executable}", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_foreign_plugins_stay_out_of_pytest_itself(foreign, tmp_path):
    """Also where it is run without make."""
    (foreign / "numpy.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "tests/test_readable.py"],
        cwd=ROOT,
        env=surroundings(tmp_path, PYTHONPATH=str(foreign)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
