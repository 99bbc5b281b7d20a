"""Scores: seen and unseen points, the teacher beside the network; samples built ahead."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax.evaluation.judging import evenly_spaced, prefetched
from uov_jax.evaluation.scores import Scores
from uov_jax.evaluation.validation import NETWORK, ValidationScores
from uov_jax.vocabulary import Vocabulary, load_vocabulary


@pytest.fixture
def vocabulary() -> Vocabulary:
    return load_vocabulary()


def scores_of(
    vocabulary: Vocabulary, prediction: np.ndarray | None = None, **sample: Any
) -> ValidationScores:
    """The scores of one sweep, or of none."""
    scores = Scores(vocabulary.eval_classes)
    if prediction is not None:
        points = np.zeros((len(prediction), 4), np.float32)
        empty = dict.fromkeys(("truth", "teacher_label", "seen"))
        scores.add({"points": points} | empty | sample, {NETWORK: prediction})
    return ValidationScores(scores, "miou")


def test_scores_tell_seen_from_unseen_and_network_from_teacher(vocabulary: Vocabulary) -> None:
    truth = np.array([4, 4, 4, 4, 0, 7, 7, 7], np.uint8)
    seen = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)
    teacher = np.array([4, 4, 0, 7, 4, 7, 0, 0], np.uint8)
    prediction = np.array([4, 4, 4, 4, 4, 7, 4, 7], np.uint8)
    scores = scores_of(vocabulary, prediction, truth=truth, teacher_label=teacher, seen=seen)
    metrics = scores.metrics()
    assert metrics["miou_seen"] == pytest.approx(1.0)
    # Class 4: hit 2 of 4, one void and one wrong; class 7: hit 1, one too many.
    assert metrics["teacher_miou_seen"] == pytest.approx((2 / 4 + 1 / 2) / 2)
    # Class 4: one too many; class 7: 1 of 2.
    assert metrics["miou_unseen"] == pytest.approx((0 / 1 + 1 / 2) / 2)
    assert metrics["miou"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert metrics["teacher_agreement"] == pytest.approx(4 / 5)
    # 1 of 0.5, and 0.25 of 0.733.
    assert scores.summary() == [
        "On seen points the network has 200% of the teacher's mIoU.",
        "On unseen points the network has 34% of its mIoU on all points.",
    ]


def test_the_summary_of_nothing_says_so(vocabulary: Vocabulary) -> None:
    first, second = scores_of(vocabulary).summary()
    assert first == "On seen points there is nothing to compare."
    assert second == "On unseen points there is nothing to compare."


def test_without_truth_only_the_agreement_remains(vocabulary: Vocabulary) -> None:
    label = np.array([4, 7], np.uint8)
    scores = scores_of(vocabulary, label, teacher_label=label, seen=np.array([True, True]))
    assert scores.metrics() == {"teacher_agreement": 1.0}


def test_without_cameras_and_teacher_there_is_one_column(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    prediction, truth = np.array([4, 7, 7], np.uint8), np.array([4, 7, 4], np.uint8)
    scores = scores_of(vocabulary, prediction, truth=truth)
    assert scores.metrics() == {"miou": pytest.approx(0.5)}
    assert list(scores.columns) == ["network, all points"]
    scores.write_tables(tmp_path, 12)
    tables = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert tables == ["step_0000012.csv", "step_0000012.md", "step_0000012.txt"]


def test_evenly_spaced() -> None:
    assert evenly_spaced(range(10), 3) == [0, 3, 6]
    assert evenly_spaced(range(3), None) == [0, 1, 2]
    assert evenly_spaced(range(3), 5) == [0, 1, 2]
    assert evenly_spaced(range(3), 0) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetched_keeps_the_order(workers: int) -> None:
    def build(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(prefetched(build, range(10), workers)) == [i * i for i in range(10)]


def test_prefetched_raises_where_it_is_asked_and_ends_its_threads() -> None:
    def build(item: int) -> Any:
        if item == 2:
            raise ValueError("item 2 is bad")
        return item

    before = threading.active_count()
    samples = prefetched(build, range(6), 2)
    assert [next(samples), next(samples)] == [0, 1]
    with pytest.raises(ValueError, match="item 2 is bad"):
        next(samples)
    assert threading.active_count() == before
