"""The emulated backend for every test that asks for it."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.cuda import emulation


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    """`_engine_cuda_emulated`; its handlers are custom calls "uov_cuda_<op>" on the CPU."""
    return emulation.engine()
