"""The processes of a run, most often one a host, and the short messages between them.

Messages go through the key-value store of JAX's coordination service, never through devices: they
arrive while devices compute, and none waits for a collective that another has left. Every process
shows that it lives; one that fails posts why, so that all end with that text, and a request to stop
reaches all. A thread watches over that; it ends a process that hangs in a collective.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol

import jax

from uov_jax.errors import UserError

# How long a process may show no sign of life before it counts as lost.
PATIENCE = 60.0
# Signs of life in that time.
BEATS = 20
SLICE = 1.0  # seconds between two looks whether the others live
SAY_AFTER = 60.0  # seconds of waiting for another process
_ROOT = "uov_jax"
_LIFE = f"{_ROOT}/life/"


class HostsError(UserError):
    """Another process of the run failed, is lost, or does not fit to this one."""


class Store(Protocol):
    """Texts by name, seen by all processes."""

    def put(self, key: str, value: str) -> None:
        """Set a text, over one that there was."""
        ...

    def wait(self, key: str, seconds: float) -> str | None:
        """A text once it is there; None if that takes longer."""
        ...

    def below(self, folder: str) -> dict[str, str]:
        """All texts whose names begin with `folder`, which ends in a slash."""
        ...

    def remove(self, folder: str) -> None:
        """Remove all that is below."""
        ...


class CoordinationStore:
    """The store of JAX's coordination service, which process 0 runs."""

    def __init__(self) -> None:
        """Once `jax.distributed` is initialised."""
        # The only way to it; Orbax takes it too.
        from jax._src import distributed

        client = distributed.global_state.client
        assert client is not None
        self._client = client

    def put(self, key: str, value: str) -> None:
        """See `Store`."""
        self._client.key_value_set(key, value, allow_overwrite=True)

    def wait(self, key: str, seconds: float) -> str | None:
        """See `Store`."""
        try:
            return self._client.blocking_key_value_get(key, max(1, round(1000 * seconds)))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            return None

    def below(self, folder: str) -> dict[str, str]:
        """See `Store`."""
        return dict(self._client.key_value_dir_get(folder))

    def remove(self, folder: str) -> None:
        """See `Store`."""
        self._client.key_value_delete(folder)


@dataclasses.dataclass
class _Pulse:
    """What was last seen of a process: its sign of life, and for how many own beats no new one."""

    sign: str = ""
    missed: int = 0


