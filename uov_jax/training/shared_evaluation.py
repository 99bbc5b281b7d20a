"""An evaluation that all processes of a run share: all come to its end, or none does."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from uov_jax.errors import UserError
from uov_jax.evaluation.share import Share
from uov_jax.job_array import Shard
from uov_jax.training.hosts import Hosts, HostsError


class EvaluationFailedError(UserError):
    """A process could not judge its share; the message is that of its error."""


class _Stopped(Exception):  # noqa: N818 - not an error, a way out of the evaluation
    pass


class SharedEvaluation:
    """The context in which a task evaluates; gives its share.

    What processes found is exchanged while it lasts, and at its end. A process that cannot go on
    says so in the next exchange, which the others come to in any case: so they leave together. A
    request to stop leaves the context quietly.

    Attributes:
        done: all came to the end.

    """

    def __init__(
        self, hosts: Hosts, step: int, asked_to_stop: Callable[[], object], devices: int = 1
    ) -> None:
        """Of a step.

        Args:
            hosts: the processes.
            step: of the run.
            asked_to_stop: whether a signal came, to any process.
            devices: of this process.

        """
        self._devices = devices
        self.done = False
        self._hosts, self._what = hosts, f"the evaluation of step {step}"
        self._asked_to_stop = asked_to_stop
        self._left = False

    def go_on(self) -> None:
        """Leave the evaluation if the run is to stop, or cannot go on."""
        if self._asked_to_stop():
            raise _Stopped
        self._hosts.check()

    def __enter__(self) -> Share:
        """The share of this process."""
        shard = Shard(self._hosts.process + 1, self._hosts.processes)
        return Share(shard, self._gather, self._devices)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Let all know how it ended here, and learn how it ended elsewhere."""
        if error is None:
            self._say("end", None)
            self.done = True
            return False
        if isinstance(error, _Stopped):
            if not self._left:
                self._leave("stopped", None)
            return True
        if isinstance(error, UserError | OSError) and not isinstance(
            error, HostsError | EvaluationFailedError
        ):
            self._leave("failed", str(error))
            raise EvaluationFailedError(str(error)) from error
        return False

    def _gather(self, value: Any) -> list[Any]:
        return self._say("value", value)

    def _say(self, kind: str, value: Any) -> list[Any]:
        """Exchange a value; raises if another process has left."""
        found = self._hosts.exchange(self._what, [kind, value])
        for process, (theirs, what) in enumerate(found):
            if theirs == kind:
                continue
            self._left = True
            if theirs == "stopped":
                raise _Stopped
            if theirs == "failed":
                raise EvaluationFailedError(f"{self._hosts.name(process)}: {what}")
            raise HostsError(
                f"{self._hosts.name(process)} is at {theirs!r} of {self._what}, where "
                f"{self._hosts.name(self._hosts.process)} is at {kind!r}: a bug of this task"
            )
        return [value for _, value in found]

    def _leave(self, kind: str, what: str | None) -> None:
        self._left = True
        self._hosts.exchange(self._what, [kind, what])
