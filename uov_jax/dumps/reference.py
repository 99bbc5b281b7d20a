"""Reading and writing of the reference implementation's (UOV) dumps of its three teachers.

They lie flat in one folder, three files per image named by its `sample_data` token:

    TOKEN.png   uint8[H, W] mask ids, 0 = void
    TOKEN.json  list over masks of {"id": 1..M, "category_id": word index, ...}
    TOKEN.pt    float32 (M + 1, D), row 0 zeros; FC-CLIP: a list [fin, fout] of two such

and one `text_embedding.pt` of shape (W, D), for FC-CLIP (W + 1, D) with void last. Both need
PyTorch, which is imported when the first file is read or written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uov_jax.contents import MALFORMED, parse_json
from uov_jax.datasets.image_file import UNDECODABLE, opened_image
from uov_jax.dumps.file import CameraMasks, DumpError, TeacherDump
from uov_jax.dumps.folder import (
    DumpFolder,
    DumpSource,
    KeyframeLike,
    MissingDumpError,
    unit_rows,
)
from uov_jax.errors import MissingFileError, MissingPackageError
from uov_jax.files import (
    UnreadableFileError,
    file_sizes,
    read_bytes,
    refuse_empty,
    write_atomically,
)
from uov_jax.pickled import PickleError, read_pickled
from uov_jax.vocabulary import Vocabulary

TEXT_EMBEDDING = "text_embedding.pt"
FCCLIP = "fcclip"
LARGEST_ID = 255
COPY_AGAIN = "copy them here or dump again"


class ReferenceDumpFolder:
    """A folder of the reference's dumps, read like a `DumpFolder`.

    The files do not say which teacher, weights or vocabulary they come from: only the number of
    words and the sizes can be checked.
    """

    def __init__(self, root: str | Path, vocabulary: Vocabulary, teacher: str = "") -> None:
        """Open a folder.

        Args:
            root: the folder with `text_embedding.pt`.
            vocabulary: the dictionary the dumps were made with.
            teacher: its name; by default "fcclip" where the folder has FC-CLIP's void row, and
                "reference" otherwise (SAN and CAT-Seg write the same format).

        Raises:
            MissingFileError: there is no `text_embedding.pt`.
            DumpError: it cannot be read, or is not of the vocabulary's size.
            MissingPackageError: PyTorch is not installed; says how to install it.

        """
        self.root = Path(root)
        self.vocabulary = vocabulary
        path = self.root / TEXT_EMBEDDING
        if not path.is_file():
            raise MissingFileError(f"{path}: no dumps of the reference implementation here")
        rows = _array(_load(path), path)
        num_words = len(vocabulary)
        if rows.ndim != 2 or len(rows) not in (num_words, num_words + 1):
            raise DumpError(
                f"{path}: shape {rows.shape}, expected {num_words} rows, or {num_words + 1} with "
                f"void last, for the words of the vocabulary {vocabulary.name!r}"
            )
        has_void = len(rows) == num_words + 1
        self.teacher = teacher or (FCCLIP if has_void else "reference")
        self.embedding_size: int = rows.shape[1]
        self.text_embeddings: np.ndarray | None = unit_rows(
            rows[:num_words], self.embedding_size, str(path)
        )

    def read(self, keyframe: KeyframeLike) -> TeacherDump:
        """Read the dumps of a keyframe's images.

        Raises:
            MissingDumpError: one of the files is missing.
            DumpError: a file is corrupt, or the three disagree.

        """
        if isinstance(keyframe, str):
            raise TypeError(
                "the reference's files are named by image: read() needs the Keyframe, not its token"
            )
        self.check([keyframe])
        return TeacherDump(
            teacher=self.teacher,
            weights_hash="",
            vocabulary_hash=self.vocabulary.hash,
            keyframe=keyframe.token,
            cameras=tuple(self._read_camera(c.channel, c.token) for c in keyframe.cameras),
        )

    def paths(self, keyframe: KeyframeLike) -> list[Path]:
        """Where the files of a keyframe's images lie, or will lie."""
        return [
            self.root / f"{camera.token}.{ending}"
            for camera in keyframe.cameras
            for ending in ("png", "json", "pt")
        ]

    def check(self, keyframes: Sequence[KeyframeLike]) -> None:
        """MissingDumpError unless every image of every keyframe has its three files."""
        paths = [path for keyframe in keyframes for path in self.paths(keyframe)]
        sizes = file_sizes(paths, "teacher dumps")
        missing = np.flatnonzero(sizes < 0)
        if len(missing):
            raise MissingDumpError(
                f"{paths[missing[0]]}: {len(missing)} of the {len(paths)} files of "
                f"{len(keyframes)} keyframes are missing, this is the first: {COPY_AGAIN}"
            )
        refuse_empty(paths, sizes, "teacher dumps", COPY_AGAIN, DumpError)

    def _read_camera(self, channel: str, token: str) -> CameraMasks:
        path = self.root / token
        masks = _read_masks(path.with_name(f"{token}.png"))
        embeddings = self._read_embeddings(path.with_name(f"{token}.pt"))
        words = self._read_words(path.with_name(f"{token}.json"), len(embeddings))
        try:
            return CameraMasks(channel, token, masks, words, embeddings)
        except ValueError as error:
            raise DumpError(f"{path}.png: {error}") from error

    def _read_embeddings(self, path: Path) -> np.ndarray:
        content = _load(path)
        if isinstance(content, list | tuple):  # FC-CLIP: pre-training uses the second, fout
            if len(content) != 2:
                raise DumpError(f"{path}: a list of {len(content)}, expected [fin, fout]")
            content = content[1]
        rows = _array(content, path)
        if rows.ndim != 2 or rows.shape[1] != self.embedding_size or len(rows) < 1:
            raise DumpError(
                f"{path}: shape {rows.shape}, expected (masks + 1, {self.embedding_size})"
            )
        if np.any(rows[0]):
            raise DumpError(f"{path}: row 0 stands for void and must be zeros")
        return rows[1:]

    def _read_words(self, path: Path, num_masks: int) -> np.ndarray:
        try:
            entries = parse_json(read_bytes(path))
            numbered = {int(entry["id"]): int(entry["category_id"]) for entry in entries}
            words = np.array(
                [numbered.get(number + 1, -1) for number in range(num_masks)], np.int32
            )
        except MALFORMED as error:
            raise DumpError(
                f"{path}: not a list of masks with id and category_id: {error}"
            ) from error
        if len(numbered) != len(entries) or sorted(numbered) != list(range(1, num_masks + 1)):
            raise DumpError(
                f"{path}: mask ids {sorted(numbered)}, expected each of 1..{num_masks} once, as "
                f"there are {num_masks} embeddings"
            )
        wrong = np.flatnonzero((words < 0) | (words >= len(self.vocabulary)))
        if wrong.size:
            raise DumpError(
                f"{path}: mask {wrong[0] + 1} has the category_id {words[wrong[0]]}, but the "
                f"vocabulary {self.vocabulary.name!r} has {len(self.vocabulary)} words"
            )
        return words


