"""The table of the stages of rooms, and whether the paper's findings hold in it."""

from __future__ import annotations

import dataclasses

import pytest

from uov_jax.evaluation.orderings import verdicts
from uov_jax.evaluation.room_table import ORDERINGS, ROWS, RoomScores, room_table

CHAIN = RoomScores(
    labels_unfiltered=0.30,
    labels=0.45,
    fused=0.31,
    specialised=0.42,
    fused_everywhere=0.29,
    fused_by_few=0.12,
    student_of_fused=0.33,
    student=0.44,
    student_by_few=0.41,
    ensemble=0.46,
)
# What each finding calls the better one, made equal to the worse.
SPOILT = [
    {"labels": 0.30},
    {"specialised": 0.31},
    {"student": 0.33},
    {"student_by_few": 0.12},
]


def test_every_score_has_its_row() -> None:
    rows = room_table([CHAIN], "markdown").splitlines()[2:]
    assert len(rows) == len(ROWS) == len(dataclasses.fields(RoomScores))
    shown = sorted(row.split("|")[-2].strip() for row in rows)
    assert shown == sorted(f"{100 * value:.2f}" for value in dataclasses.astuple(CHAIN))
    assert "| pseudo labels, no filter | training rooms | all | 30.00 |" in rows
    assert "| student (ESG) | validation rooms | at most one view | 41.00 |" in rows
    lines = room_table([CHAIN]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_of_several_seeds_mean_and_standard_deviation() -> None:
    other = dataclasses.replace(CHAIN, student=0.48)
    assert "46.00 ± 2.83" in room_table([CHAIN, other])
    for wrong in ([], None):
        with pytest.raises(ValueError, match="at least one chain|unknown table style"):
            room_table(wrong if wrong is not None else [CHAIN], "html")  # type: ignore[arg-type]


def test_all_findings_hold() -> None:
    assert all(line.startswith("holds: ") for line in verdicts(ORDERINGS, [CHAIN]))


@pytest.mark.parametrize("number", range(len(ORDERINGS)))
def test_a_finding_that_does_not_hold_is_said(number: int) -> None:
    spoilt = dataclasses.replace(CHAIN, **SPOILT[number])
    lines = verdicts(ORDERINGS, [CHAIN, spoilt])
    for index, line in enumerate(lines):
        if index == number:
            assert line.startswith("DOES NOT HOLD with 1 of 2 seeds: ")
        else:
            assert line.startswith("holds with 2 of 2 seeds: ")
