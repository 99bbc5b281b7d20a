"""A folder of teacher dumps: one file a keyframe, a manifest, the embeddings of the words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uov_jax.contents import parse_npz
from uov_jax.datasets.keyframe import CAMERAS, Keyframe, Rig
from uov_jax.dumps.file import (
    HOW_TO_RENEW,
    DumpError,
    TeacherDump,
    read_dump,
    write_dump,
)
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import (
    DAMAGE,
    ManifestFile,
    file_sizes,
    read_bytes,
    refuse_empty,
    write_atomically,
)
from uov_jax.vocabulary import Vocabulary

MANIFEST_VERSION = 3
DUMP_AGAIN = "delete them, and run scripts/dump_teacher.py again with this folder as --output"
TEXT_EMBEDDINGS = "text_embeddings.npz"


class MissingDumpError(MissingFileError):
    """Keyframes have no dump; the message says how many, which, and how to make them."""


class KeyframeLike(Protocol):
    """What a folder of dumps needs to know of a keyframe (`uov_jax.datasets.keyframe.Keyframe`)."""

    @property
    def token(self) -> str:
        """The `sample` token."""
        ...

    @property
    def cameras(self) -> Sequence[Any]:
        """Camera images with `channel` and `token`."""
        ...

    @property
    def rig(self) -> Rig:
        """The channels of the cameras."""
        ...


class DumpSource(Protocol):
    """What training reads dumps from: `DumpFolder`, or `ReferenceDumpFolder`."""

    root: Path
    teacher: str
    embedding_size: int

    @property
    def text_embeddings(self) -> np.ndarray | None:
        """float32[W, D], a unit row for every word, or None for a teacher without words."""
        ...

    def read(self, keyframe: KeyframeLike) -> TeacherDump:
        """The dump of one keyframe."""
        ...

    def check(self, keyframes: Sequence[KeyframeLike]) -> None:
        """MissingDumpError unless every keyframe has a dump."""
        ...

    def paths(self, keyframe: KeyframeLike) -> list[Path]:
        """Where the files of a keyframe's dump lie."""
        ...


@dataclasses.dataclass(frozen=True)
class DumpManifest:
    """What all dumps of a folder have in common, kept in its `dump.json`.

    Attributes:
        teacher: name of the teacher.
        weights_hash: sha256 of its weights, "" where it has none.
        vocabulary: name of the dictionary, "" for a teacher without words.
        vocabulary_hash: `Vocabulary.hash` of it, "" likewise.
        embedding_size: dimensions of the mask embeddings.
        image_sizes: height and width of each camera's images, in pixels, by its channel.
        format_version: of the manifest.
        settings: of the teacher, by name, where they change its masks and are not the usual ones;
            values as JSON knows them.

    """

    teacher: str
    weights_hash: str
    vocabulary: str
    vocabulary_hash: str
    embedding_size: int
    image_sizes: dict[str, tuple[int, int]]
    format_version: int = MANIFEST_VERSION
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the fields what they are once read back: JSON has lists, but no tuples."""
        object.__setattr__(self, "settings", json.loads(json.dumps(self.settings)))
        sizes = {channel: (height, width) for channel, (height, width) in self.image_sizes.items()}
        object.__setattr__(self, "image_sizes", sizes)


def _of_version_2(content: dict[str, Any]) -> dict[str, Any]:
    """Of a time when there were nuScenes' cameras alone, all with images of one size."""
    size = content.pop("image_size")
    sizes = dict.fromkeys(CAMERAS, size)
    return content | {"image_sizes": sizes, "format_version": MANIFEST_VERSION}


MANIFEST = ManifestFile(
    "dump.json",
    DumpManifest,
    MANIFEST_VERSION,
    "teacher dumps",
    "write them with scripts/dump_teacher.py, or give the folder that holds a dump.json",
    HOW_TO_RENEW,
    DumpError,
    {2: _of_version_2},
)


