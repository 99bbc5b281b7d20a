"""What kernels of GPUs found wrong in one test is no fault of the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from uov_jax import sparse


@pytest.fixture(autouse=True)
def no_fault_of_another_test() -> Iterator[None]:
    """Forget what a test did not ask for."""
    yield
    with contextlib.suppress(sparse.FaultError):
        sparse.raise_fault()
