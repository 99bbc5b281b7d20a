"""CUDA's compiler: where it is, and how it makes the extension module of csrc/cuda.

setup.py and .ci/cuda run this; it needs nothing but Python. A source is compiled again when it, a
header that it includes, or the command is another than last time.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

# What is built by default, of what the compiler knows: Ampere, Ada, Hopper and Blackwell, for
# servers and for desks. A newer GPU takes the PTX of the newest.
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
OLDEST = (12, 0)
MODULE = "cuda_module.cpp"
# Of the environment, for the folder of a toolkit.
NAMES = ("CUDA_HOME", "CUDA_PATH")
CHOICES = ("auto", "1", "0")
INSTALLED = Path("/usr/local/cuda/bin/nvcc")
PLACES = "CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda or the PyPI package nvidia-cuda-nvcc"


class NvccError(RuntimeError):
    """The extension cannot be built; one line says why."""


class Toolkit(NamedTuple):
    """A CUDA compiler."""

    nvcc: Path
    version: tuple[int, int]
    known: tuple[int, ...]
    """Architectures that it can compile for, such as 90."""

    def architectures(self, wanted: str = "") -> tuple[int, ...]:
        """What to build for: the numbers in `wanted`, or those of `ARCHITECTURES` that it knows.

        Raises:
            NvccError: no number, or one of an architecture that it does not know.

        """
        if not wanted.strip():
            return tuple(number for number in ARCHITECTURES if number in self.known)
        words = re.split(r"[\s,;]+", wanted.strip())
        for word in words:
            if not word.isdecimal() or int(word) not in self.known:
                known = ", ".join(map(str, self.known))
                raise NvccError(
                    f"UOV_CUDA_ARCHITECTURES={wanted}: {word} is none of what CUDA "
                    f"{self.version[0]}.{self.version[1]} compiles for: {known}"
                )
        return tuple(sorted(set(map(int, words))))


def choice(environment: Mapping[str, str] = os.environ) -> str:
    """What `UOV_CUDA` says: build the CUDA extension ("1"), do not ("0"), or if there is nvcc.

    Raises:
        NvccError: it says something else.

    """
    said = environment.get("UOV_CUDA") or "auto"
    if said not in CHOICES:
        raise NvccError(f"UOV_CUDA={said}: expected 0, 1 or auto")
    return said


def find(
    environment: Mapping[str, str] = os.environ, say: Callable[[str], object] | None = None
) -> Toolkit:
    """The first compiler that is new enough.

    Args:
        environment: may name a folder, which comes before others.
        say: is told, in a line, if another is taken than the one that is named; standard error
            by default.

    Raises:
        NvccError: there is none; says where it was looked for, and what was found instead. Or
            `UOV_CUDA` demands one, and a folder that is named has none that can be used.

    """
    unfit: list[str] = []
    for nvcc in candidates(environment):
        toolkit = examined(nvcc)
        if isinstance(toolkit, Toolkit):
            if passed_over := _passed_over(environment, nvcc):
                why = f" ({'; '.join(unfit)})" if unfit else ""
                if choice(environment) == "1":
                    raise NvccError(
                        f"{passed_over} has no nvcc that can be used{why}; {nvcc} is there: name "
                        "its folder, or none"
                    )
                line = f"{passed_over} has no nvcc that can be used{why}: taking {nvcc}"
                (say or _complain)(line)
            return toolkit
        unfit.append(toolkit)
    found = f" ({'; '.join(unfit)})" if unfit else ""
    raise NvccError(f"no nvcc of CUDA {OLDEST[0]} or newer in {PLACES}{found}")


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def _passed_over(environment: Mapping[str, str], taken: Path) -> str | None:
    """The first variable and folder that name another compiler than the one that is taken."""
    for name in NAMES:
        folder = environment.get(name)
        if folder:
            named = Path(folder, "bin", "nvcc")
            return None if named.resolve() == taken.resolve() else f"{name}={folder}"
    return None


def candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    """The compilers that there are, each once, in the order in which they are taken."""
    folders = [environment[name] for name in NAMES if environment.get(name)]
    places = [Path(folder, "bin", "nvcc") for folder in folders]
    on_path = shutil.which("nvcc", path=environment.get("PATH"))
    places += [Path(on_path)] if on_path else []
    places.append(INSTALLED)
    # An isolated build has a search path of its own: the environment's packages are not on it.
    sites = [*sys.path, *(sysconfig.get_path(name) for name in ("purelib", "platlib"))]
    for site in sites:
        places += sorted(Path(site, "nvidia").glob("*/bin/nvcc"), reverse=True)
    seen = set()
    for place in places:
        if os.access(place, os.X_OK) and place.resolve() not in seen:
            seen.add(place.resolve())
            yield place


def examined(nvcc: Path) -> Toolkit | str:
    """A compiler, or in a few words why it cannot be used."""
    try:
        said = _output([str(nvcc), "--version"])
        release = re.search(r"release (\d+)\.(\d+)", said)
        if release is None:
            return f"{nvcc} says no version"
        version = int(release[1]), int(release[2])
        if version < OLDEST:
            return f"{nvcc} is of CUDA {version[0]}.{version[1]}"
        known = re.findall(r"compute_(\d+)\b", _output([str(nvcc), "--list-gpu-arch"]))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{nvcc} does not run: {error}"
    return Toolkit(nvcc, version, tuple(sorted(set(map(int, known)))))


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Build(NamedTuple):
    """What all sources of an extension module are compiled with.

    Attributes:
        toolkit: the compiler.
        architectures: to compile for; the newest also as PTX.
        include: folders of headers.
        system: folders of others' headers, whose warnings are not ours to mend.
        host: the C++ compiler that nvcc is to use; None: what it finds.
        strict: whether a warning is an error.
        jobs: how many compilers may run at a time.
        folder: for objects. Beside each lies `.log`, what the compiler said of its kernels.

    """

    toolkit: Toolkit
    architectures: tuple[int, ...]
    include: tuple[str, ...]
    system: tuple[str, ...]
    host: str | None
    strict: bool
    jobs: int
    folder: Path

    def command(self, source: str) -> list[str]:
        """Compiles one source, but for the name of its object."""
        kernels = source.endswith(".cu")
        # The rest has no code for a GPU, but may name launches: nvcc reads it, once.
        targets = self.architectures if kernels else self.architectures[:1]
        command = [*self._compiler(), "-c", "-std=c++17", "-O3", "-x", "cu", source]
        for number in targets:
            command.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if kernels:
            newest = targets[-1]
            command.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
            command.append("-Xptxas=-v")  # registers, shared memory, spills: into the log
        command += [f"-I{folder}" for folder in self.include]
        command += [word for folder in self.system for word in ("-isystem", folder)]
        if Path(source).name == MODULE:
            command.append(f'-DUOV_CUDA_BUILT_FOR="{self.description()}"')
        command.append("-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra")
        return command + (["-Werror=all-warnings"] if self.strict else [])

    def description(self) -> str:
        """What the extension says of itself."""
        numbers = ", ".join(f"sm_{number}" for number in self.architectures)
        return f"{numbers}, CUDA {self.toolkit.version[0]}.{self.toolkit.version[1]}"

    def linking(self, objects: Sequence[Path], module: Path) -> list[str]:
        """Links objects into an extension module that needs no library of CUDA's."""
        libraries = self.toolkit.nvcc.resolve().parents[1] / "lib"  # of PyPI's packages
        return [
            *self._compiler(),
            *("-shared", "-cudart=static", "--no-device-link", f"-L{libraries}"),
            # The runtime within is not to be mixed up with another that the process has loaded.
            "-Xlinker=--exclude-libs,ALL",
            *map(str, objects),
            *("-o", str(module)),
        ]

    def _compiler(self) -> list[str]:
        return [str(self.toolkit.nvcc), *(["-ccbin", self.host] if self.host else [])]


