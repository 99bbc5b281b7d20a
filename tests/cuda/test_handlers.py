"""Handlers in the emulation: what their results hold, and what becomes of errors and faults."""

from __future__ import annotations

import ctypes
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda import emulation

X = np.arange(1, 33, dtype=np.float32)


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    sources = [Path(__file__).parent / "handlers.cu", emulation.SOURCES / "cuda/fault_memory.cpp"]
    library = ctypes.CDLL(str(emulation.build("handlers", sources)))
    for name in ("doubled", "faulty"):
        handler = jax.ffi.pycapsule(library[f"uov_{name}_cuda"])
        jax.ffi.register_ffi_target(f"tests_{name}", handler, platform="cpu")
    return library


def doubled(rows: int, again: bool = False) -> np.ndarray:
    call = jax.ffi.ffi_call("tests_doubled", jax.ShapeDtypeStruct(X.shape, jnp.float32))
    return np.asarray(call(X, rows=np.int64(rows), again=again))


def test_a_handler_computes(library):
    np.testing.assert_array_equal(doubled(32), 2 * X)


def test_what_no_kernel_wrote_shows(library):
    y = doubled(20)
    np.testing.assert_array_equal(y[:20], 2 * X[:20])
    assert np.isnan(y[20:]).all()


def test_a_result_must_be_written_before_it_is_read(library):
    with pytest.raises(Exception, match="INTERNAL: kernel read_rows.*read of what nothing wrote"):
        doubled(20, again=True)
    np.testing.assert_array_equal(doubled(32, again=True), 4 * X)
    # The memory of an argument was once a result, whose rows nothing wrote.
    twice = jax.jit(lambda x: _chained(x))
    assert np.isnan(np.asarray(twice(X))[20:]).all()


def _chained(x: jax.Array) -> jax.Array:
    call = jax.ffi.ffi_call("tests_doubled", jax.ShapeDtypeStruct(x.shape, x.dtype))
    part = call(x, rows=np.int64(20), again=False)
    return call(part, rows=np.int64(32), again=False)


def test_bad_input_is_an_error_of_the_input(library):
    with pytest.raises(Exception, match="INVALID_ARGUMENT: there are no rows below 0"):
        doubled(-1)


def test_the_first_fault_stays_until_it_is_cleared(library):
    found = (ctypes.c_int32 * 4)()
    call = jax.ffi.ffi_call("tests_faulty", jax.ShapeDtypeStruct(X.shape, jnp.float32))
    library.clear_fault_of(0)
    np.testing.assert_array_equal(call(X), np.zeros_like(X))
    library.fault_of(0, found)
    assert list(found) == [2, 7, 5, 0]
    library.clear_fault_of(0)
    library.fault_of(0, found)
    assert list(found) == [0, 0, 0, 0]
