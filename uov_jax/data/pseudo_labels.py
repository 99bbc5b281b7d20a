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
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from uov_jax.data.dump import DumpSource, settings_identity
from uov_jax.data.npz_file import (
    DAMAGE,
    byte_planes,
    from_byte_planes,
    write_atomically,
    write_npz,
)
from uov_jax.data.nuscenes import NUM_RAW_LABELS, Keyframe
from uov_jax.data.superpoints import PointSuperpoints
from uov_jax.vocabulary import Vocabulary

FORMAT_VERSION = 1
MANIFEST = "superpoints.json"
REFERENCE_ENDING = "_lidarseg.npy"
REFERENCE_BASE = 100  # superpoint number * 100 + raw label
Format = Literal["native", "npy"]


class PseudoLabelError(ValueError):
    """Pseudo labels are corrupt, or not those asked for; the message names file and cause."""


class MissingPseudoLabelsError(FileNotFoundError):
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
        format_version: of the files.
        settings: as in `DumpManifest`.

    """

    teacher: str
    weights_hash: str
    vocabulary: str
    vocabulary_hash: str
    format: Format = "native"
    format_version: int = FORMAT_VERSION
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_dumps(
        cls, dumps: DumpSource, vocabulary: Vocabulary, format: Format
    ) -> PseudoLabelManifest:
        """The manifest of labels made from dumps of that vocabulary."""
        manifest = getattr(dumps, "manifest", None)
        return cls(
            dumps.teacher,
            manifest.weights_hash if manifest else "",
            vocabulary.name,
            vocabulary.hash,
            format,
            settings=manifest.settings if manifest else {},
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

    def raw_labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """int32[num_points]: the raw label of every point, -1 for none."""
        ...

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """MissingPseudoLabelsError unless every keyframe has its file."""
        ...


class PseudoLabelFolder:
    """A folder of pseudo labels with a manifest, of either format."""

    def __init__(self, root: str | Path, vocabulary: Vocabulary) -> None:
        """Open an existing folder.

        Raises:
            FileNotFoundError: no manifest in it.
            PseudoLabelError: a manifest that cannot be read, is newer, or of another vocabulary.

        """
        self.root = Path(root)
        self.vocabulary = vocabulary
        self.manifest = _read_manifest(self.root / MANIFEST)
        if self.manifest.vocabulary_hash != vocabulary.hash:
            raise PseudoLabelError(
                f"{self.root / MANIFEST}: made with another vocabulary "
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
        path = Path(root) / MANIFEST
        if path.is_file():
            earlier = _read_manifest(path)
            if earlier != manifest:
                raise PseudoLabelError(
                    f"{path}: the folder holds labels of {earlier}, not of {manifest}: give "
                    "another folder"
                )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps(dataclasses.asdict(manifest), indent=1).encode()
            write_atomically(path, lambda file: file.write(content))
        return cls(root, vocabulary)

    def identity(self) -> dict[str, str]:
        """Teacher and hashes that a run on these labels is bound to."""
        return settings_identity(self.manifest.settings) | {
            "teacher": self.manifest.teacher,
            "teacher_weights": self.manifest.weights_hash,
            "vocabulary": self.manifest.vocabulary_hash,
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
        """MissingPseudoLabelsError unless every keyframe has its file."""
        _check(self.root, keyframes, self.path)

    def write(self, keyframe: Keyframe, points: PointSuperpoints) -> int:
        """Write one keyframe's labels; returns the file's bytes."""
        path = self.path(keyframe)
        if self.manifest.format == "npy":
            codes = reference_codes(points, self.vocabulary)
            write_atomically(path, lambda file: np.save(file, codes, allow_pickle=False))
            return path.stat().st_size
        arrays = {
            "header": np.frombuffer(json.dumps(self._header(keyframe)).encode(), np.uint8),
            "superpoint": byte_planes(points.number + 1, 2),
            "word": points.word.astype("<i4"),
        }
        return write_npz(path, arrays, stored={"header"})

    def raw_labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """int32[num_points]: the raw label of every point, -1 for none.

        Raises:
            MissingPseudoLabelsError: there is no file.
            PseudoLabelError: it is corrupt, of another teacher, keyframe or number of points.

        """
        path = self.path(keyframe)
        if not path.is_file():
            raise _missing(path, 1, 1)
        if self.manifest.format == "npy":
            return read_reference_labels(path, num_points)
        number, word = self._read(path, keyframe, num_points)
        raw = np.append(self.vocabulary.word_raw_index, np.int32(-1))
        return np.append(raw[word], np.int32(-1))[number]

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
        if not zipfile.is_zipfile(path):
            raise PseudoLabelError(
                f"{path}: corrupt or truncated pseudo labels: {path.stat().st_size} bytes without "
                "the directory that ends every complete file: delete it and make it again"
            )
        try:
            # Opened here since numpy leaves its own handle open when the zip is damaged.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                number = from_byte_planes(archive["superpoint"]).astype(np.int32) - 1
                word = archive["word"].astype(np.int32, casting="same_kind")
        except DAMAGE as error:
            raise PseudoLabelError(
                f"{path}: corrupt or truncated pseudo labels: {error}"
            ) from error
        expected = self._header(keyframe)
        if header != expected:
            raise PseudoLabelError(f"{path}: written for {header}, expected {expected}")
        _check_length(path, number, num_points)
        if (number.size and number.max() >= len(word)) or (
            word.size and not -1 <= word.min() <= word.max() < len(self.vocabulary)
        ):
            raise PseudoLabelError(
                f"{path}: superpoints or words out of range: {len(word)} superpoints, "
                f"{len(self.vocabulary)} words in the vocabulary"
            )
        return number, word


class ReferencePseudoLabels:
    """A folder of the reference's `SWEEP_lidarseg.npy`, which say nothing of their teacher."""

    def __init__(self, root: str | Path) -> None:
        """Use an existing folder."""
        self.root = Path(root)

    def identity(self) -> dict[str, str]:
        """Nothing is known of the teacher."""
        return {"teacher": "reference"}

    def __contains__(self, keyframe: Keyframe) -> bool:
        """Whether a keyframe has its file."""
        return reference_path(self.root, keyframe).is_file()

    def check(self, keyframes: Sequence[Keyframe]) -> None:
        """MissingPseudoLabelsError unless every keyframe has its file."""
        _check(self.root, keyframes, lambda keyframe: reference_path(self.root, keyframe))

    def raw_labels(self, keyframe: Keyframe, num_points: int) -> np.ndarray:
        """int32[num_points]: the raw label of every point, -1 for none."""
        path = reference_path(self.root, keyframe)
        if not path.is_file():
            raise _missing(path, 1, 1)
        return read_reference_labels(path, num_points)


