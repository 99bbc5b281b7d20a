"""Products of arrays that begin anywhere: narrower copies, the same bits."""

from __future__ import annotations

import ctypes
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda import emulation

KERNEL, ROWS = 4, 70
CHANNELS = {"in": 24, "out": 40}  # 16 bytes move at once in rows of either dtype
ARRAYS, RESULTS = 10, 3


@pytest.fixture(scope="module")
def run():
    cuda = emulation.SOURCES / "cuda"
    sources = [*sorted(cuda.glob("gather_gemm*.cu")), cuda / "norm.cu"]
    source = Path(__file__).parent / "unaligned_products.cu"
    library = emulation.build("unaligned_products", [*sources, source])
    function = ctypes.CDLL(str(library)).run
    function.restype = ctypes.c_char_p
    return function


def placed(values: np.ndarray, shift: int) -> np.ndarray:
    """A copy that begins `shift` numbers after a multiple of 64 bytes."""
    memory = np.zeros(values.size + 64, values.dtype)
    start = -memory.ctypes.data % 64 // values.itemsize + shift
    copy = memory[start : start + values.size]
    copy[:] = values.reshape(-1)
    return copy


def results_of(run, dtype, precision: int, shifted: int, shift: int) -> list[np.ndarray]:
    """The three results, with one of all arrays `shift` numbers away from its place."""
    rng = np.random.default_rng(0)
    c, d = CHANNELS["in"], CHANNELS["out"]
    shapes = [(ROWS, c), (KERNEL, c, d), (ROWS, d), (ROWS, d)]
    values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    values += list(rng.standard_normal((3, d)).astype(np.float32))
    results = [((ROWS, d), dtype), ((ROWS, d), dtype), ((KERNEL, c, d), np.float32)]
    values += [np.zeros(shape, kind) for shape, kind in results]
    arrays = [placed(v, shift if i == shifted else 0) for i, v in enumerate(values)]
    forward = rng.integers(-1, ROWS, (KERNEL, ROWS)).astype(np.int32)
    sizes = np.array([KERNEL, ROWS, ROWS, c, d, precision], np.int64)
    fault = np.zeros(4, np.int32)
    pointers = (ctypes.c_void_p * ARRAYS)(*(a.ctypes.data for a in arrays))
    halves = ctypes.c_bool(dtype == jnp.bfloat16)
    error = run(
        *(halves, ctypes.c_void_p(sizes.ctypes.data), pointers),
        *(ctypes.c_void_p(forward.ctypes.data), ctypes.c_void_p(None)),
        ctypes.c_void_p(fault.ctypes.data),
    )
    assert error is None, error
    assert not fault.any()
    return arrays[-RESULTS:]


@pytest.mark.parametrize(
    ("dtype", "precision"), [(np.float32, 0), (np.float32, 1), (jnp.bfloat16, 2)]
)
def test_arrays_may_begin_anywhere(run, dtype, precision):
    expected = results_of(run, dtype, precision, shifted=-1, shift=0)
    assert all(np.any(result != 0) for result in expected)
    for shifted in range(ARRAYS):
        for shift in (1, 2):
            for result, wanted in zip(
                results_of(run, dtype, precision, shifted, shift), expected, strict=True
            ):
                np.testing.assert_array_equal(result, wanted)
