"""What a run says on the terminal: a progress bar, estimates and lines between them."""

from __future__ import annotations

import time

import tqdm

from uov_jax.readable import duration

# The first steps after a compilation are slow; the estimate is made from the next ones.
STEPS_BEFORE_ESTIMATE = 3


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
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            unit="step",
            disable=not on,
            dynamic_ncols=True,
            mininterval=1.0,
            smoothing=0.05,
        )
        self._steady_steps = 0
        self._steady_seconds = 0.0
        self._announced = False
        self._mark: float | None = None

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self._on:
            tqdm.tqdm.write(line)

    def step(self, step: int, loss: float, compiled: bool) -> float:
        """One step is done; says the expected duration once; returns units per second so far."""
        now = time.perf_counter()
        if compiled or self._mark is None:
            self._mark = now
        else:
            self._steady_steps += 1
            self._steady_seconds += now - self._mark
            self._mark = now
        rate = self.units_per_second
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:.2f} {self._unit}/s", refresh=False)
        if not self._announced and self._steady_steps >= STEPS_BEFORE_ESTIMATE:
            self._announced = True
            remaining = (self._total - step) * self._steady_seconds / self._steady_steps
            self.say(f"{rate:.2f} {self._unit}/s: about {duration(remaining)} of training to go.")
        return rate

    @property
    def units_per_second(self) -> float:
        """Mean over the steps that compiled nothing; 0 before there is one."""
        if not self._steady_seconds:
            return 0.0
        return self._units * self._steady_steps / self._steady_seconds

    def pause(self) -> None:
        """Leave the time until the next step out of the estimate."""
        self._mark = None

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