class DumpFolder:
    """A folder of dumps of one teacher, written by `scripts/dump_teacher.py` or the simulator."""

    def __init__(self, root: str | Path, vocabulary: Vocabulary | None = None) -> None:
        """Open an existing folder.

        Args:
            root: the folder with `dump.json`.
            vocabulary: if given, a folder made with another dictionary is refused.

        Raises:
            MissingFileError: no such folder, or no manifest in it.
            DumpError: a manifest that cannot be read, of a newer format or another vocabulary.

        """
        self.root = Path(root)
        self.manifest = MANIFEST.read(self.root)
        self.teacher = self.manifest.teacher
        self.embedding_size = self.manifest.embedding_size
        self._vocabulary = vocabulary
        self._text_embeddings: np.ndarray | None = None
        expected = self.manifest.vocabulary_hash
        if vocabulary is not None and expected and expected != vocabulary.hash:
            raise DumpError(
                f"{self.root / MANIFEST.name}: made with another vocabulary "
                f"({self.manifest.vocabulary!r}, hash {expected[:12]}..., expected "
                f"{vocabulary.name!r}, {vocabulary.hash[:12]}...): dump again with this one"
            )

    @classmethod
    def create(
        cls,
        root: str | Path,
        manifest: DumpManifest,
        text_embeddings: np.ndarray | None = None,
    ) -> DumpFolder:
        """Make a folder, or go on with one that an earlier run left with the same manifest.

        Args:
            root: the folder; made with its parents where missing.
            manifest: what its dumps have in common.
            text_embeddings: float[W, D], a row for every word, of any norm.

        Raises:
            DumpError: the folder holds dumps of another teacher, weights or vocabulary, or the
                text embeddings do not fit the manifest.

        """
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        there = MANIFEST.check(root, manifest)
        if text_embeddings is not None:
            rows = unit_rows(text_embeddings, manifest.embedding_size, "text embeddings")
            text = root / TEXT_EMBEDDINGS
            if not there or not text.is_file():
                write_atomically(text, lambda file: np.savez(file, text=rows))
            # Unit rows: rounding moves them by 1e-7, another teacher or tower by far more.
            elif not np.allclose(cls(root)._read_text_embeddings(), rows, atol=1e-4):
                raise DumpError(
                    f"{text}: the folder's dumps have other text embeddings: give another folder"
                )
        MANIFEST.create(root, manifest)
        return cls(root)

    def path(self, keyframe: str | KeyframeLike) -> Path:
        """Where the dump of a keyframe lies, or will lie."""
        return self.root / f"{_token(keyframe)}.npz"

    def paths(self, keyframe: str | KeyframeLike) -> list[Path]:
        """The same, as all folders of dumps have it: one file."""
        return [self.path(keyframe)]

    def __contains__(self, keyframe: str | KeyframeLike) -> bool:
        """Whether a keyframe has its dump."""
        return self.path(keyframe).is_file()

    def read(self, keyframe: str | KeyframeLike) -> TeacherDump:
        """Read one keyframe's dump; keyframe is a `sample` token, or what has one.

        Raises:
            MissingDumpError: it has none.
            DumpError: the file is corrupt or does not belong into this folder.

        """
        path = self.path(keyframe)
        try:
            dump = read_dump(path, embedding_size=self.embedding_size)
        except MissingFileError as error:
            raise self._missing([_token(keyframe)], 1) from error
        self._check_belongs(dump, _token(keyframe), str(path))
        return dump

    def write(self, dump: TeacherDump) -> int:
        """Write one dump and return its bytes; DumpError if it does not belong into this folder."""
        path = self.path(dump.keyframe)
        self._check_belongs(dump, dump.keyframe, f"dump for {path}")
        return write_dump(path, dump)

    def check(self, keyframes: Sequence[str | KeyframeLike], contents: bool = False) -> None:
        """Look for the dump of every keyframe; with `contents`, read each as well.

        Raises:
            MissingDumpError: some have none; counts them.
            DumpError: they have cameras that were not shown to the teacher, or files are empty or,
                with `contents`, cannot be read.

        """
        channels = {
            channel
            for keyframe in keyframes
            if not isinstance(keyframe, str)
            for channel in keyframe.rig.cameras
        }
        lacking = sorted(channels - self.manifest.image_sizes.keys())
        if lacking:
            raise DumpError(
                f"{self.root / MANIFEST.name}: dumps of {', '.join(self.manifest.image_sizes)}, "
                f"not of {', '.join(lacking)}: name other cameras, or dump these into another "
                "folder"
            )
        paths = [self.path(keyframe) for keyframe in keyframes]
        sizes = file_sizes(paths, "teacher dumps")
        missing = [paths[number].stem for number in np.flatnonzero(sizes < 0)]
        if missing:
            raise self._missing(missing, len(keyframes))
        refuse_empty(paths, sizes, "teacher dumps", DUMP_AGAIN, DumpError)
        if contents:
            for keyframe in keyframes:
                self.read(keyframe)

    @property
    def text_embeddings(self) -> np.ndarray | None:
        """float32[W, D]: a unit row for every word; None for a teacher without words.

        Raises:
            DumpError: the file is missing though the teacher has words, is corrupt, or has another
                number of rows or dimensions.

        """
        if not self.manifest.vocabulary_hash:
            return None
        if self._text_embeddings is None:
            self._text_embeddings = self._read_text_embeddings()
        return self._text_embeddings

    def _read_text_embeddings(self) -> np.ndarray:
        path = self.root / TEXT_EMBEDDINGS
        if not path.is_file():
            raise DumpError(f"{path}: missing, though the teacher {self.teacher!r} has words")
        content = read_bytes(path)
        try:
            rows = parse_npz(content)["text"]
        except DAMAGE as error:
            raise DumpError(f"{path}: corrupt or truncated: {error}") from error
        if self._vocabulary is not None and len(rows) != len(self._vocabulary):
            raise DumpError(
                f"{path}: {len(rows)} rows, expected one for each of the {len(self._vocabulary)} "
                f"words of the vocabulary {self._vocabulary.name!r}"
            )
        return unit_rows(rows, self.embedding_size, str(path))

    def _check_belongs(self, dump: TeacherDump, token: str, place: str) -> None:
        found: dict[str, Any] = {
            "keyframe": dump.keyframe,
            "teacher": dump.teacher,
            "weights_hash": dump.weights_hash,
            "vocabulary_hash": dump.vocabulary_hash,
            "embedding_size": dump.embedding_size,
        }
        for name, value in found.items():
            expected = token if name == "keyframe" else getattr(self.manifest, name)
            if value != expected:
                raise DumpError(
                    f"{place}: {name} is {value!r}, expected {expected!r} as in "
                    f"{self.root / MANIFEST.name}"
                )
        words = len(self._vocabulary) if self._vocabulary else None
        channels = [camera.channel for camera in dump.cameras]
        if set(channels) != set(self.manifest.image_sizes):
            raise DumpError(
                f"{place}: masks of {', '.join(channels)}, expected "
                f"{', '.join(self.manifest.image_sizes)} as in {self.root / MANIFEST.name}"
            )
        for camera in dump.cameras:
            size = self.manifest.image_sizes[camera.channel]
            if words is not None and camera.num_masks and camera.words.max() >= words:
                raise DumpError(
                    f"{place}: {camera.channel} has the word index {camera.words.max()}, but the "
                    f"vocabulary has {words} words"
                )
            if camera.image_size != size:
                raise DumpError(
                    f"{place}: masks of {camera.channel} are {camera.image_size} pixels (height, "
                    f"width), expected {size} as in {self.root / MANIFEST.name}"
                )

    def _missing(self, missing: list[str], total: int) -> MissingDumpError:
        return MissingDumpError(
            f"{self.root}: {len(missing)} of {total} keyframes have no dump of the teacher "
            f"{self.teacher!r}, the first one is {missing[0]}: run scripts/dump_teacher.py again "
            "with this folder as --output (it goes on where it stopped)"
        )