class Hosts:
    """All processes of a run, seen from one of them."""

    def __init__(
        self,
        process: int = 0,
        processes: int = 1,
        store: Store | None = None,
        names: list[str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """One alone by default.

        Args:
            process: number of this one.
            processes: how many there are.
            store: where they meet; None for one alone.
            names: of the hosts, by process.
            patience: seconds without a sign of life, after which a process counts as lost; and
                seconds that this one may take to end by itself after another has failed.

        """
        assert store is not None or processes == 1
        self.process, self.processes = process, processes
        self.names = names or [socket.gethostname()] * processes
        self.failure: str | None = None
        """Why the run cannot go on: the text of the first process that failed or was lost."""
        self.stopping: str | None = None
        """Which signal came to which process, once one was asked to stop."""
        self._store = store
        self._patience = patience
        self._counts: dict[str, int] = {}
        self._pulses = {n: _Pulse() for n in range(processes) if n != process}
        self._beats = self._answered = 0
        # The store hangs: nothing more may be asked of it.
        self._unreachable = False
        # A process may train several times; what is said of a run is meant for that one.
        self._run = self._run_is_over = 0
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed_here = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and logs, and speaks to the user."""
        return self.process == 0

    def name(self, process: int) -> str:
        """`process 1 on node2`."""
        return f"process {process} on {self.names[process]}"

    def start(self) -> None:
        """Show from now on that this process lives, and watch the others, until `close`."""
        if self._store is not None and not self._threads:
            self._beat()
            for work in (self._keep_beating, self._watch):
                thread = threading.Thread(target=work, name="hosts", daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Show no sign of life any more."""
        self._closed.set()
        for thread in self._threads:
            # One may hang in a question to process 0.
            thread.join(self._patience)

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """The context of one run; an error that leaves it is posted, so that all end with it."""
        if self._store is None:
            yield
            return
        self._run += 1
        self.failure = self.stopping = None
        self._failed_here = False
        self.start()
        try:
            yield
        except BaseException as error:
            self.fail(error, self._run)
            raise
        finally:
            self._run_is_over = self._run

    def exchange(self, what: str, value: Any, channel: str = "run") -> list[Any]:
        """Every process's value (anything JSON can say), in order; all processes must call it.

        It waits as long as the others live. Calls of one channel come one after the other.

        Args:
            what: is exchanged, the same text in all processes.
            value: of this process.
            channel: threads that call it at the same time have one each.

        Raises:
            HostsError: another process failed, is lost, or exchanges something else.

        """
        if self._store is None:
            return [value]
        number = self._counts.get(channel, 0)
        self._counts[channel] = number + 1
        folder = f"{_ROOT}/exchange/{channel}/{number}"
        mine = json.dumps({"what": what, "value": value})
        if self.is_main:
            others = range(1, self.processes)
            for_me = [json.loads(self._wait(f"{folder}/{n}", n, what)) for n in others]
            posts = [json.loads(mine), *for_me]
            self._store.put(f"{folder}/all", json.dumps(posts))
            if number:
                # Who has posted this one has read the one before.
                self._store.remove(f"{_ROOT}/exchange/{channel}/{number - 1}/")
        else:
            self._store.put(f"{folder}/{self.process}", mine)
            posts = json.loads(self._wait(f"{folder}/all", 0, what))
        for n, post in enumerate(posts):
            if post["what"] != posts[0]["what"]:
                raise HostsError(
                    f"{self.name(0)} is at {posts[0]['what']!r} and {self.name(n)} at "
                    f"{post['what']!r}: they do not take the same run's steps"
                )
        return [post["value"] for post in posts]

    def of_main(self, what: str, value: Any) -> Any:
        """The main process's value; otherwise as `exchange`."""
        return self.exchange(what, value)[0]

    def agree(self, facts: Mapping[str, Any]) -> None:
        """See to it that all processes have the same facts, plain values by name.

        Raises:
            HostsError: they do not; the same message in all of them names the first fact that
                differs, with its values.

        """
        mine = {name: json.loads(json.dumps(value, default=str)) for name, value in facts.items()}
        found = self.exchange("what the processes of a run must agree on", mine)
        for n, theirs in enumerate(found):
            for fact in {**found[0], **theirs}:
                first, other = (each.get(fact, "nothing") for each in (found[0], theirs))
                if first != other:
                    raise HostsError(
                        f"the processes of this run do not agree: {fact} is {first} on "
                        f"{self.name(0)} and {other} on {self.name(n)}. Start all with the same "
                        "program, recipe, options and files"
                    )

    def check(self) -> None:
        """HostsError if another process has failed or is lost."""
        if self.failure is not None:
            raise HostsError(self.failure)

    def stop(self, signal: str) -> None:
        """Let all know that a signal came to this process; they learn it within a beat or two."""
        if self._store is not None and self.stopping is None:
            self.stopping = f"{signal} to {self.name(self.process)}"
            self._say("stop", self._run, self.stopping)

    def fail(self, error: BaseException, run: int | None = None) -> None:
        """Let all end with the text of this process's error, unless it only follows another's.

        Args:
            error: of this process.
            run: it ends this run; None: the program.

        """
        if self._store is None or self._failed_here or isinstance(error, HostsError):
            return
        self._failed_here = True
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        if self._unreachable:
            return
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._say("failed", run, f"{self.name(self.process)} failed: {kind}{error}")

    @contextlib.contextmanager
    def blaming(self) -> Iterator[None]:
        """Around what waits for other processes' devices: find out whose fault an error is.

        Where a process is killed, collectives of the others break off with texts of networks. Then
        it takes until it shows no sign of life that the others know which one it was.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if self._store is None or "RESOURCE_EXHAUSTED" in str(error):
                raise
            deadline = time.monotonic() + 1.5 * self._patience
            while self.failure is None and time.monotonic() < deadline:
                self._closed.wait(min(SLICE, self._patience / BEATS))
            if self.failure is None:
                raise
            raise HostsError(self.failure) from error

    def leave(self, status: int) -> NoReturn:
        """End this process after an error, all processes together.

        Without the meeting at the end for which JAX would wait: one of them may be gone. Process 0
        goes last, because JAX aborts the others when it is gone.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        if self._store is not None and not self._unreachable:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._store.put(f"{_LIFE}left/{self.process}", "")
                deadline = time.monotonic() + 10.0
                while self.is_main and time.monotonic() < deadline and not self._all_left():
                    time.sleep(0.1)
        os._exit(status)

    def _all_left(self) -> bool:
        assert self._store is not None
        left = {int(key.rpartition("/")[2]) for key in self._store.below(f"{_LIFE}left/")}
        return all(n in left or pulse.missed > BEATS for n, pulse in self._pulses.items())

    def _say(self, what: str, run: int | None, text: str) -> None:
        assert self._store is not None
        self._store.put(f"{_LIFE}{what}/{self.process}", json.dumps([run, text]))

    def _wait(self, key: str, process: int, what: str) -> str:
        """A text of another process, as long as all live."""
        assert self._store is not None
        begun = time.monotonic()
        said = False
        while True:
            self.check()
            if self._run_is_over == self._run > 0:
                raise HostsError(f"the run ended while a thread waited at {what!r}")
            text = self._store.wait(key, min(SLICE, self._patience / BEATS))
            if text is not None:
                return text
            if not said and time.monotonic() - begun > SAY_AFTER:
                said = True
                print(f"Waiting for {self.name(process)} at {what!r}.", flush=True)

    def _keep_beating(self) -> None:
        while not self._closed.wait(self._patience / BEATS):
            self._beat()

    def _watch(self) -> None:
        failed_at: float | None = None
        answered = silent = 0
        while not self._closed.wait(self._patience / BEATS):
            # Questions to process 0 have no deadline: where it hangs, so does `_beat`.
            silent = silent + 1 if answered == self._answered else 0
            answered = self._answered
            if silent > BEATS and not self._unreachable:
                self._unreachable = True
                self.failure = self.failure or (
                    f"{self.name(0)} is lost: it has answered nothing for {self._patience:.0f} "
                    "seconds, because it hangs or its network failed"
                )
            if self.failure is None:
                continue
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > self._patience:
                # The main thread hangs, most likely in a collective for which the other is lost.
                print(f"error: {self.failure}", file=sys.stderr, flush=True)
                self.leave(1)

    def _beat(self) -> None:
        """Show life, and look at the others'."""
        assert self._store is not None
        self._beats += 1
        try:
            self._store.put(f"{_LIFE}beat/{self.process}", str(self._beats))
            found = self._store.below(_LIFE)
        except jax.errors.JaxRuntimeError as error:
            self.failure = self.failure or f"{self.name(0)} cannot be reached: {error}"
            return
        finally:
            self._answered += 1
        for n, pulse in self._pulses.items():
            self.failure = self.failure or self._said(found, "failed", n)
            self.stopping = self.stopping or self._said(found, "stop", n)
            sign = found.get(f"{_LIFE}beat/{n}", "")
            # Counted in own beats: a process that was suspended itself accuses nobody.
            pulse.missed = pulse.missed + 1 if sign == pulse.sign else 0
            pulse.sign = sign
            if pulse.missed > BEATS:
                self.failure = self.failure or (
                    f"{self.name(n)} is lost: it has shown no sign of life for "
                    f"{self._patience:.0f} seconds, because it was killed or its network failed"
                )

    def _said(self, found: Mapping[str, str], what: str, process: int) -> str | None:
        """What a process said of this run, or of all."""
        run, text = json.loads(found.get(f"{_LIFE}{what}/{process}", "[-1, null]"))
        return text if run in (None, self._run) else None


_here: Hosts | None = None


def here() -> Hosts:
    """The processes that `jax.distributed` connects."""
    global _here
    if _here is None:
        _here = connected()
    return _here


def connected(names: list[str] | None = None, patience: float = PATIENCE) -> Hosts:
    """What `here` gives from now on, with the names of the hosts; `patience` as `Hosts` has it."""
    global _here
    processes = jax.process_count()
    store = CoordinationStore() if processes > 1 else None
    _here = Hosts(jax.process_index(), processes, store, names, patience)
    _here.start()
    return _here


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """In a program of several processes: an error ends this one with all others, and is shown.

    A program of one process is left alone.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        hosts = here()
        if hosts.processes == 1:
            raise
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        hosts.fail(error)
        hosts.leave(1)
