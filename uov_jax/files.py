"""Files: written whole or not at all, read in spite of hiccups, and folders with a manifest.

Compact npz files too: arrays stored or deflated, equal contents giving equal bytes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import io
import json
import lzma
import os
import re
import stat
import struct
import time
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np

from uov_jax.bar import Bar
from uov_jax.contents import parse_facts, parse_json
from uov_jax.errors import InputError, MissingFileError, UserError
from uov_jax.host import engine

# What zipfile, zlib, numpy and json raise on a damaged file.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    OSError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
# What a network file system says when it may be better a moment later.
PASSING = {
    errno.EIO,
    errno.EAGAIN,
    errno.EINTR,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.EREMOTEIO,
}
# What says that there is no such file.
ABSENT = (FileNotFoundError, NotADirectoryError)
TRIES, FIRST_PAUSE = 4, 0.1  # seconds, twice as long each time
LOOKERS = 16  # threads that wait for a file system
_TEMPORARY = ".tmp"
Looked = TypeVar("Looked")


class UnreadableFileError(UserError, OSError):
    """A file could not be read, though nothing says that it is damaged: disk, network, rights."""


def expand_home(path: str | os.PathLike[str]) -> Path:
    """A path with the home directory in the place of a leading ~; InputError where there is none.

    Shells do that for words that begin with ~, but not within words such as --data=~/nuscenes.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error} Write the folder itself in the place of ~") from error


def read_bytes(path: Path, pause: float = FIRST_PAUSE) -> bytes:
    """The content of a file; what may pass is tried again, so that the rest is damage.

    Args:
        path: the file.
        pause: seconds before the second try, then twice as long each time.

    Raises:
        FileNotFoundError, NotADirectoryError (`ABSENT`): there is no such file.
        UnreadableFileError: it could not be read, after `TRIES` tries where that may help.

    """
    return tried_again(path, path.read_bytes, pause)


def file_sum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file's content; errors as `read_bytes`."""

    def look() -> tuple[int, int]:
        size = crc = 0
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                size, crc = size + len(block), zlib.crc32(block, crc)
        return size, crc

    return tried_again(path, look, FIRST_PAUSE)


