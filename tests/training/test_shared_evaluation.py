"""Evaluations of several processes: all come to the end of one, or none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.training.test_hosts import errors, together
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.evaluation.share import Share
from uov_jax.training.hosts import Hosts
from uov_jax.training.shared_evaluation import EvaluationFailedError, SharedEvaluation

Work = Callable[[SharedEvaluation, Share, int], Any]


def evaluated(work: Work, number: int = 3, stopped: int = -1) -> Any:
    """What each process says of its evaluation; `stopped` is asked to stop when it begins."""

    def process(one: Hosts) -> Any:
        evaluation = SharedEvaluation(one, 5, lambda: one.process == stopped)
        result = None
        with evaluation as share:
            result = work(evaluation, share, one.process)
        # All are at one place again, whatever came before.
        assert one.exchange("afterwards", one.process) == list(range(number))
        return evaluation.done, result

    return together(process, number)


def test_all_get_what_each_found() -> None:
    def work(evaluation: SharedEvaluation, share: Share, process: int) -> Any:
        evaluation.go_on()
        return share.of(list(range(7))), share.gather(process), share.gather(-process)

    found = [future.result() for future in evaluated(work)]
    assert [done for done, _ in found] == [True] * 3
    assert sorted(item for _, (items, _, _) in found for item in items) == list(range(7))
    assert [rest for _, (_, *rest) in found] == [[[0, 1, 2], [0, -1, -2]]] * 3


@pytest.mark.parametrize("kind", [InputError, NotFiniteError, OSError])
@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_one_that_fails_takes_all_out_of_it_and_on_with_the_training(
    when: str, kind: type[Exception]
) -> None:
    failed: list[str] = []

    def work(evaluation: SharedEvaluation, share: Share, process: int) -> None:
        for place in ("before", "between", "after"):
            if process == 1 and when == place:
                raise kind("sweep 7: truncated")
            if place != "after":
                share.gather(process)

    def process(one: Hosts) -> None:
        evaluation = SharedEvaluation(one, 5, lambda: False)
        try:
            with evaluation as share:
                work(evaluation, share, one.process)
        except EvaluationFailedError as error:
            failed.append(str(error))
        assert not evaluation.done
        one.exchange("afterwards", None)

    assert [future.exception() for future in together(process)] == [None] * 3
    others = "process 1 on node2: sweep 7: truncated"
    assert sorted(failed) == [others, others, "sweep 7: truncated"]


def test_one_that_stops_takes_all_out_of_it_quietly() -> None:
    def work(evaluation: SharedEvaluation, share: Share, process: int) -> None:
        evaluation.go_on()
        share.gather(process)

    found = [future.result() for future in evaluated(work, stopped=2)]
    assert found == [(False, None)] * 3


def test_a_task_that_gathers_on_one_process_alone_is_a_bug_that_is_named() -> None:
    def work(evaluation: SharedEvaluation, share: Share, process: int) -> None:
        if process == 0:
            share.gather(None)

    found = errors(evaluated(work, 2))
    assert found == [
        "process 1 on node2 is at 'end' of the evaluation of step 5, where process 0 on node1 is "
        "at 'value': a bug of this task",
        "process 0 on node1 is at 'value' of the evaluation of step 5, where process 1 on node2 is "
        "at 'end': a bug of this task",
    ]


def test_one_process_evaluates_as_ever() -> None:
    evaluation = SharedEvaluation(Hosts(), 5, lambda: False)
    with evaluation as share:
        evaluation.go_on()
        assert share.gather(3) == [3]
    assert evaluation.done
    with pytest.raises(EvaluationFailedError, match="^sweep 7"):
        with SharedEvaluation(Hosts(), 5, lambda: False):
            raise InputError("sweep 7: truncated")
