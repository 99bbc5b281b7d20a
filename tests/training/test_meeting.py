"""Processes that meet: who is missing, who came twice, who counts differently, and strangers."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from uov_jax.errors import InputError
from uov_jax.training.meeting import NotMetError, Place, meet

HOST = socket.gethostname()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return int(server.getsockname()[1])


def all_meet(*places: tuple[int, int], timeout: float = 30.0) -> list[Future[list[str]]]:
    """Processes given as (number, of how many), each in a thread."""
    address = f"localhost:{free_port()}"
    with ThreadPoolExecutor(len(places)) as pool:
        return [
            pool.submit(meet, Place(address, processes, process), timeout)
            for process, processes in places
        ]


def failures(found: list[Future[list[str]]]) -> list[str]:
    errors = [future.exception() for future in found]
    assert all(isinstance(error, NotMetError) for error in errors), errors
    return [str(error) for error in errors]


def test_all_learn_where_the_others_are() -> None:
    assert [future.result() for future in all_meet((2, 3), (0, 3), (1, 3))] == [[HOST] * 3] * 3


def test_the_port_is_free_afterwards() -> None:
    """JAX opens it next."""
    address = f"localhost:{free_port()}"
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            found = [pool.submit(meet, Place(address, 2, process), 30.0) for process in range(2)]
        assert [future.result() for future in found] == [[HOST] * 2] * 2


def test_those_that_are_missing_are_named_to_all_that_came() -> None:
    first, second = failures(all_meet((0, 4), (2, 4), timeout=1.0))
    assert first == second
    assert first.startswith("2 of 4 processes did not come within 1 seconds: 1, 3; here are ")
    assert f"here are 0 on {HOST}, 2 on {HOST}. " in first


def test_a_process_0_that_does_not_come_is_named() -> None:
    (message,) = failures(all_meet((1, 2), timeout=0.5))
    assert message.startswith("process 1 did not reach process 0 at localhost:")
    assert "within 0 seconds (Connection refused): is it started" in message


def test_a_number_that_comes_twice_is_named_to_all() -> None:
    messages = set(failures(all_meet((0, 3), (1, 3), (1, 3))))
    assert messages == {
        f"there are two processes 1 of 3, on {HOST} and on {HOST}: give each its own --process-id"
    }


@pytest.mark.parametrize("others", [1, 2])
def test_who_was_killed_while_it_waited_may_be_started_again(others: int) -> None:
    """Before the others have come, or as the last that is missing."""
    place = Place(f"localhost:{free_port()}", 1 + others, 0)
    with ThreadPoolExecutor(1 + others) as pool:
        first = pool.submit(meet, place, 30.0)
        killed = connect(place.port)
        killed.sendall(
            b'{"greeting": "uov_jax", "process": 1, "processes": %d, "host": "old"}\n'
            % (1 + others)
        )
        if others == 1:
            # Nobody else is missing, and it is told so; it could be killed just afterwards.
            assert b"hosts" in killed.recv(1000)
            killed.close()
            assert first.result() == [HOST, "old"]
            return
        killed.close()
        found = [pool.submit(meet, Place(place.address, 3, n), 30.0) for n in (1, 2)]
        assert [future.result() for future in (first, *found)] == [[HOST] * 3] * 3


def test_who_was_killed_and_not_started_again_is_missing() -> None:
    place = Place(f"localhost:{free_port()}", 3, 0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, place, 3.0)
        killed = connect(place.port)
        killed.sendall(b'{"greeting": "uov_jax", "process": 1, "processes": 3, "host": "old"}\n')
        killed.close()
        second = pool.submit(meet, Place(place.address, 3, 2), 3.0)
    for message in failures([first, second]):
        assert message.startswith(
            "1 of 3 processes did not come within 3 seconds: 1; here are 0 on"
        )


def connect(port: int) -> socket.socket:
    """A connection to process 0, once it listens."""
    while True:
        try:
            return socket.create_connection(("localhost", port))
        except ConnectionRefusedError:
            time.sleep(0.01)


def test_another_count_is_named_to_all() -> None:
    messages = set(failures(all_meet((0, 2), (2, 3))))
    assert messages == {
        f"process 2 on {HOST} was started as one of 3, process 0 on {HOST} as one of 2: give all "
        "the same --num-processes"
    }


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            NotMetError, match=f"port {port} of this host cannot be opened .* in us"
        ):
            meet(Place(f"localhost:{port}", 2, 0), 5.0)


def test_strangers_are_ignored() -> None:
    port = free_port()
    address = f"localhost:{port}"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, Place(address, 2, 0), 30.0)
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b'{"greeting": "you"}\n', b"[1]\n"):
            while True:
                try:
                    stranger = socket.create_connection(("localhost", port))
                    break
                except ConnectionRefusedError:
                    assert not first.done()
            stranger.sendall(said)
            stranger.close()
        second = pool.submit(meet, Place(address, 2, 1), 30.0)
    assert first.result() == second.result() == [HOST] * 2


@pytest.mark.parametrize("address", ["node1", "node1:", ":1234", "node1:http", "node1:99999"])
def test_addresses_without_host_or_port_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="expected HOST:PORT of process 0"):
        Place(address, 2, 0)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"--process-id=2 with --num-processes=2: .* from 0 to 1"):
        Place("node1:1", 2, 2)
    assert Place("[::1]:1", 2, 1).host == "::1"
