"""The layout of tiles in shared memory: no two accesses of a warp wait for one bank."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.cuda import emulation


@pytest.fixture(scope="module")
def layouts() -> ctypes.CDLL:
    source = Path(__file__).with_name("shared_tile.cu")
    return ctypes.CDLL(str(emulation.build("shared_tile", [source])))


@pytest.mark.parametrize("along", [True, False], ids=["rows", "depths"])
@pytest.mark.parametrize("count", [32, 64, 96, 128])
@pytest.mark.parametrize("size", [4, 2], ids=["float32", "bfloat16"])
def test_no_access_waits_for_another(layouts, size, count, along):
    assert layouts.most_of_one_bank(size, count, ctypes.c_bool(along)) == 1
