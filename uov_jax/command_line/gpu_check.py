r"""Check the CUDA backend on a GPU, within minutes, and report.

    python scripts/gpu_check.py
    python scripts/gpu_check.py --emulate    # the same on a CPU, very small

Needs a checkout, nvcc, a C++ compiler, and JAX with CUDA, flax, optax, pybind11 and setuptools;
nothing is downloaded or installed. It builds the engine in the checkout for the card that is here,
compares the sparse ops with float64 and a training step with the CPU's, runs both twice for equal
bits, measures, and, where they are installed, watches every op with compute-sanitizer and runs the
engine's tests with pytest. Every section is a process of its own, and the report is written again
after each: what is cut off has reported what it knew. What is timed runs alone, the rest side by
side where there are processors for it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from uov_jax import processors
from uov_jax.command_line import command, gpu_sanitizer
from uov_jax.command_line.gpu_process import Ended, Programs
from uov_jax.command_line.gpu_report import (
    CUT_OFF,
    FAILED,
    PASSED,
    SKIPPED,
    Row,
    Section,
    shown,
    write,
)
from uov_jax.errors import InputError, MissingFileError

ROOT = Path(__file__).parents[2]
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "pytest")
SECONDS, EMULATED_SECONDS = 470, 570


class Part(NamedTuple):
    """What is said of a section before it runs.

    Attributes:
        title: what it is about.
        seconds: that it may take at most.
        timed: whether it measures, and needs the machine for itself; others have verdicts.

    """

    title: str
    seconds: float
    timed: bool = False

    @property
    def judged(self) -> bool:
        """Whether it passes by its rows' verdicts, and not without any."""
        return not self.timed and self is not PARTS["build"]


PARTS = {
    "build": Part("Build for this machine", 240),
    "products": Part("Convolutions against float64", 150),
    "step": Part("A training step beside the CPU's", 150),
    "rows": Part("Voxels and plans beside the CPU's, rows and norms against float64", 90),
    "suite": Part("The engine's tests", 150),
    "sanitizer": Part("compute-sanitizer, with planted faults as control", 120),
    "ceilings": Part("What the card gives at most", 40, timed=True),
    "ops": Part("Times of voxels, plans and layers", 90, timed=True),
    "network": Part("Times of training steps", 150, timed=True),
}
# With fewer seconds left than these, a section is not begun.
LEAST = 15
# So many sections side by side; with fewer processors for each they would not be faster.
TOGETHER, PROCESSORS_EACH = 4, 4


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu_check"), help="folder of the report"
    )
    parser.add_argument(
        "--emulate", action="store_true", help="emulate the kernels on the CPU, at small sizes"
    )
    parser.add_argument(
        "--seconds",
        type=command.at_least(1),
        help=f"for all of it; by default {SECONDS}, emulated {EMULATED_SECONDS}",
    )
    parser.add_argument(
        "--section", action="append", choices=[*PARTS], help="only these; all by default"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and report; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: check(options), stopped="The report has what was done until now.")


