"""Simulated rooms as files: the store, posed frames, the teacher's features, other formats.

simulation.json                  the settings of all of it
store/                           the prepared rooms (`datasets/rooms.py`)
frames/intrinsics.txt            4 x 4, of all frames
       teacher.json              what the teacher is
       text_embeddings.npz       float32 [W, 768], the vocabulary's words in its space
       scene0000_00/color/0.jpg  every frame, named as OpenScene names every 20th of ScanNet's
                    depth/0.png  uint16, millimetres, 0 for holes
                    pose/0.txt   camera to world; infinities where it is not known
                    features/0.npz  masks uint16 [h, w] and embeddings float16 [M, 768]
scannet/                         the raw release, only where it was asked for
openscene/scannet_3d/            OpenScene's, the same
recording/                       clouds and lists as of one's own rooms (`datasets/recordings.py`),
                                 the same
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uov_jax.datasets.recordings import SCENE_LABELS
from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.errors import InputError
from uov_jax.files import write_bytes, write_npz, write_text
from uov_jax.fusion.word_embeddings import TEXT_EMBEDDINGS
from uov_jax.simulate.rooms import scannet_files
from uov_jax.simulate.rooms.path import camera_poses
from uov_jax.simulate.rooms.room import SimulatedRoom, from_world, make_room
from uov_jax.simulate.rooms.scan import scan_room
from uov_jax.simulate.rooms.scannet_files import FrameFiles
from uov_jax.simulate.rooms.teacher import NAME, RoomTeacher, TeacherSettings
from uov_jax.simulate.rooms.views import (
    DEPTH_UNITS,
    intrinsics,
    look,
    measured_depth,
    photograph,
)
from uov_jax.simulate.rooms.words import EMBEDDING_SIZE, text_embeddings
from uov_jax.vocabulary import Vocabulary, load_vocabulary

FORMAT = 1  # raise it whenever the same settings would give other files
STEP = 20  # between the numbers of frames, as of those that OpenScene takes
LOOKS_PER_FRAME = 2  # a scanner films between frames too
JPEG_QUALITY = 90
RAW, SENS, OPENSCENE, RECORDING = "raw", "sens", "openscene", "recording"
FORMATS = (RAW, SENS, OPENSCENE, RECORDING)
_WAY, _SCAN, _LOST, _FRAMES = 1, 2, 3, 100  # streams of random numbers


@dataclass(frozen=True)
class RoomSettings:
    """What decides every byte of simulated rooms.

    Attributes:
        rooms: their number, the last fifth for validation.
        seed: everything random follows from it.
        density: points of a room, about.
        frames: of a room.
        lost_poses: share of frames whose pose is of infinities.
        formats: written beside the store, some of `FORMATS`.
        teacher: `TeacherSettings.hash`.
        format_version: of the files.

    """

    rooms: int
    seed: int = 0
    density: int = 40_000
    frames: int = 24
    lost_poses: float = 0.03
    formats: tuple[str, ...] = ()
    teacher: str = TeacherSettings().hash
    format_version: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated; make the fields what they are once read from JSON."""
        object.__setattr__(self, "formats", tuple(sorted(set(self.formats))))
        if self.rooms < 2 or self.frames < 2 or self.density < 100 or self.seed < 0:
            raise InputError(
                "simulated rooms: expected at least 2 rooms of 2 frames and 100 points, and a seed "
                f"from 0 on, found {self.rooms} rooms of {self.frames} frames and {self.density} "
                f"points, seed {self.seed}"
            )
        if not 0 <= self.lost_poses < 1:
            raise InputError(
                f"simulated rooms: the share of lost poses is {self.lost_poses}, expected 0 to 1"
            )
        if unknown := [name for name in self.formats if name not in FORMATS]:
            raise InputError(
                f"simulated rooms: there is no format {unknown[0]!r}, but {', '.join(FORMATS)}"
            )

    def generator(self, room: int, stream: int) -> np.random.Generator:
        """The random numbers of one part of a room, whatever else is made of it."""
        return np.random.default_rng([self.seed, room, stream])

    def splits(self) -> dict[str, list[int]]:
        """The rooms of each split."""
        judged = max(1, self.rooms // 5)
        everything = list(range(self.rooms))
        return {"train": everything[:-judged], "val": everything[-judged:]}


def scene_name(room: int) -> str:
    """Name of a room, as ScanNet counts its scenes."""
    return f"scene{room:04d}_00"


def open_store(root: Path) -> RoomWriter:
    """The store of rooms, made where there is none."""
    return RoomWriter(root / "store", "scannet", load_vocabulary("scannet"))


def write_shared(root: Path, settings: RoomSettings) -> None:
    """Write what all rooms have in common: words, intrinsics, splits, tables."""
    vocabulary = load_vocabulary("scannet")
    frames = root / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    full = np.eye(4)
    full[:3, :3] = intrinsics()
    write_text(frames / "intrinsics.txt", _matrix_text(full))
    write_npz(frames / TEXT_EMBEDDINGS, {"embeddings": text_embeddings(vocabulary)})
    write_text(frames / "teacher.json", json.dumps(teacher_facts(vocabulary), indent=1))
    store = open_store(root)
    for split, rooms in settings.splits().items():
        names = [scene_name(room) for room in rooms]
        store.write_split(split, names)
        if RAW in settings.formats:
            write_text(root / "scannet" / f"scannetv2_{split}.txt", "\n".join(names))
        if RECORDING in settings.formats:
            write_text(root / "recording" / f"{split}.txt", "\n".join(names))
    if RAW in settings.formats:
        scannet_files.write_label_table(root / "scannet" / "scannetv2-labels.combined.tsv")


def teacher_facts(vocabulary: Vocabulary) -> dict[str, object]:
    """What `teacher.json` says of the teacher whose features lie beside the frames."""
    return {
        "name": NAME,
        "weights_hash": TeacherSettings().hash,
        "embedding_size": EMBEDDING_SIZE,
        "vocabulary": vocabulary.name,
        "vocabulary_hash": vocabulary.hash,
        "format_version": FORMAT,
    }


def write_room(root: Path, settings: RoomSettings, number: int) -> Iterator[int]:
    """Simulate one room and write all of it, the store's part last: the room counts with that.

    Yields the number once it is finished.
    """
    room, name = make_room(settings.seed, number), scene_name(number)
    looks = camera_poses(room, settings.frames * LOOKS_PER_FRAME, settings.generator(number, _WAY))
    scan = scan_room(room, looks, settings.density, settings.generator(number, _SCAN))
    kept = _write_frames(root / "frames" / name, settings, number, room, looks[::LOOKS_PER_FRAME])
    scans = root / "scannet" / "scans" / name
    if RAW in settings.formats:
        scannet_files.write_scans(scans, name, scan, from_world(room))
    if SENS in settings.formats:
        scannet_files.write_sens(scans / f"{name}.sens", kept, intrinsics(), DEPTH_UNITS)
    if OPENSCENE in settings.formats:
        split = next(split for split, rooms in settings.splits().items() if number in rooms)
        folder = root / "openscene" / "scannet_3d" / split
        scannet_files.write_openscene(folder / f"{name}_vh_clean_2.pth", scan)
    if RECORDING in settings.formats:
        scannet_files.write_cloud(root / "recording" / f"{name}.ply", scan)
    source = f"simulated {room.type}, seed {settings.seed}, number {number}"
    open_store(root).write(name, scan.coords, scan.colors, scan.labels, source)
    yield number


def write_scene_labels(root: Path, settings: RoomSettings) -> None:
    """Write which classes every room has, as a person would; all rooms are in the store by now."""
    if RECORDING in settings.formats:
        store = RoomStore(root / "store")
        lines = (
            f"{name}: {', '.join(store.classes[number] for number in store.scene_classes(name))}"
            for name in store.names()
        )
        write_text(root / "recording" / SCENE_LABELS, "\n".join(lines))


def _write_frames(
    folder: Path,
    settings: RoomSettings,
    number: int,
    room: SimulatedRoom,
    poses: NDArray[np.float64],
) -> list[FrameFiles]:
    teacher = RoomTeacher(settings.seed, number)
    lost = settings.generator(number, _LOST).random(len(poses)) < settings.lost_poses
    kept = []
    for index, pose in enumerate(poses):
        generator = settings.generator(number, _FRAMES + index)
        view = look(room, pose)
        depth = measured_depth(view, generator)
        color = io.BytesIO()
        photograph(view, generator).save(color, "JPEG", quality=JPEG_QUALITY)
        masks, embeddings = teacher.features(view, generator)
        world = np.full((4, 4), -np.inf) if lost[index] else room.to_world @ pose
        frame = FrameFiles(color.getvalue(), depth, world)
        name = str(STEP * index)
        write_bytes(folder / "color" / f"{name}.jpg", frame.color)
        image = io.BytesIO()
        Image.fromarray(depth).save(image, "PNG")
        write_bytes(folder / "depth" / f"{name}.png", image.getvalue())
        write_text(folder / "pose" / f"{name}.txt", _matrix_text(world))
        (folder / "features").mkdir(exist_ok=True)
        arrays = {"masks": masks, "embeddings": embeddings.astype(np.float16)}
        write_npz(folder / "features" / f"{name}.npz", arrays, stored=("embeddings",))
        kept.append(frame)
    return kept


def _matrix_text(matrix: NDArray[np.float64]) -> str:
    return "\n".join(" ".join(f"{value:.9g}" for value in row) for row in matrix)


# Bytes of a point in the store and in each format; of a frame; of a frame in a recording.
_POINT = {"store": 16, RAW: 34, SENS: 0, OPENSCENE: 32, RECORDING: 16}
_FRAME, _SENS_FRAME = 325_000, 95_000


def expected_bytes(settings: RoomSettings) -> int:
    """Size of simulated rooms on disk, within about a third."""
    point = _POINT["store"] + sum(_POINT[name] for name in settings.formats)
    frame = _FRAME + _SENS_FRAME * (SENS in settings.formats)
    return settings.rooms * (settings.density * point + settings.frames * frame)
