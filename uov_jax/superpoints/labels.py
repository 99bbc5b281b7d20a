"""Pseudo labels: the superpoint of every point and its word, one compact file a keyframe.

The file is an npz (`np.load(path, allow_pickle=False)` opens it):

    header          uint8[n]    JSON: format version, teacher, hashes, keyframe, sweep
    superpoint      uint8[2, N] number + 1 of every point's superpoint, 0 for none: low bytes, high
                                bytes
    word            int32[S]    word of every superpoint, -1 for none

The reference writes int32[N] in `SWEEP_lidarseg.npy`, SWEEP the LiDAR's `sample_data` token:
superpoint number * 100 + raw label of its word, -1 for none. Those are written and read too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from uov_jax.contents import is_zip, parse_json, parse_npy, parse_npz
from uov_jax.datasets.keyframe import CAMERAS, LIDAR, NUSCENES_RIG, Keyframe, Rig
from uov_jax.dumps.folder import DumpSource, settings_identity
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import (
    ABSENT,
    DAMAGE,
    ManifestFile,
    byte_planes,
    file_sizes,
    from_byte_planes,
    read_bytes,
    refuse_empty,
    write_atomically,
    write_npz,
)
from uov_jax.superpoints.grouping import PointSuperpoints
from uov_jax.vocabulary import Vocabulary
from uov_jax.vocabulary.vocabulary import NUSCENES_RAW_LABELS

FORMAT_VERSION = 1
MANIFEST_VERSION = 2
LARGEST_NUMBER = 65_535  # of superpoints in a file
REFERENCE_ENDING = "_lidarseg.npy"
REFERENCE_BASE = 100  # superpoint number * 100 + raw label
Format = Literal["native", "npy"]


class PseudoLabelError(InputError):
    """Pseudo labels are corrupt, or not those asked for; the message names file and cause."""


class MissingPseudoLabelsError(MissingFileError):
    """Keyframes have no pseudo labels; the message says how many, which, and how to make them."""


@dataclasses.dataclass(frozen=True)
class PseudoLabelManifest:
    """What all pseudo labels of a folder have in common, kept in its `superpoints.json`.

    Attributes:
        teacher: whose masks they come from.
        weights_hash: sha256 of its weights, "" where it has none or the dumps do not say.
        vocabulary: name of the dictionary.
        vocabulary_hash: `Vocabulary.hash` of it.
        format: "native" or "npy".
        format_version: of the manifest.
        settings: as in `DumpManifest`.
        lidar: channel of the sweeps.
        cameras: channels of the cameras, a later one's masks over an earlier one's.

    """

    teacher: str
    weights_hash: str
    vocabulary: str
    vocabulary_hash: str
    format: Format = "native"
    format_version: int = MANIFEST_VERSION
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    lidar: str = LIDAR
    cameras: tuple[str, ...] = CAMERAS

    def __post_init__(self) -> None:
        """Make the fields what they are once read back: JSON has lists, but no tuples."""
        object.__setattr__(self, "cameras", tuple(self.cameras))

    @property
    def rig(self) -> Rig:
        """The sensors whose points and images were joined."""
        return Rig(self.lidar, self.cameras)

    @classmethod
    def of_dumps(
        cls,
        dumps: DumpSource,
        vocabulary: Vocabulary,
        format: Format,
        rig: Rig = NUSCENES_RIG,
    ) -> PseudoLabelManifest:
        """The manifest of labels of a rig's sweeps, made from dumps of that vocabulary."""
        manifest = getattr(dumps, "manifest", None)
        return cls(
            dumps.teacher,
            manifest.weights_hash if manifest else "",
            vocabulary.name,
            vocabulary.hash,
            format,
            settings=manifest.settings if manifest else {},
            lidar=rig.lidar,
            cameras=rig.cameras,
        )


def _of_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Of a time when there was nuScenes' rig alone."""
    return content | {"format_version": MANIFEST_VERSION}


