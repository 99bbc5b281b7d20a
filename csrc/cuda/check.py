"""What became of the CUDA kernels: registers, shared memory, spills, and tensor-core instructions.

    python csrc/cuda/check.py build/cuda/80-90-100 uov_jax/_engine_cuda*.so

reads what ptxas said of every kernel when the extension was built, and the extension's disassembly,
and prints a table. It fails where a kernel keeps registers in memory, where one that is named after
tensor cores does not use them or one that is not does, where it has not seen every kernel both
ways, and where the extension needs a library of CUDA's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Each of them has tensor cores of another generation.
DISASSEMBLED = (80, 90, 100)
NAMED = re.compile(r"tensor_?core", re.IGNORECASE)
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)")
PRODUCT = "HMMA"  # mma.sync of TF32 and bfloat16, up to Blackwell


class Kernel(NamedTuple):
    """A kernel of one architecture, by its mangled name."""

    architecture: int
    name: str


class Resources(NamedTuple):
    """What a kernel takes: registers of a thread; bytes of a block, and of a thread in memory."""

    registers: int
    shared: int
    stack: int
    spilled: int


def resources(logs: Iterable[str]) -> dict[Kernel, Resources]:
    """What `ptxas -v` said of kernels, and of functions that they call.

    Raises:
        ValueError: of a kernel not all was said; names it.

    """
    found: dict[Kernel, Resources] = {}
    for log in logs:
        kernel, stack, spilled = None, 0, 0
        for line in log.splitlines():
            if entry := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)\w?'", line):
                if kernel is not None:
                    raise ValueError(f"nothing was said of {kernel.name}")
                kernel, stack, spilled = Kernel(int(entry[2]), entry[1]), 0, 0
            elif memory := re.search(r"(\d+) bytes stack frame, (\d+) .*, (\d+) bytes spill", line):
                stack += int(memory[1])
                spilled += int(memory[2]) + int(memory[3])
            elif used := re.search(r"Used (\d+) registers", line):
                if kernel is None:
                    raise ValueError(f"of no kernel: {line}")
                shared = re.search(r"(\d+) bytes smem", line)
                found[kernel] = Resources(
                    int(used[1]), int(shared[1]) if shared else 0, stack, spilled
                )
                kernel = None
        if kernel is not None:
            raise ValueError(f"nothing was said of {kernel.name}")
    return found


def instructions(disassembly: Iterable[str]) -> dict[Kernel, set[str]]:
    """The instructions of each kernel, without what follows the first dot, of `cuobjdump -sass`."""
    found: dict[Kernel, set[str]] = {}
    architecture, chosen = 0, set[str]()
    for line in disassembly:
        if target := re.match(r"\s*code for sm_(\d+)", line):
            architecture = int(target[1])
        elif function := re.match(r"\s*Function : (\w+)", line):
            chosen = found.setdefault(Kernel(architecture, function[1]), set())
        elif instruction := INSTRUCTION.match(line):
            chosen.add(instruction[1])
    return found


def faults(
    said: Mapping[Kernel, Resources],
    seen: Mapping[Kernel, set[str]],
    disassembled: Sequence[int],
    readable: Callable[[str], str],
) -> list[str]:
    """What is wrong, a line each; empty if nothing is.

    Args:
        said: of every kernel.
        seen: its instructions.
        disassembled: architectures whose instructions are looked at.
        readable: the name of a kernel from its mangled one.

    """
    wrong = []
    for architecture in disassembled:
        kernels = [kernel for kernel in said if kernel.architecture == architecture]
        if not any(NAMED.search(readable(kernel.name)) for kernel in kernels):
            wrong.append(f"sm_{architecture}: no kernel is named after tensor cores")
    for kernel, taken in said.items():
        where = f"sm_{kernel.architecture}, {readable(kernel.name)}"
        if taken.spilled:
            wrong.append(f"{where}: {taken.spilled} bytes of spilled registers")
        if kernel.architecture not in disassembled:
            continue
        if not seen.get(kernel):
            wrong.append(f"{where}: is not in the disassembly")
        elif NAMED.search(readable(kernel.name)) and PRODUCT not in seen[kernel]:
            wrong.append(f"{where}: is named after tensor cores and has no {PRODUCT}")
        elif not NAMED.search(readable(kernel.name)) and PRODUCT in seen[kernel]:
            wrong.append(f"{where}: has {PRODUCT} and is not named after tensor cores")
    wrong += [
        f"sm_{kernel.architecture}, {readable(kernel.name)}: nothing was said of it"
        for kernel in seen
        if kernel.architecture in disassembled and kernel not in said
    ]
    return wrong


def table(said: Mapping[Kernel, Resources], readable: Callable[[str], str]) -> list[str]:
    """Lines with the resources of each kernel: for all architectures side by side."""
    architectures = sorted({kernel.architecture for kernel in said})
    heads = " ".join(f"{f'sm_{number}':>6}" for number in architectures)
    lines = [f"registers of {heads}  shared  stack  spilled  kernel"]
    for name in sorted({kernel.name for kernel in said}, key=readable):
        of = [said.get(Kernel(number, name)) for number in architectures]
        cells = " ".join(f"{taken.registers if taken else '-':>6}" for taken in of)
        shared, stack, spilled = (
            max(taken[column] for taken in of if taken) for column in range(1, 4)
        )
        lines.append(f"{'':12} {cells} {shared:>7} {stack:>6} {spilled:>8}  {readable(name)}")
    return lines


def readable_names(names: Iterable[str]) -> dict[str, str]:
    """Kernels' names as they stand in the sources; mangled where there is no c++filt."""
    ordered = sorted(set(names))
    if shutil.which("c++filt") is None:
        return {name: name for name in ordered}
    done = subprocess.run(
        ["c++filt"], input="\n".join(ordered), capture_output=True, text=True, check=True
    )
    return dict(zip(ordered, map(shortened, done.stdout.splitlines()), strict=True))


