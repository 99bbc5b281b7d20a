"""The tables as columns: read in pieces, mapped from the cache, made again when they change."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_dataset import write_dataset
from uov_jax.datasets import nuscenes_index
from uov_jax.datasets.keyframe import CAMERAS, Keyframe
from uov_jax.datasets.nuscenes_index import SampleRecord, TableError, open_index, records
from uov_jax.datasets.nuscenes_tables import NuScenesTables

VERSION = "v1.0-mini"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def facts_of(keyframe: Keyframe) -> tuple[object, ...]:
    """Everything that a keyframe says."""
    views = [
        (v.channel, v.token, v.path, v.intrinsic.tolist(), v.sensor_to_ego, v.ego_to_global,
         v.width, v.height)
        for v in keyframe.cameras
    ]  # fmt: skip
    return (
        keyframe.token, keyframe.scene, keyframe.lidar_path, keyframe.lidar_token,
        keyframe.sensor_to_ego, keyframe.ego_to_global, keyframe.lidarseg_path, views,
    )  # fmt: skip


@pytest.mark.parametrize("size", [7, 64, 1000, 1 << 20])
def test_a_table_is_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(nuscenes_index, "CHUNK", size)
    path = tmp_path / "sample.json"
    # Braces, brackets and quotes in texts, and fields that nobody needs, do not confuse it.
    content = [
        {"token": f'a{{}}],"{{{i}', "next": "}, {", "more": [{"a": 1}] * i} for i in range(9)
    ]
    for text in (json.dumps(content), json.dumps(content, indent=2), " " + json.dumps(content)):
        path.write_text(text)
        found = [record for some in records(path, SampleRecord) for record in some]
        assert [(record.token, record.next) for record in found] == [
            (record["token"], record["next"]) for record in content
        ]
    path.write_text("[]")
    assert not [record for some in records(path, SampleRecord) for record in some]


@pytest.mark.parametrize("size", [16, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"token": "a"}', "not a JSON list, it begins with"),
        ('[{"token": "a", "next": ""}, {"token": "b"}]', "record 1: .*missing .*no such table"),
        ('[{"token": "a", "next": ""}, {"token": 1, "next": ""}]', "record 1: Expected `str`"),
        ('[{"token": "a", "next": ""}', "breaks off or is malformed about record 1"),
        ('[{"token": "a", "next": ""}, {"tok', "breaks off or is malformed about record 1"),
        ('[{"token": "a", "next": ""} {"token": "b", "next": ""}]', "breaks off or is malformed"),
        ('[{"token": "a", "next": ""}] trailing', "breaks off or is malformed"),
        ("", "not a JSON list"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, text: str, message: str
) -> None:
    monkeypatch.setattr(nuscenes_index, "CHUNK", size)
    path = tmp_path / "sample.json"
    path.write_text(text)
    with pytest.raises(TableError, match=rf"sample\.json: {message}"):
        list(records(path, SampleRecord))


def test_from_the_cache_come_the_same_keyframes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = NuScenesTables(root, VERSION).keyframes("mini_train")

    def unread(tables: Path) -> None:
        raise AssertionError(f"{tables} was read again")

    monkeypatch.setattr(nuscenes_index, "read_tables", unread)
    second = NuScenesTables(root, VERSION).keyframes("mini_train")
    assert [facts_of(k) for k in first] == [facts_of(k) for k in second]
    assert isinstance(second._sensors.index.view_pose.base, np.memmap)


def test_changed_tables_are_read_again(root: Path) -> None:
    assert len(NuScenesTables(root, VERSION).keyframes("mini_train")) == 2
    write_dataset(root, keyframes=3)
    assert len(NuScenesTables(root, VERSION).keyframes("mini_train")) == 3
    (root / VERSION / "lidarseg.json").unlink()
    assert NuScenesTables(root, VERSION).keyframes("mini_train")[0].lidarseg_path is None


def test_a_damaged_cache_is_made_again(root: Path, cache: Path) -> None:
    expected = [facts_of(k) for k in NuScenesTables(root, VERSION).keyframes("mini_train")]
    for damage in (lambda file: file.read_bytes()[:40], lambda file: b""):
        (column,) = cache.rglob("view_pose.npy")
        column.write_bytes(damage(column))
        nuscenes_index._map.cache_clear()
        found = [facts_of(k) for k in NuScenesTables(root, VERSION).keyframes("mini_train")]
        assert found == expected
    (column,) = cache.rglob("channel.npy")
    column.unlink()
    nuscenes_index._map.cache_clear()
    found = [facts_of(k) for k in NuScenesTables(root, VERSION).keyframes("mini_train")]
    assert found == expected


def test_a_cache_that_cannot_be_written_is_a_warning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept there .* XDG_CACHE_HOME names another"):
        index = open_index(root / VERSION)
    assert len(index.sample_token) == 4


def test_a_cache_that_may_not_be_looked_into_is_a_warning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def denied(path: object, *_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # As of another user's home; root, as tests may be run, sees everything.
    own = str(tmp_path / "uov_jax")
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda p, **k: (denied if own in str(p) else stat)(p, **k))
    monkeypatch.setattr(nuscenes_index, "_keep", denied)
    with pytest.warns(UserWarning, match=r"cannot be kept there \(Permission denied\)"):
        index = open_index(root / VERSION)
    assert len(index.sample_token) == 4


def test_keyframes_are_sent_to_a_process_by_name(root: Path) -> None:
    keyframes = NuScenesTables(root, VERSION).keyframes("mini_val")
    sent = pickle.dumps(keyframes)
    assert len(sent) < 1500
    assert [facts_of(k) for k in pickle.loads(sent)] == [facts_of(k) for k in keyframes]
    assert facts_of(pickle.loads(pickle.dumps(keyframes[1]))) == facts_of(keyframes[1])


def test_without_a_cache_they_are_sent_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        keyframes = NuScenesTables(root, VERSION).keyframes("mini_val")
    received = pickle.loads(pickle.dumps(keyframes))
    assert [facts_of(k) for k in received] == [facts_of(k) for k in keyframes]


def test_keyframes_are_a_sequence(root: Path) -> None:
    tables = NuScenesTables(root, VERSION)
    train, val = tables.keyframes("mini_train"), tables.keyframes("mini_val")
    both = train + val
    assert both.tokens() == [keyframe.token for keyframe in both]
    assert [k.token for k in both[1:3]] == [both[1].token, both[2].token]
    assert both[-1].token == val[-1].token
    with pytest.raises(IndexError):
        both[4]
    cameras = both[0].cameras
    assert [view.channel for view in cameras] == list(CAMERAS)
    assert cameras[-1].channel == CAMERAS[-1]
    assert [view.channel for view in cameras[1:3]] == list(CAMERAS[1:3])


def test_a_broken_scene_is_an_error_only_where_it_is_asked_for(tmp_path: Path) -> None:
    def change(tables: dict[str, list[dict[str, object]]]) -> None:
        tables["sample"][2]["next"] = "gone"

    root = write_dataset(tmp_path / "data", change=change)
    tables = NuScenesTables(root, VERSION)
    assert len(tables.keyframes("mini_train")) == 2
    with pytest.raises(TableError, match="sample.json: no record gone, which scene-0103 needs"):
        tables.keyframes("mini_val")


def test_times_of_change_count_to_the_nanosecond(root: Path) -> None:
    """A table that is replaced by one of equal size is another one."""
    before = NuScenesTables(root, VERSION).keyframes("mini_train")[0].ego_to_global
    path = root / VERSION / "ego_pose.json"
    status = path.stat()
    path.write_text(path.read_text().replace("400.0", "401.0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = NuScenesTables(root, VERSION).keyframes("mini_train")[0].ego_to_global
    assert (before.translation[0], after.translation[0]) == (400.0, 401.0)


def test_keyframes_that_were_sent_stay_what_they_were(root: Path) -> None:
    """Though the tables, and so the rows of their index, change in between."""
    keyframes = NuScenesTables(root, VERSION).keyframes("mini_val")
    expected = [facts_of(keyframe) for keyframe in keyframes]
    sent = pickle.dumps(keyframes)
    write_dataset(root, keyframes=3)
    assert len(NuScenesTables(root, VERSION).keyframes("mini_val")) == 3
    nuscenes_index._map.cache_clear()
    assert [facts_of(keyframe) for keyframe in pickle.loads(sent)] == expected
