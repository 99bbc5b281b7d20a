"""Which steps all processes of a run take: agreed on before each, while the one before runs."""

from __future__ import annotations

import signal

from uov_jax.signals import StopRequest
from uov_jax.training.hosts import Hosts, HostsError


class CommonSteps:
    """What was agreed on so far, and the signals that may end it.

    Attributes:
        agreed: the number of steps that were agreed on.
        stops_before: the first step that no process takes, once one was asked to stop.

    """

    def __init__(self, hosts: Hosts, stop: StopRequest, start: int = 0) -> None:
        """Nothing is agreed on before a step of that number."""
        self.agreed = start
        self.stops_before: int | None = None
        self._hosts, self._stop = hosts, stop
        self._why: str | None = None

    def agree(self, step: int, size: int, error: str | None = None) -> int:
        """Before a step (from 0): the size of all its batches, and whether it is taken at all.

        A process that cannot go on says so here, so that all have taken the same steps, and can
        save them.

        Raises:
            HostsError: another process has no batch for this step; names it and the reason.

        """
        if self.stops_before is not None:
            return size
        self.agreed = step + 1
        mine = [size, self.asked_to_stop(), error]
        found = self._hosts.exchange(f"step {step}", mine, "steps")
        for process, (_, _, what) in enumerate(found):
            if what is not None and process != self._hosts.process:
                raise HostsError(f"{self._hosts.name(process)} failed: {what}")
        stopped = [why for _, why, _ in found if why is not None]
        if stopped:
            self.stops_before, self._why = step, stopped[0]
        return int(max(size for size, _, _ in found))

    def asked_to_stop(self) -> str | None:
        """The signal that came to this process or, as far as it knows, to another one."""
        if self._hosts.processes == 1:
            return self.why() if self._stop else None
        if self._stop:
            self._hosts.stop(self.why())
        return self._hosts.stopping

    def ends_at(self, step: int) -> bool:
        """Whether this step is not taken any more."""
        if self._hosts.processes == 1:
            return bool(self._stop)
        return self.stops_before is not None and self.stops_before <= step

    def signal(self) -> int | None:
        """The number of the signal that stopped the run, whichever process it came to."""
        if self._stop.signal is not None or self._why is None:
            return self._stop.signal
        return int(signal.Signals[self._why.partition(" ")[0]])

    def why(self) -> str:
        """Its name, and the process if there are several."""
        name = signal.Signals(self._stop.signal).name if self._stop.signal else "nothing"
        return self._why or name