def build(plan: Build, sources: Sequence[str], module: Path, say: Callable[[str], object]) -> None:
    """Compile what changed, in parallel, and link the module.

    What the compiler warns of or refuses goes to standard error.

    Args:
        plan: how.
        sources: relative to the working directory.
        module: file to make.
        say: takes a line on what is done.

    Raises:
        NvccError: a source does not compile, or the objects cannot be linked.

    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    stale = [source for source in sources if not is_current(plan, source)]
    if stale:
        numbers = ", ".join(f"sm_{number}" for number in plan.architectures)
        say(f"compiling {len(stale)} of {len(sources)} CUDA sources for {numbers}")
    # What has the most kernels takes longest: it comes first.
    stale.sort(key=lambda source: (source.endswith(".cu"), os.path.getsize(source)), reverse=True)
    with ThreadPoolExecutor(plan.jobs) as pool:
        failures = list(pool.map(lambda source: _compile(plan, source, len(stale)), stale))
    if any(failures):
        raise NvccError(next(filter(None, failures)))
    objects = [plan.folder / f"{Path(source).name}.o" for source in sources]
    module.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=plan.folder) as scratch:
        linked = Path(scratch, module.name)
        if unlinked := _run(plan.linking(objects, linked), module.name):
            raise NvccError(unlinked)
        # Another file, not new content: a running process may have mapped the old one.
        linked.replace(module)


def is_current(plan: Build, source: str) -> bool:
    """Whether a source's object is as this source and its headers would give it."""
    made = plan.folder / f"{Path(source).name}.o"
    try:
        if made.with_suffix(".command").read_text("utf-8") != _stamp(plan, source):
            return False
        when = made.stat().st_mtime_ns
        return all(os.stat(path).st_mtime_ns <= when for path in _needed(made.with_suffix(".d")))
    except OSError:
        return False


