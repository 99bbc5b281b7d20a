"""Room in shared memory for the batches of worker processes: what is needed, what is said."""

from __future__ import annotations

import os
import time

import jax
import numpy as np
import pytest

from tests.input.test_loader import CAPACITIES, Numbers, tri_modal_batches
from uov_jax import sparse
from uov_jax.errors import InputError
from uov_jax.input import shared_memory
from uov_jax.input.batching import Capacities
from uov_jax.input.loader import train_batches
from uov_jax.input.shared_memory import BATCHES_OF_LOOP, BATCHES_PER_WORKER, bytes_in_shared_memory
from uov_jax.input.tri_modal import TriModalSource

LARGER = Capacities(
    plans=(*CAPACITIES.plans, sparse.PlanSpec(4096, fractions=(1.0,) * 5)),
    pairs=(2048, 8192),
    superpoints=(64, 128),
)


@pytest.fixture
def source(tiny_keyframes, tiny_dumps) -> TriModalSource:
    return TriModalSource(tiny_keyframes, tiny_dumps)


def room_for(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared memory of 64 MiB with so many bytes free."""
    state = list(os.statvfs("/"))
    state[1:5] = 4096, 2**14, size // 4096, size // 4096
    made = os.statvfs_result(state)
    monkeypatch.setattr(shared_memory.os, "statvfs", lambda path: made)


def test_a_batch_takes_whole_pages_for_every_array(source):
    batch = next(iter(tri_modal_batches(source, workers=0)))
    arrays = jax.tree.leaves(batch)
    assert len(arrays) > 20
    together = sum(array.nbytes for array in arrays)
    size = bytes_in_shared_memory(batch)
    assert together <= size < together + 4096 * len(arrays)
    assert size % 4096 == 0
    assert bytes_in_shared_memory({"a": np.zeros(4097, np.uint8), "b": np.zeros(0)}) == 8192


@pytest.mark.parametrize("workers", [1, 3])
def test_the_need_is_that_of_the_largest_batches(source, workers, monkeypatch):
    """Not of the size that comes first: any batch may be of the largest."""
    only = Capacities(LARGER.plans[1:], LARGER.pairs[1:], LARGER.superpoints[1:])
    one = bytes_in_shared_memory(next(iter(tri_modal_batches(source, workers=0, capacities=only))))
    first = next(iter(tri_modal_batches(source, workers=0, capacities=LARGER)))
    assert one > 3 * bytes_in_shared_memory(first)
    need = one * (BATCHES_PER_WORKER * workers + BATCHES_OF_LOOP)
    batches = tri_modal_batches(source, workers=workers, processes=True, capacities=LARGER)
    monkeypatch.setattr(type(batches), "_grain", lambda self, step: iter(()))
    room_for(need, monkeypatch)
    assert list(batches) == []
    room_for(need - 4096, monkeypatch)
    with pytest.raises(InputError, match=f"of {workers} worker processes"):
        next(iter(batches))


def test_what_is_missing_and_what_helps_is_said_before_a_process_starts(source, monkeypatch):
    room_for(2**20, monkeypatch)
    batches = tri_modal_batches(source, processes=True)
    monkeypatch.setattr(type(batches), "_grain", lambda self, step: pytest.fail("started"))
    with pytest.raises(InputError) as caught:
        next(iter(batches))
    said = str(caught.value)
    assert said.startswith("/dev/shm is too small for the batches of 2 worker processes: 1.0 MB fr")
    assert "--config.data.worker_processes=0" in said
    assert "--config.data.workers=N" in said
    assert "docker run --shm-size=1g" in said


def test_threads_need_none(source, monkeypatch):
    room_for(0, monkeypatch)
    assert len(list(tri_modal_batches(source))) == 4


def test_a_system_without_that_folder_is_not_refused(source, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "none")
    batches = tri_modal_batches(source, processes=True)
    monkeypatch.setattr(type(batches), "_grain", lambda self, step: iter(()))
    assert list(batches) == []


ODD = 123_457  # bytes; nothing else has files of this size there


def collate_odd(samples, capacities):
    return {"array": np.zeros(ODD, np.uint8)}


def in_shared_memory() -> int:
    """How many of those arrays lie there."""
    found = 0
    for file in shared_memory.FOLDER.iterdir():
        try:
            found += file.stat().st_size == ODD
        except FileNotFoundError:
            continue
    return found


@pytest.mark.skipif(not shared_memory.FOLDER.is_dir(), reason="no shared memory to look into")
def test_no_more_batches_lie_there_than_are_counted():
    workers = 2
    batches = train_batches(
        Numbers(100),
        collate=collate_odd,
        batch_size_per_device=1,
        num_devices=1,
        capacities=CAPACITIES,
        seed=0,
        workers=workers,
        processes=True,
    )
    most = BATCHES_PER_WORKER * workers + BATCHES_OF_LOOP
    iterator = iter(batches)
    held = [next(iterator), next(iterator)]
    for _ in range(2):
        # The workers go on until they have built as many as they may.
        for _ in range(600):
            if in_shared_memory() == most:
                break
            time.sleep(0.05)
        time.sleep(0.3)
        assert in_shared_memory() == most
        for _ in range(3):
            held = [held[-1], next(iterator)]
    iterator.close()
