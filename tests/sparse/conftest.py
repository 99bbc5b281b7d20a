"""Every op test runs on each backend that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from uov_jax import sparse


@pytest.fixture(params=["cpu", "xla"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of the backend in force."""
    with sparse.use_backend(request.param):
        yield request.param
