"""Whole folders of rooms: formats, determinism, resuming, errors."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.simulate.rooms.conftest import SETTINGS, contents
from uov_jax.datasets.recordings import Recordings
from uov_jax.datasets.rooms import RoomStore, read_scene_labels
from uov_jax.errors import InputError
from uov_jax.fusion.features import TEXT_EMBEDDINGS
from uov_jax.pickled import read_pickled
from uov_jax.simulate.rooms import (
    RoomSettings,
    SimulationError,
    expected_bytes,
    expected_seconds,
    simulate_rooms,
)
from uov_jax.simulate.rooms.kinds import CLASS_IDS, NYU40_NAMES
from uov_jax.simulate.rooms.simulate import IN_NUMPY
from uov_jax.simulate.rooms.teacher import TeacherSettings
from uov_jax.simulate.rooms.views import intrinsics
from uov_jax.simulate.triangles import WITHOUT_EMBREE
from uov_jax.vocabulary import load_vocabulary

SCENES = ["scene0000_00", "scene0001_00", "scene0002_00"]


def test_interruptions_and_workers_change_no_byte(rooms: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_rooms(root, SETTINGS, 1, stop)
    assert RoomStore(root / "store").names() == SCENES[:1]
    # A room whose store is missing is made again whole, whatever is left of it.
    (root / "frames" / SCENES[1] / "color").mkdir(parents=True)
    (root / "frames" / SCENES[1] / "color" / "0.jpg").write_bytes(b"half")
    counts: list[int] = []
    report = simulate_rooms(root, SETTINGS, 2, counts.append)
    assert sum(counts) == report.rooms == 3
    assert report.written == 2
    found, expected = contents(root), contents(rooms)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_finished_rooms_are_left_alone(rooms: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in rooms.rglob("*.jpg")}
    report = simulate_rooms(rooms, SETTINGS)
    assert (report.rooms, report.written) == (3, 0)
    assert {path: path.stat().st_mtime_ns for path in rooms.rglob("*.jpg")} == before


def test_another_seed_gives_other_rooms(rooms: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SETTINGS, seed=6, rooms=2, formats=())
    simulate_rooms(tmp_path / "other", other)
    mine, theirs = (
        RoomStore(root / "store").room(SCENES[0]) for root in (rooms, tmp_path / "other")
    )
    assert mine.coords.shape != theirs.coords.shape or not (mine.coords == theirs.coords).all()
    names = {path.name for path in (tmp_path / "other").iterdir()}
    assert names == {"store", "frames", "simulation.json"}


def test_the_store_holds_labelled_rooms_in_two_splits(rooms: Path) -> None:
    store = RoomStore(rooms / "store", load_vocabulary("scannet"))
    assert store.manifest.dataset == "scannet"
    assert store.split("train") == SCENES[:2]
    assert store.split("val") == SCENES[2:]
    for name in SCENES:
        room = store.room(name)
        assert abs(len(room) - SETTINGS.density) < 0.06 * SETTINGS.density
        assert room.labels is not None
        assert set(store.scene_classes(name)) == set(np.unique(room.labels).tolist()) - {0}
        assert {1, 2} <= set(store.scene_classes(name))
        assert np.ptp(room.coords[:, 2]) < 3.2
        assert np.median(room.coords[room.labels == 2, 2]) == pytest.approx(0.0, abs=0.01)


def test_frames_lie_as_openscene_has_them(rooms: Path) -> None:
    matrix = np.loadtxt(rooms / "frames" / "intrinsics.txt")
    np.testing.assert_allclose(matrix[:3, :3], intrinsics(), rtol=1e-8)
    lost = 0
    for name in SCENES:
        folder = rooms / "frames" / name
        numbers = sorted(int(path.stem) for path in (folder / "color").iterdir())
        assert numbers == [0, 20, 40, 60, 80]
        for number in numbers:
            with Image.open(folder / "color" / f"{number}.jpg") as color:
                assert color.size == (320, 240)
            with Image.open(folder / "depth" / f"{number}.png") as depth:
                values = np.asarray(depth)
            assert values.dtype == np.uint16
            assert values.shape == (240, 320)
            assert 300 < np.median(values[values > 0]) < 8000
            pose = np.loadtxt(folder / "pose" / f"{number}.txt")
            assert pose.shape == (4, 4)
            if not np.isfinite(pose).all():
                assert np.isinf(pose).all()
                lost += 1
                continue
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-7)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0, abs=1e-7)
    assert 0 < lost < 15


def test_features_lie_beside_the_frames(rooms: Path) -> None:
    vocabulary = load_vocabulary("scannet")
    facts = json.loads((rooms / "frames" / "teacher.json").read_text())
    assert facts["name"] == "simulated"
    assert facts["embedding_size"] == 768
    assert facts["vocabulary_hash"] == vocabulary.hash
    assert facts["weights_hash"] == TeacherSettings().hash
    with np.load(rooms / "frames" / TEXT_EMBEDDINGS) as stored:
        text = stored["embeddings"]
    assert text.shape == (len(vocabulary), 768)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1.0, atol=1e-6)
    for name in SCENES:
        folder = rooms / "frames" / name
        for color in (folder / "color").iterdir():
            path = folder / "features" / f"{color.stem}.npz"
            assert path.stat().st_size < 300_000
            with np.load(path) as stored:
                masks, embeddings = stored["masks"], stored["embeddings"]
            assert masks.dtype == np.uint16
            assert embeddings.dtype == np.float16
            assert 1 <= masks.min()
            assert masks.max() == len(embeddings)


def read_ply(path: Path) -> tuple[np.ndarray, int]:
    """Vertices of a PLY, by its own header, and the number of faces."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    types = {"float": "<f4", "uchar": "u1", "ushort": "<u2"}
    lines = [line.split() for line in head.decode().splitlines()]
    assert lines[1] == ["format", "binary_little_endian", "1.0"]
    fields = [
        (line[2], types[line[1]]) for line in lines if line[0] == "property" and len(line) == 3
    ]
    counts = {line[1]: int(line[2]) for line in lines if line[0] == "element"}
    rows = np.frombuffer(body, np.dtype(fields))
    assert len(rows) == counts["vertex"]
    return rows, counts["face"]


