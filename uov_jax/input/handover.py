"""Batches handed from one process to another through memory that both map, without a copy.

The memory is an anonymous file: on Linux one of `memfd_create`, elsewhere one without a name in the
folder of temporary files. So nothing lies in /dev/shm, which is 64 MB in a container, and nothing
is left behind by a process that is killed. A file is used again once nobody holds an array in it:
its pages are there then, and a plan of 20 MB takes half of the time to write.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import mmap
import os
import tempfile
import weakref
from typing import Any

import jax
import numpy as np

ALIGNED = 64  # bytes; what begins there XLA's CPU client takes without a copy
LEAST = 1 << 20  # bytes of a file


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where an array lies in a file of `Memory`, in the place of the array itself."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


def anonymous_file() -> int:
    """The descriptor of a new, empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("uov_jax batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Memory:
    """The writer's side of a file: arrays are made in it, one after the other."""

    def __init__(self, file: int) -> None:
        """Take over a descriptor of `anonymous_file`."""
        self._file = file
        self._size = os.fstat(file).st_size
        self._maps: list[np.ndarray] = []
        self._next = 0

    def begin(self) -> None:
        """Overwrite what lies in the file from now on."""
        self._next = 0
        # Of the maps of a file that grew only the last has all of it.
        del self._maps[:-1]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A new array in the file, of any content; as `np.empty`."""
        dtype = np.dtype(dtype)
        end = self._next + dtype.itemsize * math.prod(shape)
        self._reach(end)
        array = self._maps[-1][self._next : end].view(dtype).reshape(shape)
        self._next = math.ceil(end / ALIGNED) * ALIGNED
        return array

    def placed(self, tree: Any) -> Any:
        """The tree with `Placed` for its arrays; those from elsewhere are copied into the file."""
        return jax.tree.map(self._place, tree)

    def _place(self, array: Any) -> Placed:
        array = np.asarray(array)
        offset = self._offset(array)
        if offset is None:
            copy = self.empty(array.shape, array.dtype)
            copy[...] = array
            offset = self._offset(copy)
            assert offset is not None
        return Placed(offset, array.shape, array.dtype.str)

    def _offset(self, array: np.ndarray) -> int | None:
        """Where an array begins in the file; None if it does not lie there in one piece."""
        if not array.flags.c_contiguous:
            return None
        for mapped in self._maps:
            offset = array.ctypes.data - mapped.ctypes.data
            if 0 <= offset and offset + array.nbytes <= len(mapped):
                return offset
        return None

    def _reach(self, end: int) -> None:
        if self._maps and len(self._maps[-1]) >= end:
            return
        if self._size < max(end, 1):
            self._size = max(LEAST, 2 * self._size, end)
            os.ftruncate(self._file, self._size)
        # Arrays that were made before stay in their own map, of the same pages.
        self._maps.append(np.frombuffer(mmap.mmap(self._file, self._size), np.uint8))


class Views:
    """The reader's side of a writer's files: trees of arrays in them, and which are free again."""

    def __init__(self) -> None:
        """No file yet."""
        self._files: list[int] = []
        self._maps: list[mmap.mmap | None] = []
        self._free: collections.deque[int] = collections.deque()
        self._close = weakref.finalize(self, _close_files, self._files)

    def borrow(self) -> tuple[int, int | None]:
        """A file that nobody reads any more: its number, and its descriptor where it is new."""
        if self._free:
            return self._free.popleft(), None
        self._files.append(anonymous_file())
        self._maps.append(None)
        return len(self._files) - 1, self._files[-1]

    def give_back(self, number: int) -> None:
        """Nothing was written to a file that `borrow` gave."""
        self._free.append(number)

    def arrays(self, tree: Any, number: int) -> Any:
        """The tree of a writer with arrays in a file, which is lent out as long as one is held."""
        size = os.fstat(self._files[number]).st_size
        mapped = self._maps[number]
        if mapped is None or len(mapped) != size:
            mapped = self._maps[number] = mmap.mmap(self._files[number], size)
        # All arrays are views of this one, so that it lives as long as any of them.
        whole = np.frombuffer(mapped, np.uint8)
        weakref.finalize(whole, self._free.append, number).atexit = False

        def array(placed: Placed) -> np.ndarray:
            dtype = np.dtype(placed.dtype)
            end = placed.offset + dtype.itemsize * math.prod(placed.shape)
            return whole[placed.offset : end].view(dtype).reshape(placed.shape)

        return jax.tree.map(array, tree)

    def close(self) -> None:
        """Let go of the files; arrays that are held stay."""
        self._close()
        self._maps.clear()


def _close_files(files: list[int]) -> None:
    while files:
        os.close(files.pop())
