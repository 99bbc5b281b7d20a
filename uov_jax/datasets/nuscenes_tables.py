"""The tables of a dataset in nuScenes' format: from scenes to keyframes, their files and poses."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.datasets.json_records import json_records
from uov_jax.datasets.keyframe import CAMERAS, LIDAR, CameraView, Keyframe, Pose
from uov_jax.datasets.splits import read_own_splits, scenes_of_split
from uov_jax.errors import InputError, MissingFileError

logger = logging.getLogger(__name__)


class DatasetMissingError(MissingFileError):
    """The dataset is not where it was looked for; the message says how to get it."""


class TableError(InputError):
    """The tables are incomplete or malformed; the message names the table and the token."""


class NuScenesTables:
    """The tables of one version folder of a dataset in nuScenes' format.

    Only the seven tables that lead from scenes to files and poses are read, and of `sample_data`
    and `ego_pose` only what belongs to keyframes of the LiDAR and the six cameras is kept.
    """

    def __init__(self, root: str | Path, version: str = "v1.0-trainval") -> None:
        """Read the scene table; the others are read when keyframes are asked for.

        Raises:
            DatasetMissingError: no such folder or no tables in it.
            TableError: a table cannot be read.

        """
        self.root = Path(root)
        self.version = version
        self.folder = self.root / version
        if not (self.folder / "scene.json").is_file():
            raise DatasetMissingError(_how_to_get(self.root, version))
        self._scenes = list(self._records("scene"))
        self._own_splits = read_own_splits(self.folder / "splits.json")
        self._loaded: _LoadedTables | None = None

    @property
    def scene_names(self) -> list[str]:
        """Names of all scenes, in the order of the scene table."""
        return [self._field("scene", scene, "name") for scene in self._scenes]

    def keyframes(self, split: str | Sequence[str]) -> list[Keyframe]:
        """All keyframes of a split (see `splits.scenes_of_split`), scene by scene, in time order.

        Raises:
            InputError: the split is unknown, or the dataset has none of its scenes.
            TableError: a record that is needed is missing or malformed.

        """
        names = self.scene_names
        place = f"{self.folder}"
        wanted = set(scenes_of_split(split, names, self._own_splits, place))
        if self._loaded is None:
            self._loaded = self._load()
        keyframes: list[Keyframe] = []
        for scene in self._scenes:
            if scene["name"] in wanted:
                keyframes.extend(self._keyframes_of_scene(scene, self._loaded))
        logger.info("%s: %s has %d scenes, %d keyframes", place, split, len(wanted), len(keyframes))
        return keyframes

    def _keyframes_of_scene(self, scene: dict[str, Any], tables: _LoadedTables) -> list[Keyframe]:
        keyframes: list[Keyframe] = []
        seen = set()
        token = self._field("scene", scene, "first_sample_token")
        while token:
            if token in seen:
                raise self._error("sample", f"the chain of {scene['name']} returns to {token}")
            seen.add(token)
            if token not in tables.next_sample:
                raise self._error("sample", f"no record {token}, which {scene['name']} needs")
            keyframes.append(self._keyframe(token, scene["name"], tables))
            token = tables.next_sample[token]
        return keyframes

    def _keyframe(self, token: str, scene: str, tables: _LoadedTables) -> Keyframe:
        views = tables.views.get(token, {})
        for channel in (LIDAR, *CAMERAS):
            if channel not in views:
                raise self._error(
                    "sample_data", f"no key frame of {channel} for the sample {token} of {scene}"
                )
        lidar = views[LIDAR]
        lidarseg_path = None
        if tables.lidarseg is not None:
            if lidar.token not in tables.lidarseg:
                raise self._error(
                    "lidarseg", f"no record for the sweep {lidar.token} of the sample {token}"
                )
            lidarseg_path = self.root / tables.lidarseg[lidar.token]
        return Keyframe(
            token=token,
            scene=scene,
            lidar_path=self.root / lidar.filename,
            lidar_token=lidar.token,
            sensor_to_ego=tables.sensors[lidar.sensor].pose,
            ego_to_global=tables.ego_poses[lidar.ego_pose],
            cameras=tuple(self._camera_view(c, views[c], tables) for c in CAMERAS),
            lidarseg_path=lidarseg_path,
        )

    def _camera_view(self, channel: str, view: _View, tables: _LoadedTables) -> CameraView:
        sensor = tables.sensors[view.sensor]
        return CameraView(
            channel=channel,
            token=view.token,
            path=self.root / view.filename,
            intrinsic=sensor.intrinsic,
            sensor_to_ego=sensor.pose,
            ego_to_global=tables.ego_poses[view.ego_pose],
            width=view.width,
            height=view.height,
        )

    def _load(self) -> _LoadedTables:
        def field(table: str, record: dict[str, Any], name: str) -> Any:
            return self._field(table, record, name)

        next_sample = {
            field("sample", record, "token"): field("sample", record, "next")
            for record in self._records("sample")
        }
        channels = {
            field("sensor", record, "token"): field("sensor", record, "channel")
            for record in self._records("sensor")
        }
        sensors = self._load_sensors(channels)
        views: dict[str, dict[str, _View]] = {}
        needed_poses = set()
        for record in self._records("sample_data"):
            if not field("sample_data", record, "is_key_frame"):
                continue
            view = self._view(record)
            if view.sensor not in sensors:
                raise self._error(
                    "calibrated_sensor", f"no record {view.sensor}, sample_data {view.token}"
                )
            channel = sensors[view.sensor].channel
            if channel == LIDAR or channel in CAMERAS:
                views.setdefault(record["sample_token"], {})[channel] = view
                needed_poses.add(view.ego_pose)
        ego_poses = {}
        for record in self._records("ego_pose"):
            if field("ego_pose", record, "token") in needed_poses:
                ego_poses[record["token"]] = self._pose("ego_pose", record)
        missing = needed_poses - ego_poses.keys()
        if missing:
            raise self._error(
                "ego_pose",
                f"{len(missing)} records that key frames need are missing: {min(missing)}",
            )
        return _LoadedTables(next_sample, sensors, views, ego_poses, self._load_lidarseg())

    def _load_sensors(self, channels: dict[str, str]) -> dict[str, _Sensor]:
        sensors = {}
        for record in self._records("calibrated_sensor"):
            token = self._field("calibrated_sensor", record, "token")
            sensor_token = self._field("calibrated_sensor", record, "sensor_token")
            if sensor_token not in channels:
                raise self._error("sensor", f"no record {sensor_token}, calibrated_sensor {token}")
            channel = channels[sensor_token]
            intrinsic = np.array(self._field("calibrated_sensor", record, "camera_intrinsic"))
            if channel in CAMERAS and intrinsic.shape != (3, 3):
                raise self._error(
                    "calibrated_sensor",
                    f"record {token} of {channel}: camera_intrinsic is not 3 x 3",
                )
            pose = self._pose("calibrated_sensor", record)
            sensors[token] = _Sensor(channel, pose, intrinsic.astype(np.float64))
        return sensors

    def _load_lidarseg(self) -> dict[str, str] | None:
        # v1.0-test has an empty table: its labels are held back.
        if not (self.folder / "lidarseg.json").is_file():
            return None
        paths = {
            self._field("lidarseg", record, "sample_data_token"): record["filename"]
            for record in self._records("lidarseg")
        }
        return paths or None

    def _view(self, record: dict[str, Any]) -> _View:
        names = (
            "token",
            "filename",
            "calibrated_sensor_token",
            "ego_pose_token",
            "width",
            "height",
            "sample_token",
        )
        values = [self._field("sample_data", record, name) for name in names]
        return _View(*values[:-1])

    def _pose(self, table: str, record: dict[str, Any]) -> Pose:
        rotation = self._field(table, record, "rotation")
        translation = self._field(table, record, "translation")
        norm = float(np.linalg.norm(rotation)) if len(rotation) == 4 else np.nan
        if len(translation) != 3 or not abs(norm - 1) < 1e-3 or not np.isfinite(translation).all():
            raise self._error(
                table,
                f"record {record['token']}: rotation {rotation} and translation {translation} are "
                "not a unit quaternion and a vector",
            )
        return Pose(tuple(rotation), tuple(translation))

    def _records(self, table: str) -> Any:
        path = self.folder / f"{table}.json"
        if not path.is_file():
            raise TableError(
                f"{path}: missing: the tables are incomplete, unpack the metadata archive of "
                f"{self.version} again"
            )
        try:
            yield from json_records(path)
        except ValueError as error:
            raise TableError(str(error)) from error

    def _field(self, table: str, record: dict[str, Any], name: str) -> Any:
        if name not in record:
            raise self._error(table, f"record {record.get('token', record)} has no {name!r}")
        return record[name]

    def _error(self, table: str, message: str) -> TableError:
        return TableError(f"{self.folder / table}.json: {message}")


@dataclasses.dataclass(frozen=True)
class _View:
    token: str
    filename: str
    sensor: str
    ego_pose: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Sensor:
    channel: str
    pose: Pose
    intrinsic: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _LoadedTables:
    next_sample: dict[str, str]
    sensors: dict[str, _Sensor]
    views: dict[str, dict[str, _View]]  # by sample token and channel
    ego_poses: dict[str, Pose]
    lidarseg: dict[str, str] | None  # file name by sample_data token


def _how_to_get(root: Path, version: str) -> str:
    if not root.is_dir():
        found = "there is no such folder"
    else:
        versions = sorted(path.parent.name for path in root.glob("*/scene.json"))
        found = f"it has the versions {', '.join(versions)}" if versions else "it has no tables"
    return (
        f"{root}: no nuScenes dataset of version {version} ({found}).\n"
        "To get nuScenes: register at https://www.nuscenes.org/nuscenes, download of "
        '"Full dataset (v1.0)" the metadata (v1.0-trainval_meta.tgz), the keyframe blobs '
        "(v1.0-trainval01_keyframes.tgz to v1.0-trainval10_keyframes.tgz, 42 GB) and "
        "nuScenes-lidarseg (nuScenes-lidarseg-all-v1.0.tar.bz2), or to try it v1.0-mini.tgz (4 GB) "
        f"and nuScenes-lidarseg-mini-v1.0.tar.bz2, and unpack them all into {root}.\n"
        "To go on without: `python scripts/simulate.py --output DIR` writes a simulated drive in "
        "the same format (version v1.0-sim), and `make train` does that and trains on it."
    )
