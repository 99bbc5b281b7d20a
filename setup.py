"""Builds the compiled engine: C++17 through pybind11, each kernel file for its instruction set.

Where there is nvcc, its CUDA kernels too, by csrc/cuda/nvcc.py.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pybind11
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")


def module(file: str) -> Any:
    """A module of this checkout. Importing its package would import what is not installed yet."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / file)))


nvcc = module("csrc/cuda/nvcc.py")
processors = module("uov_jax/processors.py")


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
    # Where a square root sets no errno and a comparison traps nothing, loops become vector code.
    name: ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
    for name in (
        "farthest_points.cpp",
        "moves.cpp",
        "projection.cpp",
        "view.cpp",
        "voxelize.cpp",
    )
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


def cuda_compiler() -> tuple[Any, str]:
    """CUDA's compiler, or None and why the CUDA extension is not built."""
    try:
        return (None, "built with UOV_CUDA=0") if nvcc.choice() == "0" else (nvcc.find(), "")
    except nvcc.NvccError as error:
        return None, str(error)


# UOV_WERROR=1: a warning is an error. For checks, not for users, whose compilers warn of more.
STRICT = os.environ.get("UOV_WERROR") == "1"
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if STRICT else [])]
# Under a sanitizer the kernels take minutes to compile with all optimisations.
OPTIMISATION = os.environ.get("UOV_OPTIMISATION", "-O3")
CUDA = "uov_jax._engine_cuda"
# Lies in the place of the CUDA extension and says why there is none. pip shows nobody what a build
# said.
REASON = "_engine_cuda.txt"
TOOLKIT, WITHOUT_CUDA = cuda_compiler()


class BuildEngine(build_ext):
    """Compiles the instruction-set kernels with flags of their own, then the rest as usual."""

    def build_extensions(self) -> None:
        """Look at the compilers first."""
        # Which is what compiles C++ differs between versions of setuptools.
        self.command = getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so)
        check_compiler(self.command)
        self.without_cuda = WITHOUT_CUDA
        if TOOLKIT is None:
            self.miss_cuda()
        super().build_extensions()
        if self.without_cuda:
            self.extensions = [ext for ext in self.extensions if ext.name != CUDA]
        self.leave_one(Path(self.get_ext_fullpath(CUDA)))

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one extension."""
        if ext.name == CUDA:
            self.build_cuda()
            return
        kernels = self.possible_kernels() if X86 else []
        ext.define_macros += [(f"UOV_{name.upper()}", "1") for name in kernels]
        files = {"kernels_generic.cpp": [], **EXACT}
        files |= {f"kernels_{name}.cpp": KERNELS[name].flags for name in kernels}
        base = ["-std=c++17", OPTIMISATION, "-fvisibility=hidden", *WARNINGS]
        for name, flags in files.items():
            ext.extra_objects += self.compiler.compile(
                [f"csrc/core/{name}"],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                macros=ext.define_macros,
                extra_postargs=[*base, *flags, "-fPIC"],
            )
        super().build_extension(ext)

    def build_cuda(self) -> None:
        """Compile and link the CUDA extension."""
        try:
            architectures = TOOLKIT.architectures(os.environ.get("UOV_CUDA_ARCHITECTURES", ""))
            plan = nvcc.Build(
                TOOLKIT,
                architectures,
                include=("csrc",),
                system=(
                    pybind11.get_include(),
                    sysconfig.get_path("include"),
                    jax_include_directory(),
                ),
                # That of the rest of the engine, unless nvcc is told in its own way.
                host=None if os.environ.get("NVCC_CCBIN") else program(self.command)[-1],
                strict=STRICT,
                jobs=build_jobs(),
                # Not in `build_temp`, which is another one every time that pip builds.
                folder=Path("build", "cuda", "-".join(map(str, architectures))),
            )
            target = Path(self.get_ext_fullpath(CUDA))
            nvcc.build(plan, nvcc.sources(ROOT), target, lambda line: self.announce(line, 2))
        except nvcc.NvccError as error:
            self.without_cuda = str(error)
            self.miss_cuda()

    def miss_cuda(self) -> None:
        """Say why there is no CUDA extension, and end where one is demanded."""
        try:
            choice = nvcc.choice()
        except nvcc.NvccError as error:
            raise PlatformError(str(error)) from None
        if choice == "1":
            raise PlatformError(f"UOV_CUDA=1, but: {self.without_cuda}")
        if choice == "auto":
            self.warn(f"without the CUDA extension: {self.without_cuda}")

    def copy_extensions_to_source(self) -> None:
        """Copy the reason too, where there is no CUDA extension."""
        super().copy_extensions_to_source()
        folder = self.get_finalized_command("build_py").get_package_dir("uov_jax")
        self.leave_one(Path(folder, Path(self.get_ext_fullpath(CUDA)).name))

    def leave_one(self, extension: Path) -> None:
        """Leave the CUDA extension or the reason why there is none, and nothing of older builds."""
        reason = extension.with_name(REASON)
        if self.without_cuda:
            extension.unlink(missing_ok=True)
            reason.write_text(f"{self.without_cuda}\n", "utf-8")
        else:
            reason.unlink(missing_ok=True)

    def get_outputs(self) -> list[str]:
        """The extensions that were built, and the reason why one was not."""
        paths = super().get_outputs()
        reason = Path(paths[0]).with_name(REASON)
        return [*paths, *([str(reason)] if reason.exists() else [])]

    def get_source_files(self) -> list[str]:
        """What an archive of the sources needs: also what is not compiled here, and headers."""
        paths = [path.relative_to(ROOT) for path in sorted((ROOT / "csrc").rglob("*.*"))]
        return [str(path) for path in paths if "__pycache__" not in path.parts]

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


class BuildPackage(build_py):
    """The package as usual, with the recipes of `configs` in it.

    Where it is installed nothing lies beside it, so they are its folder `recipes` there; what is
    installed from a checkout as it is, `--editable`, reads them in `configs`.
    """

    recipes = tuple(path.relative_to(ROOT) for path in sorted((ROOT / "configs").glob("*.py")))

    def run(self) -> None:
        """Copy them after the package."""
        super().run()
        for target, source in self.copied().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def copied(self) -> dict[str, str]:
        """The recipes by the paths that they get."""
        if self.editable_mode:
            return {}
        folder = Path(self.build_lib, "uov_jax", "recipes")
        return {str(folder / path.name): str(path) for path in self.recipes}

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the package."""
        return [*super().get_outputs(include_bytecode), *self.copied()]

    def get_output_mapping(self) -> dict[str, str]:
        """Where each of them comes from."""
        return super().get_output_mapping() | self.copied()

    def get_source_files(self) -> list[str]:
        """What an archive of the sources needs."""
        return [*super().get_source_files(), *map(str, self.recipes)]


