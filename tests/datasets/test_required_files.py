"""The files of a run are looked at before it starts: missing ones and impossible sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.lidar_file import SEMANTICKITTI_COLUMNS
from uov_jax.datasets.required_files import (
    require_images,
    require_keyframe_files,
    require_keyframe_sweeps,
    require_labels,
    require_sweeps,
)
from uov_jax.errors import InputError


def test_points_are_counted_by_the_size(tmp_path: Path, tiny_keyframes: list[Keyframe]) -> None:
    assert require_keyframe_sweeps(tiny_keyframes).tolist() == [400] * 4
    assert require_keyframe_sweeps([]).tolist() == []
    require_keyframe_files(tiny_keyframes)
    require_images(tiny_keyframes)


def test_missing_sweeps_are_counted(tmp_path: Path, tiny_keyframes: list[Keyframe]) -> None:
    gone = [dataclasses.replace(k, lidar_path=tmp_path / "gone") for k in tiny_keyframes[:2]]
    with pytest.raises(FileNotFoundError, match=r"gone: 2 of 4 LiDAR sweeps are missing"):
        require_keyframe_sweeps([*gone, *tiny_keyframes[2:]])


def test_a_cut_off_sweep_is_found_before_the_first_step(
    tmp_path: Path, tiny_keyframes: list[Keyframe]
) -> None:
    (tmp_path / "cut.bin").write_bytes(tiny_keyframes[1].lidar_path.read_bytes()[:-7])
    keyframes = list(tiny_keyframes)
    keyframes[1] = dataclasses.replace(keyframes[1], lidar_path=tmp_path / "cut.bin")
    with pytest.raises(
        InputError, match=r"cut.bin: truncated, .*7993 bytes.* first of 1 wrong LiDAR sweeps of 4"
    ):
        require_keyframe_files(keyframes)


def test_a_size_of_other_columns_says_which(tmp_path: Path) -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(7, 5))).astype(np.float32)
    rows[:, 3:] = [0.5, 3]
    rows.tofile(tmp_path / "a.bin")
    with pytest.raises(InputError, match="With 5 columns, x y z intensity ring, it would do"):
        require_sweeps([tmp_path / "a.bin"], SEMANTICKITTI_COLUMNS)


def test_labels_must_have_one_number_a_point(
    tmp_path: Path, tiny_keyframes: list[Keyframe]
) -> None:
    (tmp_path / "short.bin").write_bytes(bytes(399))
    keyframes = list(tiny_keyframes)
    keyframes[2] = dataclasses.replace(keyframes[2], lidarseg_path=tmp_path / "short.bin")
    keyframes[0] = dataclasses.replace(keyframes[0], lidarseg_path=None)
    with pytest.raises(
        InputError, match=r"short.bin: 399 bytes, expected 400 .*wrong label files of 3"
    ):
        require_keyframe_files(keyframes)
    paths = [tmp_path / "short.bin", tmp_path / "gone"]
    with pytest.raises(FileNotFoundError, match=r"gone: 1 of 2 label files .*: get them"):
        require_labels(paths, np.array([399, 1]), 1, "get them")


def test_an_empty_image_is_named(tmp_path: Path, tiny_keyframes: list[Keyframe]) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    first = tiny_keyframes[0]
    views = list(first.cameras)
    views[4] = dataclasses.replace(views[4], path=tmp_path / "empty.jpg")
    with pytest.raises(InputError, match=r"empty.jpg: an empty file, expected a JPEG"):
        require_images([dataclasses.replace(first, cameras=tuple(views)), *tiny_keyframes[1:]])
