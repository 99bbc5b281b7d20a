"""Subsets: every band counts its own points, against masks made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.evaluation.scores import RANGES, SUBSETS, SubsetScores

NAMES = ("ignore", "car", "bus")


def sweep() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction, points in metres, seen: two points a band, one at its very edge."""
    x = np.array([0.0, 9.99, 10.0, -19.9, 20.0, 39.0, 40.0, -500.0], np.float32)
    points = np.zeros((8, 4), np.float32)
    points[:, 0] = x
    points[1] = [3, 4, 100, 0]  # 5 m away: height does not count
    truth = np.array([1, 1, 2, 2, 1, 1, 2, 0], np.uint8)
    prediction = np.array([1, 2, 2, 2, 1, 1, 1, 1], np.uint8)
    return truth, prediction, points, np.array([1, 1, 0, 0, 1, 0, 1, 1], bool)


def test_every_band_counts_its_own_points() -> None:
    scores = SubsetScores(NAMES)
    truth, prediction, points, seen = sweep()
    scores.add(truth, prediction, points, seen)
    accuracy = {name: matrix.accuracy() for name, matrix in scores.columns.items()}
    assert list(accuracy) == list(SUBSETS)
    assert accuracy["all points"] == pytest.approx(5 / 7)
    assert [accuracy[name] for name in RANGES] == [0.5, 1.0, 1.0, 0.0]
    assert accuracy["seen"] == pytest.approx(2 / 4)
    assert accuracy["unseen"] == 1.0
    assert sum(scores.matrices[name].points for name in RANGES) == scores.everywhere.points == 7


def test_without_cameras_there_is_nothing_seen() -> None:
    scores = SubsetScores(NAMES)
    truth, prediction, points, _ = sweep()
    scores.add(truth[:2], prediction[:2], points[:2])
    assert list(scores.columns) == ["all points", "0-10 m"]
    assert list(SubsetScores(NAMES).columns) == ["all points"]


def test_counts_are_restored() -> None:
    scores, other = SubsetScores(NAMES), SubsetScores(NAMES)
    scores.add(*sweep())
    other.restore(scores.counts())
    for name in SUBSETS:
        np.testing.assert_array_equal(other.matrices[name].counts, scores.matrices[name].counts)
    other.add(*sweep())
    np.testing.assert_array_equal(other.counts(), 2 * scores.counts())
    with pytest.raises(ValueError, match=r"counts of shape \(7, 4, 4\), expected \(7, 3, 3\)"):
        scores.restore(np.zeros((7, 4, 4), np.int64))
