"""The table of the whole chain, and whether the paper's orderings hold in it."""

from __future__ import annotations

import dataclasses

import pytest

from uov_jax.evaluation.orderings import verdicts
from uov_jax.evaluation.transfer_table import (
    ORDERINGS,
    ChainScores,
    besides,
    transfer_table,
)

CHAIN = ChainScores(
    teacher_seen=0.5,
    zero_shot=0.35,
    annotation_free={"random": 0.30, "tri_modal": 0.45},
    annotation_free_seen={"random": 0.32, "tri_modal": 0.51},
    smoothed={"random": 0.31, "tri_modal": 0.45},
    smoothed_as_published={"random": 0.29, "tri_modal": 0.43},
    afi_points=16_384,
    linear_probing={"random": 0.08, "tri_modal": 0.40, "annotation_free": 0.48},
    finetuning={"random": 0.28, "tri_modal": 0.42, "annotation_free": 0.47},
)
# The score that each ordering calls the better one, made the worse.
SPOILT = [
    {"annotation_free": {"random": 0.46, "tri_modal": 0.45}},
    {"teacher_seen": 0.51},
    {"smoothed": {"random": 0.31, "tri_modal": 0.4499}},
    {"finetuning": {"random": 0.42, "tri_modal": 0.42, "annotation_free": 0.47}},
    {"linear_probing": {"random": 0.41, "tri_modal": 0.40, "annotation_free": 0.48}},
]


def test_one_chain() -> None:
    assert transfer_table([CHAIN], "markdown").splitlines() == [
        "| mIoU in %, starting from | annotation-free | annotation-free + AFI | linear probing "
        "| fine-tuning, 1 scene |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| random weights | 30.00 | 31.00 | 8.00 | 28.00 |",
        "| tri-modal pre-training | 45.00 | 45.00 | 40.00 | 42.00 |",
        "| annotation-free training | - | - | 48.00 | 47.00 |",
    ]
    lines = transfer_table([CHAIN]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["annotation-free", "training", "-", "-", "48.00", "47.00"]
    words, seen, afi = besides([CHAIN])
    assert "35.00 %" in words
    assert "pseudo labels 50.00 %" in seen
    assert "32.00 from random weights, 51.00 from tri-modal pre-training %" in seen
    assert "16,384 sampled points" in afi
    assert "29.00 from random weights, 43.00 from tri-modal pre-training %" in afi


def test_of_several_seeds_mean_and_standard_deviation() -> None:
    other = dataclasses.replace(CHAIN, finetuning={**CHAIN.finetuning, "tri_modal": 0.46})
    table = transfer_table([CHAIN, other])
    # Of 42 and 46: the sample's deviation, sqrt(8).
    assert "44.00 ± 2.83" in table
    assert "45.00 ± 0.00" in table


@pytest.mark.parametrize("index", range(len(ORDERINGS)))
def test_an_ordering_that_does_not_hold_is_told(index: int) -> None:
    assert all(line.startswith("holds: ") for line in verdicts(ORDERINGS, [CHAIN]))
    spoilt = dataclasses.replace(CHAIN, **SPOILT[index])
    lines = verdicts(ORDERINGS, [spoilt])
    assert [line.startswith("DOES NOT HOLD: ") for line in lines] == [
        number == index for number in range(len(ORDERINGS))
    ]
    of_two = verdicts(ORDERINGS, [CHAIN, spoilt])[index]
    assert of_two.startswith("DOES NOT HOLD with 1 of 2 seeds: ")


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one chain"):
        transfer_table([])
    with pytest.raises(ValueError, match="unknown table style 'csv'"):
        transfer_table([CHAIN], "csv")
