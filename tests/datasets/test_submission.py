"""Predicted labels in the datasets' formats, and submissions that the devkit's own check passes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.devkit import check_with_devkit, small_drive
from tests.tiny_dataset import write_dataset
from uov_jax.datasets.nuscenes import NuScenesLabelFormat
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.semantickitti import SemanticKittiLabelFormat, SemanticKittiScans, class_table
from uov_jax.datasets.submission import expected_bytes, pack_submission, write_labels


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated drive of two scenes with two keyframes each."""
    return small_drive(tmp_path_factory.mktemp("simulated") / "drive")


def test_a_submission_of_a_simulated_drive_passes_the_devkits_own_check(
    tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyframes = NuScenesTables(drive, "v1.0-sim").keyframes("sim_val")
    files = NuScenesLabelFormat(keyframes, "val")
    folder = tmp_path / "submission"
    generator = np.random.default_rng(0)
    written = {}
    for index, keyframe in enumerate(keyframes):
        points = len(keyframe.points())
        classes = generator.integers(1, 17, points).astype(np.uint8)
        path = write_labels(files, folder, index, classes)
        assert path.stat().st_size == points
        np.testing.assert_array_equal(files.read(path, points), classes)
        written[path] = classes
    archive = pack_submission(files, folder, len(keyframes))
    assert archive == tmp_path / "submission.zip"
    check_with_devkit(drive, folder, monkeypatch)
    with zipfile.ZipFile(archive) as file:
        names = {str(path.relative_to(folder)) for path in written} | {"val/submission.json"}
        assert {name for name in file.namelist() if not name.endswith("/")} == names
        first = next(iter(written))
        assert file.read(str(first.relative_to(folder))) == written[first].tobytes()
    # The devkit does look at the labels: one of class 0 and it refuses.
    spoilt = written[first].copy()
    spoilt[7] = 0
    first.write_bytes(spoilt.tobytes())
    with pytest.raises(AssertionError, match="must be between 1 and 16"):
        check_with_devkit(drive, folder, monkeypatch)


def test_nuscenes_labels_are_1_to_16_and_one_a_point(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_val")
    files = NuScenesLabelFormat(keyframes, "mini_val")
    name = f"lidarseg/mini_val/{keyframes[1].lidar_token}_lidarseg.bin"
    assert files.path(1) == Path(name)
    with pytest.raises(
        ValueError, match=rf"{name}: class 0 of point 1 \(2 such points\).* 1 to 16"
    ):
        write_labels(files, tmp_path, 1, np.array([3, 0, 17], np.uint8))
    assert not (tmp_path / "lidarseg").exists()
    path = write_labels(files, tmp_path, 1, np.array([3, 16], np.uint8))
    with pytest.raises(ValueError, match=r"_lidarseg.bin: 2 labels, but the sweep has 3 points"):
        files.read(path, 3)
    path.write_bytes(bytes([3, 17]))
    with pytest.raises(
        ValueError, match=r"label 17 of point 1, expected an evaluation class 0..16"
    ):
        files.read(path, 2)
    with pytest.raises(FileNotFoundError, match="no such label file"):
        files.read(tmp_path / "absent.bin", 2)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 predictions of the split are missing"):
        pack_submission(files, tmp_path, 2)
    assert not list(tmp_path.glob("*.zip"))
    assert expected_bytes(files, 6019) == 6019 * 34_700


def test_a_real_semantickitti_scan_goes_through_the_submission_format_and_back(
    tmp_path: Path, real_semantickitti: Path
) -> None:
    scan = sorted(real_semantickitti.rglob("velodyne/*.bin"))[0]
    scans = SemanticKittiScans(real_semantickitti, scan.parents[1].name)
    points = len(scans.points(0))
    assert points == 123_389
    classes = scans.labels(0, points)
    assert classes is not None
    assert len(np.unique(classes)) > 8
    files = SemanticKittiLabelFormat(scans.scans)
    path = write_labels(files, tmp_path / "submission", 0, classes)
    sequence = scans.token(0).partition("_")[0]
    assert path.relative_to(tmp_path / "submission") == Path(
        "sequences", sequence, "predictions", f"{scans.scans[0].stem}.label"
    )
    stored = np.fromfile(path, np.uint32)
    assert stored.shape == (points,)
    # Only labels that the benchmark's server knows: those that its map gives back.
    assert set(stored.tolist()) <= set(class_table()["label_of_class"])
    np.testing.assert_array_equal(files.read(path, points), classes)
    archive = pack_submission(files, tmp_path / "submission", 1)
    with zipfile.ZipFile(archive) as file:
        stored_path = path.relative_to(tmp_path / "submission")
        # As the benchmark's validator asks: every folder has an entry of its own.
        folders = [f"{folder}/" for folder in reversed(stored_path.parents[:-1])]
        assert file.namelist() == [*folders, str(stored_path)]


def test_semantickitti_labels_are_those_of_the_inverse_map(tmp_path: Path) -> None:
    files = SemanticKittiLabelFormat([tmp_path / "sequences" / "11" / "velodyne" / "000123.bin"])
    assert files.path(0) == Path("sequences/11/predictions/000123.label")
    classes = np.arange(20, dtype=np.uint8)
    path = write_labels(files, tmp_path, 0, classes)
    labels = [0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
    assert path.read_bytes() == np.array(labels, "<u4").tobytes()
    np.testing.assert_array_equal(files.read(path, 20), classes)
    with pytest.raises(ValueError, match=r"000123.label: classes 3 to 20, expected 0 to 19"):
        write_labels(files, tmp_path, 0, np.array([3, 20], np.uint8))
