"""A profiler's trace of a few steps of a run."""

from __future__ import annotations

from pathlib import Path

import jax

# The first steps compile their programs and fill the queues.
STEPS_BEFORE = 3


class Profile:
    """Writes the steps after the first few into the folder `profile` of a run, once."""

    def __init__(self, directory: Path, start: int, steps: int) -> None:
        """Write so many steps, from the fourth after `start` on; 0 for none."""
        self.folder = directory / "profile"
        self._first = start + STEPS_BEFORE + 1
        self._after = self._first + steps
        self._runs = False

    def before_step(self, step: int) -> None:
        """Begin before the first of its steps, numbered from 1."""
        if step == self._first < self._after:
            # For ui.perfetto.dev, beside what TensorBoard's own plug-in shows.
            jax.profiler.start_trace(str(self.folder), create_perfetto_trace=True)
            self._runs = True

    def after_step(self, step: int) -> bool:
        """End after the last one, which must be over; says whether the trace is written now."""
        return step + 1 >= self._after and self.close()

    def close(self) -> bool:
        """End a trace that runs, however many steps it has; says whether one ran."""
        if not self._runs:
            return False
        self._runs = False
        jax.profiler.stop_trace()
        return True
