"""Simulated rooms that the tests of this folder look at, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from uov_jax.simulate.rooms import FORMATS, RoomSettings, simulate_rooms

SETTINGS = RoomSettings(3, seed=5, density=4000, frames=5, lost_poses=0.2, formats=FORMATS)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bedroom, a kitchen and an office in all formats."""
    root = tmp_path_factory.mktemp("rooms") / "sim"
    simulate_rooms(root, SETTINGS)
    return root
