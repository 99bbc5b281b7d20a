"""The emulation finds what it is there to find: each kernel of planted.cu has one error."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.cuda import emulation

# What is said of each error; of those that no check can know, what shows them.
BARRIER = "with no barrier between"
ON_ITS_WAY = "of what a copy on its way will write: shared float32"
PLANTED = {
    "wrong_index": "another result than on the host",
    "out_of_bounds_read": r"read of 4 bytes from global float32 \[128\] of 128 on: out of bounds",
    "out_of_bounds_write": r"write of 4 bytes from global float32 \[-1\] of 128 on: out of bounds",
    "out_of_bounds_shared": r"write of 4 bytes from shared float32 \[64\] of 64 on: out of bounds",
    "misaligned_global": r"read of 16 bytes from global float32 \[\d+\] of 128 on: not aligned",
    "misaligned_shared": r"write of 8 bytes from shared float32 \[\d+\] of 128 on: not aligned",
    "uninitialised_shared": r"thread 58: read of what nothing wrote: shared float32 \[5\] of 64",
    "uninitialised_result": r"read of what nothing wrote: global float32 \[\d+\] of 128",
    "missing_barrier": f"(read of what was written {BARRIER}|read of what nothing wrote): shared",
    "missing_barrier_before_reuse": f"(write over what was read|read of what was written) "
    f"{BARRIER}: shared float32",
    "missing_warp_barrier": "(read of what was written|read of what nothing wrote)",
    "race_within_a_word": rf"write over what was written {BARRIER}: shared bfloat16 \[6\] of 64",
    "missing_wait": f"read {ON_ITS_WAY}",
    "wait_for_another_group": f"read {ON_ITS_WAY}",
    "missing_commit": f"read {ON_ITS_WAY}",
    "missing_barrier_after_wait": f"read (of what was written {BARRIER}|{ON_ITS_WAY}|of what "
    "nothing wrote)",
    "write_under_a_copy": "write to what a copy on its way will write",
    "divergent_barrier": "divergent barrier: waits at __syncthreads .*, but thread 32 has ended",
    "two_barriers": r"divergent barrier: comes to __syncthreads of planted.cu:\d+, but thread \d+ "
    r"waits at __syncthreads of planted.cu:\d+",
    "barrier_beside_a_shuffle": "a shuffle .*, whose lane 3 does not take part: thread 3 waits at "
    "__syncthreads",
    "shuffle_of_an_absent_lane": "whose lane 8 does not take part: thread 40 has ended",
    "shuffle_from_outside_its_mask": r"takes from lane \d+, which does not take part",
    "vote_with_other_masks": r"a vote .* with mask 0xffffffff, whose lane 20 does not take part",
    "part_of_a_warp_multiplies": "multiply_tf32 .*, whose lane 16 does not take part",
    "missing_barrier_before_fragments": "(read of what was written|read of what nothing wrote)",
    "racing_blocks": rf"(read|write) .* {BARRIER}: global int32 \[0\] of 4.* of another block",
    "race_within_a_block": f"(read|write over) .* {BARRIER}: global float32|of what nothing wrote",
    "read_of_another_block": "of another block|read of what nothing wrote",
    "plain_read_of_an_atomic": rf"read .* {BARRIER}: global int32 \[0\] of 4",
    "order_of_blocks": "results that differ from order to order",
    "order_of_threads": "results that differ from order to order",
}
ORDERS = range(16)
WHERE = re.compile(r"kernel (\w+), block \([01], 0, 0\), thread \d+: .* \(order \d+, launch \d+\)")


class Planted:
    """The library of planted.cu."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.planted_name.restype = ctypes.c_char_p
        self.library.run_planted.restype = ctypes.c_char_p
        self.library.use_order.argtypes = [ctypes.c_uint64]
        self.library.ask_for.restype = ctypes.c_char_p
        self.library.ask_for.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        name: Callable[[int], bytes | None] = self.library.planted_name
        self.names: list[str] = []
        while (found := name(len(self.names))) is not None:
            self.names.append(found.decode())
        self.x = 1 + np.arange(128, dtype=np.float32)

    def run(
        self, name: str, right: bool, order: int | None
    ) -> tuple[str | None, np.ndarray, np.ndarray]:
        """What was found, y and the counts."""
        y, counts = np.full(128, np.nan, np.float32), np.zeros(4, np.int32)
        arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (self.x, y, counts)]
        if order is not None:
            self.library.use_order(order)
        found = self.library.run_planted(self.names.index(name), int(right), *arrays)
        return None if found is None else found.decode(), y, counts


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted(emulation.build("planted", [Path(__file__).parent / "planted.cu"]))


