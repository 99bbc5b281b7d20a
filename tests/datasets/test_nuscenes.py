"""The nuScenes reader: keyframes from tables, sweeps, labels, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_dataset import HEIGHT, WIDTH, write_dataset
from uov_jax.datasets.keyframe import CAMERAS, Pose, Rig
from uov_jax.datasets.nuscenes import NuScenesSweeps, read_lidarseg, true_classes
from uov_jax.datasets.nuscenes_index import TableError
from uov_jax.datasets.nuscenes_tables import DatasetMissingError, NuScenesTables
from uov_jax.datasets.sweeps import labelled_indices
from uov_jax.errors import InputError
from uov_jax.vocabulary import load_vocabulary

VERSION = "v1.0-mini"


def test_keyframes_follow_scenes_and_time(tiny_root):
    tables = NuScenesTables(tiny_root, VERSION)
    assert tables.scene_names == ["scene-0061", "scene-0103"]
    keyframes = tables.keyframes("mini_train")
    assert [k.token for k in keyframes] == ["scene-0061-sample-0", "scene-0061-sample-1"]
    assert [k.scene for k in tables.keyframes("mini_val")] == ["scene-0103"] * 2
    first = keyframes[0]
    assert tuple(camera.channel for camera in first.cameras) == CAMERAS
    assert {(camera.width, camera.height) for camera in first.cameras} == {(WIDTH, HEIGHT)}
    assert first.lidar_path.is_file()
    assert first.lidarseg_path.is_file()
    assert all(camera.path.is_file() for camera in first.cameras)
    assert first.ego_to_global.translation == (400.0, 1100.0, 0.0)
    assert first.cameras[0].ego_to_global.translation == (400.2, 1100.0, 0.0)
    assert first.cameras[0].intrinsic.dtype == np.float64


def test_own_splits_are_read_from_the_version_folder(tmp_path):
    root = write_dataset(tmp_path, version="v1.0-sim", scenes=("street-1",), keyframes=1)
    (root / "v1.0-sim" / "splits.json").write_text('{"sim_train": ["street-1"]}')
    assert len(NuScenesTables(root, "v1.0-sim").keyframes("sim_train")) == 1


def test_without_the_label_table_there_are_no_labels(tmp_path):
    root = write_dataset(tmp_path, keyframes=1, lidarseg=False)
    assert NuScenesTables(root, VERSION).keyframes("mini_train")[0].lidarseg_path is None


def test_an_empty_label_table_means_that_labels_are_held_back(tmp_path):
    root = write_dataset(tmp_path, keyframes=1, change=lambda t: t["lidarseg"].clear())
    assert NuScenesTables(root, VERSION).keyframes("mini_train")[0].lidarseg_path is None


def test_sweeps_without_a_record_of_labels_have_none(tmp_path):
    """The others keep theirs."""
    root = write_dataset(tmp_path, unlabelled=["scene-0061-sample-1"])
    first, second = NuScenesTables(root, VERSION).keyframes("mini_train")
    assert read_lidarseg(first.lidarseg_path, 400).shape == (400,)
    assert second.lidarseg_path is None
    assert true_classes(second, 400, load_vocabulary()) is None
    sweeps = NuScenesSweeps([first, second], load_vocabulary())
    assert labelled_indices(sweeps) == [0]
    assert sweeps.labels(1, 400) is None


def test_an_empty_label_file_is_refused(tmp_path):
    root = write_dataset(tmp_path, keyframes=1)
    (keyframe,) = NuScenesTables(root, VERSION).keyframes("mini_train")
    keyframe.lidarseg_path.write_bytes(b"")
    with pytest.raises(InputError, match=r"_lidarseg.bin: 0 labels, but the sweep has 400 points"):
        true_classes(keyframe, 400, load_vocabulary())


SIZES = {"CAM_B": (120, 150), "CAM_A": (90, 160)}
OTHER = Rig("LIDAR_FRONT", ("CAM_A", "CAM_B"))


def test_keyframes_show_the_sensors_that_are_named(tmp_path):
    root = write_dataset(tmp_path, lidar="LIDAR_FRONT", cameras=SIZES)
    keyframe = NuScenesTables(root, VERSION, OTHER).keyframes("mini_train")[0]
    assert keyframe.rig == OTHER
    assert keyframe.lidar_token == "scene-0061-sample-0-LIDAR_FRONT"
    assert keyframe.points().shape == (400, 4)
    assert [view.channel for view in keyframe.cameras] == ["CAM_A", "CAM_B"]
    assert [(view.height, view.width) for view in keyframe.cameras] == [(90, 160), (120, 150)]
    assert keyframe.lidarseg_path.name == "scene-0061-sample-0-LIDAR_FRONT_lidarseg.bin"
    alone = NuScenesTables(root, VERSION, Rig("LIDAR_FRONT", ())).keyframes("mini_train")
    assert len(alone[0].cameras) == 0
    assert NuScenesSweeps(alone, load_vocabulary()).seen(0, alone[0].points()) is None
    with pytest.raises(ValueError, match="two rigs, cannot be joined"):
        alone + NuScenesTables(root, VERSION, OTHER).keyframes("mini_val")


@pytest.mark.parametrize(
    ("rig", "message"),
    [
        (
            Rig(),
            "sensor.json: no channel LIDAR_TOP, there are CAM_A, CAM_B, LIDAR_FRONT: name others "
            "with --lidar, in recipes config.data.lidar",
        ),
        (
            Rig("LIDAR_FRONT"),
            "sensor.json: no channel CAM_FRONT, there are .*: name others with --cameras, in "
            "recipes config.data.cameras",
        ),
        (Rig("LIDAR_FRONT", ("LIDAR_FRONT",)), "of LIDAR_FRONT: camera_intrinsic is not 3 x 3"),
    ],
)
def test_sensors_that_a_dataset_lacks_are_refused_by_name(tmp_path, rig, message):
    root = write_dataset(tmp_path, lidar="LIDAR_FRONT", cameras=SIZES)
    with pytest.raises(TableError, match=message):
        NuScenesTables(root, VERSION, rig).keyframes("mini_train")


def test_keyframes_that_lack_a_camera_are_counted(tmp_path):
    lacking = remove("sample_data", "scene-0061-sample-1-CAM_B")
    root = write_dataset(tmp_path, lidar="LIDAR_FRONT", cameras=SIZES, change=lacking)
    message = (
        "no key frame of CAM_B for the sample scene-0061-sample-1 of scene-0061, and for 1 of 2 "
        "samples in all: name others with --cameras, in recipes config.data.cameras, or leave"
    )
    with pytest.raises(TableError, match=message):
        NuScenesTables(root, VERSION, OTHER).keyframes("mini_train")
    fewer = Rig("LIDAR_FRONT", ("CAM_A",))
    assert len(NuScenesTables(root, VERSION, fewer).keyframes("mini_train")) == 2


def test_a_camera_without_a_size_is_refused(tmp_path):
    root = write_dataset(tmp_path, change=spoil("sample_data", "width", 0))
    message = r"sample-0-CAM_FRONT of CAM_FRONT: an image of 0 x 90 pixels \(width, height\)"
    with pytest.raises(TableError, match=message):
        NuScenesTables(root, VERSION).keyframes("mini_train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("LIDAR_TOP", ("CAM_A", "CAM_A")), "the camera CAM_A is named twice: CAM_A, CAM_A"),
        (("", ()), "'' is no sensor's channel"),
        (
            ("LIDAR_TOP", ("CAM_A,CAM_B",)),
            r"'CAM_A,CAM_B' is no sensor's .* --config.data.cameras=\"\('CAM_A', 'CAM_B'\)",
        ),
    ],
)
def test_names_that_are_none_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        Rig(*names)


def test_a_missing_dataset_says_how_to_get_one(tmp_path):
    with pytest.raises(DatasetMissingError) as caught:
        NuScenesTables(tmp_path / "nowhere")
    message = str(caught.value)
    assert "there is no such folder" in message
    for help_ in ("nuscenes.org", "v1.0-trainval_meta.tgz", "scripts/simulate.py", "make train"):
        assert help_ in message


def test_another_version_lists_those_there_are(tiny_root):
    with pytest.raises(DatasetMissingError, match=r"v1.0-trainval \(it has the versions v1.0-mini"):
        NuScenesTables(tiny_root)


def remove(table, token):
    def change(tables):
        tables[table][:] = [record for record in tables[table] if record["token"] != token]

    return change


LIDAR_TOKEN = "scene-0061-sample-1-LIDAR_TOP"


@pytest.mark.parametrize(
    ("table", "token", "message"),
    [
        ("sample", "scene-0061-sample-1", "sample.json: no record scene-0061-sample-1"),
        ("sample_data", LIDAR_TOKEN, "sample_data.json: no key frame of LIDAR_TOP .*sample-1"),
        (
            "sample_data",
            "scene-0061-sample-0-CAM_BACK",
            "sample_data.json: no key frame of CAM_BACK for the sample scene-0061-sample-0",
        ),
        ("ego_pose", f"pose-{LIDAR_TOKEN}", f"ego_pose.json: 1 records .*: pose-{LIDAR_TOKEN}"),
        ("sensor", "sensor-CAM_BACK", "sensor.json: no record sensor-CAM_BACK"),
        (
            "calibrated_sensor",
            "calibration-CAM_BACK",
            "calibrated_sensor.json: no record calibration-CAM_BACK",
        ),
    ],
)
def test_missing_records_are_named_with_their_table(tmp_path, table, token, message):
    root = write_dataset(tmp_path, change=remove(table, token))
    with pytest.raises(TableError, match=message):
        NuScenesTables(root, VERSION).keyframes("mini_train")


@pytest.mark.parametrize("table", ["sample", "sample_data", "calibrated_sensor", "ego_pose"])
def test_missing_tables_are_named(tmp_path, table):
    root = write_dataset(tmp_path)
    (root / VERSION / f"{table}.json").unlink()
    with pytest.raises(TableError, match=rf"{table}.json: missing: the tables are incomplete"):
        NuScenesTables(root, VERSION).keyframes("mini_train")


def test_a_truncated_table_is_named(tmp_path):
    root = write_dataset(tmp_path)
    path = root / VERSION / "ego_pose.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(TableError, match=r"ego_pose.json: breaks off .* about record 27"):
        NuScenesTables(root, VERSION).keyframes("mini_train")


def spoil(table, field, value):
    def change(tables):
        for record in tables[table]:
            record[field] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("ego_pose", "rotation", [1, 1, 0, 0]), "ego_pose.json: record .*not a unit quat"),
        (spoil("ego_pose", "translation", [1, 1]), "ego_pose.json: record 0: .* of length 3"),
        (spoil("calibrated_sensor", "camera_intrinsic", []), "CAM_FRONT: camera_intrinsic"),
        (
            lambda t: t["sample"][0].pop("next"),
            "sample.json: record 0: .*missing required field `next`",
        ),
        (lambda t: t["sample"][1].update(next="scene-0061-sample-0"), "scene-0061 returns to"),
    ],
)
def test_malformed_records_are_named(tmp_path, change, message):
    root = write_dataset(tmp_path, change=change)
    with pytest.raises(TableError, match=message):
        NuScenesTables(root, VERSION).keyframes("mini_train")


def test_sweeps_and_labels_are_read(tiny_keyframes):
    keyframe = tiny_keyframes[0]
    points = keyframe.points()
    assert points.shape == (400, 4)
    assert points.dtype == np.float32
    labels = read_lidarseg(keyframe.lidarseg_path, len(points))
    assert labels.shape == (400,)
    assert labels.dtype == np.uint8


def test_labels_of_another_length_or_class_are_refused(tmp_path):
    path = tmp_path / "lidarseg.bin"
    np.array([0, 31, 32], np.uint8).tofile(path)
    with pytest.raises(ValueError, match="3 labels, but the sweep has 4 points"):
        read_lidarseg(path, 4)
    with pytest.raises(ValueError, match="label 32 of point 2, expected 0..31"):
        read_lidarseg(path, 3)


def test_missing_labels_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nuScenes-lidarseg"):
        read_lidarseg(tmp_path / "x.bin", 3)


def test_rotation_matrices_are_rotations_and_ignore_the_quaternions_norm():
    rng = np.random.default_rng(0)
    for _ in range(20):
        quaternion = rng.normal(size=4)
        matrix = Pose(tuple(quaternion), (0, 0, 0)).matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_allclose(Pose(tuple(-3 * quaternion), (0, 0, 0)).matrix, matrix)
    half = np.sqrt(0.5)
    turn = Pose((half, 0, 0, half), (0, 0, 0)).matrix  # 90 degrees about z: x becomes y
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
