"""The loop over a split's sweeps: what a GPU found wrong ends it."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.evaluation.judging import judge
from uov_jax.sparse.backends import Backend, registered

# The package has a function of this name.
backends = importlib.import_module("uov_jax.sparse.backends")


def test_what_kernels_found_wrong_ends_the_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once results have been read, and before anybody is given them."""
    read: list[int] = []

    def fault() -> str | None:
        return "an index is 9, but there are 3 rows" if len(read) == 2 else None

    def classes_of_rows(sample: object) -> np.ndarray:
        read.append(1)
        return np.zeros(3, np.uint8)

    kernels = SimpleNamespace(fault=fault)
    monkeypatch.setattr(backends, "_BACKENDS", registered())
    sparse.register_backend("made up", Backend(lambda _: (kernels,), lambda: "not for here"))
    sample = {"inverse": np.array([0, 2], np.int32), "token": "a"}
    sweeps = judge(lambda _: sample, [0, 1, 2], {"": classes_of_rows}, workers=1)
    np.testing.assert_array_equal(next(sweeps).columns[""], [0, 0])
    with pytest.raises(sparse.FaultError, match="an index is 9, but there are 3 rows"):
        next(sweeps)
