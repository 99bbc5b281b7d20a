"""The scores against plain loops over points."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from tests.conftest import DATA
from uov_jax.evaluation.confusion import ConfusionMatrix


def loop_scores(truth: np.ndarray, prediction: np.ndarray, classes: int) -> dict[str, object]:
    """Every score by counting one point at a time."""
    pairs = [(t, p) for t, p in zip(truth.tolist(), prediction.tolist(), strict=True) if t != 0]
    iou = []
    for c in range(1, classes):
        both = sum(t == c and p == c for t, p in pairs)
        either = sum(t == c or p == c for t, p in pairs)
        iou.append(both / either if either else math.nan)
    right = sum(t == p for t, p in pairs)
    unions = sum(1 if t == p else 2 for t, p in pairs)
    return {
        "iou": iou,
        "exclude": np.nanmean(iou),
        "one": np.mean([1.0 if math.isnan(value) else value for value in iou]),
        "frequency": right / unions,
        "accuracy": right / len(pairs),
    }


def random_labels(seed: int, number: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, number).astype(np.uint8)
    prediction = generator.integers(0, classes, number).astype(np.uint8)
    return truth, np.where(generator.random(number) < 0.6, truth, prediction)


@pytest.mark.parametrize(("seed", "number", "classes"), [(0, 500, 17), (1, 30, 17), (2, 9, 3)])
def test_scores_equal_loops_over_points(seed: int, number: int, classes: int) -> None:
    truth, prediction = random_labels(seed, number, classes)
    matrix = ConfusionMatrix(classes)
    for part in np.array_split(np.arange(number), 3):
        matrix.add(truth[part], prediction[part])
    expected = loop_scores(truth, prediction, classes)
    np.testing.assert_allclose(matrix.iou(), expected["iou"])
    assert matrix.mean_iou() == pytest.approx(expected["exclude"])
    assert matrix.mean_iou("one") == pytest.approx(expected["one"])
    assert matrix.frequency_weighted_iou() == pytest.approx(expected["frequency"])
    assert matrix.accuracy() == pytest.approx(expected["accuracy"])
    assert matrix.points == (truth > 0).sum()


def test_ignored_truth_counts_nowhere_and_a_prediction_of_nothing_is_a_miss() -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([0, 0, 0], np.uint8), np.array([1, 2, 0], np.uint8))
    assert matrix.points == 0
    matrix.add(np.array([1, 1, 1, 1], np.uint8), np.array([1, 0, 0, 1], np.uint8))
    np.testing.assert_allclose(matrix.iou(), [0.5, np.nan])
    assert matrix.mean_iou() == 0.5
    assert matrix.mean_iou("one") == 0.75
    assert matrix.accuracy() == 0.5
    assert matrix.frequency_weighted_iou() == pytest.approx(2 / 6)


def test_an_empty_matrix_has_no_scores() -> None:
    matrix = ConfusionMatrix()
    matrix.add(np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    assert np.isnan(matrix.iou()).all()
    assert len(matrix.iou()) == 16
    scores = (matrix.mean_iou(), matrix.accuracy(), matrix.frequency_weighted_iou())
    assert all(math.isnan(score) for score in scores)
    assert matrix.mean_iou("one") == 1.0


def test_counts_do_not_overflow_the_label_type() -> None:
    """16 * 17 + 16 does not fit the uint8 that labels come in."""
    matrix = ConfusionMatrix()
    matrix.add(np.full(1000, 16, np.uint8), np.full(1000, 16, np.uint8))
    assert matrix.counts[16, 16] == 1000
    assert matrix.points == 1000


def test_merging_is_adding_all_points() -> None:
    truth, prediction = random_labels(0, 200, 17)
    whole, first, second = ConfusionMatrix(), ConfusionMatrix(), ConfusionMatrix()
    whole.add(truth, prediction)
    first.add(truth[:70], prediction[:70])
    second.add(truth[70:], prediction[70:])
    first.merge(second)
    np.testing.assert_array_equal(first.counts, whole.counts)
    with pytest.raises(ValueError, match="different classes"):
        first.merge(ConfusionMatrix(5))


def test_csv_holds_the_counts() -> None:
    matrix = ConfusionMatrix(3, ("ignore", "car", "bus"))
    matrix.add(np.array([1, 1, 2]), np.array([1, 0, 1]))
    assert matrix.to_csv() == "truth,ignore,car,bus\ncar,1,1,0\nbus,0,1,0\n"


def test_refusals_name_the_point() -> None:
    matrix = ConfusionMatrix(4)
    with pytest.raises(ValueError, match=r"truth \(3,\) and prediction \(2,\)"):
        matrix.add(np.zeros(3, np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="prediction of point 1 is 4, expected a class below 4"):
        matrix.add(np.array([1, 1]), np.array([3, 4]))
    with pytest.raises(ValueError, match="truth of point 0 is -1"):
        matrix.add(np.array([-1, 1]), np.array([3, 1]))
    with pytest.raises(ValueError, match="prediction must be integers, found float64"):
        matrix.add(np.array([1]), np.array([1.0]))
    with pytest.raises(ValueError, match="2 names for 4 classes"):
        ConfusionMatrix(4, ("a", "b"))
    with pytest.raises(ValueError, match="at least 2, not 1"):
        ConfusionMatrix(1)
    with pytest.raises(ValueError, match="'zero' or 'untrue', not 'two'"):
        matrix.mean_iou("two")
    assert matrix.points == 0


def test_csv_is_read_back_whatever_the_names() -> None:
    names = ("ignore", "car, parked", 'a "quoted" bus', "\u884c\u4eba")
    matrix = ConfusionMatrix(4, names)
    matrix.add(np.array([1, 2, 3]), np.array([1, 3, 3]))
    rows = list(csv.reader(io.StringIO(matrix.to_csv())))
    assert rows[0] == ["truth", *names]
    assert [row[0] for row in rows[1:]] == list(names[1:])
    assert {len(row) for row in rows} == {5}


def test_the_metric_of_rooms_is_that_of_the_published_code() -> None:
    """There classes count from 0, 255 is no truth, and 256 is no prediction."""
    fixture = np.load(DATA / "indoor_esg.npz", allow_pickle=False)
    truth, prediction = fixture["metric_truth"], fixture["metric_prediction"]
    matrix = ConfusionMatrix(21)
    matrix.add(np.where(truth == 255, 0, truth + 1), np.where(prediction == 256, 0, prediction + 1))
    np.testing.assert_array_equal(matrix.counts[1:, 1:].T, fixture["confusion_pred_by_truth"])
    assert matrix.mean_iou("zero", void="drop") == fixture["miou_over_20"]


def test_conventions_for_absent_classes_and_points_without_a_prediction() -> None:
    """Classes 1, 2 are in the truth, 3 is predicted alone, 4 is nowhere."""
    matrix = ConfusionMatrix(5)
    matrix.add(np.array([1, 1, 1, 1, 2, 2]), np.array([1, 1, 0, 3, 2, 0]))
    assert matrix.mean_iou("zero", void="drop") == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)
    assert matrix.mean_iou("zero") == pytest.approx((2 / 4 + 1 / 2 + 0 + 0) / 4)
    assert matrix.mean_iou("untrue") == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert matrix.mean_iou("untrue", void="drop") == pytest.approx((2 / 3 + 1) / 2)
    assert matrix.mean_iou("exclude", void="drop") == pytest.approx((2 / 3 + 1 + 0) / 3)
    np.testing.assert_allclose(matrix.recall(), [2 / 4, 1 / 2, np.nan, np.nan])
    assert matrix.mean_accuracy() == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert matrix.mean_accuracy("zero") == pytest.approx((2 / 4 + 1 / 2) / 4)
    empty = ConfusionMatrix(5)
    assert math.isnan(empty.mean_iou("untrue"))
    assert math.isnan(empty.mean_accuracy())
    assert empty.mean_accuracy("zero") == empty.mean_iou("zero") == 0
    for wrong in ("void", "absent"):
        with pytest.raises(ValueError, match=f"{wrong} must be"):
            matrix.mean_iou(**{wrong: "two"})
    with pytest.raises(ValueError, match="absent must be"):
        matrix.mean_accuracy("one")
