"""Messages between processes: who waits for whom, what all learn of a failure, who counts as lost.

Processes are threads here, around a store in memory; `test_two_hosts.py` has true ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import pytest

from uov_jax.errors import InputError
from uov_jax.training import hosts
from uov_jax.training.hosts import Hosts, HostsError

NAMES = ["node1", "node2", "node3"]


class MemoryStore:
    """The store of processes that are threads."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._changed = threading.Condition()

    def put(self, key: str, value: str) -> None:
        with self._changed:
            self.texts[key] = value
            self._changed.notify_all()

    def wait(self, key: str, seconds: float) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: key in self.texts, seconds)
            return self.texts.get(key)

    def below(self, folder: str) -> dict[str, str]:
        with self._changed:
            return {key: text for key, text in self.texts.items() if key.startswith(folder)}

    def remove(self, folder: str) -> None:
        with self._changed:
            self.texts = {k: t for k, t in self.texts.items() if not k.startswith(folder)}


def together(
    work: Callable[[Hosts], Any], number: int = 3, patience: float = 2.0
) -> list[Future[Any]]:
    """`work` in each of so many processes."""
    store = MemoryStore()

    def process(n: int) -> Any:
        one = Hosts(n, number, store, NAMES[:number], patience)
        try:
            with one.run():
                return work(one)
        finally:
            one.close()

    with ThreadPoolExecutor(number) as pool:
        return [pool.submit(process, n) for n in range(number)]


def errors(found: list[Future[Any]]) -> list[str]:
    return [str(future.exception()) for future in found]


def test_all_get_the_values_of_all_in_order() -> None:
    def work(one: Hosts) -> Any:
        return [one.exchange(f"round {n}", [one.process, n, None, "ä"]) for n in range(5)]

    expected = [[[p, n, None, "ä"] for p in range(3)] for n in range(5)]
    assert [future.result() for future in together(work)] == [expected] * 3


def test_what_was_read_is_removed() -> None:
    kept: list[int] = []

    def work(one: Hosts) -> None:
        for n in range(20):
            one.exchange(f"round {n}", "x" * 100)
        if one.is_main:
            kept.append(len(one._store.below("uov_jax/exchange/")))  # type: ignore[union-attr]

    together(work)
    assert kept[0] <= 6  # of two rounds of three processes


def test_channels_do_not_wait_for_each_other() -> None:
    def both(one: Hosts) -> Any:
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(one.exchange, "a", one.process, "ahead")
            return one.exchange("b", one.process), ahead.result()

    assert [f.result() for f in together(both)] == [([0, 1, 2], [0, 1, 2])] * 3


def test_one_alone_has_nobody_to_ask() -> None:
    alone = Hosts()
    with alone.run():
        assert alone.exchange("anything", {"a": 1}) == [{"a": 1}]
        alone.agree({"a": 1})
        alone.check()
        alone.stop("SIGTERM")
    assert alone.is_main


def test_an_error_ends_all_with_its_text() -> None:
    def work(one: Hosts) -> None:
        one.exchange("begin", None)
        if one.process == 1:
            raise InputError("sweep.bin: truncated")
        one.exchange("step 1", None)

    results = together(work)
    assert isinstance(results[0].exception(), HostsError)
    found = errors(results)
    message = "process 1 on node2 failed: sweep.bin: truncated"
    assert found == [message, "sweep.bin: truncated", message]


def test_errors_of_bugs_come_with_their_kind() -> None:
    def work(one: Hosts) -> None:
        if one.is_main:
            raise KeyError("missing")
        one.exchange("step 1", None)

    assert errors(together(work, 2))[1] == "process 0 on node1 failed: KeyError: 'missing'"


def test_a_process_that_shows_no_life_is_lost() -> None:
    def work(one: Hosts) -> None:
        one.exchange("begin", None)
        if one.process == 2:
            one._closed.set()  # it shows no life any more, and does not say why
            return
        one.exchange("step 1", None)

    found = errors(together(work, patience=0.4))
    message = "process 2 on node3 is lost: it has shown no sign of life for 0 seconds, because it"
    assert [text.startswith(message) for text in found] == [True, True, False]


