"""OpenScene's fused features as they are published: read, merged, and kept as a folder of ours.

    SCENE.pt, or SCENE_0.pt ... SCENE_4.pt     torch.save of a dictionary:
        feat       half [V, D], of the points that are seen in their order; old files [V, D, 1]
        mask_full  bool [N], the points that have a feature; tensor or numpy array
        mask       of old files: feat then has a row for every point of mask_full, and these rows,
                   as numbers or as bool, are the ones that have a feature

A scene in several files has 20,000 points of chance in each, of one fusion; OpenScene draws a file
in every epoch. Here they are merged: a point has its feature once. Who trains draws as many visible
points as are wanted from all of them, of which the files are one draw.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE
from uov_jax.pickled import read_pickled

CHUNK = re.compile(r"(?P<scene>.+)_(?P<chunk>\d)")
KEYS, LEGACY_KEYS = {"feat", "mask_full"}, {"feat", "mask_full", "mask"}


class OpenSceneFeatures:
    """A folder of published features.

    Attributes:
        root: the folder.

    """

    def __init__(self, root: str | Path) -> None:
        """List the files.

        Raises:
            MissingFileError: there are none.

        """
        self.root = Path(root)
        self._paths = sorted(self.root.glob("*.pt"))
        if not self._paths:
            raise MissingFileError(
                f"{self.root}: no files SCENE.pt or SCENE_0.pt here: name the folder that "
                "OpenScene's archive was unpacked into"
            )

    def has(self, scene: str) -> bool:
        """Whether there is a file of a scene."""
        return bool(self.files(scene))

    def files(self, scene: str) -> list[Path]:
        """The files of a scene: one, or its chunks in order. ScanNet's names end in numbers too."""
        whole = [path for path in self._paths if path.stem == scene]
        if whole:
            return whole
        matches = [(CHUNK.fullmatch(path.stem), path) for path in self._paths]
        return [path for match, path in matches if match and match["scene"] == scene]

    def identity(self, scene: str) -> str:
        """sha256 of the sizes of a scene's files and of the checksums in them, in hexadecimal.

        A .pt file is a zip archive with a checksum of each of its parts; one of the older form
        has none, its size must do. No features are read.

        Raises:
            MissingFileError: there is no file of it.

        """
        found = hashlib.sha256()
        for path in self._files_of(scene):
            found.update(f"\n{path.name}: {path.stat().st_size}".encode())
            with contextlib.suppress(*DAMAGE), zipfile.ZipFile(path) as archive:
                for part in archive.infolist():
                    found.update(f"\n{part.filename}: {part.CRC}".encode())
        return found.hexdigest()

    def read(self, scene: str, points: int) -> tuple[np.ndarray, np.ndarray]:
        """uint16[N], 1 for points with a feature, and float16[V, D] of those in their order.

        Args:
            scene: its name.
            points: N, that it must have.

        Raises:
            MissingFileError: there is no file of it.
            InputError: a file is none of OpenScene's, of another scene, or holds something else;
                or chunks are of different fusions. Names the file.

        """
        files = self._files_of(scene)
        numbers = [path.stem for path in files if path.stem != scene]
        for number, stem in enumerate(numbers):
            if stem != f"{scene}_{number}":
                raise MissingFileError(
                    f"{self.root / scene}_{number}.pt: missing, though there is {stem}.pt: copy "
                    "all files of the scene"
                )
        rows, features = read_file(files[0], points)
        for path in files[1:]:
            more, others = read_file(path, points)
            rows, features = _merged(rows, features, more, others, path)
        views = np.zeros(points, np.uint16)
        views[rows] = 1
        return views, features

    def _files_of(self, scene: str) -> list[Path]:
        """`files`, of which there must be one."""
        files = self.files(scene)
        if not files:
            raise MissingFileError(f"{self.root / scene}.pt: no features of the scene, nor _0.pt")
        return files

    def embedding_size(self, scenes: Sequence[str]) -> int:
        """D, as in the first file of the first of some scenes that there is.

        Raises:
            MissingFileError: there is none of these scenes.

        """
        for scene in scenes:
            if self.has(scene):
                return int(_content(self.files(scene)[0])["feat"].shape[1])
        raise MissingFileError(
            f"{self.root}: of {len(scenes)} rooms none has features here, whose files are called "
            f"as {self._paths[0].name} is"
        )


