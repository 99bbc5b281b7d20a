"""Sources of made-up samples for tests of the loader; processes import them from here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import UnreadableFileError


class Numbers:
    """A source whose samples are (index, a random number)."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def name(self, index):
        return f"number {index}"

    def sample(self, index, rng):
        return index, rng.random()


def collate_numbers(samples, capacities, allocate):
    """Index, random number, and the process that built them."""
    index = np.array([[s[0] for s in device] for device in samples])
    process = allocate(index.shape, np.int64)
    process[:] = os.getpid()
    return {
        "index": index,
        "random": np.array([[s[1] for s in device] for device in samples]),
        "process": process,
    }


class Broken(Numbers):
    """A source with samples that cannot be built."""

    def __init__(self, length: int, broken=(3,), kind="damaged") -> None:
        super().__init__(length)
        self.broken, self.kind = broken, kind

    def sample(self, index, rng):
        if index in self.broken:
            raise {
                "damaged": InputError(f"scene-{index:04}.pcd.bin: truncated"),
                "missing": MissingFileError(f"scene-{index:04}.pcd.bin: no such file"),
                "unreadable": UnreadableFileError(f"scene-{index:04}.pcd.bin: could not be read"),
                "bug": Odd(index, "of this program"),
            }[self.kind]
        return super().sample(index, rng)


class Odd(Exception):
    """An exception that cannot be pickled: its constructor wants two arguments."""

    def __init__(self, index, what):
        super().__init__(f"a bug {what} at {index}")


class Killed(Numbers):
    """A sample that takes the process with it, if that is not the one of the test."""

    def __init__(self, length: int, at: int, how: str) -> None:
        super().__init__(length)
        self.at, self.how, self.test = at, how, os.getpid()

    def sample(self, index, rng):
        if index == self.at and os.getpid() != self.test:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(7)
        return super().sample(index, rng)


class Stuck(Numbers):
    """A sample whose file, a pipe that nobody writes to, is never there."""

    def __init__(self, length: int, at: int, pipe: Path) -> None:
        super().__init__(length)
        self.at, self.pipe = at, pipe

    def sample(self, index, rng):
        if index == self.at:
            self.pipe.read_bytes()
        return super().sample(index, rng)


class Hanging(Numbers):
    """A sample that is there once a file is: as if a file system hung."""

    def __init__(self, length: int, at: int, until: Path) -> None:
        super().__init__(length)
        self.at, self.until = at, until

    def sample(self, index, rng):
        while index == self.at and not self.until.exists():
            time.sleep(0.01)
        return super().sample(index, rng)