def write_reference_text(root: Path, text_embeddings: np.ndarray, teacher: str) -> int:
    """Write `text_embedding.pt` from unit rows float32[W, D]; returns its bytes.

    For FC-CLIP a row of zeros stands for void, which native dumps do not keep. A file that is there
    already is left as it is.

    Raises:
        DumpError: it has other rows: the folder holds another teacher's dumps.

    """
    path = root / TEXT_EMBEDDING
    torch = _torch(path)
    rows = torch.from_numpy(np.array(text_embeddings, np.float32))
    if path.is_file():
        found = _array(_load(path), path).astype(np.float32)[: len(rows)]
        if found.shape != rows.shape or not np.allclose(found, rows.numpy(), atol=1e-3):
            raise DumpError(
                f"{path}: the folder's dumps have other text embeddings: give another folder"
            )
        return path.stat().st_size
    if teacher == FCCLIP:
        rows = torch.cat([rows, torch.zeros(1, rows.shape[1])])
    return write_atomically(path, lambda file: torch.save(rows, file))


def write_reference_dump(root: Path, dump: TeacherDump, vocabulary: Vocabulary) -> int:
    """Write the three files of every image of a keyframe; returns their bytes.

    FC-CLIP's files say which words name things, which the vocabulary tells. Their first tensor
    (fin) is zeros: native dumps keep the one that training uses (fout).

    Raises:
        DumpError: a mask without a word, or more masks than a byte can number.

    """
    torch = _torch(root)
    for camera in dump.cameras:
        if camera.num_masks > LARGEST_ID or (camera.words < 0).any():
            raise DumpError(
                f"dump of keyframe {dump.keyframe}: {camera.channel} has {camera.num_masks} masks, "
                f"{int((camera.words < 0).sum())} of them without a word: the reference's format "
                f"takes up to {LARGEST_ID}, each with a word"
            )
    is_thing = vocabulary.word_is_thing if dump.teacher == FCCLIP else None
    return sum(_write_camera(torch, root, is_thing, camera) for camera in dump.cameras)


