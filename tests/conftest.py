"""Shared fixtures: strict numerics for every test, and the optional real sensor data."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest

# Implicit dtype promotion and rank broadcasting hide mistakes; tests run without either.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "data"
SIBLING = Path(__file__).parents[2] / "shared" / "real"
REAL = Path(os.environ.get("UOV_REAL_DATA") or SIBLING)


def real_root(dataset: str) -> Path:
    """Root of one real sample of a dataset; skips the test where there is none.

    The licences forbid shipping them. The folder that holds `nuscenes/` and `semantickitti/` is the
    environment variable UOV_REAL_DATA, or ../shared/real next to the checkout.
    """
    root = REAL / dataset
    if not root.is_dir():
        pytest.skip(
            f"no real {dataset} sample in {root}: it may not be distributed; set UOV_REAL_DATA to "
            f"a folder with {dataset}/ inside"
        )
    return root


def real_nuscenes_root() -> Path:
    """Root of one real nuScenes keyframe."""
    return real_root("nuscenes")


@pytest.fixture
def real_nuscenes() -> Path:
    """Root of one real nuScenes keyframe."""
    return real_nuscenes_root()


@pytest.fixture
def real_semantickitti() -> Path:
    """Root of one real SemanticKITTI scan."""
    return real_root("semantickitti")
