"""A tiny simulated drive in the real format, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax.simulate import DriveSettings, simulate_drive
from uov_jax.simulate.casting import World
from uov_jax.simulate.keyframe import make_world

SETTINGS = DriveSettings(scenes=2, keyframes=2, seed=3, image_scale=0.2)


@pytest.fixture(scope="session")
def settings() -> DriveSettings:
    return SETTINGS


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of two keyframes, images of 320 x 180 pixels, full LiDAR."""
    root = tmp_path_factory.mktemp("simulated") / "drive"
    simulate_drive(root, SETTINGS.scenes, SETTINGS.keyframes, SETTINGS.seed, 1, 0.2)
    return root


@pytest.fixture(scope="session")
def world() -> World:
    """The first scene of that drive."""
    return make_world(SETTINGS, 0)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
