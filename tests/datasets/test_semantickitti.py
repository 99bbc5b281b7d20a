"""SemanticKITTI: splits and shares, the label map, damaged files, and one real scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.config import load_config
from uov_jax.datasets.semantickitti import (
    SemanticKittiScans,
    class_table,
    label_path,
    labels_of_classes,
    read_classes,
)
from uov_jax.datasets.split import open_split

TRAIN = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
# The dataset's labels by the name of their class in its single-scan benchmark, in the order of the
# classes: config/semantic-kitti.yaml of its API, moving things joined to standing ones.
PUBLISHED = {
    "unlabeled": (0, 1, 52, 99),
    "car": (10, 252),
    "bicycle": (11,),
    "motorcycle": (15,),
    "truck": (18, 258),
    "other-vehicle": (13, 16, 20, 256, 257, 259),
    "person": (30, 254),
    "bicyclist": (31, 253),
    "motorcyclist": (32, 255),
    "road": (40, 60),
    "parking": (44,),
    "sidewalk": (48,),
    "other-ground": (49,),
    "building": (50,),
    "fence": (51,),
    "vegetation": (70,),
    "trunk": (71,),
    "terrain": (72,),
    "pole": (80,),
    "traffic-sign": (81,),
}


def write_scan(root: Path, sequence: str, number: int, points: int = 40, labels: bool = True):
    rng = np.random.default_rng(number)
    folder = root / "sequences" / sequence
    (folder / "velodyne").mkdir(parents=True, exist_ok=True)
    cloud = rng.uniform(-20, 20, (points, 4)).astype(np.float32)
    cloud[:, 3] = rng.random(points)
    cloud.tofile(folder / "velodyne" / f"{number:06d}.bin")
    if labels:
        (folder / "labels").mkdir(exist_ok=True)
        raw = rng.choice([0, 10, 40, 252, 81], points).astype(np.uint32)
        instances = rng.integers(0, 9, points).astype(np.uint32) << 16
        (raw | instances).tofile(folder / "labels" / f"{number:06d}.label")
        return cloud, raw
    return cloud, None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    for sequence in (*TRAIN, "08"):
        for number in range(11):
            write_scan(root, sequence, number)
    for sequence in range(11, 22):
        write_scan(root, str(sequence), 0, labels=False)
    return root


def test_splits_hold_their_sequences_in_order(root):
    assert len(SemanticKittiScans(root, "train")) == 110
    train = SemanticKittiScans(root, "train")
    assert train.token(0) == "00_000000"
    assert train.token(109) == "10_000010"
    assert {train.token(i)[:2] for i in range(110)} == set(TRAIN)
    assert {SemanticKittiScans(root, "val").token(i)[:2] for i in range(11)} == {"08"}
    assert len(SemanticKittiScans(root, "08")) == 11
    test = SemanticKittiScans(root, "test")
    assert [test.token(i)[:2] for i in range(11)] == [str(n) for n in range(11, 22)]
    assert test.labels(0, 40) is None


def test_a_share_starts_with_the_first_scan(root):
    tokens = [SemanticKittiScans(root, "train:1%").token(i) for i in range(2)]
    assert tokens == ["00_000000", "10_000001"]
    assert len(SemanticKittiScans(root, "train:1%")) == 2
    assert len(SemanticKittiScans(root, "train:10%")) == 11


def test_points_and_labels(root):
    scans = SemanticKittiScans(root.parent / root.name, "08")
    cloud, raw = write_scan(root, "08", 3)
    np.testing.assert_array_equal(scans.points(3), cloud)
    expected = np.select([raw == 10, raw == 252, raw == 40, raw == 81], [1, 1, 9, 19], 0)
    labels = scans.labels(3, 40)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)
    shifted = SemanticKittiScans(root, "08", intensity_offset=1.0).points(3)
    np.testing.assert_array_equal(shifted[:, :3], cloud[:, :3])
    np.testing.assert_array_equal(shifted[:, 3], cloud[:, 3] + np.float32(1))
    assert scans.seen(3, cloud) is None


def test_columns_are_those_of_the_recipe(tmp_path):
    cloud, _ = write_scan(tmp_path, "08", 0)
    path = tmp_path / "sequences" / "08" / "velodyne" / "000000.bin"
    wider = np.column_stack([cloud, np.arange(len(cloud)) % 64]).astype(np.float32)
    wider.tofile(path)
    with pytest.raises(ValueError, match="160 bytes, expected 200"):
        SemanticKittiScans(tmp_path, "08")
    config = load_config("configs/finetune_semantickitti.py")
    with config.unlocked():
        config.data.root, config.data.columns = str(tmp_path), "x y z intensity ring"
    np.testing.assert_array_equal(open_split(config.data, "08").sweeps().points(0), cloud)


def test_the_map_is_the_published_one_and_its_inverse(tmp_path):
    every = [label for labels in PUBLISHED.values() for label in labels]
    np.array(every, np.uint32).tofile(tmp_path / "x.label")
    expected = [number for number, labels in enumerate(PUBLISHED.values()) for _ in labels]
    np.testing.assert_array_equal(read_classes(tmp_path / "x.label", len(every)), expected)
    assert tuple(class_table()["names"]) == tuple(PUBLISHED)
    first = labels_of_classes(np.arange(20, dtype=np.uint8))
    assert first.dtype == np.uint32
    for number, labels in enumerate(PUBLISHED.values()):
        assert first[number] in labels
    first.tofile(tmp_path / "y.label")
    np.testing.assert_array_equal(read_classes(tmp_path / "y.label", 20), np.arange(20))
    with pytest.raises(ValueError, match="classes 0 to 20, expected 0 to 19"):
        labels_of_classes(np.array([0, 20]))


def test_damaged_files_are_named(tmp_path):
    write_scan(tmp_path, "00", 0)
    scan = tmp_path / "sequences" / "00" / "velodyne" / "000000.bin"
    label = label_path(scan)
    with pytest.raises(ValueError, match=r"000000.label: 160 bytes, expected 156 .* 39 points"):
        read_classes(label, 39)
    np.full(40, 77, np.uint32).tofile(label)
    with pytest.raises(ValueError, match=r"000000.label: label 77 of point 0 is none of .* 34"):
        read_classes(label, 40)
    with pytest.raises(ValueError, match=r"000000.label: 160 bytes, expected 156"):
        read_classes(label, 39)
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"000000.bin: truncated, .*: 637 bytes, .*multiple of 16"):
        SemanticKittiScans(tmp_path, "00")
    scan.write_bytes(bytes(39 * 16))
    with pytest.raises(ValueError, match=r"000000.label: 160 bytes, expected 156 .* 39 points"):
        SemanticKittiScans(tmp_path, "00")


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no SemanticKITTI here, .*(\n.*)*odometry"):
        SemanticKittiScans(tmp_path, "train")
    write_scan(tmp_path, "00", 0)
    write_scan(tmp_path, "00", 1, labels=False)
    with pytest.raises(FileNotFoundError, match=r"01/velodyne: no scans there, .*'train'"):
        SemanticKittiScans(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"000001.label: 1 of 2 label files are missing"):
        SemanticKittiScans(tmp_path, "00")
    with pytest.raises(ValueError, match="unknown split 'valid', expected train, val, test or a"):
        SemanticKittiScans(tmp_path, "valid")
    with pytest.raises(ValueError, match="the share must be"):
        SemanticKittiScans(tmp_path, "00:3%")


def test_the_archives_own_layout_is_found(tmp_path):
    write_scan(tmp_path / "dataset", "08", 0)
    assert SemanticKittiScans(tmp_path, "val").token(0) == "08_000000"


def test_a_real_scan(real_semantickitti):
    scans = SemanticKittiScans(real_semantickitti, "00")
    points = scans.points(0)
    assert points.shape == (123_389, 4)
    assert 0 <= points[:, 3].min() < points[:, 3].max() <= 1
    labels = scans.labels(0, len(points))
    raw = np.fromfile(label_path(scans.scans[0]), "<u4") & 0xFFFF
    for number, members in enumerate(PUBLISHED.values()):
        assert np.count_nonzero(labels == number) == np.count_nonzero(np.isin(raw, members))
    counts = np.bincount(labels, minlength=20)
    assert counts[[9, 11, 15, 1]].tolist() == [20_975, 30_092, 24_514, 1_534]
    voxels = sparse.voxelize(points[:, :3].copy(), (0.1, 1.0, 0.1), True)
    assert len(voxels.coords) == 53_675


def test_what_other_programs_leave_is_no_scan(tmp_path: Path) -> None:
    write_scan(tmp_path, "00", 0)
    folder = tmp_path / "sequences" / "00" / "velodyne"
    for name in ("._000000.bin", ".DS_Store", "Thumbs.db", "000000 (copy).bin"):
        (folder / name).write_bytes(b"something")
    assert [path.name for path in SemanticKittiScans(tmp_path, "00").scans] == ["000000.bin"]
