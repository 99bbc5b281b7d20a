"""A whole drive: format, determinism, resuming, errors, and what the teacher says on it."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.simulate.conftest import SETTINGS, contents
from uov_jax.datasets.nuscenes import read_lidarseg
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpFolder
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.simulate import DriveError, DriveSettings, expected_bytes, simulate_drive
from uov_jax.simulate.kinds import CATEGORIES
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.vocabulary import load_vocabulary


def simulate(root: Path, **changes):
    settings = {"scenes": 2, "keyframes": 2, "seed": 3, "image_scale": 0.2} | changes
    return simulate_drive(root, **settings)


def table(drive: Path, name: str) -> list[dict]:
    return json.loads((drive / "v1.0-sim" / f"{name}.json").read_text())


def test_workers_and_interruptions_change_no_byte(drive: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(root, workers=2, progress=stop)
    assert not (root / "v1.0-sim").exists()
    counts: list[int] = []
    report = simulate(root, workers=1, progress=counts.append)
    assert sum(counts) == report.keyframes == 4
    assert report.written < 4  # how many the workers had begun is up to their timing
    found, expected = contents(root), contents(drive)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_half_written_files_are_written_again(drive: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(drive, root)
    facts = sorted((root / ".simulation").iterdir())[0]
    facts.unlink()
    next((root / "samples" / "LIDAR_TOP").iterdir()).write_bytes(b"half")
    next((root / "dumps" / "simulated").glob("*.npz")).unlink()
    for file in (root / "samples" / "LIDAR_TOP").iterdir():
        if file.read_bytes() != b"half":
            file.unlink()
    shutil.rmtree(root / ".simulation")
    assert simulate(root).written == 4
    assert contents(root) == contents(drive)


def test_a_finished_drive_is_left_alone(drive: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drive.rglob("*.jpg")}
    report = simulate(drive)
    assert report.written == 0
    assert report.keyframes == 4
    assert {path: path.stat().st_mtime_ns for path in drive.rglob("*.jpg")} == before


def test_size_is_as_announced() -> None:
    full = DriveSettings(10, 12, 0)
    assert 2.0e8 < expected_bytes(full) < 4.0e8
    assert expected_bytes(SETTINGS) < expected_bytes(DriveSettings(2, 2, 3))


def test_another_drives_folder_is_refused(drive: Path) -> None:
    with pytest.raises(DriveError, match="'seed': 3.*not with .*'seed': 4"):
        simulate(drive, seed=4)


def test_a_drive_with_dumps_of_another_format_is_refused(drive: Path, tmp_path: Path) -> None:
    shutil.copytree(drive, tmp_path / "old")
    manifest = tmp_path / "old" / "dumps" / "simulated" / "dump.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"format_version": 1}))
    with pytest.raises(DriveError, match=r"format version 1 of an earlier.*delete .*/old and sim"):
        simulate(tmp_path / "old")


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DriveError, match="not empty, and not a simulated drive"):
        simulate(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**5))
    with pytest.raises(DriveError, match=r"about 0.00 GB are needed, only 0.00 GB are free"):
        simulate(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": 0}, "at least one scene of one keyframe, found 0 scenes of 2"),
        ({"seed": -1}, "must not be negative, found -1"),
        ({"image_scale": 0.25}, "400 x 225 pixels"),
        ({"image_scale": 2.0}, "3200 x 1800 pixels"),
        ({"workers": 0}, "workers must be at least 1, found 0"),
    ],
)
def test_senseless_settings_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_tokens_are_unique_and_links_lead_somewhere(drive: Path) -> None:
    names = [path.stem for path in (drive / "v1.0-sim").glob("*.json") if path.stem != "splits"]
    tables = {name: {r["token"]: r for r in table(drive, name)} for name in names}
    assert len(names) == 14
    for name in names:
        assert len(tables[name]) == len(table(drive, name)) > 0
    hexadecimal = set("0123456789abcdef")
    for name in set(names) - {"visibility"}:
        assert all(len(t) == 32 and set(t) <= hexadecimal for t in tables[name])
    for name, records in tables.items():
        for record in records.values():
            for field, value in record.items():
                if field.endswith("_token") and field != "token":
                    target = field[: -len("_token")]
                    for prefix in ("first_", "last_"):
                        target = target.removeprefix(prefix)
                    target = "sample_annotation" if target == "annotation" else target
                    assert value in tables[target], (name, field)
            for field, other in (("prev", "next"), ("next", "prev")):
                if record.get(field):
                    assert records[record[field]][other] == record["token"]


def test_every_file_of_the_tables_exists_and_no_other(drive: Path) -> None:
    named = {
        r["filename"] for name in ("sample_data", "lidarseg", "map") for r in table(drive, name)
    }
    on_disk = {
        name for name in contents(drive) if name.split("/")[0] in ("samples", "lidarseg", "maps")
    }
    assert named == on_disk


def test_categories_are_lidarsegs(drive: Path) -> None:
    found = {r["index"]: r["name"] for r in table(drive, "category")}
    assert found == {index: name for index, (name, _) in enumerate(CATEGORIES)}
    assert len(found) == 32
    assert found[0] == "noise"
    assert found[17] == "vehicle.car"
    assert found[24] == "flat.driveable_surface"
    assert found[31] == "vehicle.ego"


def test_splits_and_reader(drive: Path) -> None:
    tables = NuScenesTables(drive, "v1.0-sim")
    train, validation = tables.keyframes("sim_train"), tables.keyframes("sim_val")
    assert [k.scene for k in train] == ["sim-0001"] * 2
    assert [k.scene for k in validation] == ["sim-0002"] * 2
    for keyframe in train + validation:
        assert len(keyframe.cameras) == 6
        points = keyframe.points()
        assert len(read_lidarseg(keyframe.lidarseg_path, len(points))) == 32 * 1084


def test_annotations_hold_their_points(drive: Path) -> None:
    """Points counted for a box carry its category; the box moves with a moving object."""
    category = {r["token"]: r["index"] for r in table(drive, "category")}
    instance = {r["token"]: category[r["category_token"]] for r in table(drive, "instance")}
    lidar = {
        r["sample_token"]: r["token"]
        for r in table(drive, "sample_data")
        if r["fileformat"] == "pcd"
    }
    for sample in {r["sample_token"] for r in table(drive, "sample_annotation")}:
        raw = np.fromfile(drive / f"lidarseg/v1.0-sim/{lidar[sample]}_lidarseg.bin", np.uint8)
        counted: collections.Counter[int] = collections.Counter()
        for record in table(drive, "sample_annotation"):
            if record["sample_token"] == sample:
                counted[instance[record["instance_token"]]] += record["num_lidar_pts"]
        for index, count in counted.items():
            assert (raw == index).sum() == count


def test_every_class_is_seen_and_the_teacher_errs_as_real_ones_do(drive: Path) -> None:
    vocabulary = load_vocabulary("nuscenes")
    dumps = DumpFolder(drive / "dumps" / "simulated", vocabulary)
    assert dumps.teacher == "simulated"
    keyframes = NuScenesTables(drive, "v1.0-sim").keyframes(["sim-0001", "sim-0002"])
    dumps.check(keyframes, contents=True)
    matrix = ConfusionMatrix(17, vocabulary.eval_classes)
    present = np.zeros((len(keyframes), 17), int)
    for number, keyframe in enumerate(keyframes):
        points = keyframe.points()
        truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, len(points))]
        present[number] = np.bincount(truth, minlength=17)
        cameras = matching_cameras(keyframe, dumps.read(keyframe))
        assert 10 <= np.median([camera.num_masks for camera in cameras]) <= 50
        found = point_superpoints(pair_points(points, keyframe), cameras, len(points))
        word, seen = found.words(), found.seen
        named = seen & (word >= 0)
        label = vocabulary.word_eval_class[word[named]].astype(np.uint8)
        matrix.add(truth[named], label)
        assert 0.5 < seen[truth > 0].mean() < 0.95
    assert (present[:, 1:] >= 30).mean() > 0.9
    assert 0.4 < matrix.mean_iou() < 0.8


@pytest.mark.filterwarnings("ignore")
def test_the_official_devkit_loads_it(drive: Path) -> None:
    from nuscenes import NuScenes
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    loaded = NuScenes("v1.0-sim", str(drive), verbose=False)
    assert loaded.lidarseg_idx2name_mapping[24] == "flat.driveable_surface"
    held = []
    for sample in loaded.sample:
        loaded.get_sample_lidarseg_stats(sample["token"])
        token = sample["data"]["LIDAR_TOP"]
        path, boxes, _ = loaded.get_sample_data(token)
        cloud = LidarPointCloud.from_file(path)
        raw = np.fromfile(drive / loaded.get("lidarseg", token)["filename"], np.uint8)
        for box in boxes:
            record = loaded.get("sample_annotation", box.token)
            if record["num_lidar_pts"] >= 30:
                inside = points_in_box(box, cloud.points[:3], wlh_factor=1.15)
                index = loaded.lidarseg_name2idx_mapping[record["category_name"]]
                held.append((raw[inside] == index).sum() / record["num_lidar_pts"])
        for channel in ("CAM_FRONT", "CAM_BACK"):
            path, boxes, intrinsic = loaded.get_sample_data(sample["data"][channel])
            assert Path(path).is_file()
            assert intrinsic.shape == (3, 3)
            assert boxes
    assert len(held) > 20
    assert np.median(held) > 0.95
    mask = loaded.map[0]["mask"].mask()
    assert set(np.unique(mask)) == {0, 255}
    scene = loaded.scene[0]
    position = loaded.get("ego_pose", loaded.get("sample_data", token)["ego_pose_token"])
    assert scene["nbr_samples"] == 2
    assert loaded.map[1]["mask"].is_on_mask(*position["translation"][:2]).all()