def test_raw_scans_agree_with_the_store(rooms: Path) -> None:
    table = (rooms / "scannet" / "scannetv2-labels.combined.tsv").read_text().splitlines()
    assert table[0].split("\t")[1] == "raw_category"
    class_of = {number: index for index, number in enumerate(CLASS_IDS, start=1)}
    for line in table[1:]:
        row = dict(zip(table[0].split("\t"), line.split("\t"), strict=True))
        assert row["nyu40class"] == NYU40_NAMES[int(row["nyu40id"])]
    assert (rooms / "scannet" / "scannetv2_train.txt").read_text().split() == SCENES[:2]
    assert (rooms / "scannet" / "scannetv2_val.txt").read_text().split() == SCENES[2:]
    store = RoomStore(rooms / "store")
    for name in SCENES:
        room, folder = store.room(name), rooms / "scannet" / "scans" / name
        plain, faces = read_ply(folder / f"{name}_vh_clean_2.ply")
        labelled, _ = read_ply(folder / f"{name}_vh_clean_2.labels.ply")
        assert faces == 0
        for axis, letter in enumerate("xyz"):
            np.testing.assert_array_equal(plain[letter], room.coords[:, axis])
            np.testing.assert_array_equal(labelled[letter], room.coords[:, axis])
        np.testing.assert_array_equal(plain["green"], room.colors[:, 1])
        labels = [class_of.get(int(number), 0) for number in labelled["label"]]
        np.testing.assert_array_equal(labels, room.labels)
        aligned = (folder / f"{name}.txt").read_text().splitlines()[0].partition("= ")[2]
        matrix = np.array(aligned.split(), float).reshape(4, 4)
        floor = room.coords[room.labels == 2] @ matrix[:3, :3].T + matrix[:3, 3]
        assert floor[:, :2].min() > -0.2