def tried_again(path: Path, look: Callable[[], Looked], pause: float = FIRST_PAUSE) -> Looked:
    """What `look` gives of a file or folder; tries and errors as `read_bytes`."""
    for number in range(1, TRIES + 1):
        try:
            return look()
        except ABSENT:
            raise
        except OSError as error:
            if error.errno not in PASSING or number == TRIES:
                again = f" {number} times" * (number > 1)
                raise UnreadableFileError(
                    f"{path}: could not be read{again}: {error.strerror or error}. That is the "
                    "disk's, the network's or the rights' doing; the file may be whole"
                ) from error
        time.sleep(pause * 2 ** (number - 1))
    raise AssertionError("the last try returns or raises")


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path`, with its ending; on leaving the file gets its own name.

    Nothing incomplete ever carries the final name, after a power cut either: file and folder are
    flushed to the disk. After an error the temporary file is removed.

    Args:
        path: the file; its folder must be there.
        durable: flush; False for what can be made again at once, such as a picture.

    """
    # Unique, so that two writers of one file do not mix; numbers of processes are not, on several
    # hosts.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{_TEMPORARY}{path.suffix}")
    try:
        yield temporary
        if durable:
            flush(temporary)
        os.replace(temporary, path)
        if durable:
            flush(path.parent)
    except OSError as error:
        # Writing to an open file, as on a full disk, does not say which one it is.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """See to it that a file or folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network file systems do not flush folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)


def remove_unfinished(folder: Path, names: Collection[str]) -> None:
    """Remove what writers killed in `replacing` left of files that were to get these names.

    Only of names that are this process's to write: others may be at work on others.
    """
    for path in folder.glob(f".*{_TEMPORARY}*"):
        stem, _, ending = path.name.removeprefix(".").rpartition(_TEMPORARY)
        if stem.rpartition(".")[0] + ending in names:
            path.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Let `write` fill a file as `replacing` does; its size in bytes."""
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            write(file)
        return temporary.stat().st_size


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as `replacing` does; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, with a line end at its end, as `write_bytes` does."""
    write_bytes(path, (text.rstrip("\n") + "\n").encode())


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], stored: Collection[str] = ()) -> int:
    """Write an npz as `replacing` does.

    Args:
        path: the file.
        arrays: by name; they are deflated
        stored: but for these.

    Returns:
        The size of the file in bytes.

    """

    def write(file: BinaryIO) -> None:
        # np.savez compresses all or nothing and writes the clock into the file.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(entry, buffer.getbuffer())

    return write_atomically(path, write)


def read_stored_npz(content: bytes) -> dict[str, memoryview]:
    """The bytes of all arrays of an npz of stored uint8[n], which is read in no time.

    Args:
        content: of the file, as `write_npz` makes it where all arrays are stored.

    Raises:
        ValueError: it is something else, is cut off, or does not have its own checksums.

    """
    view = memoryview(content)
    end = content.rfind(_END, max(0, len(content) - _LONGEST_END))
    if end < 0 or len(content) - end < 22:
        raise ValueError(
            f"{len(content)} bytes without the directory that ends every complete file"
        )
    if content[max(0, end - 20) :].startswith(_LOCATOR):
        raise ValueError("an archive of several disks, or of more than 4 GB")
    entries, place = struct.unpack_from("<H4xL", content, end + 10)
    found: dict[str, memoryview] = {}
    for _ in range(entries):
        fields = struct.unpack_from("<4s4x2H4x3L3H8xL", content, place)
        signature, flags, method, checksum, size, whole, name, extra, comment, local = fields
        if signature != b"PK\1\2" or flags & 1 or method != zipfile.ZIP_STORED or size != whole:
            raise ValueError("an entry that is no stored array")
        start = local + 30 + sum(struct.unpack_from("<2H", content, local + 26))
        array = view[start : start + size]
        if len(array) != size or zlib.crc32(array) != checksum:
            raise ValueError("an array without its own checksum")
        key = bytes(view[place + 46 : place + 46 + name]).decode("ascii").removesuffix(".npy")
        found[key] = _stored_bytes(array)
        place += 46 + name + extra + comment
    return found


_END = b"PK\5\6"
_LOCATOR = b"PK\6\7"  # of another directory, 20 bytes before the end
_LONGEST_END = 22 + 65_535
_UINT8_HEADER = re.compile(rb"{'descr': '[|]u1', 'fortran_order': False, 'shape': \((\d+),\), }\s*")


def _stored_bytes(array: memoryview) -> memoryview:
    """The numbers of a .npy of uint8[n]; ValueError for another one."""
    begins = bytes(array[:10])
    if begins[:8] != b"\x93NUMPY\1\0" or len(begins) < 10:
        raise ValueError("no .npy file of version 1")
    start = 10 + int.from_bytes(begins[8:], "little")
    header = _UINT8_HEADER.fullmatch(array[10:start])
    if header is None or int(header[1]) != len(array) - start:
        raise ValueError("no uint8[n], or another length than its header says")
    return array[start:]


def byte_planes(values: np.ndarray, planes: int) -> np.ndarray:
    """uint8[planes, n]: 16-bit numbers as planes of like bytes, which compress better."""
    return np.stack([(values >> (8 * plane)).astype(np.uint8) for plane in range(planes)])


def from_byte_planes(planes: np.ndarray) -> np.ndarray:
    """uint16[n]: the numbers of `byte_planes`; ValueError for anything else."""
    if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) not in (1, 2):
        raise ValueError(f"byte planes of {planes.dtype} {planes.shape} do not make 16-bit numbers")
    if len(planes) == 1:
        return planes[0].astype(np.uint16)
    return engine().joined_planes(np.ascontiguousarray(planes))


def check_version(
    path: Path, found: Any, read: int, how_to_renew: str, error: type[InputError]
) -> None:
    """Refuse a file of another format version, by raising `error`.

    Args:
        path: what has the version.
        found: the version.
        read: the version that this program reads.
        how_to_renew: what to do about an older one.
        error: to raise.

    """
    if not isinstance(found, int) or found > read:
        raise error(f"{path}: format version {found}, this program reads {read}: update uov_jax")
    if found < read:
        raise error(
            f"{path}: format version {found} of an earlier uov_jax, expected {read}: {how_to_renew}"
        )


Facts = TypeVar("Facts")


@dataclasses.dataclass(frozen=True)
class ManifestFile(Generic[Facts]):
    """The JSON file of a folder that says what all its files have in common.

    Attributes:
        name: of the file.
        facts: a dataclass whose fields it holds, `format_version` among them.
        version: of the format that is written.
        what: the folder holds, for messages, such as "teacher dumps".
        how_to_get: how such a folder comes to be, for the message where there is none.
        how_to_renew: what to do about a folder of an older version.
        error: what is raised of a manifest that cannot be used.
        earlier: versions that are read too, each with what makes its content this version's.

    """

    name: str
    facts: type[Facts]
    version: int
    what: str
    how_to_get: str
    how_to_renew: str
    error: type[InputError]
    earlier: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = dataclasses.field(
        default_factory=dict
    )

    def read(self, root: Path) -> Facts:
        """The manifest of a folder.

        Raises:
            MissingFileError: there is none.
            InputError (`error`): it cannot be read, or is of another version.

        """
        path = root / self.name
        if not path.is_file():
            raise MissingFileError(f"{path}: no {self.what} here: {self.how_to_get}")
        try:
            content = parse_json(read_bytes(path))
            version = content["format_version"]
            renew = self.earlier.get(version)
        except (ValueError, KeyError, TypeError) as error:
            raise self._unusable(path, error) from error
        if renew is None:
            check_version(path, version, self.version, self.how_to_renew, self.error)
        try:
            return parse_facts(self.facts, renew(content) if renew else content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unusable(path, error) from error

    def check(self, root: Path, facts: Facts) -> bool:
        """Whether a folder has these facts already.

        Raises:
            InputError (`error`): it has others.

        """
        path = root / self.name
        if not path.is_file():
            return False
        earlier = self.read(root)
        if earlier != facts:
            # Dataclasses, which TypeVar cannot say.
            old, new = (dataclasses.asdict(some) for some in (earlier, facts))  # type: ignore[call-overload]
            name, before, after = _difference(old, new)
            raise self.error(
                f"{path}: the folder holds {self.what} of {name} = {before!r}, not of "
                f"{after!r}: give another folder"
            )
        return True

    def create(self, root: Path, facts: Facts) -> None:
        """Make a folder, or go on with one of the same facts; errors as `check`.

        What the manifest promises must be there before: a folder counts as made with it.
        """
        path = root / self.name
        if self.check(root, facts):
            return
        # A dataclass, which TypeVar cannot say.
        write_text(path, json.dumps(dataclasses.asdict(facts), indent=1))  # type: ignore[call-overload]

    def _unusable(self, path: Path, error: Exception) -> InputError:
        return self.error(f"{path}: not a manifest of {self.what}: {error}")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """The first field, or setting within a field, that differs, with its two values."""
    absent = "nothing"
    names = [*new, *(name for name in old if name not in new)]
    pairs = ((name, old.get(name, absent), new.get(name, absent)) for name in names)
    name, before, after = next(pair for pair in pairs if pair[1] != pair[2])
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        inner, before, after = _difference(before, after)
        return f"{name}.{inner}", before, after
    return name, before, after


def file_sizes(paths: Sequence[Path], what: str) -> np.ndarray:
    """int64[n]: the bytes of every file, -1 where there is none.

    Many at once, because a network's file system takes its time for each; with a bar for `what`
    where it takes more than a moment.

    Raises:
        UnreadableFileError: a file could not be looked at, which says nothing of its being there.

    """
    looks = _looked_at(paths, what)
    return np.array([-1 if look is None else look.st_size for look in looks], np.int64)


def file_versions(paths: Sequence[Path], what: str) -> np.ndarray:
    """int64[n, 2]: bytes and time of change (ns) of every file, -1 and 0 where there is none.

    They tell a file from one that took its place; see `file_sizes`.
    """
    looks = _looked_at(paths, what)
    found = [(-1, 0) if look is None else (look.st_size, look.st_mtime_ns) for look in looks]
    return np.array(found, np.int64).reshape(-1, 2)


def _looked_at(paths: Sequence[Path], what: str) -> list[os.stat_result | None]:
    parts = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    bar = Bar(total=len(paths), desc=f"looking at {what}", unit="file", delay=2, leave=False)
    with bar, concurrent.futures.ThreadPoolExecutor(LOOKERS) as pool:
        looks: list[os.stat_result | None] = []
        for found in pool.map(_look_at, parts):
            looks += found
            bar.update(len(found))
    return looks


def _look_at(paths: Sequence[Path]) -> list[os.stat_result | None]:
    looks: list[os.stat_result | None] = []
    for path in paths:
        try:
            found = tried_again(path, functools.partial(os.stat, path), FIRST_PAUSE)
        except ABSENT:
            looks.append(None)
        else:
            looks.append(found if stat.S_ISREG(found.st_mode) else None)
    return looks


def refuse_empty(
    paths: Sequence[Path], sizes: np.ndarray, what: str, how_to_renew: str, error: type[InputError]
) -> None:
    """Raise `error` if files of `file_sizes` have no byte: a disk was full, or a copy broke off."""
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        raise error(
            f"{paths[empty[0]]}: an empty file, the first of {len(empty)} among {len(paths)} "
            f"{what}: {how_to_renew}"
        )
