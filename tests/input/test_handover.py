"""Memory that two sides map: arrays arrive as they were; no file is written while it is read."""

from __future__ import annotations

import gc
import os

import jax
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.input import handover
from uov_jax.input.handover import ALIGNED, Memory, Views


def batch(scale: int, allocate=np.empty) -> dict:
    """Arrays of several types, and a plan."""
    spec = sparse.PlanSpec(64 * scale, fractions=(1.0,) * 5)
    plan = sparse.empty_plan(spec, 2, allocate)
    for number, leaf in enumerate(jax.tree.leaves(plan)):
        leaf[...] = number + scale
    halves = allocate((3, scale), np.float16)
    halves[...] = scale
    return {"plan": plan, "halves": halves, "none": allocate((0, 4), np.int32)}


def assert_same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


@pytest.fixture(params=["memfd", "file"])
def sides(request, monkeypatch):
    """A reader with one file, and the writer of the same one."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    views = Views()
    number, file = views.borrow()
    assert number == 0
    yield views, Memory(os.dup(file))
    views.close()


@pytest.mark.parametrize("made_there", [True, False])
def test_arrays_arrive_as_they_were_in_files_that_grow(sides, made_there):
    views, memory = sides
    for scale in (1, 300, 2, 1000):
        memory.begin()
        made = batch(scale, memory.empty) if made_there else batch(scale)
        expected = jax.tree.map(np.array, made)
        found = views.arrays(memory.placed(made), 0)
        assert_same(found, expected)
        assert all(leaf.ctypes.data % ALIGNED == 0 for leaf in jax.tree.leaves(found))


def test_what_was_made_there_is_not_copied(sides):
    _, memory = sides
    memory.begin()
    array = memory.empty((5, 4), np.int32)
    assert memory.placed(array).offset == 0
    assert memory.placed(array[2:]).offset == 2 * 4 * 4
    # Not in one piece: it is copied behind the rest.
    columns = memory.placed(array[:, :2])
    assert columns.offset >= 5 * 4 * 4
    assert columns.shape == (5, 2)


def test_a_file_is_lent_again_once_no_array_in_it_is_held(sides):
    views, memory = sides
    memory.begin()
    found = views.arrays(memory.placed({"a": np.arange(3), "b": np.arange(4)}), 0)
    assert views.borrow()[0] == 1  # another one
    part = found["b"][1:3]
    del found
    gc.collect()
    assert views.borrow()[0] == 2
    assert part.tolist() == [1, 2]
    del part
    gc.collect()
    assert views.borrow() == (0, None)
    views.give_back(0)
    assert views.borrow() == (0, None)


def test_jax_holds_what_it_was_given_without_a_copy(sides):
    views, memory = sides
    memory.begin()
    held = jax.device_put(views.arrays(memory.placed(np.arange(4096.0, dtype=np.float32)), 0))
    gc.collect()
    if views.borrow()[0] == 0:  # it was copied
        memory.begin()
        memory.placed(np.zeros(4096, np.float32))
    np.testing.assert_array_equal(held, np.arange(4096))


def test_arrays_outlive_the_files(sides):
    views, memory = sides
    memory.begin()
    array = views.arrays(memory.placed(np.arange(7)), 0)
    views.close()
    assert array.tolist() == list(range(7))
    del array
    gc.collect()


def test_nothing_has_a_name(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(handover.tempfile, "tempdir", str(tmp_path))
    file = handover.anonymous_file()
    Memory(file).empty((10,), np.int64)
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(file).st_size >= 80
    os.close(file)
