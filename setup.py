"""Builds the compiled engine: C++17 through pybind11, each kernel file for its instruction set."""

from __future__ import annotations

import os
import platform
import re
import runpy
import subprocess
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
# Files with flags of their own: one per instruction set, and nothing else beyond the baseline, so
# that the shipped library runs anywhere and chooses at run time.
FLAGS_OF_FILE = {
    "kernels_generic.cpp": [],
    "kernels_avx2.cpp": ["-mavx2", "-mfma"],
    "kernels_avx512.cpp": ["-mavx512f", "-mfma"],
    "kernels_avx512_bf16.cpp": ["-mavx512f", "-mavx512bw", "-mavx512bf16", "-mfma"],
    # The reference rounds each product: a fused multiply-add could move a point over a voxel face,
    # or make another of two equally far points the farther one.
    "voxelize.cpp": ["-ffp-contract=off"],
    "farthest_points.cpp": ["-ffp-contract=off"],
}


def jax_include_directory() -> str:
    """Directory of the XLA FFI headers that jaxlib ships."""
    import jaxlib

    include = Path(jaxlib.__file__).parent / "include"
    if not (include / "xla" / "ffi" / "api" / "ffi.h").is_file():
        raise RuntimeError(
            f"jaxlib in {include.parent} has no XLA FFI headers; need jaxlib >= 0.10"
        )
    return str(include)


# The oldest that .ci/compilers builds with.
OLDEST = {"GCC": 11, "Clang": 14}
NEEDED = "the engine needs GCC {GCC} or Clang {Clang}, or newer (CC and CXX name the compiler)"
NEEDED = NEEDED.format(**OLDEST)


def check_compiler(command: list[str]) -> None:
    """Refuse a compiler that is missing or too old, before it fails on some line of the sources."""
    try:
        macros = subprocess.run(
            [*command, "-x", "c++", "-dM", "-E", os.devnull],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise PlatformError(f"{NEEDED}; {' '.join(command)} does not run: {error}") from None
    name, macro = ("Clang", "__clang_major__") if "__clang__" in macros else ("GCC", "__GNUC__")
    found = re.search(rf"#define {macro} (\d+)", macros)
    version = int(found[1]) if found else 0
    if version < OLDEST[name]:
        raise PlatformError(f"{NEEDED}; {' '.join(command)} is {name} {version}")


# UOV_WERROR=1: a warning is an error. For checks, not for users, whose compilers warn of more.
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if os.environ.get("UOV_WERROR") == "1" else [])]


class BuildEngine(build_ext):
    """Compiles the instruction-set kernels with flags of their own, then the rest as usual."""

    def build_extensions(self) -> None:
        """Look at the compiler first."""
        # Which is what compiles C++ differs between versions of setuptools.
        command = getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so)
        check_compiler(command[:1])
        super().build_extensions()

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Compile and link one extension."""
        base = ["-std=c++17", "-O3", "-fvisibility=hidden", *WARNINGS]
        for name, flags in FLAGS_OF_FILE.items():
            if name.startswith("kernels_") and flags and not X86:
                continue
            ext.extra_objects += self.compiler.compile(
                [f"csrc/core/{name}"],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                macros=ext.define_macros,
                extra_postargs=[*base, *flags, "-fPIC"],
            )
        super().build_extension(ext)


def engine() -> Pybind11Extension:
    """The CPU extension module."""
    if sys.platform == "win32":
        raise RuntimeError("the engine is written for GCC and Clang: build it on Linux or macOS")
    sources = [
        str(path.relative_to(ROOT))
        for folder in ("core", "ffi", "python")
        for path in sorted((ROOT / "csrc" / folder).glob("*.cpp"))
        if path.name not in FLAGS_OF_FILE
    ]
    depends = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").rglob("*.h"))]
    return Pybind11Extension(
        "uov_jax._engine",
        sources,
        include_dirs=["csrc"],
        define_macros=[("UOV_X86", "1")] if X86 else [],
        depends=[*depends, *(f"csrc/core/{name}" for name in FLAGS_OF_FILE)],
        cxx_std=17,
        # As system headers: their warnings are not ours to fix.
        extra_compile_args=["-O3", *WARNINGS, "-isystem", jax_include_directory()],
    )


# On all processors that there are for it; UOV_BUILD_JOBS=1 for one. Read as a file: importing the
# package would import what is not installed yet.
processors = runpy.run_path(str(ROOT / "uov_jax" / "processors.py"))
ParallelCompile("UOV_BUILD_JOBS", default=processors["available"]()).install()

setup(ext_modules=[engine()], cmdclass={"build_ext": BuildEngine})