def shortened(name: str) -> str:
    """A function's name without its result, its parameters and the namespaces that all have."""
    name = re.sub(r"\(anonymous namespace\)::|uov::cuda::|uov::|^void ", "", name)
    # Of CUB's, whose names are lines long, what it does.
    if (found := re.match(r"cub::\w+::(?:\w+::)*(\w+)", name)) is not None:
        return f"cub::{found[1]}"
    depth = 0
    for place, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:place]
    return name


def cuobjdump(folders: Sequence[Path]) -> Path | None:
    """CUDA's disassembler, from one of some folders or the search path."""
    path = ":".join(map(str, folders))
    found = shutil.which("cuobjdump", path=path) or shutil.which("cuobjdump")
    return Path(found) if found else None


def disassembly(program: Path, extension: Path, architectures: Sequence[int]) -> list[str]:
    """The lines of an extension's disassembly, of some architectures.

    Raises:
        subprocess.CalledProcessError: it cannot be disassembled.

    """
    lines = []
    for number in architectures:
        command = [str(program), "-sass", "-arch", f"sm_{number}", str(extension)]
        # It runs nvdisasm, which lies beside it.
        environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        lines += done.stdout.splitlines()
    return lines


def foreign_libraries(extension: Path) -> list[str]:
    """The libraries of CUDA's that must be there before the extension can be imported: none."""
    command = ["readelf", "--dynamic", "--wide", str(extension)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout)
    return [name for name in needed if re.match(r"lib(cu|nv)", name)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and what is wrong; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("objects", type=Path, help="folder of the build's objects and logs")
    parser.add_argument("extension", type=Path, help="what was linked of them")
    parser.add_argument(
        "--tools", type=Path, action="append", default=[], help="folder that may hold cuobjdump"
    )
    options = parser.parse_args(arguments)
    said = resources(path.read_text("utf-8") for path in sorted(options.objects.glob("*.log")))
    if not said:
        parser.error(f"{options.objects}: no kernel was built there")
    names = readable_names(kernel.name for kernel in said)
    print("\n".join(table(said, names.__getitem__)))
    program = cuobjdump(options.tools)
    if program is None:
        parser.error("no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    built = {kernel.architecture for kernel in said}
    chosen = [number for number in DISASSEMBLED if number in built] or sorted(built)
    seen = instructions(disassembly(program, options.extension, chosen))
    names |= readable_names(kernel.name for kernel in seen)
    wrong = faults(said, seen, chosen, names.__getitem__)
    wrong += [f"the extension needs {name}" for name in foreign_libraries(options.extension)]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    products = sum(PRODUCT in found for found in seen.values())
    print(
        f"{len(said)} kernels without spills, {len(seen)} disassembled (sm_"
        f"{', sm_'.join(map(str, chosen))}), {products} of them with {PRODUCT}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
