"""Simulated rooms: furniture, scans, posed frames, and a teacher of images that errs."""

from __future__ import annotations

from uov_jax.simulate.rooms.simulate import (
    RoomsReport,
    SimulationError,
    expected_seconds,
    simulate_rooms,
)
from uov_jax.simulate.rooms.write import FORMATS, RoomSettings, expected_bytes

__all__ = [
    "FORMATS",
    "RoomSettings",
    "RoomsReport",
    "SimulationError",
    "expected_bytes",
    "expected_seconds",
    "simulate_rooms",
]
