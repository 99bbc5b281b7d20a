"""Many simulated rooms: shared among processes, finished ones kept."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uov_jax.errors import InputError
from uov_jax.files import ManifestFile
from uov_jax.simulate.rooms.write import (
    FORMAT,
    RoomSettings,
    expected_bytes,
    open_store,
    scene_name,
    write_room,
    write_scene_labels,
    write_shared,
)
from uov_jax.simulate.triangles import WITHOUT_EMBREE
from uov_jax.simulate.workers import share_out

SECONDS_PER_FRAME, SECONDS_PER_POINT = 0.08, 2.5e-5  # on one core of a server
IN_NUMPY = 6  # times as long


class SimulationError(InputError):
    """Rooms cannot be simulated there; the message says what is in the way."""


MANIFEST = ManifestFile(
    name="simulation.json",
    facts=RoomSettings,
    version=FORMAT,
    what="simulated rooms",
    how_to_get="make them with scripts/simulate_rooms.py",
    how_to_renew="delete the folder and simulate the rooms again",
    error=SimulationError,
)


@dataclass(frozen=True)
class RoomsReport:
    """What a call of `simulate_rooms` did: rooms in all, those it wrote, bytes of everything."""

    output: Path
    rooms: int
    written: int
    bytes: int


def expected_seconds(settings: RoomSettings, workers: int) -> float:
    """Duration with one free core for every worker."""
    room = settings.frames * SECONDS_PER_FRAME + settings.density * SECONDS_PER_POINT
    room *= IN_NUMPY if WITHOUT_EMBREE else 1
    return 2.0 + settings.rooms * room / min(workers, settings.rooms)


def simulate_rooms(
    output: str | Path,
    settings: RoomSettings,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> RoomsReport:
    """Write simulated rooms: the store, frames with the simulated teacher's features, formats.

    The files depend on the settings alone, bit for bit; but for what is rounded otherwise where
    rays are cast without Embree. A call that finds part of the same rooms goes on with them.

    Args:
        output: root of it all.
        settings: of all rooms.
        workers: processes; 1 works in this one.
        progress: called with a number of rooms as they are finished.

    Raises:
        SimulationError: the folder holds something else, or the disk is too small.
        InputError: no workers.

    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, found {workers}")
    root = Path(output)
    _claim(root, settings)
    write_shared(root, settings)
    store = open_store(root)
    todo = [room for room in range(settings.rooms) if not store.has(scene_name(room))]
    report = progress or (lambda count: None)
    report(settings.rooms - len(todo))
    share_out(functools.partial(write_room, root, settings), todo, workers, report)
    write_scene_labels(root, settings)
    total = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    return RoomsReport(root, settings.rooms, len(todo), total)


def _claim(root: Path, settings: RoomSettings) -> None:
    """Make the folder these rooms' own, or find it so."""
    if not MANIFEST.check(root, settings):
        if root.exists() and any(root.glob("[!.]*")):
            raise SimulationError(
                f"{root}: not empty, and no simulated rooms (it has no {MANIFEST.name}): give "
                "another output folder"
            )
        root.mkdir(parents=True, exist_ok=True)
        need, free = expected_bytes(settings), shutil.disk_usage(root).free
        if free < need:
            raise SimulationError(
                f"{root}: about {need / 1e9:.2f} GB are needed for the rooms, only "
                f"{free / 1e9:.2f} GB are free"
            )
    MANIFEST.create(root, settings)
