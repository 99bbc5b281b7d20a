"""The check of what became of the kernels fails where it has to, and where it has not looked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csrc.cuda import check, nvcc
from csrc.cuda.check import Kernel, Resources

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "tools" / "nvidia" / "cu13" / "bin"  # where .ci/cuda installs them

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'rows' for 'sm_90'
ptxas info    : Function properties for helper
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for rows
    0 bytes stack frame, SPILL bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
ptxas info    : Compile time = 3.673 ms
ptxas info    : Compiling entry function 'rows' for 'sm_100a'
ptxas info    : Function properties for rows
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 0 barriers
"""


def test_what_ptxas_says_is_read() -> None:
    said = check.resources([LOG.replace("SPILL", "8"), "nothing\n"])
    assert said == {
        Kernel(90, "rows"): Resources(40, 1024, 16, 12),
        Kernel(100, "rows"): Resources(38, 0, 0, 0),
    }


@pytest.mark.parametrize("lost", ["Used 40 registers", "Used 38 registers"])
def test_a_kernel_of_which_nothing_is_said_is_an_error(lost: str) -> None:
    lines = [line for line in LOG.splitlines() if lost not in line]
    with pytest.raises(ValueError, match="nothing was said of rows"):
        check.resources(["\n".join(lines)])


SASS = """
	code for sm_90
		Function : rows
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
                                                               /* 0x000fe20000000f00 */
        /*0010*/              @!P0 HMMA.1688.F32.TF32 R12, R12, R10, RZ ;
        /*0020*/             @!UP1 UIADD3 UR4, UR4, 1, URZ ;
		Function : columns
        /*0000*/                   EXIT ;
	code for sm_100
		Function : rows
        /*0000*/                   BRA 0x0;
"""


def test_the_disassembly_is_read() -> None:
    assert check.instructions(SASS.splitlines()) == {
        Kernel(90, "rows"): {"LDC", "HMMA", "UIADD3"},
        Kernel(90, "columns"): {"EXIT"},
        Kernel(100, "rows"): {"BRA"},
    }


FINE = Resources(40, 0, 0, 0)
PRODUCT = Kernel(90, "tensor_core_product")
ROWS = Kernel(90, "rows")


@pytest.mark.parametrize(
    ("said", "seen", "wrong"),
    [
        ({PRODUCT: FINE, ROWS: FINE}, {PRODUCT: {"HMMA"}, ROWS: {"EXIT"}}, []),
        (
            {PRODUCT: FINE, ROWS: FINE._replace(spilled=8)},
            {PRODUCT: {"HMMA"}, ROWS: {"EXIT"}},
            ["sm_90, rows: 8 bytes of spilled registers"],
        ),
        (
            {PRODUCT: FINE},
            {PRODUCT: {"FFMA"}},
            ["sm_90, tensor_core_product: is named after tensor cores and has no HMMA"],
        ),
        (
            {PRODUCT: FINE, ROWS: FINE},
            {PRODUCT: {"HMMA"}, ROWS: {"HMMA"}},
            ["sm_90, rows: has HMMA and is not named after tensor cores"],
        ),
        ({PRODUCT: FINE}, {}, ["sm_90, tensor_core_product: is not in the disassembly"]),
        ({ROWS: FINE}, {ROWS: {"EXIT"}}, ["sm_90: no kernel is named after tensor cores"]),
        (
            {PRODUCT: FINE},
            {PRODUCT: {"HMMA"}, ROWS: {"EXIT"}},
            ["sm_90, rows: nothing was said of it"],
        ),
    ],
)
def test_what_is_wrong_is_told(
    said: dict[Kernel, Resources], seen: dict[Kernel, set[str]], wrong: list[str]
) -> None:
    assert check.faults(said, seen, [90], str) == wrong


def test_only_spills_matter_where_nothing_is_disassembled() -> None:
    said = {Kernel(86, "tensor_core_product"): FINE, Kernel(86, "rows"): FINE._replace(spilled=8)}
    assert check.faults(said, {}, [], str) == ["sm_86, rows: 8 bytes of spilled registers"]


def test_the_table_has_all_architectures_side_by_side() -> None:
    said = check.resources([LOG.replace("SPILL", "8")]) | {Kernel(90, "copy"): FINE}
    assert check.table(said, str) == [
        "registers of  sm_90 sm_100  shared  stack  spilled  kernel",
        "                 40      -       0      0        0  copy",
        "                 40     38    1024     16       12  rows",
    ]


def test_names_are_those_of_the_sources() -> None:
    name = "void uov::cuda::(anonymous namespace)::product<uov::cuda::Tile<(int)64>, float>(float*)"
    assert check.shortened(name) == "product<Tile<(int)64>, float>"


# A kernel with more sums than registers, one that says it multiplies on tensor cores and does not,
# and one that does both as it should.
KERNELS = """
#include "cuda/device.h"
namespace uov::cuda {
#if defined(SPILLS)
__global__ void __launch_bounds__(1024) sums(const float* x, float* y) {
  float sum[96];
  for (int i = 0; i < 96; ++i) sum[i] = x[i * 1024 + threadIdx.x];
  for (int n = 0; n < 100; ++n)
    for (int i = 0; i < 96; ++i) sum[i] += x[n + i] * sum[(i + 1) % 96];
  for (int i = 0; i < 96; ++i) y[i * 1024 + threadIdx.x] = sum[i];
}
#endif
UOV_KERNEL(32) tensor_core_product(const uint32_t* a, float* y) {
  float d[4] = {0, 0, 0, 0};
  const uint32_t left[4] = {a[0], a[1], a[2], a[3]}, right[2] = {a[4], a[5]};
#if !defined(NO_PRODUCT)
  multiply_tf32(d, left, right);
#endif
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = d[i] + left[i] + right[i % 2];
}
}  // namespace uov::cuda
"""


@pytest.mark.parametrize(
    ("macro", "wrong"),
    [
        ("FINE", None),
        ("SPILLS", "sm_90, sums: ... bytes of spilled registers"),
        ("NO_PRODUCT", "sm_90, tensor_core_product: is named after tensor cores and has no HMMA"),
    ],
)
def test_planted_faults_of_real_kernels_are_found(
    macro: str, wrong: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        toolkit = nvcc.find()
    except nvcc.NvccError as error:
        pytest.skip(str(error))
    if check.cuobjdump([TOOLS]) is None:
        pytest.skip("no cuobjdump: .ci/cuda installs it")
    monkeypatch.chdir(tmp_path)
    Path("kernels.cu").write_text(f"#define {macro}\n{KERNELS}")
    include = (str(ROOT / "csrc"),)
    plan = nvcc.Build(toolkit, (90,), include, (), None, True, 1, tmp_path / "objects")
    nvcc.build(plan, ["kernels.cu"], tmp_path / "kernels.so", lambda line: None)
    done = subprocess.run(
        [sys.executable, check.__file__, plan.folder, "kernels.so", "--tools", TOOLS],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tensor_core_product\n" in done.stdout
    if wrong is None:
        assert done.returncode == 0, done.stderr
        said = "1 kernels without spills, 1 disassembled (sm_90), 1 of them with HMMA"
        assert done.stdout.splitlines()[-1] == said
    else:
        before, _, behind = wrong.partition("...")
        assert done.returncode == 1
        assert done.stderr.startswith(before)
        assert done.stderr.endswith(f"{behind}\n")
        assert len(done.stderr.splitlines()) == 1
