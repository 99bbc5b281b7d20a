"""Predicted labels in the datasets' own formats, and submissions to their benchmark servers."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from uov_jax.data.nuscenes import Keyframe
from uov_jax.data.semantickitti import labels_of_classes, read_classes


class LabelFiles(Protocol):
    """The label format of a dataset, for the sweeps of one of its splits.

    Attributes:
        benchmark: name of the benchmark and its server.
        benchmark_sweeps: sweeps of the benchmark's validation split.
        points_per_sweep: about.
        bytes_per_point: of the labels.

    """

    benchmark: str
    benchmark_sweeps: int
    points_per_sweep: int
    bytes_per_point: int

    def path(self, index: int) -> Path:
        """The file of a sweep, relative to the folder of a submission."""
        ...

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """Evaluation classes uint8[N] as they are stored; ValueError for other classes."""
        ...

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: the evaluation classes of a file that `encode` filled."""
        ...

    def describe(self, folder: Path) -> list[Path]:
        """Write what a submission holds beside the labels; the files, relative to the folder."""
        ...


class NuScenesLabelFiles:
    """`lidarseg/SPLIT/TOKEN_lidarseg.bin`: uint8, classes 1..16, as nuScenes' challenge takes them.

    The format of `nuscenes.eval.lidarseg` of nuscenes-devkit: TOKEN is the sweep's `sample_data`
    token, and `SPLIT/submission.json` says which sensors were used.
    """

    benchmark = "nuScenes lidarseg"
    benchmark_sweeps = 6019
    points_per_sweep = 34_700
    bytes_per_point = 1
    num_classes = 17

    def __init__(self, keyframes: Sequence[Keyframe], split: str) -> None:
        """The keyframes of a split, such as "val"."""
        self.keyframes = list(keyframes)
        self.split = split

    def path(self, index: int) -> Path:
        """The file of a keyframe."""
        return Path("lidarseg", self.split, f"{self.keyframes[index].lidar_token}_lidarseg.bin")

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """uint8[N] unchanged; ValueError unless all are 1..16."""
        wrong = np.flatnonzero((classes < 1) | (classes >= self.num_classes))
        if len(wrong):
            raise ValueError(
                f"class {classes[wrong[0]]} of point {wrong[0]} ({len(wrong)} such points): "
                f"{self.benchmark} takes 1 to {self.num_classes - 1} alone"
            )
        return classes.astype(np.uint8)

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: classes 0..16.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has another number of labels, or one beyond 16.

        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such label file")
        labels = np.frombuffer(path.read_bytes(), np.uint8)
        if len(labels) != num_points:
            raise ValueError(f"{path}: {len(labels)} labels, but the sweep has {num_points} points")
        if num_points and labels.max() >= self.num_classes:
            row = int(np.argmax(labels >= self.num_classes))
            raise ValueError(
                f"{path}: label {labels[row]} of point {row}, expected an evaluation class "
                f"0..{self.num_classes - 1}"
            )
        return labels

    def describe(self, folder: Path) -> list[Path]:
        """Write `SPLIT/submission.json`: LiDAR alone is used, and weights from other data."""
        meta = {f"use_{sensor}": sensor == "lidar" for sensor in ("camera", "lidar", "radar")}
        meta |= {"use_map": False, "use_external": True}
        file = folder / self.split / "submission.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"meta": meta}, indent=2) + "\n")
        return [file.relative_to(folder)]


class SemanticKittiLabelFiles:
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

    def path(self, index: int) -> Path:
        """The file of a scan."""
        scan = self.scans[index]
        return Path("sequences", scan.parent.parent.name, "predictions", f"{scan.stem}.label")

    def encode(self, classes: np.ndarray) -> np.ndarray:
        """Little-endian uint32[N]; ValueError for a class beyond 19."""
        return labels_of_classes(classes).astype("<u4")

    def read(self, path: Path, num_points: int) -> np.ndarray:
        """uint8[num_points]: classes 0..19; errors as `read_classes`."""
        return read_classes(path, num_points)

    def describe(self, folder: Path) -> list[Path]:
        """Nothing: labels are all that the server takes."""
        del folder
        return []


def expected_bytes(files: LabelFiles, sweeps: int) -> int:
    """Size of the predictions of so many sweeps, within some percent."""
    return files.bytes_per_point * files.points_per_sweep * sweeps


def write_labels(files: LabelFiles, folder: Path, index: int, classes: np.ndarray) -> Path:
    """Write the classes uint8[N] of a sweep below a folder; temporary name first, then renamed.

    Raises:
        ValueError: a class that the format does not take; names the file.

    """
    path = folder / files.path(index)
    try:
        content = files.encode(classes).tobytes()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def pack_submission(files: LabelFiles, folder: Path, num_sweeps: int) -> Path:
    """Make a folder of predictions a submission, and the zip file beside it that is uploaded.

    Args:
        files: the dataset's format.
        folder: with the predictions of `write_labels`.
        num_sweeps: of the split; each must have its file.

    Raises:
        FileNotFoundError: a sweep has no predictions.

    """
    paths = [files.path(index) for index in range(num_sweeps)]
    missing = [path for path in paths if not (folder / path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]}: {len(missing)} of {len(paths)} predictions of the split are "
            "missing, and a submission needs all of them"
        )
    # These alone: the folder may hold what an earlier evaluation left.
    contents = sorted([*files.describe(folder), *map(Path, paths)])
    archive = folder.with_name(f"{folder.name}.zip")
    temporary = archive.with_name(f".{archive.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            # SemanticKITTI's validator asks for entries of the folders themselves.
            for parent in sorted({parent for path in contents for parent in path.parents[:-1]}):
                file.mkdir(parent.as_posix())
            for path in contents:
                file.write(folder / path, path)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return archive
