"""A dataset in nuScenes' format: its scenes, splits and keyframes."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from uov_jax.datasets.keyframe import NUSCENES_RIG, CameraView, Keyframe, Pose, Rig
from uov_jax.datasets.nuscenes_index import Index, TableError, open_index
from uov_jax.datasets.splits import read_own_splits, scenes_of_split
from uov_jax.errors import MissingFileError

logger = logging.getLogger(__name__)


class DatasetMissingError(MissingFileError):
    """The dataset is not where it was looked for; the message says how to get it."""


class NuScenesTables:
    """The tables of one version folder of a dataset in nuScenes' format."""

    def __init__(
        self,
        root: str | Path,
        version: str = "v1.0-trainval",
        rig: Rig = NUSCENES_RIG,
    ) -> None:
        """Find the dataset; its tables are read when scenes or keyframes are asked for.

        Args:
            root: the dataset.
            version: folder of its tables.
            rig: which of its sensors the keyframes show.

        Raises:
            DatasetMissingError: no such folder or no tables in it.

        """
        self.root = Path(root)
        self.version = version
        self.rig = rig
        self.folder = self.root / version
        if not (self.folder / "scene.json").is_file():
            raise DatasetMissingError(_how_to_get(self.root, version))
        self._own_splits = read_own_splits(self.folder / "splits.json")
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """The tables as columns (TableError if they are incomplete or malformed)."""
        if self._index is None:
            self._index = open_index(self.folder)
        return self._index

    @property
    def scene_names(self) -> list[str]:
        """Names of all scenes, in the order of the scene table."""
        return [name.decode() for name in self.index.scene_name]

    def keyframes(self, split: str | Sequence[str]) -> Keyframes:
        """All keyframes of a split (see `splits.scenes_of_split`), scene by scene, in time order.

        Raises:
            InputError: the split is unknown, or the dataset has none of its scenes.
            TableError: a record that is needed is missing or malformed.

        """
        place = f"{self.folder}"
        wanted = set(scenes_of_split(split, self.scene_names, self._own_splits, place))
        index = self.index
        chosen = [number for number, name in enumerate(self.scene_names) if name in wanted]
        for number in chosen:
            if index.scene_problem[number]:
                raise self._error("sample", index.scene_problem[number].decode())
        ranges = [np.arange(*index.scene_first[number : number + 2]) for number in chosen]
        rows = np.concatenate([np.zeros(0, np.int64), *ranges])
        self._check(rows)
        logger.info("%s: %s has %d scenes, %d keyframes", place, split, len(wanted), len(rows))
        return Keyframes(_Sensors(index, self.root, self.rig), rows)

    def _check(self, rows: np.ndarray) -> None:
        """TableError unless every keyframe has the views that are asked for, with their poses."""
        index, channels = self.index, [name.decode() for name in self.index.channel]
        for channel in (self.rig.lidar, *self.rig.cameras):
            option = "lidar" if channel == self.rig.lidar else "cameras"
            name_others = f"name others with --{option}, in recipes config.data.{option}"
            if channel not in channels:
                raise self._error(
                    "sensor",
                    f"no channel {channel}, there are {', '.join(channels)}: {name_others}",
                )
            views = index.view[rows, channels.index(channel)]
            if (views < 0).any():
                row = rows[np.argmax(views < 0)]
                raise self._error(
                    "sample_data",
                    f"no key frame of {channel} for the sample {index.sample_token[row].decode()} "
                    f"of {self.scene_names[_scene(index, row)]}, and for {(views < 0).sum()} of "
                    f"{len(rows)} samples in all: {name_others}, or leave those scenes out",
                )
            lacking = views[np.isnan(index.view_pose[views, 0])]
            if len(lacking):
                raise self._error(
                    "ego_pose",
                    f"{len(lacking)} records that key frames of {channel} need are missing: "
                    f"{index.view_pose_token[lacking[0]].decode()}",
                )
            sensors = np.unique(index.view_sensor[views])
            wrong = sensors[np.isnan(index.sensor_intrinsic[sensors, 0, 0])]
            if channel in self.rig.cameras and len(wrong):
                raise self._error(
                    "calibrated_sensor",
                    f"record {index.sensor_token[wrong[0]].decode()} of {channel}: "
                    "camera_intrinsic is not 3 x 3",
                )
            empty = views[(index.view_size[views] <= 0).any(axis=1)]
            if channel in self.rig.cameras and len(empty):
                width, height = index.view_size[empty[0]]
                raise self._error(
                    "sample_data",
                    f"record {index.view_token[empty[0]].decode()} of {channel}: an image of "
                    f"{width} x {height} pixels (width, height)",
                )

    def _error(self, table: str, message: str) -> TableError:
        return TableError(f"{self.folder / table}.json: {message}")