def image_sizes(keyframes: Sequence[Keyframe]) -> dict[str, tuple[int, int]]:
    """Height and width of each camera's images, by its channel.

    Raises:
        InputError: a camera has images of two sizes, which one manifest cannot say; names one.

    """
    sizes: dict[str, tuple[int, int]] = {}
    for keyframe in keyframes:
        for view in keyframe.cameras:
            size = (view.height, view.width)
            if sizes.setdefault(view.channel, size) != size:
                raise InputError(
                    f"{view.path}: {size} pixels (height, width), but earlier images of "
                    f"{view.channel} have {sizes[view.channel]}: expected one size for each camera"
                )
    return sizes


def settings_identity(settings: dict[str, Any]) -> dict[str, str]:
    """The teacher's unusual settings as a part of what a run or its labels are bound to."""
    return {"teacher_settings": json.dumps(settings, sort_keys=True)} if settings else {}


def expected_bytes(
    num_keyframes: int,
    embedding_size: int,
    masks_per_image: float = 20.0,
    image_sizes: Iterable[tuple[int, int]] = 6 * ((900, 1600),),
    mask_bytes: float | None = None,
) -> int:
    """Expected size in bytes of the dumps of some keyframes, before the first is written.

    Per image of 1600 x 900 pixels the masks take `mask_bytes`, by default 4 kB + 95 B a mask
    (fitted on simulated drives; masks as ragged as noise take several times as much), in
    proportion to the number of rows; the embeddings take 1.8 B a number, the word 2 B. There is
    one image of each of the sizes (height, width) a keyframe, by default nuScenes'.
    """
    if mask_bytes is None:
        mask_bytes = 4000 + 95 * masks_per_image
    heights = [height for height, _ in image_sizes]
    masks = mask_bytes * sum(heights) / 900
    described = len(heights) * masks_per_image * (1.8 * embedding_size + 2)
    return round(num_keyframes * (masks + described + 2000))


def _token(keyframe: str | KeyframeLike) -> str:
    return keyframe if isinstance(keyframe, str) else keyframe.token


def unit_rows(rows: np.ndarray, embedding_size: int, place: str) -> np.ndarray:
    """float32 rows divided by their norms; DumpError naming `place` if one has no direction."""
    rows = np.asarray(rows, np.float32)
    if rows.ndim != 2 or rows.shape[1] != embedding_size:
        raise DumpError(f"{place}: shape {rows.shape}, expected [words, {embedding_size}]")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if wrong.size:
        raise DumpError(f"{place}: row {wrong[0]} has the norm {norms[wrong[0], 0]}")
    return rows / norms
