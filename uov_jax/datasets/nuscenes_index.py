"""The tables of a dataset in nuScenes' format as columns, read once and then mapped from a cache.

Of the tables' 5 million records a reader needs one in twenty: the key frames of cameras and LiDAR,
with their poses and calibrations. They are kept as columns of numbers and bytes in files that are
mapped into memory, so that every later start takes no time, and worker processes share them.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from uov_jax.errors import InputError
from uov_jax.files import replacing, write_text
from uov_jax.user_cache import user_cache_directory

FORMAT_VERSION = 2
CHUNK = 1 << 24  # bytes of a table that are decoded at a time
TRIED_ENDS = 8  # of objects, from the last one in a piece
MOST_CHUNKS = 64  # that may be read without the end of a record
TABLES = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose", "lidarseg")
RADAR = "radar"
FACTS = "index.json"


class TableError(InputError):
    """The tables are incomplete or malformed; the message names the table and the record."""


Pixels = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class SceneRecord(msgspec.Struct, gc=False):
    """A record of `scene.json`; fields that are not needed are passed over."""

    token: str
    name: str
    first_sample_token: str


class SampleRecord(msgspec.Struct, gc=False):
    """A record of `sample.json`."""

    token: str
    next: str


class SampleDataRecord(msgspec.Struct, gc=False):
    """A record of `sample_data.json`."""

    token: str
    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    is_key_frame: bool
    filename: str
    width: Pixels = 0
    height: Pixels = 0


class SensorRecord(msgspec.Struct, gc=False):
    """A record of `sensor.json`."""

    token: str
    channel: str
    modality: str = ""


class CalibratedSensorRecord(msgspec.Struct, gc=False):
    """A record of `calibrated_sensor.json`."""

    token: str
    sensor_token: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    camera_intrinsic: list[list[float]]


class EgoPoseRecord(msgspec.Struct, gc=False):
    """A record of `ego_pose.json`."""

    token: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]


class LidarsegRecord(msgspec.Struct, gc=False):
    """A record of `lidarseg.json`."""

    sample_data_token: str
    filename: str


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """The key frames of all scenes, scene by scene in the order of time.

    K keyframes, C channels, V views (a channel's file at a keyframe), S calibrated sensors. Bytes
    are UTF-8.

    Attributes:
        scene_name: bytes[scenes], in the order of the scene table.
        scene_first: int64[scenes + 1], where the keyframes of each scene begin.
        scene_problem: bytes[scenes], what is wrong with the scene's chain of samples, or "".
        sample_token: bytes[K].
        channel: bytes[C].
        view: int32[K, C], the view of a channel at a keyframe, -1 where there is none.
        view_token, view_file: bytes[V], `sample_data` token and file below the dataset's root.
        view_sensor: int32[V], row of the calibrated sensor.
        view_pose: float64[V, 7], of the vehicle: rotation w, x, y, z and translation in metres; NaN
            where the table lacks it.
        view_pose_token: bytes[V].
        view_size: int32[V, 2], width and height in pixels.
        label_file: bytes[V], file of the point labels, "" without.
        sensor_token: bytes[S].
        sensor_pose: float64[S, 7], sensor to vehicle, as `view_pose`.
        sensor_intrinsic: float64[S, 3, 3], NaN for a sensor without.

    """

    scene_name: np.ndarray
    scene_first: np.ndarray
    scene_problem: np.ndarray
    sample_token: np.ndarray
    channel: np.ndarray
    view: np.ndarray
    view_token: np.ndarray
    view_file: np.ndarray
    view_sensor: np.ndarray
    view_pose: np.ndarray
    view_pose_token: np.ndarray
    view_size: np.ndarray
    label_file: np.ndarray
    sensor_token: np.ndarray
    sensor_pose: np.ndarray
    sensor_intrinsic: np.ndarray
    folder: Path | None = None
    """Where the columns are mapped from; None for those in memory alone."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes get the folder, not the columns."""
        if self.folder is not None:
            return _map, (self.folder,)
        return _of_columns, (self.columns(),)

    def columns(self) -> dict[str, np.ndarray]:
        """All columns by name."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in dataclasses.fields(Index) if field.name != "folder")


def _of_columns(columns: Mapping[str, Any]) -> Index:
    return Index(**columns)


@functools.lru_cache(maxsize=8)
def _map(folder: Path) -> Index:
    """The index in a folder, which is never written to once it is there."""
    # As plain arrays, mapped all the same: numpy's memmap takes ten times as long to index.
    columns = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in COLUMNS}
    return dataclasses.replace(_of_columns(columns), folder=folder)


def open_index(tables: Path) -> Index:
    """The index of a folder of tables: mapped from the cache, or made and put there.

    The cache is `nuscenes` in the user's cache directory. An index is named after the tables'
    place, sizes and times of change, and never changes: rows that a process was sent stay what they
    were.
    Where it cannot be kept, a warning says so and it is made again at every start.

    Args:
        tables: such as `data/nuscenes/v1.0-trainval`.

    Raises:
        TableError: a table is missing, malformed or lacks a record.

    """
    facts = _facts(tables)
    cache = user_cache_directory()
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = None if cache is None else cache / "nuscenes" / name
    # Not Path.is_dir, which raises where the user may not look.
    if folder is not None and os.path.isdir(folder):  # noqa: PTH112
        try:
            return _map(folder)
        except (OSError, ValueError, EOFError):
            shutil.rmtree(folder, ignore_errors=True)  # Damaged: it is made again.
    index = read_tables(tables)
    try:
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "there is no home directory")
        return _keep(folder, facts, index)
    except OSError as error:
        warnings.warn(
            f"{folder or '~/.cache'}: the index of {tables} cannot be kept there "
            f"({error.strerror or error}); it is made again at every start. XDG_CACHE_HOME names "
            "another folder",
            stacklevel=2,
        )
        return index


def _facts(tables: Path) -> dict[str, Any]:
    """What an index is valid for."""
    found: dict[str, Any] = {"format_version": FORMAT_VERSION, "tables": str(tables.resolve())}
    for name in TABLES:
        path = tables / f"{name}.json"
        if path.is_file():
            status = path.stat()
            found[name] = [status.st_size, status.st_mtime_ns]
    return found


def _keep(folder: Path, facts: Mapping[str, Any], index: Index) -> Index:
    """Put an index into the cache: a folder appears under its name when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as place:
        unfinished = Path(place, "index")
        unfinished.mkdir()
        for name, column in index.columns().items():
            with replacing(unfinished / f"{name}.npy") as temporary:
                np.save(temporary, column, allow_pickle=False)
        write_text(unfinished / FACTS, json.dumps(facts, indent=1))
        if not folder.is_dir():  # Else another process was faster, with the same.
            unfinished.replace(folder)
    return _map(folder)


Record = TypeVar("Record", bound=msgspec.Struct)


def records(path: Path, kind: type[Record]) -> Iterator[list[Record]]:
    """The records of a table, a JSON list of objects, some at a time.

    Memory does not grow with the file: `sample_data` and `ego_pose` of nuScenes hold 2.6 million
    records in about a gigabyte each.

    Raises:
        TableError: the file is not such a list, breaks off, or a record lacks a field; the message
            names the record.

    """
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    done = 0
    with path.open("rb") as file:
        text = file.read(CHUNK).lstrip()
        if not text.startswith(b"["):
            raise TableError(f"{path}: not a JSON list, it begins with {text[:20]!r}")
        text, begins = text[1:], True
        while chunk := file.read(CHUNK):
            text += chunk
            if not begins:
                text, begins = _after_comma(path, text, done)
            found, end, error = _whole_records(decoder, text)
            if isinstance(error, msgspec.ValidationError) or len(text) > MOST_CHUNKS * CHUNK:
                raise _record_error(path, done, error, text)
            if found:
                yield found
                done += len(found)
                text, begins = text[end:], False
        if not begins:
            text, _ = _after_comma(path, text, done)
        found, error = _decode(decoder, b"[" + text)
        if error is not None:
            raise _record_error(path, done, error, text)
        yield found


def _after_comma(path: Path, text: bytes, done: int) -> tuple[bytes, bool]:
    """What follows the comma after a part's last record, and whether something was there at all."""
    text = text.lstrip()
    if text and text[:1] not in b",]":
        raise TableError(
            f"{path}: breaks off or is malformed about record {done}: expected a comma"
        )
    return text.removeprefix(b","), bool(text)


def _whole_records(decoder: Any, text: bytes) -> tuple[list[Any], int, Exception | None]:
    """The records up to an end of an object, where that end is, and the last error.

    A brace in a text, or of an object in an object, is no such end, and does not decode.
    """
    end, error = len(text), None
    for _ in range(TRIED_ENDS):
        end = text.rfind(b"}", 0, end)
        if end < 0:
            break
        found, error = _decode(decoder, b"[" + text[: end + 1] + b"]")
        if error is None:
            return found, end + 1, None
        if isinstance(error, msgspec.ValidationError):
            break
    return [], 0, error


def _decode(decoder: Any, text: bytes) -> tuple[list[Any], Exception | None]:
    try:
        return decoder.decode(text), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [], error


def _record_error(path: Path, done: int, error: Exception | None, text: bytes) -> TableError:
    """Where a table is wrong: the record, if it is one that lacks something."""
    if isinstance(error, msgspec.ValidationError):
        what, _, place = str(error).partition(" - at `$[")
        number = place.partition("]")[0]
        if number.isdigit():
            return TableError(
                f"{path}: record {done + int(number)}: {what}: no such table of nuScenes' format"
            )
        return TableError(f"{path}: {error}")
    count = done + text.count(b"}")
    return TableError(f"{path}: breaks off or is malformed about record {count}: {error}")


def read_tables(tables: Path) -> Index:
    """Read the seven tables that lead from scenes to files and poses.

    Raises:
        TableError: a table is missing, malformed or lacks a record.

    """

    def read(
        name: str, kind: type[Record], which: Callable[[Record], bool] | None = None
    ) -> Iterator[Record]:
        path = tables / f"{name}.json"
        if not path.is_file():
            raise TableError(
                f"{path}: missing: the tables are incomplete, unpack the metadata archive of "
                f"{tables.name} again"
            )
        for some in records(path, kind):
            yield from some if which is None else filter(which, some)

    following = {record.token: record.next for record in read("sample", SampleRecord)}
    scenes = list(read("scene", SceneRecord))
    chains = [_chain(scene, following) for scene in scenes]
    order = [token for chain, _ in chains for token in chain]
    row = {token: number for number, token in enumerate(order)}
    sensors = {record.token: record for record in read("sensor", SensorRecord)}
    calibrations = list(read("calibrated_sensor", CalibratedSensorRecord))
    for calibration in calibrations:
        if calibration.sensor_token not in sensors:
            wanted = calibration.sensor_token
            raise _missing(tables, "sensor", wanted, f"calibrated_sensor {calibration.token}")
        _check_pose(tables, "calibrated_sensor", calibration)
    used = [sensors[calibration.sensor_token] for calibration in calibrations]
    channels = sorted({sensor.channel for sensor in used if sensor.modality != RADAR})
    column = {channel: number for number, channel in enumerate(channels)}
    calibration_row = {c.token: number for number, c in enumerate(calibrations)}

    views: list[SampleDataRecord] = []
    view_of = np.full((len(order), len(channels)), -1, np.int32)
    for record in read("sample_data", SampleDataRecord, lambda record: record.is_key_frame):
        number = calibration_row.get(record.calibrated_sensor_token)
        if number is None:
            wanted = record.calibrated_sensor_token
            raise _missing(tables, "calibrated_sensor", wanted, f"sample_data {record.token}")
        channel = column.get(used[number].channel)
        keyframe = row.get(record.sample_token)
        if channel is not None and keyframe is not None:
            view_of[keyframe, channel] = len(views)
            views.append(record)
    needed = {view.ego_pose_token for view in views}
    poses: dict[str, tuple[float, ...]] = {}
    for pose in read("ego_pose", EgoPoseRecord, lambda record: record.token in needed):
        _check_pose(tables, "ego_pose", pose)
        poses[pose.token] = (*pose.rotation, *pose.translation)
    label_of: dict[str, str] = {}
    # v1.0-test has an empty table: its labels are held back.
    if (tables / "lidarseg.json").is_file():
        label_of = {r.sample_data_token: r.filename for r in read("lidarseg", LidarsegRecord)}
    nowhere = (np.nan,) * 7
    lengths = [len(chain) for chain, _ in chains]
    return Index(
        scene_name=_bytes([scene.name for scene in scenes]),
        scene_first=np.cumsum([0, *lengths]),
        scene_problem=_bytes([problem for _, problem in chains]),
        sample_token=_bytes(order),
        channel=_bytes(channels),
        view=view_of,
        view_token=_bytes([view.token for view in views]),
        view_file=_bytes([view.filename for view in views]),
        view_sensor=np.array(
            [calibration_row[view.calibrated_sensor_token] for view in views], np.int32
        ),
        view_pose=np.array(
            [poses.get(view.ego_pose_token, nowhere) for view in views], np.float64
        ).reshape(-1, 7),
        view_pose_token=_bytes([view.ego_pose_token for view in views]),
        view_size=np.array([(view.width, view.height) for view in views], np.int32).reshape(-1, 2),
        label_file=_bytes([label_of.get(view.token, "") for view in views]),
        sensor_token=_bytes([calibration.token for calibration in calibrations]),
        sensor_pose=np.array(
            [(*c.rotation, *c.translation) for c in calibrations], np.float64
        ).reshape(-1, 7),
        sensor_intrinsic=np.stack([_intrinsic(c) for c in calibrations])
        if calibrations
        else np.zeros((0, 3, 3)),
    )


def _chain(scene: SceneRecord, following: Mapping[str, str]) -> tuple[list[str], str]:
    """The samples of a scene in order, and what is wrong with them, "" if nothing is."""
    chain: dict[str, None] = {}
    token = scene.first_sample_token
    while token:
        if token in chain:
            return [], f"the chain of {scene.name} returns to {token}"
        if token not in following:
            return [], f"no record {token}, which {scene.name} needs"
        chain[token] = None
        token = following[token]
    return list(chain), ""


def _check_pose(tables: Path, table: str, record: EgoPoseRecord | CalibratedSensorRecord) -> None:
    # Of 240,000 records: numpy would take longer than all the reading.
    norm = math.sqrt(sum(value * value for value in record.rotation))
    if not abs(norm - 1) < 1e-3 or not all(map(math.isfinite, record.translation)):
        raise TableError(
            f"{tables / table}.json: record {record.token}: rotation {list(record.rotation)} and "
            f"translation {list(record.translation)} are not a unit quaternion and a vector"
        )


def _missing(tables: Path, table: str, token: str, by: str) -> TableError:
    return TableError(f"{tables / table}.json: no record {token}, which {by} needs")


def _intrinsic(calibration: CalibratedSensorRecord) -> np.ndarray:
    rows = calibration.camera_intrinsic
    if [len(row) for row in rows] != [3, 3, 3]:
        return np.full((3, 3), np.nan)
    return np.array(rows, np.float64)


def _bytes(texts: Sequence[str]) -> np.ndarray:
    """bytes[n], as long as the longest; numpy keeps no empty type."""
    return np.array([text.encode() for text in texts], dtype="S") if texts else np.zeros(0, "S1")
