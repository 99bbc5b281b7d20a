"""What the sweeps of an evaluation cost in time and memory."""

from __future__ import annotations

import math
import resource
import sys
import time

# The first sweeps compile; the estimate is made from the next ones.
SWEEPS_BEFORE_ESTIMATE = 3


class SweepClock:
    """Wall time by part of the work; sweeps that compile a program are left out."""

    def __init__(self, unit: str = "sweeps") -> None:
        """Nothing counted yet; `unit` is what scans are called, in the plural."""
        self.unit = unit
        self.sweeps = 0
        self.seconds: dict[str, float] = {}
        self._parts: dict[str, float] = {}
        self._shapes: set[object] = set()
        self._mark = time.perf_counter()
        self._first_peak = math.nan

    def start(self) -> None:
        """The first sweep begins."""
        self._mark = time.perf_counter()

    def note(self, part: str) -> None:
        """What passed since the last call went into this part of the current sweep."""
        now = time.perf_counter()
        self._parts[part] = self._parts.get(part, 0.0) + now - self._mark
        self._mark = now

    def sweep(self, shapes: object) -> int:
        """A sweep is done; the first of its array shapes compiles. Returns how many counted."""
        parts, self._parts = self._parts, {}
        if shapes in self._shapes:
            self.sweeps += 1
            for part, seconds in parts.items():
                self.seconds[part] = self.seconds.get(part, 0.0) + seconds
            if self.sweeps == 1:
                self._first_peak = peak_gib()
        self._shapes.add(shapes)
        return self.sweeps

    @property
    def seconds_per_sweep(self) -> float:
        """Mean over the sweeps that counted, pictures left out; NaN without any."""
        total = sum(seconds for part, seconds in self.seconds.items() if part != "pictures")
        return total / self.sweeps if self.sweeps else math.nan

    def __str__(self) -> str:
        """Two lines: seconds a sweep by part, and the memory."""
        one = self.unit.removesuffix("s")
        if not self.sweeps:
            return f"No {one} was timed: each compiled a program."
        parts = ", ".join(
            f"{part} {seconds / self.sweeps:.3f}" for part, seconds in self.seconds.items()
        )
        return (
            f"{self.seconds_per_sweep:.3f} s a {one} over {self.sweeps} {self.unit} ({parts}).\n"
            f"Peak memory {self._first_peak:.2f} GiB after the first of them, "
            f"{peak_gib():.2f} GiB at the end."
        )


def peak_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
