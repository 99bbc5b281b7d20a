"""What setup.py does with a compiler that cannot build the engine, or not all of it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.made_up_nvcc import calls, made_up_nvcc
from tests.sparse.test_ops import ODD_SIZES

# setup.py on a machine that has no nvcc but those that are in the test's own folder.
WITHOUT_NVCC = """
import os, runpy, sys
own, can = sys.argv[1], os.access
os.access = lambda path, mode: (own in str(path) or "/nvcc" not in str(path)) and can(path, mode)
sys.argv = ["setup.py", *sys.argv[2:]]
runpy.run_path("setup.py", run_name="__main__")
"""


def build(
    compiler: Path, scratch: Path, root: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    folders = [f"--build-lib={scratch}", f"--build-temp={scratch / 'objects'}"]
    ours = ("UOV_CUDA", "UOV_CUDA_ARCHITECTURES", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN")
    rest = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_NVCC, scratch, "--quiet", "build_ext", *folders],
        cwd=root,
        env=rest | {"CC": str(compiler), "CXX": str(compiler)} | variables,
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
    (engine,) = (tmp_path / "uov_jax").glob("_engine.*")

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


# Quick: whatever the source is, the object is empty, and so is the extension.
EMPTY = """#!/bin/bash
for ((i = 1; i <= $#; i++)); do
  [ "${!i}" != -c ] || compiles=1
  [ "${!i}" != -o ] || { next=$((i + 1)); made=${!next}; }
done
[ -z "$compiles" ] || exec REAL -x c++ -fPIC -c /dev/null -o "$made"
exec REAL "$@"
"""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A compiler that makes empty extensions."""
    return script(tmp_path / "quick", EMPTY.replace("REAL", os.environ.get("CXX", "c++")))


@pytest.fixture
def checkout(request, tmp_path: Path) -> Path:
    """A copy of what is built, since CUDA's objects are kept in the checkout."""
    root, copy = request.config.rootpath, tmp_path / "checkout"
    shutil.copytree(root / "csrc", copy / "csrc")
    (copy / "uov_jax").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "uov_jax/processors.py"):
        shutil.copy(root / name, copy / name)
    return copy


def made(scratch: Path) -> list[str]:
    """What was built, by the beginning of its name."""
    return sorted(path.name.split(".")[0] for path in (scratch / "uov_jax").glob("_engine*.so"))


def reason(scratch: Path) -> str:
    """Why there is no CUDA extension."""
    return (scratch / "uov_jax" / "_engine_cuda.txt").read_text()


def test_without_nvcc_the_engine_is_built_and_one_line_says_so(checkout, tmp_path, quick):
    done = build(quick, tmp_path, checkout)
    assert done.returncode == 0, done.stderr
    assert made(tmp_path) == ["_engine"]
    (line,) = [line for line in done.stderr.splitlines() if "CUDA" in line]
    assert "without the CUDA extension: no nvcc of CUDA 12 or newer in CUDA_HOME, " in line
    assert reason(tmp_path).startswith("no nvcc of CUDA 12 or newer in CUDA_HOME, CUDA_PATH, PATH")


def test_without_nvcc_it_ends_where_cuda_is_demanded(checkout, tmp_path, quick):
    done = build(quick, tmp_path, checkout, UOV_CUDA="1")
    assert done.returncode != 0
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: UOV_CUDA=1, but: no nvcc of CUDA 12 or newer in CUDA_HOME")
    assert "Traceback" not in done.stderr
    assert made(tmp_path) == []


def test_with_nvcc_both_are_built(checkout, tmp_path, quick):
    made_up_nvcc(tmp_path / "cuda")
    done = build(quick, tmp_path, checkout, CUDA_HOME=str(tmp_path / "cuda"))
    assert done.returncode == 0, done.stderr
    assert made(tmp_path) == ["_engine", "_engine_cuda"]
    assert "CUDA" not in done.stderr
    assert not (tmp_path / "uov_jax" / "_engine_cuda.txt").exists()
    *compiled, linked = calls(tmp_path / "cuda")
    for command in compiled:
        assert f"-ccbin {quick}" in command
        assert re.search(r"-isystem \S*/jaxlib/include", command)
    assert "-cudart=static" in linked
    # Nothing of an older build stays.
    done = build(quick, tmp_path, checkout, CUDA_HOME=str(tmp_path / "cuda"), UOV_CUDA="0")
    assert done.returncode == 0, done.stderr
    assert "CUDA" not in done.stderr
    assert made(tmp_path) == ["_engine"]
    assert reason(tmp_path) == "built with UOV_CUDA=0\n"
    assert calls(tmp_path / "cuda") == []


@pytest.mark.parametrize("choice", ["auto", "1"])
def test_a_cuda_build_that_fails_leaves_the_engine_and_is_no_secret(
    checkout, tmp_path, quick, choice
):
    made_up_nvcc(tmp_path / "cuda", failure="a.h(3): error: no such thing")
    variables = {"CUDA_HOME": str(tmp_path / "cuda"), "UOV_CUDA": choice}
    done = build(quick, tmp_path, checkout, **variables)
    assert made(tmp_path) == ["_engine"]
    told = re.findall("nvcc cannot make .*: a.h.3.: error: no such thing", done.stderr)
    assert len(told) == 1
    if choice == "1":
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1] == f"error: UOV_CUDA=1, but: {told[0]}"
    else:
        assert done.returncode == 0, done.stderr
        assert f"without the CUDA extension: {told[0]}" in done.stderr
        assert reason(tmp_path) == f"{told[0]}\n"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"UOV_CUDA": "yes"}, "error: UOV_CUDA=yes: expected 0, 1 or auto"),
        (
            {"UOV_CUDA": "1", "UOV_CUDA_ARCHITECTURES": "80 86"},
            "error: UOV_CUDA=1, but: UOV_CUDA_ARCHITECTURES=80 86: 86 is none of what CUDA 13.0 "
            "compiles for: 75, 80, 90, 100",
        ),
    ],
)
def test_wrong_variables_are_one_line(checkout, tmp_path, quick, variables, line):
    made_up_nvcc(tmp_path / "cuda")
    variables |= {"CUDA_HOME": str(tmp_path / "cuda")}
    done = build(quick, tmp_path, checkout, **variables)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == line
