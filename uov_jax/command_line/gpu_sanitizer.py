"""compute-sanitizer over every op, with planted faults as control.

"Nothing was found" means something only where the same tool, called in the same way, finds a write
out of bounds and a race that were put there, and finds nothing in the same program without them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from uov_jax.command_line.gpu_process import Ended
from uov_jax.command_line.gpu_report import Row

PLANTED = r"""
#include <cstdio>
#include <cstdlib>
namespace uov {
__global__ void planted(float* p, int beyond, bool race) {
  __shared__ float row[64];
  row[threadIdx.x] = threadIdx.x;
  if (!race) __syncthreads();
  p[threadIdx.x + beyond] = row[63 - threadIdx.x];
}
}
int main(int, char** arguments) {
  float* p = nullptr;
  if (cudaMalloc(&p, 64 * sizeof(float)) != cudaSuccess) return 1;
  uov::planted<<<1, 64>>>(p, atoi(arguments[1]), atoi(arguments[2]) != 0);
  cudaDeviceSynchronize();
  return 0;
}
"""
FOUND = 86  # exit status of the sanitizer where it finds something
# By tool: what to plant for it.
TOOLS = {"memcheck": ("64", "0"), "racecheck": ("0", "1")}
OURS = ("--kernel-regex", "kns=uov")


def sanitizer(environment: Mapping[str, str] = os.environ) -> Path | None:
    """compute-sanitizer, from the search path or CUDA's folder."""
    folders = [environment[name] for name in ("CUDA_HOME", "CUDA_PATH") if environment.get(name)]
    path = ":".join(f"{folder}/bin" for folder in [*folders, "/usr/local/cuda"])
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=path)
    return Path(found) if found else None


class Watched(NamedTuple):
    """What the tools came to.

    Attributes:
        rows: one for each, without a verdict where it has none.
        cut_off: whether one ran out of time.

    """

    rows: list[Row]
    cut_off: bool

    @property
    def complete(self) -> bool:
        """Whether every tool has a verdict."""
        return not self.cut_off and all(row.passed is not None for row in self.rows)


def check(
    program: Path,
    compile_for: Sequence[str],
    exercise: Sequence[str],
    folder: Path,
    run: Callable[[Sequence[str]], Ended],
) -> Watched:
    """Watch with each tool.

    Args:
        program: compute-sanitizer.
        compile_for: nvcc, and the options that name the card.
        exercise: the command to watch.
        folder: for the control.
        run: runs a command.

    """
    source, control = folder / "planted.cu", folder / "planted"
    source.write_text(PLANTED)
    made = run([*compile_for, "-o", str(control), str(source)])
    if made.cut_off or made.status != 0:
        rows = [Row("the control does not compile", {"said": last_line(made)})]
        return Watched(rows, made.cut_off)
    rows, cut_off = [], False
    for tool, fault in TOOLS.items():
        watch = [str(program), "--tool", tool, "--error-exitcode", str(FOUND), *OURS]
        clean, planted = (
            run([*watch, str(control), *arguments]) for arguments in (("0", "0"), fault)
        )
        if clean.cut_off or planted.cut_off:
            rows.append(Row(f"{tool}: out of time at the control"))
            cut_off = True
            continue
        if (clean.status, planted.status) != (0, FOUND):
            statuses = f"status {clean.status} without a fault, {planted.status} with one"
            figures = {"control": statuses, "said": last_line(planted)}
            rows.append(Row(f"{tool}: did not work here", figures))
            continue
        ended = run([*watch, *exercise])
        figures = {"control": "found", "said": last_line(ended)}
        if ended.cut_off:
            rows.append(Row(f"{tool} of every op: out of time", figures))
            cut_off = True
        else:
            rows.append(Row(f"{tool} of every op", figures, ended.status == 0))
    return Watched(rows, cut_off)


def last_line(ended: Ended) -> str:
    """What a program said last, in few words."""
    return (ended.said.strip().splitlines() or [""])[-1][:200].replace("|", "/")
