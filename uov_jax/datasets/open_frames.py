"""One way to open the frames of a store's rooms, whatever layout they are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.frames import FrameSource
from uov_jax.datasets.rooms import RoomStore
from uov_jax.datasets.s3dis_frames import POSES, S3DISFrames
from uov_jax.errors import InputError


def open_frames(
    root: str | Path,
    store: RoomStore,
    every: int = 1,
    say: Callable[[str], object] = print,
    depth_units: float = 1000.0,
) -> FrameSource:
    """The frames below a folder: 2D-3D-S where there is `area_1/data/pose`, else folders of images.

    Args:
        root: the folder.
        store: of the rooms that the frames show.
        every: of a room's frames the first, and every so many-th after it are taken.
        say: told of a room's frames that have no pose.
        depth_units: of depth images per metre; those of 2D-3D-S are known.

    Raises:
        MissingFileError: there is no such folder.
        InputError: `every` is less than 1.

    """
    if every < 1:
        raise InputError(f"every {every}-th frame: expected at least 1")
    if any(Path(root).glob(POSES)):
        return S3DISFrames(root, store, every)
    return ExtractedFrames(root, depth_units, every=every, say=say)