MANIFEST = ManifestFile(
    "superpoints.json",
    PseudoLabelManifest,
    MANIFEST_VERSION,
    "pseudo labels",
    "make them with scripts/make_superpoints.py, or give the folder that holds a superpoints.json "
    f"(or the reference's *{REFERENCE_ENDING})",
    "make them again into a new folder",
    PseudoLabelError,
    {1: _of_version_1},
)


class PseudoLabels(Protocol):
    """What training reads pseudo labels from (`open_pseudo_labels`)."""

    root: Path

    def identity(self) -> dict[str, str]:
        """Teacher and hashes that a run on these labels is bound to."""
        ...

    def __contains__(self, keyframe: Keyframe) -> bool:
        """Whether a keyframe has its file."""
        ...

    def labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """uint8[num_points]: the evaluation class of every point, 0 for none."""
        ...

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """MissingPseudoLabelsError unless every keyframe has its file."""
        ...


class PseudoLabelFolder:
    """A folder of pseudo labels with a manifest, of either format."""

    def __init__(self, root: str | Path, vocabulary: Vocabulary) -> None:
        """Open an existing folder.

        Raises:
            MissingFileError: no manifest in it.
            PseudoLabelError: a manifest that cannot be read, is newer, or of another vocabulary.

        """
        self.root = Path(root)
        self.vocabulary = vocabulary
        self.manifest = MANIFEST.read(self.root)
        if self.manifest.vocabulary_hash != vocabulary.hash:
            raise PseudoLabelError(
                f"{self.root / MANIFEST.name}: made with another vocabulary "
                f"({self.manifest.vocabulary!r}, hash {self.manifest.vocabulary_hash[:12]}..., "
                f"expected {vocabulary.name!r}, {vocabulary.hash[:12]}...)"
            )

    @classmethod
    def create(
        cls, root: str | Path, manifest: PseudoLabelManifest, vocabulary: Vocabulary
    ) -> PseudoLabelFolder:
        """Make a folder, or go on with one that an earlier run left with the same manifest.

        Raises:
            PseudoLabelError: it holds labels of another teacher, weights, vocabulary or format.

        """
        MANIFEST.create(Path(root), manifest)
        return cls(root, vocabulary)

    def identity(self) -> dict[str, str]:
        """Teacher, hashes and another rig than nuScenes', to which a run on these is bound."""
        return settings_identity(self.manifest.settings) | {
            "teacher": self.manifest.teacher,
            "teacher_weights": self.manifest.weights_hash,
            "vocabulary": self.manifest.vocabulary_hash,
            **self.manifest.rig.identity(),
        }

    def path(self, keyframe: Keyframe) -> Path:
        """Where the labels of a keyframe lie, or will lie."""
        if self.manifest.format == "npy":
            return reference_path(self.root, keyframe)
        return self.root / f"{keyframe.token}.npz"

    def __contains__(self, keyframe: Keyframe) -> bool:
        """Whether a keyframe has its file."""
        return self.path(keyframe).is_file()

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """Refuse keyframes that have no labels here.

        Raises:
            MissingPseudoLabelsError: some have no file; counts them.
            PseudoLabelError: they are of another rig.

        """
        for keyframe in keyframes:
            if keyframe.rig != self.manifest.rig:
                raise PseudoLabelError(
                    f"{self.root / MANIFEST.name}: labels of {self.manifest.rig}, but wanted are "
                    f"those of {keyframe.rig}: make these into another folder"
                )
        _check(keyframes, self.path)

    def write(self, keyframe: Keyframe, points: PointSuperpoints) -> int:
        """Write one keyframe's labels; returns the file's bytes.

        Raises:
            PseudoLabelError: more superpoints than the file can number.

        """
        path = self.path(keyframe)
        if len(points.groups.word) > LARGEST_NUMBER:
            raise PseudoLabelError(
                f"{path}: {len(points.groups.word)} superpoints of the keyframe {keyframe.token}, "
                f"the file numbers up to {LARGEST_NUMBER}: name fewer cameras"
            )
        if self.manifest.format == "npy":
            codes = reference_codes(points, self.vocabulary)
            write_atomically(path, lambda file: np.save(file, codes, allow_pickle=False))
            return path.stat().st_size
        arrays = {
            "header": np.frombuffer(json.dumps(self._header(keyframe)).encode(), np.uint8),
            "superpoint": byte_planes(points.number + 1, 2),
            "word": points.groups.word.astype("<i4"),
        }
        return write_npz(path, arrays, stored={"header"})

    def raw_labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """int32[num_points]: the raw label of every point, -1 for none.

        Raises:
            MissingPseudoLabelsError: there is no file.
            PseudoLabelError: it is corrupt, of another teacher, keyframe or number of points.

        """
        path = self.path(keyframe)
        if self.manifest.format == "npy":
            return read_reference_labels(path, num_points, self.vocabulary.num_raw_labels)
        number, word = self._read(path, keyframe, num_points)
        raw = np.append(self.vocabulary.word_raw_index, np.int32(-1))
        return np.append(raw[word], np.int32(-1))[number]

    def labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """uint8[num_points]: the evaluation class of every point, 0 for none; errors likewise."""
        return evaluation_labels(self.raw_labels(keyframe, num_points), self.vocabulary)

    def _header(self, keyframe: Keyframe) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            **self.identity(),
            "keyframe": keyframe.token,
            "sweep": keyframe.lidar_token,
        }

    def _read(
        self, path: Path, keyframe: Keyframe, num_points: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """int32[N] superpoint of every point and int32[S] words, checked."""
        content = _read_labels(path)
        if not is_zip(content):
            raise PseudoLabelError(
                f"{path}: corrupt or truncated pseudo labels: {len(content)} bytes "
                "without the directory that ends every complete file: delete it and make it again"
            )
        try:
            arrays = parse_npz(content)
            header = parse_json(arrays["header"].tobytes())
            number = from_byte_planes(arrays["superpoint"]).astype(np.int32) - 1
            word = arrays["word"].astype(np.int32, casting="same_kind")
        except DAMAGE as error:
            raise PseudoLabelError(
                f"{path}: corrupt or truncated pseudo labels: {error}"
            ) from error
        expected = self._header(keyframe)
        if header != expected:
            raise PseudoLabelError(f"{path}: written for {header}, expected {expected}")
        _check_length(path, number, num_points)
        if (
            word.ndim != 1
            or (number.size and number.max() >= len(word))
            or (word.size and not -1 <= word.min() <= word.max() < len(self.vocabulary))
        ):
            raise PseudoLabelError(
                f"{path}: superpoints or words out of range: {len(word)} superpoints, "
                f"{len(self.vocabulary)} words in the vocabulary"
            )
        return number, word


class ReferencePseudoLabels:
    """A folder of the reference's `SWEEP_lidarseg.npy`, which say nothing of their teacher."""

    def __init__(self, root: str | Path, vocabulary: Vocabulary) -> None:
        """Use an existing folder; the vocabulary gives the classes of raw labels."""
        self.root = Path(root)
        self.vocabulary = vocabulary

    def identity(self) -> dict[str, str]:
        """Nothing is known of the teacher."""
        return {"teacher": "reference"}

    def __contains__(self, keyframe: Keyframe) -> bool:
        """Whether a keyframe has its file."""
        return reference_path(self.root, keyframe).is_file()

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """MissingPseudoLabelsError unless every keyframe has its file."""
        _check(keyframes, lambda keyframe: reference_path(self.root, keyframe))

    def raw_labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """int32[num_points]: the raw label of every point, -1 for none."""
        path = reference_path(self.root, keyframe)
        return read_reference_labels(path, num_points, self.vocabulary.num_raw_labels)

    def labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """uint8[num_points]: the evaluation class of every point, 0 for none."""
        return evaluation_labels(self.raw_labels(keyframe, num_points), self.vocabulary)


def open_pseudo_labels(root: str | Path, vocabulary: Vocabulary) -> PseudoLabels:
    """Open a folder of `scripts/make_superpoints.py`, or one that the reference wrote.

    Raises:
        MissingFileError: it is neither.
        PseudoLabelError: it was made with another vocabulary.

    """
    root = Path(root)
    if not (root / MANIFEST.name).is_file() and next(root.glob(f"[!.]*{REFERENCE_ENDING}"), None):
        return ReferencePseudoLabels(root, vocabulary)
    return PseudoLabelFolder(root, vocabulary)


def reference_path(root: Path, keyframe: Keyframe) -> Path:
    """The reference's file of a keyframe."""
    return root / f"{keyframe.lidar_token}{REFERENCE_ENDING}"


def reference_codes(points: PointSuperpoints, vocabulary: Vocabulary) -> np.ndarray:
    """int32[N]: superpoint number * 100 + raw label, -1 where there is no mask with a word."""
    word = points.groups.word
    code = np.arange(len(word), dtype=np.int32) * REFERENCE_BASE
    code += vocabulary.word_raw_index[word]
    code = np.where(word >= 0, code, -1).astype(np.int32)
    return np.append(code, np.int32(-1))[points.number]


def read_reference_labels(
    path: Path, num_points: int, num_raw_labels: int = NUSCENES_RAW_LABELS
) -> np.ndarray:
    """int32[num_points]: raw labels of one of the reference's files, -1 for none.

    Raises:
        PseudoLabelError: it is corrupt, of another length, or holds what is no such code.

    """
    content = _read_labels(path)
    try:
        codes = parse_npy(content)
    except DAMAGE as error:
        raise PseudoLabelError(f"{path}: corrupt or truncated pseudo labels: {error}") from error
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise PseudoLabelError(
            f"{path}: {codes.dtype} of shape {codes.shape}, expected one integer a point"
        )
    _check_length(path, codes, num_points)
    raw = np.where(codes >= 0, codes % REFERENCE_BASE, -1).astype(np.int32)
    wrong = np.flatnonzero((codes < -1) | (raw >= num_raw_labels))
    if wrong.size:
        raise PseudoLabelError(
            f"{path}: {codes[wrong[0]]} at point {wrong[0]}, expected -1 or a superpoint number * "
            f"{REFERENCE_BASE} + a raw label 0..{num_raw_labels - 1}"
        )
    return raw


def evaluation_labels(raw: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """uint8[N]: evaluation class of raw labels int32[N]; 0 for those without one and for -1."""
    return np.where(raw >= 0, vocabulary.raw_to_eval[raw], 0).astype(np.uint8)


def _check_length(path: Path, labels: np.ndarray, num_points: int) -> None:
    if len(labels) != num_points:
        raise PseudoLabelError(
            f"{path}: {len(labels)} labels, but the sweep has {num_points} points"
        )


def _check(keyframes: Sequence[Keyframe], path: Callable[[Keyframe], Path]) -> None:
    paths = [path(keyframe) for keyframe in keyframes]
    sizes = file_sizes(paths, "pseudo labels")
    missing = np.flatnonzero(sizes < 0)
    if len(missing):
        raise _missing(paths[missing[0]], len(missing), len(keyframes))
    again = "delete them, and make them again with scripts/make_superpoints.py"
    refuse_empty(paths, sizes, "pseudo labels", again, PseudoLabelError)


def _read_labels(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except ABSENT as error:
        raise _missing(path, 1, 1) from error


def _missing(first: Path, number: int, total: int) -> MissingPseudoLabelsError:
    return MissingPseudoLabelsError(
        f"{first}: {number} of {total} keyframes have no pseudo labels, this is the first: run "
        "scripts/make_superpoints.py with their split and this folder as --output (it goes on "
        "where it stopped)"
    )
