"""compute-sanitizer over every op, with planted faults as control.

"Nothing was found" means something only where the same tool, called in the same way, finds a write
out of bounds and a race that were put there, and finds nothing in the same program without them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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


def check(
    program: Path,
    nvcc: Path,
    architecture: int,
    exercise: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    left: Callable[[], float],
) -> list[Row]:
    """A row for each tool.

    Args:
        program: compute-sanitizer.
        nvcc: makes the control.
        architecture: of the card.
        exercise: the command to watch.
        environment: of it.
        folder: for the control.
        left: seconds that may still be used.

    """
    source, control = folder / "planted.cu", folder / "planted"
    source.write_text(PLANTED)
    subprocess.run(
        [nvcc, f"-arch=sm_{architecture}", "-o", control, source], check=True, capture_output=True
    )
    rows = []
    for tool, fault in TOOLS.items():
        watch = [str(program), "--tool", tool, "--error-exitcode", str(FOUND), *OURS]
        clean, planted = (
            _status([*watch, str(control), *arguments], environment, left())[0]
            for arguments in (("0", "0"), fault)
        )
        if (clean, planted) != (0, FOUND):
            said = f"status {clean} without a fault, {planted} with one"
            rows.append(Row(f"{tool}: did not work here", {"control": said}))
            continue
        status, last = _status([*watch, *exercise], environment, left())
        figures = {"control": "found", "status": str(status), "said": last}
        rows.append(Row(f"{tool} of every op", figures, status == 0))
    return rows


def _status(
    command: Sequence[str], environment: Mapping[str, str], seconds: float
) -> tuple[int | str, str]:
    """A command's exit status, or why there is none, and the last line that it said."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(1.0, seconds),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "out of time", ""
    lines = done.stdout.strip().splitlines() or [""]
    return done.returncode, lines[-1][:200]
