"""Builds the compiled engine: C++17 through pybind11, each kernel file for its instruction set."""

from __future__ import annotations

import itertools
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")


class Kernels(NamedTuple):
    """One file of inner kernels, `csrc/core/kernels_NAME.cpp`, for an instruction set of x86."""

    flags: list[str]
    needs: list[str]  # other kernels that it completes
    probe: str  # what a compiler and its assembler must be able to make of those flags


# The shipped library runs anywhere and chooses at run time: nothing else has flags beyond the
# baseline. Which kernels were built, the sources are told by the macros UOV_AVX2 and so on.
KERNELS = {
    "avx2": Kernels(
        ["-mavx2", "-mfma"],
        [],
        """
        __m256i permuted(__m256i a) { return _mm256_permutevar8x32_epi32(a, a); }
        __m256 product(__m256 a) { return _mm256_fmadd_ps(a, a, a); }
        bool runs() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
        """,
    ),
    "avx512": Kernels(
        ["-mavx512f", "-mfma"],
        [],
        """
        __m512i compressed(__m512i a) { return _mm512_maskz_compress_epi32(5, a); }
        bool runs() { return __builtin_cpu_supports("avx512f"); }
        """,
    ),
    "avx512_bf16": Kernels(
        ["-mavx512f", "-mavx512bw", "-mavx512bf16", "-mfma"],
        ["avx512"],
        """
        __m512 product(__m512 a, __m512bh b) { return _mm512_dpbf16_ps(a, b, b); }
        bool runs() {
          return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16");
        }
        """,
    ),
}
# The reference rounds each product: a fused multiply-add could move a point over a voxel's face or
# a pixel's edge, or make another of two equally far points the farther one.
EXACT = {
    name: ["-ffp-contract=off"] for name in ("farthest_points.cpp", "view.cpp", "voxelize.cpp")
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


def program(command: list[str]) -> list[str]:
    """A compiler without its options: one word, or two as in `ccache g++`."""
    return list(itertools.takewhile(lambda word: not word.startswith("-"), command))


def check_compiler(command: list[str]) -> None:
    """Refuse a compiler that is missing or too old, before it fails on some line of the sources."""
    command = program(command)
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


def refusal(command: list[str], kernels: Kernels) -> str | None:
    """Why a compiler cannot make kernels, in a line of its own; None where it can.

    Old ones do not know the option, or the instruction, or how to ask a processor for it; new ones
    may have an old assembler.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(f"#include <immintrin.h>\n{kernels.probe}")
        done = subprocess.run(
            [*command, *kernels.flags, "-std=c++17", "-c", source, "-o", f"{source}.o"],
            capture_output=True,
            text=True,
            check=False,
        )
    said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return None if done.returncode == 0 else (said or [f"status {done.returncode}"])[0].strip()


# UOV_WERROR=1: a warning is an error. For checks, not for users, whose compilers warn of more.
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if os.environ.get("UOV_WERROR") == "1" else [])]


class BuildEngine(build_ext):
    """Compiles the instruction-set kernels with flags of their own, then the rest as usual."""

    def build_extensions(self) -> None:
        """Look at the compiler first."""
        # Which is what compiles C++ differs between versions of setuptools.
        self.command = getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so)
        check_compiler(self.command)
        super().build_extensions()

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Compile and link one extension."""
        kernels = self.possible_kernels() if X86 else []
        ext.define_macros += [(f"UOV_{name.upper()}", "1") for name in kernels]
        files = {"kernels_generic.cpp": [], **EXACT}
        files |= {f"kernels_{name}.cpp": KERNELS[name].flags for name in kernels}
        base = ["-std=c++17", "-O3", "-fvisibility=hidden", *WARNINGS]
        for name, flags in files.items():
            ext.extra_objects += self.compiler.compile(
                [f"csrc/core/{name}"],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                macros=ext.define_macros,
                extra_postargs=[*base, *flags, "-fPIC"],
            )
        super().build_extension(ext)

    def possible_kernels(self) -> list[str]:
        """The names of the x86 kernels that this compiler can make."""
        possible: list[str] = []
        for name, kernels in KERNELS.items():
            missing = [other for other in kernels.needs if other not in possible]
            why = f"they need {missing[0]}" if missing else refusal(self.command, kernels)
            if why is None:
                possible.append(name)
            else:
                compiler = " ".join(program(self.command))
                self.warn(f"without {name} kernels, which {compiler} cannot make: {why}")
        return possible


def engine() -> Pybind11Extension:
    """The CPU extension module."""
    if sys.platform == "win32":
        raise RuntimeError("the engine is written for GCC and Clang: build it on Linux or macOS")
    every = [
        path
        for folder in ("core", "ffi", "python")
        for path in sorted((ROOT / "csrc" / folder).glob("*.cpp"))
    ]
    own_flags = {path for path in every if path.name in EXACT or path.stem.startswith("kernels_")}
    sources = [str(path.relative_to(ROOT)) for path in every if path not in own_flags]
    depends = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").rglob("*.h"))]
    return Pybind11Extension(
        "uov_jax._engine",
        sources,
        include_dirs=["csrc"],
        define_macros=[("UOV_X86", "1")] if X86 else [],
        depends=[*depends, *(str(path.relative_to(ROOT)) for path in sorted(own_flags))],
        cxx_std=17,
        # As system headers: their warnings are not ours to fix.
        extra_compile_args=["-O3", *WARNINGS, "-isystem", jax_include_directory()],
    )


# On all processors that there are for it; UOV_BUILD_JOBS=1 for one. Read as a file: importing the
# package would import what is not installed yet.
processors = runpy.run_path(str(ROOT / "uov_jax" / "processors.py"))
ParallelCompile("UOV_BUILD_JOBS", default=processors["available"]()).install()

setup(ext_modules=[engine()], cmdclass={"build_ext": BuildEngine})
