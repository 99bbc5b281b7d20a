"""Coverage and purity of pseudo labels, read off a matrix made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.purity import Purity


@pytest.fixture
def purity() -> Purity:
    matrix = ConfusionMatrix(4, ("ignore", "car", "road", "tree"))
    truth = np.array([1, 1, 1, 1, 2, 2, 2, 0])
    label = np.array([1, 1, 2, 0, 2, 0, 0, 2])
    matrix.add(truth, label)
    return Purity(matrix)


def test_shares(purity: Purity) -> None:
    np.testing.assert_allclose(purity.coverage, [3 / 4, 1 / 3, np.nan])
    np.testing.assert_allclose(purity.right, [2 / 3, 1, np.nan])
    # One of the two labelled road is a car; the point without a true class takes no part.
    np.testing.assert_allclose(purity.purity, [1, 1 / 2, np.nan])
    assert purity.total_coverage == pytest.approx(4 / 7)
    assert purity.total_right == pytest.approx(3 / 4)


def test_table_and_csv(purity: Purity) -> None:
    lines = purity.table().splitlines()
    assert lines[0].split() == ["class", "points", "coverage", "right", "purity", "IoU"]
    assert lines[2].split() == ["car", "4", "75.00", "66.67", "100.00", "50.00"]
    assert lines[4].split() == ["tree", "0", "-", "-", "-", "-"]
    assert lines[-1].split() == ["all", "7", "57.14", "75.00", "75.00", "37.50"]
    assert len({len(line) for line in lines}) == 1
    rows = purity.to_csv().splitlines()
    assert rows[3] == "tree,0,,,,"
    assert rows[1] == f"car,4,0.75,{2 / 3!r},1.0,0.5"


def test_nothing_is_not_a_number() -> None:
    purity = Purity(ConfusionMatrix(3))
    assert np.isnan(purity.total_coverage)
    assert np.isnan(purity.total_right)
    assert purity.table().splitlines()[-1].split() == ["all", "0", "-", "-", "-", "-"]
