"""Teacher dumps: what a 2D teacher says of one keyframe's images, one compact file a keyframe.

The file is an npz (a zip of .npy arrays; `np.load(path, allow_pickle=False)` opens it) of uint8[n]:

    header          JSON: format version, teacher, hashes, keyframe, cameras
    run_length      [2, R] lengths of the mask runs of all cameras; a run of more than 65,535 pixels
                    is stored as several
    run_mask        [1 or 2, R] their mask ids; two where any is above 255
    word            int32[M] word of every mask of all cameras, -1 for none
    embedding       [2, M * D] embeddings, float16[M, D]

All but the header are zstd frames of little-endian bytes. Numbers of 16 bits stand as two planes of
bytes, all low ones and then all high ones: those are alike, and compress better than the numbers.

Cameras follow each other in the order of `header["cameras"]`, which gives for each one its
channel, token, image size, number of runs and number of masks.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from uov_jax.contents import is_zip, parse_json
from uov_jax.dumps.mask_runs import MaskRuns
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import (
    ABSENT,
    DAMAGE,
    byte_planes,
    check_version,
    from_byte_planes,
    read_bytes,
    read_stored_npz,
    write_npz,
)
from uov_jax.host import engine

FORMAT_VERSION = 2
HOW_TO_RENEW = "write the dumps, or simulate the drive, again into a new folder"
LONGEST_RUN = 65_535
LARGEST_ID = 65_535
# What no camera or teacher reaches, and what little a file says could become: pixels of an image,
# bytes of all arrays.
MOST_PIXELS = 2**26
MOST_BYTES = 2**27
# Of masks, written once and read in every epoch. Embeddings have little to find.
MASK_LEVEL = 19
EMBEDDING_LEVEL = 3


class DumpError(InputError):
    """A dump is corrupt, or not the one that was asked for; the message names file and cause."""


class CameraMasks:
    """The masks of one camera image.

    Attributes:
        channel: the camera, such as "CAM_FRONT".
        token: the image's `sample_data` token.
        runs: the mask image, run-length coded; 0 is void, 1..M are masks.
        words: int32[M], index into the vocabulary, -1 where the teacher has no words.
        embeddings: float16[M, D], row i - 1 belongs to mask i; of any norm.

    """

    def __init__(
        self,
        channel: str,
        token: str,
        masks: np.ndarray | MaskRuns,
        words: np.ndarray,
        embeddings: np.ndarray,
    ) -> None:
        """Take masks uint16[H, W] (or coded), words [M], embeddings [M, D]; check and narrow them.

        Raises:
            ValueError: shapes disagree, an id is beyond M, an embedding is not finite in half
                precision.

        """
        self.channel = channel
        self.token = token
        self.runs = masks if isinstance(masks, MaskRuns) else MaskRuns.from_image(masks)
        self.words = np.asarray(words, np.int32)
        with np.errstate(over="ignore"):  # found by the check of finiteness below
            self.embeddings = np.asarray(embeddings).astype(np.float16, copy=False)
        self._check()

    def _check(self) -> None:
        if self.words.ndim != 1 or self.embeddings.ndim != 2:
            raise ValueError(
                f"{self.channel}: words must be [M] and embeddings [M, D], found shapes "
                f"{self.words.shape} and {self.embeddings.shape}"
            )
        if len(self.words) != len(self.embeddings):
            raise ValueError(
                f"{self.channel}: {len(self.words)} words but {len(self.embeddings)} embeddings, "
                "expected one of each per mask"
            )
        if self.runs.largest_id > len(self.words):
            raise ValueError(
                f"{self.channel}: mask id {self.runs.largest_id} in the image, but only "
                f"{len(self.words)} masks are described"
            )
        if len(self.words) and self.words.min() < -1:
            raise ValueError(f"{self.channel}: word index {self.words.min()} is below -1 (no word)")
        if not engine().are_finite_halves(np.ascontiguousarray(self.embeddings).view(np.uint16)):
            mask = int(np.flatnonzero(~np.isfinite(self.embeddings).all(axis=1))[0]) + 1
            raise ValueError(
                f"{self.channel}: the embedding of mask {mask} is not finite in half precision"
            )

    @property
    def masks(self) -> np.ndarray:
        """uint16[H, W]: the mask image, decoded at every call."""
        return self.runs.to_image()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.runs.height, self.runs.width

    @property
    def num_masks(self) -> int:
        """M, the number of masks."""
        return len(self.words)

    def lookup(self, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """uint16[n]: mask ids at integer rows v and columns u, without decoding the image."""
        return self.runs.lookup(v, u)

    def __repr__(self) -> str:
        height, width = self.image_size
        return (
            f"CameraMasks({self.channel}, {width} x {height} pixels, {self.num_masks} masks, "
            f"{self.embeddings.shape[1]} dimensions)"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class TeacherDump:
    """What one teacher says of all images of one keyframe.

    Attributes:
        teacher: name of the teacher.
        weights_hash: sha256 of its weights, "" where it has none.
        vocabulary_hash: `Vocabulary.hash` of the dictionary it was prompted with, "" if none.
        keyframe: `sample` token.
        cameras: one entry per camera.
        format_version: of the file it was read from.

    """

    teacher: str
    weights_hash: str
    vocabulary_hash: str
    keyframe: str
    cameras: tuple[CameraMasks, ...]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Refuse a dump whose cameras do not fit together."""
        if not self.cameras:
            raise ValueError(f"dump of keyframe {self.keyframe}: no camera")
        channels = [camera.channel for camera in self.cameras]
        if len(set(channels)) != len(channels):
            raise ValueError(f"dump of keyframe {self.keyframe}: a camera twice in {channels}")
        sizes = {camera.embeddings.shape[1] for camera in self.cameras}
        if len(sizes) > 1:
            raise ValueError(
                f"dump of keyframe {self.keyframe}: embeddings of different sizes {sorted(sizes)}"
            )
        if not self.vocabulary_hash and any((camera.words >= 0).any() for camera in self.cameras):
            raise ValueError(
                f"dump of keyframe {self.keyframe}: it has words, but no vocabulary hash"
            )

    @property
    def embedding_size(self) -> int:
        """D, the number of dimensions of the embeddings."""
        return self.cameras[0].embeddings.shape[1]

    def camera(self, channel: str) -> CameraMasks:
        """The masks of one camera; DumpError if the dump has none."""
        for camera in self.cameras:
            if camera.channel == channel:
                return camera
        raise DumpError(
            f"dump of keyframe {self.keyframe}: no camera {channel}, it has "
            f"{', '.join(camera.channel for camera in self.cameras)}"
        )


