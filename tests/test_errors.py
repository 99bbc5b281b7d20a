"""Which errors end in one line and which show where they come from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from uov_jax.command_line import command
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, read_points
from uov_jax.errors import (
    InputError,
    MissingFileError,
    MissingPackageError,
    NotFiniteError,
    UserError,
    decoration,
)


def raising(error: BaseException) -> None:
    raise error


def raising_of(work: Callable[..., Any], *arguments: object) -> None:
    jax.block_until_ready(work(*arguments))


@pytest.mark.parametrize(
    "kind", [InputError, MissingFileError, MissingPackageError, NotFiniteError, UserError]
)
def test_what_a_user_can_mend_is_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(lambda: raising(kind("sweep.bin: truncated"))) == 1
    assert capsys.readouterr().err == "error: sweep.bin: truncated\n"


def test_errors_are_of_the_kinds_that_python_code_expects(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read_points(tmp_path / "sweep.pcd.bin", NUSCENES_COLUMNS)
    assert isinstance(missing.value, UserError)
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingPackageError, ImportError)


@pytest.mark.parametrize(
    "error", [InputError("a.jpg: cut off"), OSError("disk full"), ZeroDivisionError("a bug")]
)
def test_a_picture_that_fails_ends_nothing(error: Exception) -> None:
    lines: list[str] = []
    with decoration("The picture of a", lines.append):
        raising(error)
    assert len(lines) == 1
    assert lines[0].startswith("The picture of a is left out")
    assert str(error) in lines[0]
    assert ("Traceback" in lines[0]) == isinstance(error, ZeroDivisionError)


def test_a_picture_that_succeeds_says_nothing_and_ctrl_c_is_none_of_its_errors() -> None:
    lines: list[str] = []
    with decoration("The picture", lines.append):
        pass
    with pytest.raises(KeyboardInterrupt), decoration("The picture", lines.append):
        raise KeyboardInterrupt
    assert lines == []


def test_the_systems_errors_name_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(lambda: raising(NotADirectoryError(20, "Not a directory", "x/y"))) == 1
    assert capsys.readouterr().err == "error: x/y: Not a directory\n"


def test_a_device_without_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """By the true error of the allocator."""
    rows = jnp.arange(2**20, dtype=jnp.float32)
    sort = jax.jit(lambda rows: jnp.sort(rows[:, None] * rows[None, :], axis=0))
    assert command.run(lambda: raising_of(sort, rows)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: a device has too little memory: RESOURCE_EXHAUSTED")
    assert said.endswith("Take one with more, or the machine's own (JAX_PLATFORMS=cpu)\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "bug", [ValueError("numpy's"), KeyError("a"), OSError("no file"), TypeError(), ImportError("x")]
)
def test_a_bug_shows_where_it_is(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        command.run(lambda: raising(bug))


def test_ctrl_c_says_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(lambda: raising(KeyboardInterrupt())) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


def test_the_status_is_the_commands_own() -> None:
    assert command.run(lambda: None) == 0
    assert command.run(lambda: 3) == 3


def test_names_that_the_terminal_cannot_show_end_nothing() -> None:
    program = (
        "from uov_jax.command_line import command\n"
        "import sys; sys.exit(command.run(lambda: print('Fu\\u00dfg\\u00e4nger \\u884c\\u4eba')))"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Fu\\xdfg\\xe4nger \\u884c\\u4eba\n"