def test_openscene_files_agree_with_the_store(rooms: Path) -> None:
    store = RoomStore(rooms / "store")
    for split, names in (("train", SCENES[:2]), ("val", SCENES[2:])):
        for name in names:
            path = rooms / "openscene" / "scannet_3d" / split / f"{name}_vh_clean_2.pth"
            found = read_pickled(path)
            assert not found.left_out
            coords, colors, labels = found.content
            room = store.room(name)
            np.testing.assert_array_equal(coords, room.coords)
            np.testing.assert_allclose((colors + 1) * 127.5, room.colors, atol=1e-4)
            expected = np.where(room.labels == 0, 255, room.labels.astype(int) - 1)
            np.testing.assert_array_equal(labels, expected)


def test_a_recording_of_ones_own_has_clouds_and_lists_without_labels(rooms: Path) -> None:
    vocabulary = load_vocabulary("scannet")
    store, recording = RoomStore(rooms / "store"), Recordings(rooms / "recording", vocabulary)
    assert recording.splits() == {"train": SCENES[:2], "val": SCENES[2:]}
    lines = rooms / "recording" / "scene_labels.txt"
    said = read_scene_labels(lines, vocabulary.eval_classes, set(SCENES))
    for name in SCENES:
        scan, room = recording.read(name), store.room(name)
        np.testing.assert_array_equal(scan.coords, room.coords)
        np.testing.assert_array_equal(scan.colors, room.colors)
        assert scan.labels is None
        assert said[name] == store.scene_classes(name)


def test_recordings_hold_the_same_frames(rooms: Path) -> None:
    content = (rooms / "scannet" / "scans" / SCENES[0] / f"{SCENES[0]}.sens").read_bytes()
    file = io.BytesIO(content)

    def take(form: str) -> tuple:
        return struct.unpack(form, file.read(struct.calcsize(form)))

    version, length = take("<IQ")
    assert version == 4
    assert file.read(length) == b"simulated"
    matrices = np.frombuffer(file.read(4 * 64), "<f4").reshape(4, 4, 4)
    np.testing.assert_allclose(matrices[0, :3, :3], intrinsics(), rtol=1e-6)
    assert take("<iiIIIIf") == (2, 1, 320, 240, 320, 240, 1000.0)
    (frames,) = take("<Q")
    assert frames == SETTINGS.frames
    folder = rooms / "frames" / SCENES[0]
    for number in range(frames):
        pose = np.frombuffer(file.read(64), "<f4").reshape(4, 4)
        text = np.loadtxt(folder / "pose" / f"{20 * number}.txt")
        np.testing.assert_allclose(pose, text, rtol=1e-5, atol=1e-6)
        _, _, color_size, depth_size = take("<QQQQ")
        assert file.read(color_size) == (folder / "color" / f"{20 * number}.jpg").read_bytes()
        depth = np.frombuffer(zlib.decompress(file.read(depth_size)), "<u2").reshape(240, 320)
        with Image.open(folder / "depth" / f"{20 * number}.png") as image:
            np.testing.assert_array_equal(depth, np.asarray(image))
    assert file.read() == bytes(8)


def test_size_is_as_announced(rooms: Path) -> None:
    size = sum(len(content) for content in contents(rooms).values())
    assert size / 1.5 < expected_bytes(SETTINGS) < size * 1.5
    assert expected_bytes(RoomSettings(40)) < 600e6
    assert expected_seconds(RoomSettings(40), 2) < 240 * (IN_NUMPY if WITHOUT_EMBREE else 1)


def test_other_settings_need_another_folder(rooms: Path) -> None:
    with pytest.raises(SimulationError, match="seed = 5, not of 6: give another folder"):
        simulate_rooms(rooms, dataclasses.replace(SETTINGS, seed=6))


def test_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(SimulationError, match="not empty, and no simulated rooms"):
        simulate_rooms(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(SimulationError, match="are needed for the rooms, only 0.00 GB are free"):
        simulate_rooms(tmp_path / "new", SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rooms": 1}, "at least 2 rooms of 2 frames and 100 points"),
        ({"seed": -1}, "a seed from 0 on"),
        ({"density": 10}, "and 10 points"),
        ({"lost_poses": 1.0}, "the share of lost poses is 1.0, expected 0 to 1"),
        ({"formats": ("xyz",)}, "there is no format 'xyz', but raw, sens, openscene"),
    ],
)
def test_settings_that_make_no_rooms(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_no_workers_do_no_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be at least 1"):
        simulate_rooms(tmp_path / "new", SETTINGS, 0)
