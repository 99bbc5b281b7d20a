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
from pathlib import Path
from types import ModuleType

import jax
import jaxlib
import pybind11

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc"
BUILT = ROOT / "build" / "emulated"
MODULE = "_engine_cuda_emulated"
COMPILER = [
    *shlex.split(os.environ.get("CXX", "c++")),
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


def _make(command: list[str], result: Path, sources: list[Path]) -> bool:
    """Run a command that makes a file, unless that was made of these very sources before."""
    listed, key = result.with_suffix(".d"), result.with_suffix(".key")
    headers = []
    if listed.exists():  # what the compiler read last time, as for make
        words = listed.read_text().replace("\\\n", " ").split()
        headers = [Path(word) for word in words[1:]]
    if result.exists() and key.exists() and key.read_text() == _digest(command, sources + headers):
        return False
    made = result.with_suffix(f".{os.getpid()}")
    options = ["-MMD", "-MF", str(listed)] if result.suffix == ".o" else []
    done = subprocess.run(
        [*command, *options, "-o", str(made)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    os.replace(made, result)
    if listed.exists():
        words = listed.read_text().replace("\\\n", " ").split()
        headers = [Path(word) for word in words[1:]]
    key.write_text(_digest(command, sources + headers))
    return True


def build(name: str, sources: list[Path], flags: tuple[str, ...] = ()) -> Path:
    """A shared library of these sources and the emulation, in build/emulated."""
    BUILT.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in [*sources, *sorted((SOURCES / "cuda" / "emulation").glob("*.cpp"))]:
        made = BUILT / (str(source.relative_to(ROOT)).replace("/", "-") + ".o")
        _make([*COMPILER, *flags, "-x", "c++", "-c", str(source)], made, [source])
        objects.append(made)
    library = BUILT / f"{name}.so"
    link = [COMPILER[0], "-shared", *map(str, objects)]
    _make(link, library, objects)
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