def write_dump(path: str | Path, dump: TeacherDump) -> int:
    """Write one keyframe's dump; nothing incomplete ever carries the final name.

    Returns:
        The size of the file in bytes. Equal dumps give equal bytes.

    """
    path = Path(path)
    runs = [camera.runs.split_longer_than(LONGEST_RUN) for camera in dump.cameras]
    lengths = np.concatenate([part.lengths for part in runs])
    ids = np.concatenate([part.ids for part in runs])
    embeddings = np.concatenate([camera.embeddings for camera in dump.cameras])
    id_planes = byte_planes(ids, 1 if ids.max() < 256 else 2)
    words = np.concatenate([camera.words for camera in dump.cameras]).astype("<i4")
    header = json.dumps(_header(dump, runs, len(id_planes))).encode()
    content = {
        "header": np.frombuffer(header, np.uint8),
        "run_length": _packed(byte_planes(lengths, 2), MASK_LEVEL),
        "run_mask": _packed(id_planes, MASK_LEVEL),
        "word": _packed(words, MASK_LEVEL),
        "embedding": _packed(byte_planes(embeddings.view(np.uint16).ravel(), 2), EMBEDDING_LEVEL),
    }
    return write_npz(path, content, stored=content)


def _packed(array: np.ndarray, level: int) -> np.ndarray:
    frame = zstandard.ZstdCompressor(level=level).compress(array.tobytes())
    return np.frombuffer(frame, np.uint8)


