"""The emulated module: the CUDA backend's handlers on a CPU."""

from __future__ import annotations

import re

import pytest

from tests.cuda import emulation

LIST = (emulation.SOURCES / "cuda" / "handlers_list.h").read_text()


def listed(macro: str) -> list[str]:
    """Names in one of the lists of handlers_list.h."""
    found = re.search(rf"#define {macro}\(X\)((?:.*\\\n)+.*)", LIST)
    assert found is not None
    return re.findall(r"X\((\w+)\)", found[1])


def test_the_module_has_every_handler(emulated):
    names = listed("UOV_FOR_EACH_CUDA_HANDLER")
    assert set(emulated.handlers()) == {f"uov_cuda_{name}" for name in names}
    assert set(listed("UOV_FOR_EACH_CUDA_WORKSPACE")) <= set(names)
    assert emulated.built_for() == "emulation"


def test_sizes_of_workspaces_are_asked_for_by_name(emulated):
    assert emulated.workspace_bytes("voxelize", [0]) >= 0
    assert emulated.workspace_bytes("voxelize", [1000]) > 1000
    with pytest.raises(ValueError, match="no op with a workspace is called gather_rows"):
        emulated.workspace_bytes("gather_rows", [1])
    with pytest.raises(ValueError, match="sizes must not be negative"):
        emulated.workspace_bytes("voxelize", [-1])


@pytest.mark.parametrize("op", listed("UOV_FOR_EACH_CUDA_WORKSPACE"))
def test_too_few_sizes_are_refused(emulated, op):
    with pytest.raises((IndexError, ValueError)):
        emulated.workspace_bytes(op, [])
