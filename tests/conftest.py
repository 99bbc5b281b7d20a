"""Shared fixtures: strict numerics for every test, and the optional real sensor data."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

# Implicit dtype promotion and rank broadcasting hide mistakes; tests run without either.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "data"
REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.fixture
def real_nuscenes() -> Path:
    """Root of one real nuScenes keyframe; its licence forbids shipping it, so it may be absent."""
    root = REAL / "nuscenes"
    if not root.is_dir():
        pytest.skip(f"needs the real nuScenes keyframe in {root}, which may not be distributed")
    return root
