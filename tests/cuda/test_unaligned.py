"""Row ops on arrays that begin anywhere: narrower loads, the same results."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from tests.cuda import emulation

ROWS, CHANNELS = 200, 8
# The shapes of each op's arguments and results, and how many are results: m [ROWS, CHANNELS],
# c [CHANNELS], r [ROWS].
OPS = {
    "gather_rows": ("mm", 1),
    "gather_scatter_rows": ("mm", 1),
    "unit_rows": ("mmr", 2),
    "unit_rows_gradient": ("mmrm", 1),
    "column_moments": ("mcc", 2),
    "affine_rows": ("mcccmm", 1),
    "affine_gradient_sums": ("mmmccc", 2),
    "affine_gradient_rows": ("mmmccccmm", 2),
}
SIZES = {"m": ROWS * CHANNELS, "c": CHANNELS, "r": ROWS}
# Kept: the emulation remembers that nothing wrote it, and would of other arrays in its place.
WORKSPACE = np.zeros(100_000, np.int64)


@pytest.fixture(scope="module")
def run():
    cuda = emulation.SOURCES / "cuda"
    sources = [cuda / f"{name}.cu" for name in ("norm", "primitives", "rows")]
    library = emulation.build("unaligned", [*sources, Path(__file__).parent / "unaligned.cu"])
    function = ctypes.CDLL(str(library)).run
    function.restype = ctypes.c_char_p
    return function


def placed(values: np.ndarray, shift: int) -> np.ndarray:
    """A copy that begins `shift` numbers after a multiple of 64 bytes."""
    memory = np.zeros(len(values) + 32, np.float32)
    start = -memory.ctypes.data % 64 // 4 + shift
    copy = memory[start : start + len(values)]
    copy[:] = values
    return copy


def results_of(run, op: str, shifted: int) -> np.ndarray:
    """All results of one op whose array `shifted`, if there is one, does not begin at 16 bytes."""
    rng = np.random.default_rng(0)
    shapes, results = OPS[op]
    values = [rng.standard_normal(SIZES[shape]).astype(np.float32) for shape in shapes]
    arrays = [placed(v, int(i == shifted)) for i, v in enumerate(values)]
    index = rng.integers(-1, ROWS, ROWS).astype(np.int32)
    count = np.array([ROWS - 7], np.int32)
    fault = np.zeros(4, np.int32)
    pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    others = [ctypes.c_void_p(a.ctypes.data) for a in (index, count, WORKSPACE, fault)]
    error = run(op.encode(), pointers, ctypes.c_int64(ROWS), *others)
    assert error is None, error
    return np.concatenate(arrays[-results:])


@pytest.mark.parametrize("op", OPS)
def test_arrays_may_begin_anywhere(run, op):
    expected = results_of(run, op, shifted=-1)
    for shifted, _ in enumerate(OPS[op][0]):
        # Sums of columns are cut otherwise where loads are narrower.
        np.testing.assert_allclose(results_of(run, op, shifted), expected, rtol=1e-5, atol=1e-4)
