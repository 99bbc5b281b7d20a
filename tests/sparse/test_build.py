"""What setup.py does with a compiler that cannot build the engine, or not all of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sparse.test_ops import ODD_SIZES


def build(compiler: Path, scratch: Path, root: Path) -> subprocess.CompletedProcess[str]:
    folders = [f"--build-lib={scratch}", f"--build-temp={scratch / 'objects'}"]
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *folders],
        cwd=root,
        env=dict(os.environ) | {"CC": str(compiler), "CXX": str(compiler)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def refused(compiler: Path, scratch: Path, root: Path) -> str:
    """The last line that is said of a compiler."""
    done = build(compiler, scratch, root)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("macros", "found"),
    [
        ("#define __GNUC__ 9", "is GCC 9"),
        # Clang says that it is GCC 4, for compatibility.
        ("#define __GNUC__ 4\n#define __clang__ 1\n#define __clang_major__ 13", "is Clang 13"),
        ("", "is GCC 0"),
    ],
)
def test_an_old_compiler_is_refused_in_one_line(request, tmp_path, macros, found):
    compiler = script(tmp_path / "old", f"#!/bin/sh\ncat << END\n{macros}\nEND\n")
    line = refused(compiler, tmp_path, request.config.rootpath)
    assert line.startswith("error: the engine needs GCC 11 or Clang 14, or newer")
    assert line.endswith(found)


def test_a_missing_compiler_is_named(request, tmp_path):
    line = refused(tmp_path / "none", tmp_path, request.config.rootpath)
    assert "the engine needs GCC 11 or Clang 14" in line
    assert "none does not run" in line


# The real compiler, but for options that it is to be too old for; and quick instead of good.
OLD_COMPILER = """#!/bin/bash
options=()
for option in "$@"; do
  case $option in
    REFUSED) echo "error: unrecognized command line option '$option'" >&2; exit 1 ;;
    -O3) options+=(-O0) ;;
    *) options+=("$option") ;;
  esac
done
exec REAL "${options[@]}"
"""

RUN_THE_BUILD = """
import importlib.util
import sys

import uov_jax

spec = importlib.util.spec_from_file_location("uov_jax._engine", sys.argv[1])
engine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(engine)
sys.modules["uov_jax._engine"] = uov_jax._engine = engine
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="they are for x86")
@pytest.mark.parametrize(
    ("option", "left_out"),
    [("-mavx512bf16", "avx512_bf16"), ("-mavx*", "avx2, avx512, avx512_bf16")],
)
def test_kernels_that_a_compiler_cannot_make_are_left_out(request, tmp_path, option, left_out):
    root = request.config.rootpath
    real = os.environ.get("CXX", "c++")
    text = OLD_COMPILER.replace("REFUSED", option).replace("REAL", real)
    done = build(script(tmp_path / "old", text), tmp_path, root)
    assert done.returncode == 0, done.stderr
    for name in left_out.split(", "):
        assert f"without {name} kernels, which {tmp_path / 'old'} cannot make: " in done.stderr
    assert f"unrecognized command line option '{option[:5]}" in done.stderr
    (engine,) = (tmp_path / "uov_jax").glob("_engine*")

    def run(instruction_set: str | None) -> subprocess.CompletedProcess[str]:
        chosen = {name: v for name, v in os.environ.items() if name != "UOV_INSTRUCTION_SET"}
        return subprocess.run(
            [sys.executable, "-c", RUN_THE_BUILD + ODD_SIZES, engine],
            env=chosen | ({"UOV_INSTRUCTION_SET": instruction_set} if instruction_set else {}),
            cwd=root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    right = run(None)
    assert right.returncode == 0, right.stderr
    said = right.stdout.strip().splitlines()[-1]
    assert said.endswith(f" kernels; without {left_out}, which its compiler could not make)")
    assert said.startswith("available (")
    assert not any(f"({name} kernels" in said for name in left_out.split(", "))
    asked = run("avx512_bf16")
    assert asked.returncode != 0
    assert f"not in this build: {left_out}" in asked.stderr
