"""The emulated backend for every test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.cuda import emulation


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    """`_engine_cuda_emulated`; its handlers are custom calls "uov_cuda_<op>" on the CPU."""
    return emulation.engine()


@pytest.fixture
def engine(emulated: ModuleType) -> Iterator[ModuleType]:
    """The emulated module, with the table's tiles and no fault before and after."""
    emulated.clear_fault(0)
    yield emulated
    emulated.use_gather_tile(-1)
    emulated.use_gradient_tile(-1)
    emulated.clear_fault(0)
