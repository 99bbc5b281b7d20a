"""Simulated drives: streets, sensors and a teacher that errs, in nuScenes' own format."""

from __future__ import annotations

from uov_jax.simulate.drive import (
    DriveError,
    DriveReport,
    expected_bytes,
    expected_seconds,
    simulate_drive,
)
from uov_jax.simulate.keyframe import DriveSettings
from uov_jax.simulate.triangles import WITHOUT_EMBREE

__all__ = [
    "WITHOUT_EMBREE",
    "DriveError",
    "DriveReport",
    "DriveSettings",
    "expected_bytes",
    "expected_seconds",
    "simulate_drive",
]
