"""Builds CUDA sources for the CPU, and keeps what it built until the sources change."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import jax
import jaxlib
import pybind11

from uov_jax.processors import available
from uov_jax.sparse.backends import Backend, register_backend
from uov_jax.sparse.cuda import Cuda
from uov_jax.sparse.engine import AVAILABLE

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc"
BUILT = ROOT / "build" / "emulated"
MODULE = "_engine_cuda_emulated"
BACKEND = "cuda-emulated"
COMPILER = shlex.split(os.environ.get("CXX", "c++"))
COMPILE = [
    *COMPILER,
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
    # As on a GPU where the sources ask for it, and nowhere else: results do not depend on the CPU.
    "-ffp-contract=off",
    *("-DUOV_EMULATED", f"-DUOV_CUDA_MODULE={MODULE}", f"-I{SOURCES}"),
    *("-isystem", str(Path(jaxlib.__file__).parent / "include")),
    *("-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")),
]


def _digest(command: list[str], files: list[Path]) -> str:
    digest = hashlib.sha256("\n".join(command).encode())
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"-")
    return digest.hexdigest()


def _headers(listed: Path) -> list[Path]:
    """What a compiler says that it read, in make's language, but for the source."""
    if not listed.exists():
        return []
    return [Path(word) for word in listed.read_text().replace("\\\n", " ").split()[2:]]


def _make(command: list[str], result: Path, sources: list[Path]) -> None:
    """Run a command that makes a file, unless that was made of these very sources before."""
    listed, key = result.with_suffix(".d"), result.with_suffix(".key")
    as_made = _digest(command, sources + _headers(listed))
    if result.exists() and key.exists() and key.read_text() == as_made:
        return
    # Two test runs may build at once: whole files alone take a name.
    made, read = result.with_suffix(f".{os.getpid()}"), listed.with_suffix(f".{os.getpid()}.d")
    options = ["-MMD", "-MF", str(read)] if result.suffix == ".o" else []
    done = subprocess.run(
        [*command, *options, "-o", str(made)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    if options:
        os.replace(read, listed)
    os.replace(made, result)
    key.write_text(_digest(command, sources + _headers(listed)))


def build(name: str, sources: list[Path]) -> Path:
    """A shared library of these sources and the emulation, in build/emulated."""
    BUILT.mkdir(parents=True, exist_ok=True)
    sources = [*sources, *sorted((SOURCES / "cuda" / "emulation").glob("*.cpp"))]
    objects = [BUILT / (str(path.relative_to(ROOT)).replace("/", "-") + ".o") for path in sources]

    def compile_source(source: Path, made: Path) -> None:
        _make([*COMPILE, "-x", "c++", "-c", str(source)], made, [source])

    with ThreadPoolExecutor(int(os.environ.get("UOV_BUILD_JOBS") or available())) as pool:
        for _ in pool.map(compile_source, sources, objects):
            pass
    library = BUILT / f"{name}.so"
    _make([*COMPILER, "-shared", *map(str, objects)], library, objects)
    return library


@functools.cache
def engine() -> ModuleType:
    """The CUDA backend's module for the CPU, its handlers registered for calls on platform cpu."""
    cuda = SOURCES / "cuda"
    sources = [*sorted(cuda.glob("*.cu")), *sorted(cuda.glob("*.cpp"))]
    library = build(MODULE, [*sources, SOURCES / "python" / "cuda_module.cpp"])
    spec = importlib.util.spec_from_file_location(MODULE, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[MODULE] = module
    for target, handler in module.handlers().items():
        jax.ffi.register_ffi_target(target, handler, platform="cpu")
    return module


def register() -> str:
    """Make the emulation a backend, which is built when something first runs on it: its name."""
    functions = (Cuda(engine, "cpu"),)
    register_backend(BACKEND, Backend(lambda _: functions, lambda: f"{AVAILABLE} (emulated)"))
    return BACKEND