def _scene(index: Index, row: int) -> int:
    return int(np.searchsorted(index.scene_first, row, side="right")) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class _Sensors:
    """Where the keyframes of a rig come from."""

    index: Index
    root: Path
    rig: Rig

    def keyframe(self, row: int) -> Keyframe:
        index = self.index
        view = self._view(row, self.rig.lidar)
        label_file = index.label_file[view].decode()
        return Keyframe(
            token=index.sample_token[row].decode(),
            scene=index.scene_name[_scene(index, row)].decode(),
            lidar_path=self.root / index.view_file[view].decode(),
            lidar_token=index.view_token[view].decode(),
            sensor_to_ego=_pose(index.sensor_pose[index.view_sensor[view]]),
            ego_to_global=_pose(index.view_pose[view]),
            cameras=_Cameras(self, row),
            lidarseg_path=self.root / label_file if label_file else None,
            rig=self.rig,
        )

    def camera(self, row: int, channel: str) -> CameraView:
        index, view = self.index, self._view(row, channel)
        sensor = index.view_sensor[view]
        width, height = index.view_size[view].tolist()
        return CameraView(
            channel=channel,
            token=index.view_token[view].decode(),
            path=self.root / index.view_file[view].decode(),
            intrinsic=np.array(index.sensor_intrinsic[sensor]),
            sensor_to_ego=_pose(index.sensor_pose[sensor]),
            ego_to_global=_pose(index.view_pose[view]),
            width=width,
            height=height,
        )

    @functools.cached_property
    def _column(self) -> dict[str, int]:
        """The column of every channel."""
        return {name.decode(): number for number, name in enumerate(self.index.channel)}

    def _view(self, row: int, channel: str) -> int:
        return int(self.index.view[row, self._column[channel]])


def _pose(row: np.ndarray) -> Pose:
    w, x, y, z, *translation = row.tolist()
    return Pose((w, x, y, z), (translation[0], translation[1], translation[2]))


class _Cameras(Sequence[CameraView]):
    """The camera views of one keyframe, made when they are first looked at."""

    def __init__(self, sensors: _Sensors, row: int) -> None:
        self._sensors, self._row = sensors, row
        self._made: dict[str, CameraView] = {}

    def __len__(self) -> int:
        return len(self._sensors.rig.cameras)

    @overload
    def __getitem__(self, number: int) -> CameraView: ...

    @overload
    def __getitem__(self, number: slice) -> tuple[CameraView, ...]: ...

    def __getitem__(self, number: int | slice) -> CameraView | tuple[CameraView, ...]:
        chosen = self._sensors.rig.cameras[number]
        if isinstance(chosen, str):
            return self._view(chosen)
        return tuple(map(self._view, chosen))

    def _view(self, channel: str) -> CameraView:
        if channel not in self._made:
            self._made[channel] = self._sensors.camera(self._row, channel)
        return self._made[channel]


class Keyframes(Sequence[Keyframe]):
    """Keyframes of a dataset, made when they are looked at; a process needs no memory for them."""

    def __init__(self, sensors: _Sensors, rows: np.ndarray) -> None:
        """`rows` int64[n] of the dataset's index."""
        self._sensors, self._rows = sensors, rows

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Keyframe: ...

    @overload
    def __getitem__(self, number: slice) -> Keyframes: ...

    def __getitem__(self, number: int | slice) -> Keyframe | Keyframes:
        """One keyframe, or a part of them."""
        if isinstance(number, slice):
            return Keyframes(self._sensors, self._rows[number])
        return self._sensors.keyframe(int(self._rows[number]))

    def __iter__(self) -> Iterator[Keyframe]:
        """One after the other."""
        return map(self._sensors.keyframe, self._rows.tolist())

    def __add__(self, others: Keyframes) -> Keyframes:
        """The keyframes of two splits of the same dataset."""
        own, other = self._sensors, others._sensors
        if other.index is not own.index or other.rig != own.rig:
            raise ValueError("keyframes of two datasets, or two rigs, cannot be joined")
        return Keyframes(self._sensors, np.concatenate([self._rows, others._rows]))

    def tokens(self) -> list[str]:
        """The `sample` token of every keyframe."""
        return [token.decode() for token in self._sensors.index.sample_token[self._rows]]


def _how_to_get(root: Path, version: str) -> str:
    if not root.is_dir():
        found = "there is no such folder"
    else:
        versions = sorted(path.parent.name for path in root.glob("[!.]*/scene.json"))
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