def _unpacked(
    decompressor: zstandard.ZstdDecompressor,
    frame: memoryview,
    dtype: str,
    shape: tuple[int, ...],
) -> np.ndarray:
    """The array of a frame; ValueError unless it has just this size."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    if zstandard.frame_content_size(frame) != size:
        raise ValueError(f"an array of other than the {list(shape)} numbers that the header says")
    data = decompressor.decompress(frame, max_output_size=max(size, 1))
    return np.frombuffer(data, dtype).reshape(shape)


def read_dump(
    path: str | Path,
    *,
    embedding_size: int | None = None,
) -> TeacherDump:
    """Read one keyframe's dump; masks stay run-length coded until `CameraMasks.masks` is asked for.

    Args:
        path: the file.
        embedding_size: if given, a dump with embeddings of another size is refused.

    Raises:
        MissingFileError: there is no such file.
        DumpError: the file is corrupt or truncated, of a newer format, or not the one asked for.

    """
    path = Path(path)
    try:
        content = read_bytes(path)
    except ABSENT as error:
        raise MissingFileError(f"{path}: no such teacher dump") from error
    if not is_zip(content):
        raise DumpError(
            f"{path}: corrupt or truncated teacher dump: {len(content)} bytes without "
            "the directory that ends every complete file"
        )
    try:
        frames = read_stored_npz(content)
        header = parse_json(bytes(frames.pop("header")))
        _check_header(path, header, embedding_size)
        return _assemble(header, frames)
    except DumpError:
        raise
    except (*DAMAGE, zstandard.ZstdError, AttributeError) as error:
        raise DumpError(f"{path}: corrupt or truncated teacher dump: {error}") from error


def _header(dump: TeacherDump, runs: list[MaskRuns], id_bytes: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "teacher": dump.teacher,
        "weights_hash": dump.weights_hash,
        "vocabulary_hash": dump.vocabulary_hash,
        "keyframe": dump.keyframe,
        "embedding_size": dump.embedding_size,
        "id_bytes": id_bytes,
        "cameras": [
            {
                "channel": camera.channel,
                "token": camera.token,
                "height": camera.runs.height,
                "width": camera.runs.width,
                "runs": len(coded.ids),
                "masks": camera.num_masks,
            }
            for camera, coded in zip(dump.cameras, runs, strict=True)
        ],
    }


def _check_header(path: Path, header: dict[str, Any], embedding_size: int | None) -> None:
    check_version(path, header["format_version"], FORMAT_VERSION, HOW_TO_RENEW, DumpError)
    numbers = [header["embedding_size"], header["id_bytes"]]
    texts = [header[name] for name in ("teacher", "weights_hash", "vocabulary_hash", "keyframe")]
    for camera in header["cameras"]:
        numbers += [camera[name] for name in ("height", "width", "runs", "masks")]
        texts += [camera[name] for name in ("channel", "token")]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"sizes in the header are {numbers}, expected whole numbers")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"names in the header are {texts}, expected strings")
    for camera in header["cameras"]:
        # Before anything is unpacked: the little that a file says could take all memory.
        pixels = camera["height"] * camera["width"]
        if camera["runs"] > pixels or pixels > MOST_PIXELS or camera["masks"] > LARGEST_ID:
            raise ValueError(
                f"{camera['runs']} runs and {camera['masks']} masks in an image of "
                f"{camera['height']} x {camera['width']} pixels"
            )
    runs, masks = (sum(camera[name] for camera in header["cameras"]) for name in ("runs", "masks"))
    if (2 + header["id_bytes"]) * runs + (4 + 2 * header["embedding_size"]) * masks > MOST_BYTES:
        raise ValueError(
            f"{runs} runs and {masks} masks of {header['embedding_size']} dimensions, which are "
            f"more than {MOST_BYTES:,} bytes"
        )
    if embedding_size is not None and header["embedding_size"] != embedding_size:
        raise DumpError(
            f"{path}: embeddings have {header['embedding_size']} dimensions, expected "
            f"{embedding_size}"
        )


def _assemble(header: dict[str, Any], frames: dict[str, memoryview]) -> TeacherDump:
    num_masks = sum(camera["masks"] for camera in header["cameras"])
    num_runs = sum(camera["runs"] for camera in header["cameras"])
    size = header["embedding_size"]
    decompressor = zstandard.ZstdDecompressor()

    def unpacked(name: str, dtype: str, *shape: int) -> np.ndarray:
        return _unpacked(decompressor, frames[name], dtype, shape)

    lengths = from_byte_planes(unpacked("run_length", "u1", 2, num_runs))
    ids = from_byte_planes(unpacked("run_mask", "u1", header["id_bytes"], num_runs))
    words = unpacked("word", "<i4", num_masks)
    planes = unpacked("embedding", "u1", 2, num_masks * size)
    embeddings = from_byte_planes(planes).view(np.float16).reshape(num_masks, size)
    cameras = []
    run = mask = 0
    for camera in header["cameras"]:
        runs = slice(run, run := run + camera["runs"])
        masks = slice(mask, mask := mask + camera["masks"])
        coded = MaskRuns.from_lengths(camera["height"], camera["width"], lengths[runs], ids[runs])
        cameras.append(
            CameraMasks(camera["channel"], camera["token"], coded, words[masks], embeddings[masks])
        )
    names = ("teacher", "weights_hash", "vocabulary_hash", "keyframe", "format_version")
    return TeacherDump(cameras=tuple(cameras), **{name: header[name] for name in names})
