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


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
@pytest.mark.parametrize("workers", [0, 2])
def test_networks_of_several_sweeps_run_at_once(at_once: int, workers: int) -> None:
    """So many are begun before the output of the first is read; the order stays."""
    events: list[str] = []

    class Output:
        def __init__(self, item: int) -> None:
            self.item = item
            events.append(f"begin {item}")

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            events.append(f"read {self.item}")
            return np.full(1, self.item, np.uint8)

    def build(item: int) -> dict[str, object]:
        return {"inverse": np.zeros(1, np.int32), "token": "a", "item": item}

    found = [
        int(sweep.columns[""][0])
        for sweep in judge(
            build,
            range(5),
            {"": lambda sample: Output(sample["item"])},
            workers=workers,
            at_once=at_once,
        )
    ]
    assert found == [0, 1, 2, 3, 4]
    before = events[: events.index("read 0")]
    assert before == [f"begin {item}" for item in range(min(at_once, 5))]
    assert sorted(events) == sorted(f"{what} {i}" for what in ("begin", "read") for i in range(5))
