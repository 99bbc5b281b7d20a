"""CAT-Seg with `--autocast`: what is rounded, and how much of its masks and words that changes."""

from __future__ import annotations

import pytest

from tests.teachers.catseg.made_up import template_rows
from tests.teachers.half_precision import BOTH_WAYS, assert_less_than_a_grey_level
from uov_jax.teachers.catseg import CatSeg, CatSegTeacher


@pytest.mark.slow
@pytest.mark.parametrize("camera", BOTH_WAYS)
def test_whole_images_change_less_than_by_a_grey_level(catseg_network: CatSeg, camera: str):
    rows = template_rows()
    exact, half = (CatSegTeacher(catseg_network, rows, autocast=on) for on in (False, True))
    assert_less_than_a_grey_level(exact, half, camera)