def _stamp(plan: Build, source: str) -> str:
    return f"{plan.toolkit.version} {shlex.join(plan.command(source))}"


def _needed(rule: Path) -> list[str]:
    """The files of a rule as `make` reads it: an object, a colon, and what it is made of."""
    _, _, files = rule.read_text("utf-8").replace("\\\n", " ").partition(" : ")
    return [name.replace("\\ ", " ") for name in re.split(r"(?<!\\)\s+", files.strip())]


def _compile(plan: Build, source: str, together: int) -> str | None:
    """Compile one source; returns why not."""
    made = plan.folder / f"{Path(source).name}.o"
    start = time.time_ns()
    with tempfile.TemporaryDirectory(dir=plan.folder) as scratch:
        new = Path(scratch, made.name)
        # A source less than there are processors: several architectures at a time.
        threads = max(1, plan.jobs // max(1, together))
        command = [*plan.command(source), f"--threads={threads}", "-MD", "-MF"]
        command += [str(new.with_suffix(".d")), "-o", str(new)]
        if failure := _run(command, source, new.with_suffix(".log")):
            return failure
        new.with_suffix(".command").write_text(_stamp(plan, source), "utf-8")
        os.utime(new, ns=(start, start))  # what is edited meanwhile is newer
        for suffix in (".log", ".d", ".command", ".o"):
            new.with_suffix(suffix).replace(made.with_suffix(suffix))
    return None


# What ptxas -v says, which is no warning.
NOTE = re.compile(r"ptxas info|^ +\d+ bytes stack frame|^\s*$")


def _run(command: list[str], what: str, log: Path | None = None) -> str | None:
    """Run a compiler: all that it says goes into the log. Returns why it failed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if log is not None:
        log.write_text(done.stdout, "utf-8")
    told = [line for line in lines if not NOTE.search(line)]
    if told:
        print("\n".join(told), file=sys.stderr, flush=True)
    if done.returncode == 0:
        return None
    first = [line for line in told if re.search(r"\b(error|fatal)\b", line, re.IGNORECASE)] or told
    why = first[0].strip() if first else f"status {done.returncode}"
    return f"nvcc cannot make {what}: {why}"


def sources(root: Path) -> list[str]:
    """The sources of the extension module, relative to the checkout."""
    folder = root / "csrc"
    paths: Iterable[Path] = [
        *sorted((folder / "cuda").glob("*.cu")),
        *sorted((folder / "cuda").glob("*.cpp")),
        folder / "python" / MODULE,
    ]
    return [str(path.relative_to(root)) for path in paths]


if __name__ == "__main__":
    try:
        print(find().nvcc)
    except NvccError as none:
        sys.exit(f"error: {none}")
