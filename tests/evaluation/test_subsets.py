"""Subsets: every band counts its own points, against masks made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.evaluation.scores import SubsetScores
from uov_jax.evaluation.scoring import BY_FEW, BY_MANY, BY_NONE, RANGES, ROOMS, SEEN, SWEEPS

NAMES = ("ignore", "car", "bus")


def sweep(known: bool = True) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Truth, prediction, masks: two points a band, one at its very edge; what is seen if known."""
    x = np.array([0.0, 9.99, 10.0, -19.9, 20.0, 39.0, 40.0, -500.0], np.float32)
    points = np.zeros((8, 4), np.float32)
    points[:, 0] = x
    points[1] = [3, 4, 100, 0]  # 5 m away: height does not count
    truth = np.array([1, 1, 2, 2, 1, 1, 2, 0], np.uint8)
    prediction = np.array([1, 2, 2, 2, 1, 1, 1, 1], np.uint8)
    seen = np.array([1, 1, 0, 0, 1, 0, 1, 1], bool) if known else None
    return truth, prediction, SWEEPS.masks({"points": points, "seen": seen})


def test_every_band_counts_its_own_points() -> None:
    scores = SubsetScores(NAMES)
    scores.add(*sweep())
    accuracy = {name: matrix.accuracy() for name, matrix in scores.columns.items()}
    assert list(accuracy) == list(SWEEPS.subsets)
    assert accuracy["all points"] == pytest.approx(5 / 7)
    assert [accuracy[name] for name in RANGES] == [0.5, 1.0, 1.0, 0.0]
    assert accuracy["seen"] == pytest.approx(2 / 4)
    assert accuracy["unseen"] == 1.0
    assert sum(scores.matrices[name].points for name in RANGES) == scores.everywhere.points == 7


def test_without_cameras_there_is_nothing_seen() -> None:
    scores = SubsetScores(NAMES)
    scores.add(*sweep(known=False))
    assert list(scores.columns) == ["all points", *RANGES]
    assert list(SubsetScores(NAMES).columns) == ["all points"]


def test_counts_are_restored() -> None:
    scores, other = SubsetScores(NAMES), SubsetScores(NAMES)
    scores.add(*sweep())
    other.restore(scores.counts())
    for name in SWEEPS.subsets:
        np.testing.assert_array_equal(other.matrices[name].counts, scores.matrices[name].counts)
    other.add(*sweep())
    np.testing.assert_array_equal(other.counts(), 2 * scores.counts())
    with pytest.raises(ValueError, match=r"counts of shape \(7, 4, 4\), expected \(7, 3, 3\)"):
        scores.restore(np.zeros((7, 4, 4), np.int64))


def test_rooms_are_cut_by_the_number_of_views() -> None:
    scores = SubsetScores(NAMES, ROOMS)
    truth = np.array([1, 1, 1, 2, 2, 0], np.uint8)
    prediction = np.array([1, 2, 1, 2, 0, 1], np.uint8)
    views = np.array([0, 1, 2, 9, 0, 0], np.uint16)
    scores.add(truth, prediction, ROOMS.masks({"views": views}))
    points = {name: matrix.points for name, matrix in scores.columns.items()}
    assert points == {"all points": 5, SEEN: 3, BY_MANY: 2, BY_FEW: 3, BY_NONE: 2}
    assert scores.matrices[BY_FEW].accuracy() == pytest.approx(1 / 3)
    assert scores.matrices[BY_MANY].accuracy() == 1.0
    uncounted = SubsetScores(NAMES, ROOMS)
    views = np.minimum(views, 1)
    uncounted.add(truth, prediction, ROOMS.masks({"views": views, "views_counted": False}))
    points = {name: matrix.points for name, matrix in uncounted.columns.items()}
    assert points == {"all points": 5, SEEN: 3, BY_NONE: 2}
    unknown = SubsetScores(NAMES, ROOMS)
    unknown.add(truth, prediction, ROOMS.masks({"views": None}))
    assert list(unknown.columns) == ["all points"]
