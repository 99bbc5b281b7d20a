"""A street of 2,400 points with a fifth of its labels wrong, and what the reference made of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.conftest import DATA
from uov_jax.afi import FlatInteraction


@pytest.fixture(scope="session")
def street() -> Mapping[str, np.ndarray]:
    """Arrays `points`, `true`, `seg`, `labels_*`, `features_noground`, and `enc_*` by level."""
    with np.load(DATA / "afi_small.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="session")
def street_parameters() -> FlatInteraction:
    """What the reference was run with."""
    return FlatInteraction(points=768, stages=3, neighbours=12)
