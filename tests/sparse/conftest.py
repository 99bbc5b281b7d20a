"""Every op test runs on each backend that this machine has.

And on the convolutions that `xla` has for other platforms: nothing in them needs one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import faults
from tests.cuda import emulation
from uov_jax import sparse
from uov_jax.sparse import xla, xla_parallel
from uov_jax.sparse.backends import Backend, default_platform, registered
from uov_jax.sparse.engine import AVAILABLE

sparse.register_backend(
    "xla-parallel",
    Backend(lambda _: (xla_parallel, xla), lambda: f"{AVAILABLE} (xla as other platforms run it)"),
)
emulation.register()
# Here too: the check for a day with a GPU runs these tests without what all tests share.
no_fault_of_another_test = faults.no_fault_of_another_test
BACKENDS = [
    name
    for name, backend in registered().items()
    if backend.available and backend.platforms in ((), (default_platform(),))
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of the backend in force."""
    with sparse.use_backend(request.param):
        yield request.param
