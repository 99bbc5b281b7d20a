"""The processes of a run meet at the address of the first, before JAX connects them.

JAX ends a process with a stack trace of C++ if another does not come, comes twice or counts
differently, and names none of them. Here all learn who is missing, and end with the same message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from uov_jax.errors import InputError, UserError

GREETING = "uov_jax"
SECONDS_TO_SPEAK = 5.0  # for who has connected; others that look at an open port say nothing
_LONGEST_LINE = 1 << 20


class NotMetError(UserError):
    """Not all processes of a run came together."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a process among those of a run.

    Attributes:
        address: host:port of process 0.
        processes: how many there are.
        process: number of this one, from 0.

    """

    address: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        """Refuse numbers and addresses that are none."""
        if not 0 <= self.process < self.processes:
            raise InputError(
                f"--process-id={self.process} with --num-processes={self.processes}: processes "
                f"are numbered from 0 to {max(self.processes - 1, 0)}"
            )
        host, colon, port = self.address.rpartition(":")
        if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(
                f"--coordinator={self.address}: expected HOST:PORT of process 0, such as node1:1234"
            )

    @property
    def host(self) -> str:
        """Of process 0."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Of process 0."""
        return int(self.address.rpartition(":")[2])


def meet(place: Place, timeout: float) -> list[str]:
    """Wait for all processes of a run; returns the names of their hosts, by number.

    Args:
        place: of this process.
        timeout: seconds to wait.

    Raises:
        NotMetError: some did not come, or do not fit together; the same message on all that came.

    """
    deadline = time.monotonic() + timeout
    if place.process == 0:
        return _receive(place, deadline, timeout)
    return _join(place, deadline, timeout)


@dataclasses.dataclass(frozen=True)
class _Guest:
    process: int
    host: str
    connection: socket.socket
    line: Any  # the socket's file

    def has_left(self) -> bool:
        """Whether it has hung up, as its system does for it when it is killed."""
        try:
            self.connection.setblocking(False)
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            with contextlib.suppress(OSError):
                self.connection.settimeout(SECONDS_TO_SPEAK)


def _receive(place: Place, deadline: float, timeout: float) -> list[str]:
    """Process 0: let the others come."""
    guests: dict[int, _Guest] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(place))
        try:
            while not _all_are_here(guests, place):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotMetError(_who_is_missing(place, guests, timeout))
                server.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    connection = stack.enter_context(server.accept()[0])
                    guest = _hear(connection, place)
                    if guest is not None:
                        _admit(guest, guests, place)
        except NotMetError as error:
            _tell(guests, {"error": str(error)})
            raise
        hosts = [socket.gethostname(), *(guests[n].host for n in range(1, place.processes))]
        _tell(guests, {"hosts": hosts})
        for guest in guests.values():
            # Who closes last leaves no trace on the port, which JAX takes next.
            with contextlib.suppress(OSError):
                guest.line.read(1)
    return hosts


def _all_are_here(guests: dict[int, _Guest], place: Place) -> bool:
    """Whether nobody is missing; who came and was killed since does not count."""
    if len(guests) < place.processes - 1:
        return False
    for number in [number for number, guest in guests.items() if guest.has_left()]:
        del guests[number]
    return len(guests) == place.processes - 1


def _listen(place: Place) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            address = ("", place.port)
            return socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", place.port))
    except OSError as error:
        raise NotMetError(
            f"port {place.port} of this host cannot be opened for the other processes "
            f"({error.strerror}): give --coordinator another one, on all hosts"
        ) from error


def _hear(connection: socket.socket, place: Place) -> _Guest | None:
    """Who has connected; None for a stranger."""
    connection.settimeout(SECONDS_TO_SPEAK)
    try:
        line = connection.makefile("rwb")
        said = json.loads(line.readline(_LONGEST_LINE))
        if said["greeting"] != GREETING:
            return None
        guest = _Guest(int(said["process"]), str(said["host"]), connection, line)
        processes = int(said["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if processes != place.processes:
        message = (
            f"process {guest.process} on {guest.host} was started as one of {processes}, process 0 "
            f"on {socket.gethostname()} as one of {place.processes}: give all the same "
            "--num-processes"
        )
        _tell({0: guest}, {"error": message})
        raise NotMetError(message)
    return guest


def _admit(guest: _Guest, guests: dict[int, _Guest], place: Place) -> None:
    host = socket.gethostname() if guest.process == 0 else None
    # Who was killed while it waited may have been started again, elsewhere too.
    if guest.process in guests and not guests[guest.process].has_left():
        host = guests[guest.process].host
    if host is not None:
        message = (
            f"there are two processes {guest.process} of {place.processes}, on {host} and on "
            f"{guest.host}: give each its own --process-id"
        )
        _tell({0: guest}, {"error": message})
        raise NotMetError(message)
    guests[guest.process] = guest


def _who_is_missing(place: Place, guests: dict[int, _Guest], timeout: float) -> str:
    missing = [str(n) for n in range(1, place.processes) if n not in guests]
    here = [f"0 on {socket.gethostname()}"]
    here += [f"{n} on {guests[n].host}" for n in sorted(guests)]
    return (
        f"{len(missing)} of {place.processes} processes did not come within {timeout:.0f} seconds: "
        f"{', '.join(missing)}; here are {', '.join(here)}. Look at the logs of those that are "
        f"missing, and whether they reach {place.address}; --join-timeout waits longer"
    )


def _join(place: Place, deadline: float, timeout: float) -> list[str]:
    """Any other process: come to process 0."""
    me = {
        "greeting": GREETING,
        "process": place.process,
        "processes": place.processes,
        "host": socket.gethostname(),
    }
    with _connected(place, deadline, timeout) as connection:
        try:
            # Process 0 may have begun to wait later, by the time that it takes to start.
            connection.settimeout(max(deadline - time.monotonic(), 0.0) + timeout)
            line = connection.makefile("rwb")
            line.write(json.dumps(me).encode() + b"\n")
            line.flush()
            answer = json.loads(line.readline(_LONGEST_LINE) or b"null")
        except (OSError, ValueError) as error:
            raise NotMetError(
                f"process 0 at {place.address} broke off while this process ({place.process}) "
                f"waited for the others: {error}"
            ) from error
    if not isinstance(answer, dict):
        raise NotMetError(
            f"process 0 at {place.address} left while this process ({place.process}) waited for "
            "the others: look at its log"
        )
    if "error" in answer:
        raise NotMetError(str(answer["error"]))
    return [str(host) for host in answer["hosts"]]


@contextlib.contextmanager
def _connected(place: Place, deadline: float, timeout: float) -> Iterator[socket.socket]:
    while True:
        try:
            left = max(deadline - time.monotonic(), 0.1)
            connection = socket.create_connection((place.host, place.port), timeout=left)
            break
        except OSError as error:  # It may start later, or its name may not be known yet.
            if time.monotonic() >= deadline:
                raise NotMetError(
                    f"process {place.process} did not reach process 0 at {place.address} within "
                    f"{timeout:.0f} seconds ({error.strerror or error}): is it started, and is "
                    "that its address? --join-timeout waits longer"
                ) from error
        time.sleep(min(0.2, timeout / 10))
    with connection:
        yield connection


def _tell(guests: dict[int, _Guest], answer: dict[str, Any]) -> None:
    for guest in guests.values():
        with contextlib.suppress(OSError):
            guest.line.write(json.dumps(answer).encode() + b"\n")
            guest.line.flush()
