"""Opening a room of the store beside OpenScene's file of it: `python -m benchmarks.rooms`.

A made-up room of ScanNet's usual size is written as OpenScene writes it, pickled by torch.save
where PyTorch is installed, and prepared. Measured are opening (every array can be indexed),
reading 40,000 points drawn at random, as training of the adapter does, and reading all of it; both
files are in the system's cache. `torch.load` may run what a file says, which the reader here does
not.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.timing import interleaved
from uov_jax.datasets.openscene_rooms import OpenSceneRooms, read_openscene
from uov_jax.datasets.prepare_rooms import open_store, prepare_rooms
from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.vocabulary import load_vocabulary

POINTS = 150_000  # of a room of ScanNet
DRAWN = 40_000
NAME = "scene0000_00"
HAS_TORCH = importlib.util.find_spec("torch") is not None
PEER = "torch.load" if HAS_TORCH else "pickle.load"


def write_room(path: Path, points: int = POINTS) -> Path:
    """A room as OpenScene keeps it: float32 coordinates and colours, float64 labels."""
    rng = np.random.default_rng(0)
    coords = rng.random((points, 3), np.float32) * np.float32(5)
    colors = rng.random((points, 3), np.float32) * 2 - 1
    content = coords, colors, rng.integers(0, 20, points).astype(np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    if HAS_TORCH:
        import torch

        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def load(path: Path) -> tuple[np.ndarray, ...]:
    """A room as the reference opens it."""
    if HAS_TORCH:
        import torch

        return torch.load(path, weights_only=False)
    return pickle.loads(path.read_bytes())


def opening(folder: Path, points: int = POINTS, repeats: int = 9) -> list[report.Row]:
    """Times of the store beside those of the file."""
    path = write_room(folder / "scannet_3d" / "train" / f"{NAME}_vh_clean_2.pth", points)
    vocabulary = load_vocabulary("scannet")
    source = OpenSceneRooms(folder / "scannet_3d", vocabulary)
    writer = open_store(folder / "rooms", "scannet", vocabulary, source, None)
    list(prepare_rooms(source, source.names(), writer))
    store = RoomStore(folder / "rooms")
    rows = np.random.default_rng(1).integers(0, points, min(points, DRAWN))

    def all_of(room: Room) -> list[np.ndarray]:
        return [np.array(array) for array in (room.coords, room.colors, room.labels)]

    def some_of(arrays: Any) -> list[np.ndarray]:
        return [array[rows] for array in arrays]

    def arrays(room: Room) -> tuple[Any, ...]:
        return room.coords, room.colors, room.labels

    calls: dict[str, dict[str, Callable[[], Any]]] = {
        "open": {
            report.OURS: lambda: store.room(NAME).labels,
            PEER: lambda: load(path),
            "the restricted reader": lambda: read_openscene(path, vocabulary).labels,
        },
        f"open and read {len(rows):,} points": {
            report.OURS: lambda: some_of(arrays(store.room(NAME))),
            PEER: lambda: some_of(load(path)),
        },
        "open and read all": {
            report.OURS: lambda: all_of(store.room(NAME)),
            PEER: lambda: load(path),
        },
    }
    return [report.compared(what, interleaved(timed, repeats)) for what, timed in calls.items()]


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rooms", description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS, help="of the room")
    parser.add_argument("--repeats", type=int, default=9, help="of every call")
    options = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in report.machine().items()))
    print(f"A room of {options.points:,} points; medians of {options.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        print(report.markdown(opening(Path(folder), options.points, options.repeats)))


if __name__ == "__main__":
    main()