def test_a_process_0_that_hangs_is_lost() -> None:
    """Its store answers nothing any more, and questions to it have no deadline."""
    hangs, ended = threading.Event(), threading.Event()

    class Hanging(MemoryStore):
        def put(self, key: str, value: str) -> None:
            if hangs.is_set() and key.endswith("/1"):
                ended.wait(60)
            super().put(key, value)

    one = Hosts(1, 2, Hanging(), NAMES[:2], patience=0.4)
    one._store.put("uov_jax/exchange/run/0/all", '[{"what": "begin", "value": 0}]')  # type: ignore[union-attr]
    one.start()
    hangs.set()
    deadline = time.monotonic() + 60
    while one.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(HostsError, match="process 0 on node1 is lost: it has answered nothing for"):
        one.check()
    one.fail(KeyError("which would be told to the store"))  # It does not wait either.
    ended.set()
    one.close()


def test_a_process_that_was_suspended_accuses_nobody() -> None:
    """Its own beats stop with it, and it is by these that it counts."""
    store = MemoryStore()
    one = Hosts(0, 2, store, NAMES[:2], patience=2.0)
    for beat in range(3 * hosts.BEATS):
        if beat < hosts.BEATS:
            store.put("uov_jax/life/beat/1", "the last one for now")
        else:
            store.put("uov_jax/life/beat/1", str(beat))
        one._beat()
    assert one.failure is None
    for _ in range(hosts.BEATS + 1):
        one._beat()
    assert one.failure is not None


def test_a_request_to_stop_reaches_all() -> None:
    def work(one: Hosts) -> str | None:
        one.exchange("begin", None)
        if one.process == 1:
            one.stop("SIGTERM")
        deadline = time.monotonic() + 60
        while one.stopping is None and time.monotonic() < deadline:
            time.sleep(0.01)
        one.exchange("end", None)
        return one.stopping

    found = [future.result() for future in together(work)]
    assert found == ["SIGTERM to process 1 on node2"] * 3


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config.seed": 1}, "config.seed is 0 on process 0 on node1 and 1 on process 1 on node2"),
        ({"step": 500}, "step is nothing on process 0 on node1 and 500 on process 1 on node2"),
    ],
)
def test_what_is_not_agreed_on_is_named_to_all_alike(other: dict[str, Any], message: str) -> None:
    def work(one: Hosts) -> None:
        facts = {"config.seed": 0, "voxels": (1, 2)}
        one.agree(facts | (other if one.process == 1 else {}))

    found = set(errors(together(work)))
    assert len(found) == 1
    assert found.pop().startswith(f"the processes of this run do not agree: {message}. Start all")


def test_all_that_agree_go_on() -> None:
    found = together(lambda one: one.agree({"voxels": (1, 2), "config.seed": 0}))
    assert [future.result() for future in found] == [None] * 3


def test_processes_at_different_places_are_told_so() -> None:
    found = errors(together(lambda one: one.exchange(f"step {one.process // 2}", None)))
    expected = "process 0 on node1 is at 'step 0' and process 2 on node3 at 'step 1'"
    assert [text.startswith(expected) for text in found] == [True] * 3


def test_broken_collectives_are_blamed_on_who_is_lost() -> None:
    def work(one: Hosts) -> None:
        one.exchange("begin", None)
        if one.process == 1:
            one._closed.set()
            return
        with one.blaming():
            raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllReduce failed: Connection closed")

    found = errors(together(work, 2, patience=0.4))
    assert found[0].startswith("process 1 on node2 is lost")


def test_a_full_device_is_nobody_elses_fault() -> None:
    def work(one: Hosts) -> None:
        if one.process == 1:
            with one.blaming():
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        one.exchange("step 1", None)

    found = errors(together(work, 2, patience=60.0))
    assert found[1] == "RESOURCE_EXHAUSTED: Out of memory"
    assert found[0].endswith("failed: JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory")


def test_a_process_may_train_again_after_a_stop() -> None:
    store = MemoryStore()

    def process(n: int) -> list[str | None]:
        one = Hosts(n, 2, store, NAMES[:2], patience=1.0)
        seen = []
        for run in range(2):
            with one.run():
                one.exchange("begin", run)
                if run == 0:
                    one.stop("SIGINT")
                one.exchange("end", run)
                one._beat()
                seen.append(one.stopping)
        one.close()
        return seen

    with ThreadPoolExecutor(2) as pool:
        found = [future.result() for future in [pool.submit(process, n) for n in range(2)]]
    assert [seen[1] for seen in found] == [None, None]
    assert found[0][0] is not None
