"""The SemanticKITTI dataset: scans of the KITTI odometry sequences with point labels.

Behley et al. 2019, arXiv 1904.01416. `ROOT/sequences/00/velodyne/000000.bin` holds float32 x 4 a
point, `ROOT/sequences/00/labels/000000.label` uint32 a point: the label in the lower 16 bits, the
instance above. `semantickitti.json` has the dataset's own map of labels to the 19 classes of its
single-scan benchmark, and back, with names and colours (`config/semantic-kitti.yaml` of its API).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.datasets.lidar_file import SEMANTICKITTI_COLUMNS, SweepColumns, read_points
from uov_jax.datasets.required_files import require_labels, require_sweeps
from uov_jax.datasets.splits import step_of_share
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import ABSENT, read_bytes

UNKNOWN = 255


class SemanticKittiMissingError(MissingFileError):
    """The dataset, or a sequence of it, is not where it was looked for."""


class SemanticKittiScans:
    """The scans of a split, with labels where it has them (`LabelledSweeps`).

    The feature is the intensity (remission, 0..1) as stored plus `intensity_offset`.
    """

    ahead = "x"

    def __init__(
        self,
        root: str | Path,
        split: str,
        intensity_offset: float = 0.0,
        columns: SweepColumns = SEMANTICKITTI_COLUMNS,
    ) -> None:
        """List the scans and look for their label files; the sizes of both are checked.

        Args:
            root: the folder with `sequences` in it, or with `dataset/sequences`.
            split: "train" (sequences 00 to 07, 09 and 10), "val" (08), "test" (11 to 21, without
                labels) or one sequence, possibly with a share: "train:1%" keeps every 100th scan in
                the order of sequences and numbers (the 1st, the 101st, ... as SLidR does).
            intensity_offset: added to the feature. SLidR's and UOV's loaders add 1.
            columns: of the scans' files.

        Raises:
            MissingFileError: no dataset, no sequence or no label files there.
            InputError: unknown split or impossible share; scans or label files of a size that
                cannot be.

        """
        self.root = _root(Path(root))
        self.intensity_offset = intensity_offset
        self.columns = columns
        self.classes: tuple[str, ...] = tuple(class_table()["names"])
        self.colors = np.array(class_table()["colors"], np.uint8)
        name, _, share = split.partition(":")
        sequences = class_table()["sequences"]
        known = [number for numbers in sequences.values() for number in numbers]
        if name not in sequences and name not in known:
            raise InputError(
                f"{self.root}: unknown split {name!r}, expected {', '.join(sequences)} or a "
                f"sequence {min(known)} to {max(known)}"
            )
        members = sequences.get(name, [name])
        self.labelled = not set(members) <= set(sequences["test"])
        scans = [path for number in members for path in self._scans_of(number, name)]
        self.scans = sorted(scans)[:: step_of_share(share, split)]
        num_points = require_sweeps(self.scans, columns)
        if self.labelled:
            how_to_get = "unpack data_odometry_labels.zip into the dataset"
            require_labels([label_path(scan) for scan in self.scans], num_points, 4, how_to_get)

    def _scans_of(self, sequence: str, split: str) -> list[Path]:
        folder = self.root / sequence / "velodyne"
        # Not what file managers and archivers leave, such as ._000000.bin.
        scans = [path for path in folder.glob("*.bin") if path.stem.isdecimal()]
        if not scans:
            raise SemanticKittiMissingError(
                f"{folder}: no scans there, but the split {split!r} has the sequence {sequence}: "
                "unpack data_odometry_velodyne.zip completely"
            )
        return scans

    def __len__(self) -> int:
        """Number of scans."""
        return len(self.scans)

    def token(self, index: int) -> str:
        """Sequence and number, such as "08_000123"."""
        path = self.scans[index]
        return f"{path.parent.parent.name}_{path.stem}"

    def path(self, index: int) -> Path:
        """The file of a scan."""
        return self.scans[index]

    def points(self, index: int) -> np.ndarray:
        """float32[N, 4]: x, y, z in metres, intensity plus the offset."""
        points = read_points(self.scans[index], self.columns)
        if self.intensity_offset:
            points = points.copy()
            points[:, 3] += np.float32(self.intensity_offset)
        return points

    def has_labels(self, index: int) -> bool:
        """Whether it is none of the test sequences'."""
        return self.labelled

    def labels(self, index: int, num_points: int) -> np.ndarray | None:
        """uint8[num_points]: classes 0..19; None in the test sequences."""
        return read_classes(label_path(self.scans[index]), num_points) if self.labelled else None

    def seen(self, index: int, points: np.ndarray) -> None:
        """Not known: the colour cameras of KITTI look ahead only, and are not read."""