def engine() -> Pybind11Extension:
    """The CPU extension module."""
    if sys.platform == "win32":
        raise RuntimeError("the engine is written for GCC and Clang: build it on Linux or macOS")
    every = [
        path
        for folder in ("core", "ffi", "python")
        for path in sorted((ROOT / "csrc" / folder).glob("*.cpp"))
        if path.name != nvcc.MODULE
    ]
    own_flags = {path for path in every if path.name in EXACT or path.stem.startswith("kernels_")}
    sources = [str(path.relative_to(ROOT)) for path in every if path not in own_flags]
    headers = [path for path in sorted((ROOT / "csrc").rglob("*.h")) if "cuda" not in path.parts]
    depends = [str(path.relative_to(ROOT)) for path in headers]
    return Pybind11Extension(
        "uov_jax._engine",
        sources,
        include_dirs=["csrc"],
        define_macros=[("UOV_X86", "1")] if X86 else [],
        depends=[*depends, *(str(path.relative_to(ROOT)) for path in sorted(own_flags))],
        cxx_std=17,
        # As system headers: their warnings are not ours to fix.
        extra_compile_args=[OPTIMISATION, *WARNINGS, "-isystem", jax_include_directory()],
    )


def cuda_extension() -> Extension:
    """The CUDA extension module, whose sources `BuildEngine.build_cuda` knows."""
    return Extension(CUDA, sources=[])


def build_jobs() -> int:
    """As many as there are processors for it; UOV_BUILD_JOBS=1 for one."""
    asked = os.environ.get("UOV_BUILD_JOBS", "")
    return int(asked) if asked.isdecimal() and int(asked) else processors.available()


ParallelCompile("UOV_BUILD_JOBS", default=processors.available()).install()

setup(
    ext_modules=[engine(), *([cuda_extension()] if TOOLKIT else [])],
    cmdclass={"build_ext": BuildEngine, "build_py": BuildPackage},
)