def open_pseudo_labels(root: str | Path, vocabulary: Vocabulary) -> PseudoLabels:
    """Open a folder of `scripts/make_superpoints.py`, or one that the reference wrote.

    Raises:
        FileNotFoundError: it is neither.
        PseudoLabelError: it was made with another vocabulary.

    """
    root = Path(root)
    if not (root / MANIFEST).is_file() and next(root.glob(f"*{REFERENCE_ENDING}"), None):
        return ReferencePseudoLabels(root)
    return PseudoLabelFolder(root, vocabulary)


def reference_path(root: Path, keyframe: Keyframe) -> Path:
    """The reference's file of a keyframe."""
    return root / f"{keyframe.lidar_token}{REFERENCE_ENDING}"


def reference_codes(points: PointSuperpoints, vocabulary: Vocabulary) -> np.ndarray:
    """int32[N]: superpoint number * 100 + raw label, -1 where there is no mask with a word."""
    code = np.arange(len(points.word), dtype=np.int32) * REFERENCE_BASE
    code += vocabulary.word_raw_index[points.word]
    code = np.where(points.word >= 0, code, -1).astype(np.int32)
    return np.append(code, np.int32(-1))[points.number]


def read_reference_labels(path: Path, num_points: int) -> np.ndarray:
    """int32[num_points]: raw labels of one of the reference's files, -1 for none.

    Raises:
        PseudoLabelError: it is corrupt, of another length, or holds what is no such code.

    """
    try:
        with path.open("rb") as file:
            codes = np.lib.format.read_array(file, allow_pickle=False)
    except DAMAGE as error:
        raise PseudoLabelError(f"{path}: corrupt or truncated pseudo labels: {error}") from error
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise PseudoLabelError(
            f"{path}: {codes.dtype} of shape {codes.shape}, expected one integer a point"
        )
    _check_length(path, codes, num_points)
    raw = np.where(codes >= 0, codes % REFERENCE_BASE, -1).astype(np.int32)
    wrong = np.flatnonzero((codes < -1) | (raw >= NUM_RAW_LABELS))
    if wrong.size:
        raise PseudoLabelError(
            f"{path}: {codes[wrong[0]]} at point {wrong[0]}, expected -1 or a superpoint number * "
            f"{REFERENCE_BASE} + a raw label 0..{NUM_RAW_LABELS - 1}"
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


def _check(root: Path, keyframes: Sequence[Keyframe], path: Callable[[Keyframe], Path]) -> None:
    present = set(os.listdir(root))
    missing = [keyframe for keyframe in keyframes if path(keyframe).name not in present]
    if missing:
        raise _missing(path(missing[0]), len(missing), len(keyframes))


def _missing(first: Path, number: int, total: int) -> MissingPseudoLabelsError:
    return MissingPseudoLabelsError(
        f"{first}: {number} of {total} keyframes have no pseudo labels, this is the first: run "
        "scripts/make_superpoints.py with their split and this folder as --output (it goes on "
        "where it stopped)"
    )


def _read_manifest(path: Path) -> PseudoLabelManifest:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no pseudo labels here: make them with scripts/make_superpoints.py, or give "
            f"the folder that holds a {MANIFEST} (or the reference's *{REFERENCE_ENDING})"
        )
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format_version"] > FORMAT_VERSION:
            raise PseudoLabelError(
                f"{path}: format version {content['format_version']}, this program reads up to "
                f"{FORMAT_VERSION}: update uov_jax"
            )
        return PseudoLabelManifest(**content)
    except PseudoLabelError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise PseudoLabelError(f"{path}: not a manifest of pseudo labels: {error}") from error
