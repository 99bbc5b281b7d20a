"""A whole simulated drive: scenes and keyframes shared among processes, finished ones kept."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uov_jax.dumps.file import DumpError
from uov_jax.dumps.folder import DumpFolder
from uov_jax.errors import InputError
from uov_jax.files import write_bytes
from uov_jax.simulate.keyframe import DriveSettings, facts_path, make_world, write_keyframe
from uov_jax.simulate.tables import map_name, write_map, write_tables
from uov_jax.simulate.teacher import NAME, SimulatedTeacher
from uov_jax.simulate.triangles import WITHOUT_EMBREE
from uov_jax.simulate.workers import share_out
from uov_jax.vocabulary import load_vocabulary

MANIFEST = "simulation.json"
SECONDS_PER_KEYFRAME, SECONDS_PER_SCENE = 1.2, 0.9  # on one core of a server
IN_NUMPY = 3.2  # times as long
_SCENE_BYTES = 300_000
_KEYFRAME_BYTES = (750_000, 1_400_000)  # LiDAR, labels, dump, tables; images at full size


class DriveError(InputError):
    """A drive cannot be written there; the message says what is in the way."""


@dataclass(frozen=True)
class DriveReport:
    """What a call of `simulate_drive` did."""

    output: Path
    dumps: Path
    keyframes: int
    written: int
    bytes: int


def expected_bytes(settings: DriveSettings) -> int:
    """Size of a drive on disk, within about a third."""
    fixed, images = _KEYFRAME_BYTES
    keyframe = fixed + images * settings.image_scale**2
    return round(settings.scenes * (_SCENE_BYTES + settings.keyframes * keyframe))


def expected_seconds(settings: DriveSettings, workers: int) -> float:
    """Duration with one free core for every worker."""
    keyframe = SECONDS_PER_KEYFRAME * (0.25 + 0.75 * settings.image_scale**2)
    keyframe *= IN_NUMPY if WITHOUT_EMBREE else 1
    scene = SECONDS_PER_SCENE + settings.keyframes * keyframe
    return 2.0 + settings.scenes * scene / min(workers, settings.scenes * settings.keyframes)


def simulate_drive(
    output: str | Path,
    scenes: int = 20,
    keyframes: int = 6,
    seed: int = 0,
    workers: int = 1,
    image_scale: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> DriveReport:
    """Write a simulated drive with nuScenes tables and the dumps of the simulated teacher.

    The files depend on scenes, keyframes, seed and image_scale alone, bit for bit; but for what is
    rounded otherwise where rays are cast without Embree (`triangles.py`). A call that finds part of
    the same drive goes on with it.

    Args:
        output: root of the dataset; the dumps go to its ``dumps/simulated``.
        scenes: number of scenes; the last fifth is the split ``sim_val``.
        keyframes: keyframes of each scene, half a second apart.
        seed: everything random follows from it.
        workers: processes; 1 works in this one.
        image_scale: size of the images relative to 1600 x 900.
        progress: called with a number of keyframes as they are finished.

    Raises:
        DriveError: the folder holds another drive, or the disk is too small.
        InputError: settings that make no sense.

    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, found {workers}")
    settings = DriveSettings(scenes, keyframes, seed, image_scale)
    root = Path(output)
    _claim(root, settings)
    todo = [work for work in _pieces(settings, workers) if _unfinished(root, settings, work)]
    finished = sum(
        facts_path(root, settings, scene, keyframe).is_file()
        for scene in range(scenes)
        for keyframe in range(keyframes)
    )
    report = progress or (lambda count: None)
    report(finished)
    share_out(functools.partial(_write_piece, root, settings), todo, workers, report)
    write_tables(root, settings)
    total = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    return DriveReport(
        root, root / "dumps" / NAME, scenes * keyframes, scenes * keyframes - finished, total
    )


Piece = tuple[int, tuple[int, ...]]  # a scene and some of its keyframes


def _claim(root: Path, settings: DriveSettings) -> None:
    """Make the folder this drive's own, or find it so."""
    path = root / MANIFEST
    wanted = asdict(settings)
    if path.is_file():
        try:
            found: Any = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise DriveError(f"{path}: not a manifest of a simulated drive: {error}") from error
        if found != wanted:
            raise DriveError(
                f"{root}: holds a drive simulated with {found}, not with {wanted}: give another "
                "output folder, or delete this one"
            )
        if (root / "dumps" / NAME / "dump.json").is_file():
            try:
                DumpFolder(root / "dumps" / NAME)
            except DumpError as error:
                raise DriveError(
                    f"{error}: the drive is of another uov_jax, delete {root} and simulate again"
                ) from error
    elif root.exists() and any(root.glob("[!.]*")):
        raise DriveError(
            f"{root}: not empty, and not a simulated drive (it has no {MANIFEST}): give another "
            "output folder"
        )
    else:
        root.mkdir(parents=True, exist_ok=True)
        need, free = expected_bytes(settings), shutil.disk_usage(root).free
        if free < need:
            raise DriveError(
                f"{root}: about {need / 1e9:.2f} GB are needed, only {free / 1e9:.2f} GB are free"
            )
        write_bytes(path, json.dumps(wanted, indent=1).encode())


def _pieces(settings: DriveSettings, workers: int) -> list[Piece]:
    """Whole scenes, or parts of them where there are few: a piece builds its scene once."""
    parts = 1 if workers == 1 or settings.scenes >= 2 * workers else workers
    length = -(-settings.keyframes // parts)
    return [
        (scene, tuple(range(first, min(first + length, settings.keyframes))))
        for scene in range(settings.scenes)
        for first in range(0, settings.keyframes, length)
    ]


def _unfinished(root: Path, settings: DriveSettings, piece: Piece) -> bool:
    scene, keyframes = piece
    return not (root / map_name(settings, scene)).is_file() or not all(
        facts_path(root, settings, scene, keyframe).is_file() for keyframe in keyframes
    )


def _write_piece(root: Path, settings: DriveSettings, piece: Piece) -> Iterator[int]:
    """Write what is missing of a piece, yielding the keyframes as they are finished."""
    scene, keyframes = piece
    width, height = settings.image_size
    teacher = SimulatedTeacher(load_vocabulary("nuscenes"))
    dumps = DumpFolder.create(root / "dumps" / NAME, teacher.manifest(width, height), teacher.text)
    world = make_world(settings, scene)
    write_map(root, settings, world, scene)
    for keyframe in keyframes:
        if not facts_path(root, settings, scene, keyframe).is_file():
            write_keyframe(root, settings, world, scene, keyframe, teacher, dumps)
            yield keyframe
