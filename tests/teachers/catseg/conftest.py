"""Fixtures of CAT-Seg's tests: what was measured, and the network at made-up weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.teachers.catseg.made_up import recipe_weights
from tests.teachers.recipe import DATA
from uov_jax.teachers.catseg import CatSeg
from uov_jax.teachers.weights import load_weights


@pytest.fixture(scope="session")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "catseg_CAM_FRONT.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def catseg_network() -> CatSeg:
    """CAT-Seg with the weights that its fixture was measured with: 2 GB, half a minute."""
    with torch.device("meta"):
        network = CatSeg()
    load_weights(network, recipe_weights(""), "recipe")
    return network
