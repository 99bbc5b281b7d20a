"""What a run says on the terminal: a progress bar, estimates and lines between them."""

from __future__ import annotations

import collections
import time

from uov_jax.bar import Bar
from uov_jax.readable import duration

# The first steps after a compilation are slow; the estimate is made from the next ones.
STEPS_BEFORE_ESTIMATE = 3
# The rate is that of the last steps: a disk that has become slow shows within minutes.
STEPS_OF_RATE = 50
# From this share of the time on the bar speaks of waiting for data.
SPOKEN_WAIT = 0.05


class Progress:
    """Progress bar with loss, units/s and the time to go; silent where `on` is False."""

    def __init__(
        self, start: int, total: int, units_per_step: int, unit: str = "sweeps", on: bool = True
    ) -> None:
        """Begin at a step of a run of `total` steps, each of so many units, "sweeps" or "rooms"."""
        self._on = on
        self._units = units_per_step
        self._unit = unit
        self._total = total
        self._bar = Bar(
            total=total,
            initial=start,
            unit="step",
            disable=not on,
            dynamic_ncols=True,
            mininterval=1.0,
            smoothing=0.05,
        )
        # Seconds of the last steps that compiled nothing, and those of them spent waiting for data.
        self._seconds: collections.deque[float] = collections.deque(maxlen=STEPS_OF_RATE)
        self._waits: collections.deque[float] = collections.deque(maxlen=STEPS_OF_RATE)
        self._announced = False
        self._mark: float | None = None

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self._on:
            Bar.write(line)

    def step(self, step: int, loss: float, compiled: bool, waited: float = 0.0) -> float:
        """One step is done; says the expected duration once; returns units per second.

        Args:
            step: its number.
            loss: of it.
            compiled: a program was compiled for it, so that its time says nothing.
            waited: seconds that the loop has waited for its batch.

        """
        now = time.perf_counter()
        if not compiled and self._mark is not None:
            self._seconds.append(now - self._mark)
            self._waits.append(waited)
        self._mark = now
        rate = self.units_per_second
        self._bar.update(step - self._bar.n)
        waits = f", {self.data_wait:.0%} waiting for data" if self.data_wait >= SPOKEN_WAIT else ""
        self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:.2f} {self._unit}/s{waits}", False)
        if not self._announced and len(self._seconds) >= STEPS_BEFORE_ESTIMATE:
            self._announced = True
            remaining = (self._total - step) * sum(self._seconds) / len(self._seconds)
            self.say(f"{rate:.2f} {self._unit}/s: about {duration(remaining)} of training to go.")
        return rate

    @property
    def units_per_second(self) -> float:
        """Mean over the last steps that compiled nothing; 0 before there is one."""
        seconds = sum(self._seconds)
        return self._units * len(self._seconds) / seconds if seconds else 0.0

    @property
    def data_wait(self) -> float:
        """Which share of the time of these steps the loop waited for a batch, 0..1."""
        seconds = sum(self._seconds)
        return min(1.0, sum(self._waits) / seconds) if seconds else 0.0

    def pause(self) -> None:
        """Leave the time until the next step out of the estimate."""
        self._mark = None

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
