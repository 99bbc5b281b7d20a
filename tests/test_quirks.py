"""Names of the reference's mistakes in recipes."""

from __future__ import annotations

from typing import Any

import pytest
from ml_collections import ConfigDict

from uov_jax.errors import InputError
from uov_jax.quirks import QUIRKS, quirks_of


def test_quirks_are_those_named_and_none_by_default() -> None:
    assert quirks_of(ConfigDict({})) == frozenset()
    assert quirks_of(ConfigDict({"reference_quirks": tuple(QUIRKS)})) == set(QUIRKS)


@pytest.mark.parametrize("names", [("first_step",), "first_step_rate", ["first_step_rate", ""]])
def test_unknown_names_are_refused(names: Any) -> None:
    with pytest.raises(InputError, match=r"reference_quirks: expected a tuple of some of"):
        quirks_of(ConfigDict({"reference_quirks": names}))