class SemanticKittiLabelFormat:
    """`sequences/08/predictions/000000.label`: uint32, the dataset's own labels.

    The format of semantic-kitti-api, whose server takes sequences 11 to 21. Classes become labels
    by the dataset's inverse map.
    """

    benchmark = "SemanticKITTI single scan"
    benchmark_sweeps = 4071
    points_per_sweep = 123_000
    bytes_per_point = 4

    def __init__(self, scans: Sequence[Path]) -> None:
        """Scans `.../SEQUENCE/velodyne/NUMBER.bin`."""
        self.scans = list(scans)

    @property
    def official_classes(self) -> tuple[str, ...]:
        """Names of the benchmark's classes, the first one ignored."""
        return tuple(class_table()["names"])

    def path(self, index: int) -> Path:
        """The file of a scan."""
        scan = self.scans[index]
        return Path("sequences", scan.parent.parent.name, "predictions", f"{scan.stem}.label")

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """Little-endian uint32[N]; InputError for a class beyond 19."""
        return labels_of_classes(classes).astype("<u4")

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: classes 0..19; errors as `read_classes`."""
        return read_classes(path, num_points)

    def describe(self, folder: Path) -> list[Path]:
        """Nothing: labels are all that the server takes."""
        del folder
        return []


@functools.cache
def class_table() -> dict[str, Any]:
    """Contents of `semantickitti.json`."""
    file = resources.files("uov_jax.datasets").joinpath("semantickitti.json")
    table: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return table


@functools.cache
def _class_of_label() -> np.ndarray:
    """uint8[65536]: class of every 16-bit label, UNKNOWN where the dataset has no such label."""
    lookup = np.full(1 << 16, UNKNOWN, np.uint8)
    for label, number in class_table()["class_of_label"].items():
        lookup[int(label)] = number
    return lookup


def label_path(scan: Path) -> Path:
    """The label file that belongs to a scan."""
    return scan.parent.parent / "labels" / f"{scan.stem}.label"


def read_classes(path: str | Path, num_points: int) -> np.ndarray:
    """uint8[num_points]: the class 0..19 of every point, instances left out.

    Raises:
        MissingFileError: there is no such file.
        InputError: it holds another number of labels, or one that the dataset does not have.

    """
    path = Path(path)
    try:
        content = read_bytes(path)
    except ABSENT as error:
        raise MissingFileError(f"{path}: no such label file") from error
    if len(content) != 4 * num_points:
        raise InputError(
            f"{path}: {len(content)} bytes, expected {4 * num_points} (a uint32 for each of the "
            f"scan's {num_points} points)"
        )
    labels = (np.frombuffer(content, "<u4") & 0xFFFF).astype(np.uint16)
    classes = _class_of_label()[labels]
    if (classes == UNKNOWN).any():
        row = int(np.flatnonzero(classes == UNKNOWN)[0])
        raise InputError(
            f"{path}: label {labels[row]} of point {row} is none of the dataset's "
            f"{len(class_table()['class_of_label'])} labels"
        )
    return classes


def labels_of_classes(classes: np.ndarray) -> np.ndarray:
    """uint32[N]: the labels that a submission holds for classes 0..19 (InputError for others)."""
    table = np.array(class_table()["label_of_class"], np.uint32)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(table):
        raise InputError(
            f"classes {classes.min()} to {classes.max()}, expected 0 to {len(table) - 1}"
        )
    return table[classes]


def _root(root: Path) -> Path:
    """The folder `sequences` of a dataset."""
    for folder in (root / "sequences", root / "dataset" / "sequences"):
        if folder.is_dir():
            return folder
    raise SemanticKittiMissingError(
        f"{root}: no SemanticKITTI here, expected a folder `sequences` in it.\n"
        "To get it: from https://www.cvlibs.net/datasets/kitti/eval_odometry.php the velodyne "
        "laser data (data_odometry_velodyne.zip, 80 GB), from http://semantic-kitti.org the labels "
        f"(data_odometry_labels.zip, 179 MB), and unpack both into {root.parent}."
    )
