"""Frames are opened by what their folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import (
    cloud,
    pose_at,
    write_2d3ds_frame,
    write_frames,
    write_matrix,
)
from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.open_frames import open_frames
from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.datasets.s3dis_frames import S3DISFrames
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary

ROOM = "Area_1_office_1"


@pytest.fixture
def store(tmp_path: Path) -> RoomStore:
    writer = RoomWriter(tmp_path / "store", "s3dis", load_vocabulary("s3dis"))
    writer.write(ROOM, *cloud(5), None, "", np.eye(4))
    return RoomStore(tmp_path / "store")


def test_layouts_are_told_apart(tmp_path: Path, store: RoomStore) -> None:
    for frame in range(3):
        write_2d3ds_frame(tmp_path / "2d3ds", "area_1", "office_1", pose_at(0, 0), frame)
    write_frames(tmp_path / "frames", ROOM, (5, 6, 7))
    write_matrix(tmp_path / "frames" / ROOM / "pose" / "7.txt", np.full((4, 4), np.inf))
    said: list[str] = []
    for folder, kind in {"2d3ds": S3DISFrames, "frames": ExtractedFrames}.items():
        frames = open_frames(tmp_path / folder, store, 1, said.append)
        assert type(frames) is kind
        assert len(frames.frames(ROOM)) == (3 if kind is S3DISFrames else 2)
        first, *_ = open_frames(tmp_path / folder, store, 2, said.append).frames(ROOM)
        assert first.name == frames.frames(ROOM)[0].name
    assert len(open_frames(tmp_path / "2d3ds", store, 2).frames(ROOM)) == 2
    assert said[0].startswith(f"{ROOM}: 1 of 3 frames are left out")


def test_what_cannot_be_opened(tmp_path: Path, store: RoomStore) -> None:
    with pytest.raises(MissingFileError, match="no folder of frames"):
        open_frames(tmp_path / "nowhere", store)
    with pytest.raises(InputError, match="every 0-th frame: expected at least 1"):
        open_frames(tmp_path, store, 0)
