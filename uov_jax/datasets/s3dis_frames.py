"""The images of 2D-3D-S as frames of S3DIS's rooms.

    area_1/data/rgb/camera_0a1b2c_office_1_frame_0_domain_rgb.png       1080 x 1080
           data/depth/camera_0a1b2c_office_1_frame_0_domain_depth.png   1/512 m, 65535 for none
           data/pose/camera_0a1b2c_office_1_frame_0_domain_pose.json

A pose has `camera_rt_matrix` [3, 4] from the world to the camera, whatever the dataset's README
says of it, and `camera_location`, which must be where that matrix has its zero. Area 5 comes in two
parts with coordinates of their own: those of area_5b are turned and moved into area_5a's, which are
S3DIS's, by a registration that two public projects found (DeepViewAgg and Pointcept, 2.4 cm apart
from each other). Facts of the format: https://github.com/alexsax/2D-3D-Semantics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.contents import MALFORMED, parse_json
from uov_jax.datasets.frames import Frame, check_intrinsics, check_pose
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes

DEPTH_UNITS, DEPTH_MISSING = 512.0, 65535
SIZE = (1080, 1080)
FOLDERS = {"Area_5": ("area_5a", "area_5b")}
# From area_5b's coordinates to area_5a's: x' = y - 4.097, y' = 6.226 - x.
AREA_5B = np.array(
    [[0, 1, 0, -4.09703582], [-1, 0, 0, 6.22617759], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64
)
POSES = "area_*/data/pose"
POSE_FILE = re.compile(r"camera_[^_]+_(?P<room>.+)_frame_(?P<frame>[^_]+)_domain_pose\.json")
ROOM = re.compile(r"(Area_\d)_(.+)")
OFF = 0.01  # metres, that the camera may be away from where its matrix puts it


class S3DISFrames:
    """The frames of a store of S3DIS's rooms."""

    def __init__(self, root: str | Path, store: RoomStore, every: int = 1) -> None:
        """Look for the images' folders.

        Args:
            root: holds area_1, ..., area_5a, area_5b, area_6.
            store: of the rooms, prepared of S3DIS; it knows how each is turned.
            every: of a room's frames in a part of its area the first, and every so many-th after it
                are taken.

        Raises:
            MissingFileError: there are none.

        """
        self.root, self._store, self._every = Path(root), store, every
        self._by_room: dict[str, dict[str, list[Path]]] = {}
        if not any(self.root.glob(POSES)):
            raise MissingFileError(
                f"{self.root}: no 2D-3D-S here, expected area_1/data/pose with rgb and depth "
                "beside it, and the like"
            )

    def frames(self, room: str) -> Sequence[Frame]:
        """The frames of one room, such as "Area_5_office_1"; see `FrameSource.frames`."""
        match = ROOM.fullmatch(room)
        if match is None:
            raise InputError(f"{room!r} is no room of S3DIS, whose names are as Area_5_office_1")
        area, name = match.groups()
        to_room = self._world_to_room(room)
        found = []
        for folder in FOLDERS.get(area, (area.lower(),)):
            part = AREA_5B if folder == "area_5b" else np.eye(4)
            paths = self._poses(folder, name)[:: self._every]
            found += [self._frame(path, name, to_room @ part) for path in paths]
        if not found:
            raise MissingFileError(
                f"{self.root}: no images of {room} in {' or '.join(FOLDERS.get(area, (area,)))}"
            )
        return found

    def _world_to_room(self, room: str) -> np.ndarray:
        matrix = self._store.facts(room).world_to_room
        if len(matrix) != 16:
            raise InputError(
                f"{self._store.root}: it is not known how {room} is turned against its images: "
                "prepare the rooms again from the unaligned release, or with its --angles, into "
                "another folder"
            )
        return np.array(matrix, np.float64).reshape(4, 4)

    def _poses(self, folder: str, room: str) -> list[Path]:
        """The files of a room's poses, sorted."""
        if folder not in self._by_room:
            rooms: dict[str, list[Path]] = {}
            for path in sorted((self.root / folder / "data" / "pose").glob("[!.]*.json")):
                match = POSE_FILE.fullmatch(path.name)
                if match is None:
                    raise InputError(
                        f"{path}: expected a name as camera_0a1b_office_1_frame_0_domain_pose.json"
                    )
                rooms.setdefault(match["room"], []).append(path)
            self._by_room[folder] = rooms
        return self._by_room[folder].get(room, [])

    def _frame(self, path: Path, room: str, to_room: np.ndarray) -> Frame:
        pose, intrinsics = _read_pose(path, room)
        stem = path.name.removesuffix("_pose.json")
        data = path.parent.parent
        color, depth = data / "rgb" / f"{stem}_rgb.png", data / "depth" / f"{stem}_depth.png"
        for image in (color, depth):
            if not image.is_file():
                raise MissingFileError(f"{image}: missing, though there is {path}")
        name = stem.removesuffix("_domain")
        return Frame(name, color, depth, to_room @ pose, intrinsics, DEPTH_UNITS, DEPTH_MISSING)


def _read_pose(path: Path, room: str) -> tuple[np.ndarray, np.ndarray]:
    """float64[4, 4] from camera to world, and float64[3, 3], the intrinsics."""
    try:
        content = parse_json(read_bytes(path))
        intrinsics = np.array(content["camera_k_matrix"], np.float64).reshape(3, 3)
        world_to_camera = np.array(content["camera_rt_matrix"], np.float64).reshape(3, 4)
        location = np.array(content["camera_location"], np.float64).reshape(3)
        named = content["room"]
    except MALFORMED as error:
        raise InputError(
            f"{path}: not a pose of 2D-3D-S, with camera_k_matrix, camera_rt_matrix, "
            f"camera_location and room: {error!r}"
        ) from error
    if named != room:
        raise InputError(f"{path}: the pose is of the room {named!r}, its name of {room!r}")
    inverse = np.vstack([world_to_camera, [0, 0, 0, 1]])
    check_pose(inverse, str(path))
    away = float(np.abs(world_to_camera[:, :3] @ location + world_to_camera[:, 3]).max())
    if not away <= OFF:
        raise InputError(
            f"{path}: camera_rt_matrix puts the camera {away:.3f} m away from camera_location"
        )
    check_intrinsics(intrinsics, SIZE, str(path))
    return np.linalg.inv(inverse), intrinsics
