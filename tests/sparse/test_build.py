"""What setup.py says of a compiler that cannot build the engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def build_with(compiler: str, root: os.PathLike[str], scratch: os.PathLike[str]) -> str:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", f"--build-lib={scratch}"],
        cwd=root,
        env=dict(os.environ) | {"CC": compiler, "CXX": compiler},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


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
    compiler = tmp_path / "old"
    compiler.write_text(f"#!/bin/sh\ncat << END\n{macros}\nEND\n")
    compiler.chmod(0o755)
    line = build_with(str(compiler), request.config.rootpath, tmp_path)
    assert line.startswith("error: the engine needs GCC 11 or Clang 14, or newer")
    assert line.endswith(found)


def test_a_missing_compiler_is_named(request, tmp_path):
    line = build_with(str(tmp_path / "none"), request.config.rootpath, tmp_path)
    assert "the engine needs GCC 11 or Clang 14" in line
    assert "none does not run" in line