class Card:
    """The GPU of this machine, as the driver tells it.

    Attributes:
        facts: for the report.
        architecture: such as 90.

    """

    QUERY = ("name", "compute_cap", "driver_version", "memory.total", "clocks.max.sm")

    def __init__(self) -> None:
        """Ask the driver.

        Raises:
            InputError: there is no GPU, or no driver.

        """
        try:
            said = subprocess.run(
                ["nvidia-smi", f"--query-gpu={','.join(self.QUERY)}", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            said = ""
        found = [word.strip() for word in said.partition("\n")[0].split(",")]
        if len(found) != len(self.QUERY) or not re.fullmatch(r"\d+\.\d+", found[1]):
            raise InputError(
                "nvidia-smi finds no GPU on this machine: --emulate checks the same on the CPU"
            )
        self.facts = dict(zip(self.QUERY, found, strict=True))
        self.architecture = int(found[1].replace(".", ""))


class Check:
    """The sections, within the time that there is."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        """Look at the machine.

        Args:
            options: of the command line.
            scratch: a folder that is thrown away.

        """
        self.output: Path = options.output
        self.card = None if options.emulate else Card()
        seconds = options.seconds or (EMULATED_SECONDS if options.emulate else SECONDS)
        self.end = time.monotonic() + seconds
        self.scratch = scratch
        self.programs = Programs(ROOT)
        self.writing = threading.Lock()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # Sections compile the same programs.
        programs = {"JAX_COMPILATION_CACHE_DIR": str(scratch / "programs")}
        self.environment = {**os.environ, **programs, "PYTHONPATH": path}
        # Several processes share the card's memory.
        self.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if self.card is None:
            self.environment["JAX_PLATFORMS"] = "cpu"
        self.machine = machine(self.card)
        chosen = options.section or [*PARTS]
        self.sections = [Section(name, PARTS[name].title) for name in PARTS if name in chosen]

    def report(self) -> None:
        """Write what there is by now."""
        with self.writing:
            write(self.output, self.machine, self.sections)

    def run(self) -> bool:
        """Run all sections; returns whether each was checked and is right."""
        self.report()
        rest = [section for section in self.sections if section.name != "build"]
        for section in self.sections:
            if section.name == "build":
                self.run_section(section)
                if section.state != PASSED:
                    rest = []
        timed = [section for section in rest if PARTS[section.name].timed]
        workers = max(1, min(TOGETHER, processors.available() // PROCESSORS_EACH))
        pool = ThreadPoolExecutor(workers)
        try:
            list(pool.map(self.run_section, [each for each in rest if each not in timed]))
        except BaseException:
            self.programs.end_all()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        for section in timed:
            self.run_section(section)
        self.report()
        return all(each.in_order for each in self.sections)

    def run_section(self, section: Section) -> None:
        """Run one section, if there is time for it, and report."""
        start = time.monotonic()
        limit = min(PARTS[section.name].seconds, self.end - start)
        own = {"build": self.build, "sanitizer": self.sanitize, "suite": self.test}
        if limit < LEAST:
            section.said = "there was no time left"
        else:
            print(f"{section.title} ...", flush=True)
            try:
                own.get(section.name, self.compute)(section, limit)
            finally:
                section.seconds = time.monotonic() - start
                self.report()
        why = f": {section.said}" if section.said else ""
        print(f"{section.title}: {section.state}, {section.seconds:.0f} s{why}", flush=True)

    def compute(self, section: Section, limit: float) -> None:
        """Run a section of gpu_sections.py."""
        self.follow(section, self.child(section.name), limit)

    def child(self, name: str) -> list[str]:
        """The command of a section that computes, or that makes the emulation."""
        flags = ["--emulate"] if self.card is None else []
        return [sys.executable, "-m", "uov_jax.command_line.gpu_sections", name, *flags]

    def follow(
        self, section: Section, command: Sequence[str], limit: float, **variables: str
    ) -> None:
        """Run a command that prints rows, and judge by them."""

        def take(line: str) -> bool:
            if not line.startswith('{"what"'):
                return False
            row = Row.of(line)
            section.rows.append(row)
            figures = ", ".join(f"{name} {shown(value)}" for name, value in row.figures.items())
            print(f"  {section.name}: {row.what}: {figures}", flush=True)
            return True

        judge(section, self.programs.follow(command, self.environment | variables, limit, take))

    def build(self, section: Section, limit: float) -> None:
        """Build what is to be checked."""
        setup = [sys.executable, "setup.py", "build_ext", "--inplace"]
        if self.card is not None:
            architecture = str(self.card.architecture)
            variables = {"UOV_CUDA": "1", "UOV_CUDA_ARCHITECTURES": architecture}
            self.follow(section, setup, limit, **variables)
            return
        end = time.monotonic() + limit
        if not built_engine():
            self.follow(section, setup, limit, UOV_CUDA="0")
        if section.state in (PASSED, SKIPPED):
            self.follow(section, self.child("emulate"), end - time.monotonic())

    def sanitize(self, section: Section, limit: float) -> None:
        """Let compute-sanitizer watch, if it is there."""
        program = gpu_sanitizer.sanitizer()
        if self.card is None or program is None:
            section.said = "is not installed" if self.card else "the emulation looks for the same"
            section.excused = True
            return
        end = time.monotonic() + limit
        nvcc = runpy.run_path(str(ROOT / "csrc" / "cuda" / "nvcc.py"))["find"]().nvcc
        # Each array in memory of its own: what is beyond one is beyond all.
        environment = self.environment | {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}
        watched = gpu_sanitizer.check(
            program,
            [str(nvcc), f"-arch=sm_{self.card.architecture}"],
            self.child("exercise"),
            self.scratch,
            lambda command: self.programs.follow(command, environment, end - time.monotonic()),
        )
        section.rows = watched.rows
        section.judge(True)
        if section.state == PASSED and not watched.complete:
            section.state = CUT_OFF if watched.cut_off else SKIPPED
            section.said = "not every tool has looked at every op"

    def test(self, section: Section, limit: float) -> None:
        """Run the engine's tests, if pytest is there."""
        if importlib.util.find_spec("pytest") is None:
            section.said = "pytest is not installed: the sections above are the check"
            section.excused = True
            return
        counts = dict.fromkeys(("PASSED", "FAILED", "ERROR", "SKIPPED"), 0)
        wrong: list[Row] = []

        def take(line: str) -> bool:
            found = re.match(r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", line)
            if found is None:
                return False
            counts[found[2]] += 1
            if found[2] in ("FAILED", "ERROR"):
                wrong.append(Row(found[1], {}, False))
            return True

        # The project's settings of pytest are for its own environment, with all its packages.
        command = [sys.executable, "-m", "pytest", "tests/sparse", "-v", "--tb=line"]
        command += ["-k", "cuda-emulated" if self.card is None else "cuda and not emulated"]
        command += ["--ignore=tests/sparse/test_build.py", "--confcutdir=tests/sparse"]
        command += ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
        command += ["--import-mode=importlib"]
        ended = self.programs.follow(command, self.environment, limit, take)
        figures = {f"{name.lower()}, tests": number for name, number in counts.items()}
        section.rows = [Row("all", figures, not wrong and counts["PASSED"] > 0), *wrong]
        judge(section, ended)


def judge(section: Section, ended: Ended) -> None:
    """Set a section's state from its rows and from how its program ended."""
    section.judge(ended.status == 0)
    if ended.cut_off:
        section.state = CUT_OFF
    if section.state != PASSED:
        section.said = ended.said
    elif PARTS[section.name].judged and all(row.passed is None for row in section.rows):
        section.state, section.said = FAILED, "nothing was checked"


def built_engine() -> bool:
    """Whether the CPU's engine is there."""
    try:
        return importlib.util.find_spec("uov_jax._engine") is not None
    except ImportError:
        return False


def machine(card: Card | None) -> dict[str, Any]:
    """What the check ran on."""
    facts: dict[str, Any] = dict(card.facts) if card else {"name": "none: emulated on the CPU"}
    facts["processors"] = processors.available()
    facts["python"] = platform.python_version()
    for library in LIBRARIES:
        try:
            facts[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            facts[library] = "not installed"
    facts["sources"] = digest(ROOT / "csrc", ROOT / "uov_jax" / "sparse")
    facts["when"] = time.strftime("%Y-%m-%d %H:%M")
    return facts


def digest(*folders: Path) -> str:
    """Tells the sources in some folders from others; a bare tree has no commit."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".py"):
                found.update(path.relative_to(ROOT).as_posix().encode())
                found.update(path.read_bytes())
    return found.hexdigest()[:12]


def check(options: argparse.Namespace) -> int:
    """Check what the options say; returns the exit status."""
    if not (ROOT / "setup.py").is_file():
        raise MissingFileError(f"{ROOT}: no checkout of this program, which gpu_check builds from")
    with tempfile.TemporaryDirectory() as scratch:
        passed = Check(options, Path(scratch)).run()
    command.say_next(f"look at {options.output / 'gpu_check.md'}")
    return 0 if passed else 1
