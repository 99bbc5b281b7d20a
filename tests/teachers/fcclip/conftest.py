"""FC-CLIP's measured stages, and the network at the weights they were measured with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.teachers.recipe import DATA, official_tensors, tensor_for
from uov_jax.teachers.fcclip import FcClip
from uov_jax.teachers.fcclip.teacher import load_network


def fcclip_tensors() -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every official tensor: the released file with the whole of CLIP."""
    return official_tensors("fcclip_head") | official_tensors("convnext_large_d_320")


@pytest.fixture(scope="session")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "fcclip_CAM_FRONT.npz") as file:
        return dict(file)


@pytest.fixture(scope="package")
def fcclip_network() -> FcClip:
    """FC-CLIP with the weights of its fixture; 1.5 GB, gone after these tests."""
    tensors = {
        name: torch.from_numpy(np.asarray(tensor_for(name, shape)))
        for name, (shape, _) in fcclip_tensors().items()
    }
    return load_network(tensors, "recipe")
