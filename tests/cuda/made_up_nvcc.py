"""Programs in the place of nvcc: they say a version, write down how they are called, and obey."""

from __future__ import annotations

from pathlib import Path

KNOWN = (75, 80, 90, 100)
PROGRAM = r"""#!/bin/bash
case "$*" in
  --version) echo "Cuda compilation tools, release RELEASE, V1.2.3"; exit ;;
  --list-gpu-arch) printf 'compute_%s\n' KNOWN; exit ;;
esac
echo "$*" >> CALLS
FAILURE
while [ $# -gt 0 ]; do
  case $1 in
    *.cu | *.cpp) source=$1 ;;
    -MF) rule=$2 ;;
    -o) made=$2 ;;
  esac
  shift
done
echo made > "$made"
if [ -n "$rule" ]; then
  headers=$(sed -n 's/#include "\(.*\)"/\1/p' "$source" | tr '\n' ' ')
  printf '%s : %s \\\n    %s\n' "$made" "$source" "$headers" > "$rule"
  echo "ptxas info    : Used 8 registers, used 0 barriers"
fi
"""


def made_up_nvcc(
    folder: Path,
    release: str = "13.0",
    known: tuple[int, ...] = KNOWN,
    failure: str | None = None,
) -> Path:
    """Write such a program to `folder`/bin/nvcc.

    Args:
        folder: a toolkit's; what was compiled or linked stands in its file `calls`.
        release: version that it says it is of.
        known: architectures that it says it knows.
        failure: what it says instead of compiling, if it does not.

    """
    calls = folder / "calls"
    fails = f"echo '{failure}' >&2; exit 2" if failure else ""
    text = PROGRAM.replace("RELEASE", release).replace("KNOWN", " ".join(map(str, known)))
    program = folder / "bin" / "nvcc"
    program.parent.mkdir(parents=True)
    program.write_text(text.replace("CALLS", f"'{calls}'").replace("FAILURE", fails))
    program.chmod(0o755)
    return program


def calls(folder: Path) -> list[str]:
    """How the program of a folder was called since the last time that this was asked."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines
