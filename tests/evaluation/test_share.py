"""Evaluations that processes share: the counts and sums of all are those of one."""

from __future__ import annotations

from typing import Any

import numpy as np

from uov_jax.evaluation.scores import TEACHER, Scores
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.job_array import Shard

NAMES = ("ignore", "car", "tree", "road")


def sweep(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A judged sweep, some without truth or teacher."""
    rng = np.random.default_rng(seed)
    truth, teacher, network = rng.integers(0, 4, (3, 50)).astype(np.uint8)
    sample = {
        "truth": None if seed % 5 == 0 else truth,
        "teacher_label": None if seed % 3 == 0 else teacher,
        "seen": rng.random(50) < 0.5,
        "points": rng.random((50, 3)),
    }
    return sample, {"network": network}


def judged(items: list[int]) -> Scores:
    scores = Scores(NAMES)
    for item in items:
        scores.add(*sweep(item))
    return scores


def test_merged_scores_are_those_of_all_sweeps() -> None:
    items, shards = list(range(11)), [Shard(number, 3) for number in (1, 2, 3)]
    parts = [judged(shard.of(items)) for shard in shards]
    counts = [part.counted() for part in parts]
    whole = judged(items)
    for part, shard in zip(parts, shards, strict=True):
        Share(shard, lambda value: counts).merge(part)
        assert part.labelled_sweeps == whole.labelled_sweeps
        assert part.agreement == whole.agreement
        assert part.columns.keys() == whole.columns.keys() == {"network", TEACHER}
        for name, column in whole.columns.items():
            np.testing.assert_array_equal(part.columns[name].counts(), column.counts())


def test_one_alone_keeps_what_it_counted() -> None:
    scores = judged(list(range(4)))
    before = scores.counted()
    WHOLE.merge(scores)
    assert scores.counted() == before
    assert WHOLE.of([1, 2, 3]) == [1, 2, 3]
    assert WHOLE.writes
    assert not Share(Shard(2, 2)).writes


def test_sums_do_not_depend_on_who_has_which_items() -> None:
    """To the bit, as what decides on the best checkpoint shall be."""
    values = (np.random.default_rng(0).standard_normal(101) * 10.0 ** np.arange(-50, 51)).tolist()
    found = set()
    for total in (1, 2, 7):
        shards = [Shard(number + 1, total) for number in range(total)]
        terms = [{"loss": shard.of(values)} for shard in shards]
        terms += [{}]  # one that had no item
        sums = Share(Shard(1, total), lambda value, terms=terms: terms).sums({})
        found.add(sums["loss"])
    assert len(found) == 1
