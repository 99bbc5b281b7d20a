"""Fixtures of the teachers' tests: the measured image, and SAN at made-up weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import real_nuscenes_root
from tests.teachers.recipe import official_tensors, tensor_for
from uov_jax.dumps.write import read_image
from uov_jax.teachers.san import load_network
from uov_jax.teachers.san_network import SanNetwork


@pytest.fixture(scope="session")
def front_image() -> np.ndarray:
    """The real CAM_FRONT image that the fixtures were measured on."""
    (path,) = (real_nuscenes_root() / "samples" / "CAM_FRONT").glob("*.jpg")
    return read_image(path)


@pytest.fixture(scope="package")
def san_network() -> SanNetwork:
    """SAN with the weights that its fixture was measured with; 1.7 GB, gone after the package."""
    tensors = {
        name: torch.from_numpy(np.asarray(tensor_for(name, shape)))
        for name, (shape, _) in official_tensors("san_vit_large_14").items()
    }
    return load_network(tensors, "recipe")