def _write_camera(torch: Any, root: Path, is_thing: np.ndarray | None, camera: CameraMasks) -> int:
    rows = np.zeros((camera.num_masks + 1, camera.embeddings.shape[1]), np.float32)
    rows[1:] = camera.embeddings
    tensor = torch.from_numpy(rows)
    areas = camera.runs.areas(camera.num_masks).tolist()
    entries: list[dict[str, Any]] = []
    for number, word in enumerate(camera.words.tolist(), start=1):
        entry = {"id": number, "category_id": word, "area": areas[number]}
        if is_thing is not None:
            entry = {"id": number, "isthing": bool(is_thing[word]), "category_id": word}
        entries.append(entry)
    content = tensor if is_thing is None else [torch.zeros_like(tensor), tensor]
    picture = Image.fromarray(camera.masks.astype(np.uint8))
    text = json.dumps(entries).encode()
    path = root / camera.token
    # The tensors last: a keyframe counts as done by its last file.
    return (
        write_atomically(path.with_name(f"{camera.token}.png"), lambda f: picture.save(f, "PNG"))
        + write_atomically(path.with_name(f"{camera.token}.json"), lambda f: f.write(text))
        + write_atomically(path.with_name(f"{camera.token}.pt"), lambda f: torch.save(content, f))
    )


def open_dumps(root: str | Path, vocabulary: Vocabulary) -> DumpSource:
    """Open a folder of dumps, native (`dump.json`) or the reference's (`text_embedding.pt`)."""
    root = Path(root)
    if not (root / "dump.json").is_file() and (root / TEXT_EMBEDDING).is_file():
        return ReferenceDumpFolder(root, vocabulary)
    return DumpFolder(root, vocabulary)


def _read_masks(path: Path) -> np.ndarray:
    try:
        with opened_image(read_bytes(path), ("PNG",)) as image:
            masks = np.asarray(image)
    except UnreadableFileError:
        raise
    except UNDECODABLE as error:
        raise DumpError(f"{path}: corrupt or truncated image: {error}") from error
    if masks.ndim != 2 or masks.dtype.kind not in "ui":
        raise DumpError(
            f"{path}: {masks.dtype} of shape {masks.shape}, expected a grey image of mask ids"
        )
    return masks


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: the reference's dumps are PyTorch files and need the package 'torch': "
            "pip install torch"
        ) from error
    return torch


def _load(path: Path) -> Any:
    try:
        found = read_pickled(path)
    except PickleError as error:
        raise DumpError(str(error)) from error
    if found.left_out:
        raise DumpError(f"{path}: more than tensors in it: {', '.join(found.left_out[:3])}")
    return found.content


def _array(content: Any, path: Path) -> np.ndarray:
    if not isinstance(content, np.ndarray):
        raise DumpError(f"{path}: holds {type(content).__name__}, expected a tensor")
    return content.astype(np.float32)