def test_every_planted_error_is_listed(planted):
    assert planted.names == list(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_without_its_error_a_kernel_is_right_in_every_order(planted, name):
    first = None
    for order in ORDERS:
        found, y, counts = planted.run(name, True, order)
        assert found is None
        np.testing.assert_array_equal(y, planted.x.reshape(2, 64)[:, ::-1].ravel())
        first = counts if first is None else first
        np.testing.assert_array_equal(counts, first)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found_in_every_order(planted, name):
    runs = [planted.run(name, False, order) for order in ORDERS]
    if PLANTED[name].startswith("results that differ"):
        assert all(found is None for found, _, _ in runs)
        assert len({(y.tobytes(), counts.tobytes()) for _, y, counts in runs}) > 1
    elif PLANTED[name].startswith("another result"):
        right = planted.x.reshape(2, 64)[:, ::-1].ravel()
        assert not any(np.array_equal(y, right) for _, y, _ in runs)
    else:
        for found, _, _ in runs:
            assert found is not None
            assert re.search(PLANTED[name], found), found
            where = WHERE.fullmatch(found)
            assert where is not None, found
            assert where[1] == name


def test_an_order_can_be_had_again(planted):
    for name in ("order_of_blocks", "order_of_threads", "missing_barrier"):
        for order in ORDERS:
            first, again = (planted.run(name, False, order) for _ in range(2))
            assert first[0] == again[0]
            np.testing.assert_array_equal(first[1], again[1])
            np.testing.assert_array_equal(first[2], again[2])


def test_threads_take_turns(planted):
    """Launches of several threads at once: each is told what its own kernel did."""
    names = [name for name in PLANTED if "result" not in PLANTED[name]] * 4
    with ThreadPoolExecutor(8) as pool:
        wrong = list(pool.map(lambda name: planted.run(name, False, None), names))
        right = list(pool.map(lambda name: planted.run(name, True, None), names))
    for name, (found, _, _) in zip(names, wrong, strict=True):
        assert found is not None
        assert found.startswith(f"kernel {name}, ")
    expected = planted.x.reshape(2, 64)[:, ::-1].ravel()
    for found, y, _ in right:
        assert found is None
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("blocks", "threads", "shared_bytes", "found"),
    [
        (4, 1024, 51 * 1024, None),
        (65536, 32, 0, "launch of ask: more blocks than a grid can have"),
        (1, 1025, 0, "launch of ask: 1025 threads a block; 1 to 1024 are possible"),
        (1, 0, 0, "launch of ask: 0 threads a block; 1 to 1024 are possible"),
        (1, 32, 99 * 1024 + 1, "launch of ask: 101377 bytes of shared memory; all devices have"),
        (1, 32, 0, None),
        (1, 32, 30 * 1024, "bytes of shared memory, of which the launch has 30720 and asks for no"),
        (1, 32, 52 * 1024, "49152 bytes of shared memory beside the launch's 53248; there may be"),
    ],
)
def test_no_launch_asks_for_more_than_devices_have(planted, blocks, threads, shared_bytes, found):
    said = planted.library.ask_for(blocks, threads, shared_bytes)
    assert (said is None) if found is None else (found in said.decode())


@pytest.mark.parametrize(("ask", "size"), [("claim", 1), ("fill", 4)])
def test_no_memory_is_believed_that_a_call_has_not(planted, ask, size):
    """A kernel's arrays, and what is filled, lie within the arguments and results."""
    y = np.zeros(128, np.float32)
    function = getattr(planted.library, ask)
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_int64, ctypes.c_void_p]
    assert function(128 * size, y.ctypes.data) is None
    said = function(129 * size, y.ctypes.data).decode()
    assert "516 bytes, which is not in one argument or result of the call" in said
    assert "it ends 4 bytes past one of them" in said


def test_what_nothing_wrote_is_known_however_much_is_watched(planted):
    """More than is kept at a time: what tells nothing is given up, and no more."""
    y = np.zeros(128, np.float32)
    function = planted.library.read_after_watching
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_int64, ctypes.c_void_p]
    for mebibytes in (1, 70):
        assert function(mebibytes, y.ctypes.data) == b"y: nothing wrote byte 0 of 512"
