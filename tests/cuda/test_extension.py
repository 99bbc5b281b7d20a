"""The CUDA extension that was built here: it is there for all, whether they have a GPU or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csrc.cuda import check
from uov_jax.sparse.cuda import CUDA

ROOT = Path(__file__).parents[2]
BUILT = sorted((ROOT / "uov_jax").glob("_engine_cuda.*.so"))

built = pytest.mark.skipif(not BUILT, reason="setup.py found no nvcc, or was told to do without")

WITHOUT_GPU = """
import sys
import uov_jax._engine_cuda as engine
names = engine.handlers()
assert "uov_cuda_gather_gemm" in names, names
assert engine.workspace_bytes("plan", [2, 0, 100, 50]) > 0
loaded = open("/proc/self/maps").read()
assert "libcudart" not in loaded and "libcuda.so" not in loaded
"""


@built
def test_it_needs_no_library_of_cudas() -> None:
    assert check.foreign_libraries(BUILT[0]) == []
    environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-c", WITHOUT_GPU]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)


@built
def test_it_says_what_it_was_built_for() -> None:
    assert CUDA.status().startswith("available (built for sm_")
    assert ", CUDA 1" in CUDA.status()


def test_without_it_the_reason_is_told(tmp_path: Path) -> None:
    """As `sparse.backends()` says it: what setup.py left in its place."""
    package = tmp_path / "uov_jax"
    package.mkdir()
    for path in (ROOT / "uov_jax").glob("*"):
        if not path.name.startswith("_engine_cuda"):
            (package / path.name).symlink_to(path)
    (package / "_engine_cuda.txt").write_text("no nvcc anywhere\n")
    done = subprocess.run(
        [sys.executable, "-c", "from uov_jax import sparse; print(sparse.backends()['cuda'])"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith("the extension uov_jax._engine_cuda is not built (no nvcc any")