def read_file(path: Path, points: int) -> tuple[np.ndarray, np.ndarray]:
    """int64[V], points in order, and float16[V, D], their features, of one file.

    Raises:
        InputError: the file is none of OpenScene's, or of another scene; names it.

    """
    content = _content(path)
    feat, mask = content["feat"], content["mask_full"]
    if len(mask) != points:
        raise InputError(f"{path}: features of a scene of {len(mask)} points, not of {points}")
    rows = np.flatnonzero(mask)
    if len(feat) != len(rows):
        raise InputError(f"{path}: {len(feat)} features, but mask_full has {len(rows)} points")
    if "mask" in content:
        chosen = _chosen(path, content["mask"], len(feat))
        rows, feat = rows[chosen], feat[chosen]
    if not np.isfinite(feat).all():
        raise InputError(f"{path}: a feature is not finite")
    return rows, np.asarray(feat, np.float16)


def _content(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays: `feat` of two axes, `mask_full` of truth values, `mask` of old files."""
    pickled = read_pickled(path)
    if pickled.left_out:
        raise InputError(
            f"{path}: it holds {pickled.left_out[0]}, which is not made here: expected tensors and "
            "arrays alone"
        )
    content = pickled.content
    if not isinstance(content, dict) or set(content) not in (KEYS, LEGACY_KEYS):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content)
        raise InputError(f"{path}: expected feat and mask_full, found {found}")
    arrays = {name: np.asarray(value) for name, value in content.items()}
    feat, mask = arrays["feat"], arrays["mask_full"]
    if feat.ndim == 3:
        feat = arrays["feat"] = feat[..., 0]
    if feat.ndim != 2 or feat.dtype not in (np.float16, np.float32) or mask.ndim != 1:
        raise InputError(
            f"{path}: expected feat half [V, D] and mask_full bool [N], found {feat.dtype} "
            f"{list(feat.shape)} and {mask.dtype} {list(mask.shape)}"
        )
    if mask.dtype != np.bool_:
        if mask.dtype.kind not in "iu" or not np.isin(mask, (0, 1)).all():
            raise InputError(f"{path}: mask_full is of {mask.dtype}, expected true and false")
        arrays["mask_full"] = mask.astype(bool)
    return arrays


def _chosen(path: Path, mask: np.ndarray, rows: int) -> np.ndarray:
    """int64: rows of `feat` that have a feature, in order, as numbers or truth values say."""
    # PyTorch takes bytes for truth values too.
    if mask.dtype in (np.bool_, np.uint8) and mask.shape == (rows,):
        return np.flatnonzero(mask)
    if mask.dtype.kind in "iu" and mask.ndim == 1:
        chosen = np.unique(mask.astype(np.int64))
        if not len(chosen) or 0 <= chosen[0] <= chosen[-1] < rows:
            return chosen
    raise InputError(
        f"{path}: mask is {mask.dtype} {list(mask.shape)}, expected rows of the {rows} of feat"
    )


def _merged(
    rows: np.ndarray, features: np.ndarray, more: np.ndarray, others: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Points and features of both, each once; where they share a point they must agree."""
    if others.shape[1] != features.shape[1]:
        raise InputError(
            f"{path}: features of {others.shape[1]} numbers, {features.shape[1]} in the first file "
            "of the scene"
        )
    shared, here, there = np.intersect1d(rows, more, assume_unique=True, return_indices=True)
    differ = (features[here].view(np.uint16) != others[there].view(np.uint16)).any(axis=1)
    if differ.any():
        point = shared[np.argmax(differ)]
        raise InputError(
            f"{path}: another feature of point {point} than in the scene's files before it: these "
            "are of different fusions, keep those of one"
        )
    new = np.ones(len(more), bool)
    new[there] = False
    rows, features = np.concatenate([rows, more[new]]), np.concatenate([features, others[new]])
    order = np.argsort(rows)
    return rows[order], features[order]
