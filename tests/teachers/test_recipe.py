"""The rule of the made-up weights against measured sums of 108 of its tensors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.teachers.recipe import DATA, tensor_for, text_rows

CHECKS = json.loads((DATA / "teacher_weights_check.json").read_text())


TEXT = "text_embedding(seed 8, normalised)"


def assert_as_measured(tensor: np.ndarray, expected: dict[str, object], name: str) -> None:
    exact = tensor.astype(np.float64)
    assert list(tensor.shape) == expected["shape"], name
    first = exact.ravel()[: len(expected["first"])]
    np.testing.assert_allclose(first, expected["first"], rtol=1e-7, err_msg=name)
    assert exact.sum() == pytest.approx(expected["sum"], rel=1e-6, abs=1e-4), name
    assert np.sqrt((exact**2).mean()) == pytest.approx(expected["rms"], rel=1e-7), name


@pytest.mark.parametrize("teacher", sorted({key.split(":")[0] for key in CHECKS} - {TEXT}))
def test_the_rule_is_the_one_that_the_fixtures_were_measured_with(teacher):
    for key, expected in CHECKS.items():
        if key.startswith(f"{teacher}:"):
            name = key.removeprefix(f"{teacher}:")
            assert_as_measured(tensor_for(name, tuple(expected["shape"])), expected, name)


def test_the_words_vectors_are_those_of_seed_8():
    rows = text_rows()
    rms = 768**-0.5  # of unit rows
    assert_as_measured(rows, CHECKS[TEXT] | {"rms": rms}, TEXT)
