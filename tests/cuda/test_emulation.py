"""The emulation finds planted errors, and computes what a GPU computes."""

from __future__ import annotations


def test_the_module_names_its_handlers(emulated):
    assert all(name.startswith("uov_cuda_") for name in emulated.handlers())
    assert emulated.built_for() == "emulation"
    assert emulated.fault(0) == [0, 0, 0, 0]
