"""Rows of features as files: equal ones kept once, mapped into memory, or compressed in blocks.

    features.npy   float16 [U, D], the different rows in the order in which they first come
    same.npy       int32 [V], which of them every row is; only where some are equal
    features.zst   in the place of features.npy: blocks of 64 rows, of which the upper bytes (sign,
                   exponent, first digits) are compressed; the lower ones are noise, as they are
    blocks.npy     int64 [blocks + 1], where each of them begins

Points on one surface that the same masks describe in the same views have equal features, so that
those of mask teachers shrink several times. Features of dense teachers are all different: of those
blocks save about a seventh.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard

from uov_jax.contents import MALFORMED, parse_json
from uov_jax.datasets.rooms import map_array
from uov_jax.errors import InputError
from uov_jax.files import DAMAGE, byte_planes, from_byte_planes, read_bytes

PLAIN, SAME, PACKED, BLOCKS = "features.npy", "same.npy", "features.zst", "blocks.npy"
BLOCK_ROWS = 64  # of 768 numbers 98 kB: one row costs a tenth of a millisecond
LEVEL = 3  # Zstandard's; higher ones gain nothing on noise
HALF = np.dtype("<f2")


class FeatureError(InputError):
    """Features of a room cannot be used; names the file and what was expected."""


class RowWriter:
    """Writes rows as they come; nothing of them is kept in memory but a digest each."""

    def __init__(self, folder: Path, columns: int, *, compress: bool = False) -> None:
        """Begin the files.

        Args:
            folder: that is there.
            columns: D.
            compress: in blocks instead of mapped.

        """
        self.rows = 0
        self._folder, self._columns = folder, columns
        self._number: dict[bytes, int] = {}
        self._same: list[np.ndarray] = []
        self._content = hashlib.blake2b(digest_size=16)
        self._file: _PlainFile | _PackedFile = (
            _PackedFile(folder, columns) if compress else _PlainFile(folder, columns)
        )

    def append(self, rows: np.ndarray) -> None:
        """Write float16[n, D]."""
        rows = np.ascontiguousarray(rows, HALF)
        known = len(self._number)
        same = np.empty(len(rows), np.int32)
        new = []
        for i, row in enumerate(rows):
            # Of 128 bits: that two different rows share one will not happen.
            digest = hashlib.blake2b(row.data, digest_size=16).digest()
            self._content.update(digest)
            same[i] = self._number.setdefault(digest, len(self._number))
            if len(self._number) > known:
                known += 1
                new.append(i)
        self.rows += len(rows)
        self._same.append(same)
        self._file.append(rows if len(new) == len(rows) else rows[new])

    @property
    def content(self) -> str:
        """Of all rows in their order, in hexadecimal, however they are kept."""
        return self._content.hexdigest()

    def close(self) -> dict[str, int]:
        """Finish the files; how many rows there are, and how many different ones."""
        self._file.close()
        different = len(self._number)
        if different < self.rows:
            np.save(self._folder / SAME, np.concatenate(self._same), allow_pickle=False)
        return {"rows": self.rows, "different": different}

    def abandon(self) -> None:
        """Let go of the files."""
        self._file.file.close()


class _PlainFile:
    """A .npy file of rows whose number is known in the end."""

    def __init__(self, folder: Path, columns: int) -> None:
        self.file: BinaryIO = (folder / PLAIN).open("wb")
        self._columns, self._rows = columns, 0
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        self.file.write(rows.data)
        self._rows += len(rows)

    def close(self) -> None:
        self.file.seek(0)
        self._write_header()
        self.file.close()

    def _write_header(self) -> None:
        # Numpy leaves room in it for an axis that grows.
        shape = (self._rows, self._columns)
        header = {"descr": HALF.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)


class _PackedFile:
    """Blocks of rows, each compressed, one behind the other."""

    def __init__(self, folder: Path, columns: int) -> None:
        self.file: BinaryIO = (folder / PACKED).open("wb")
        self._folder = folder
        self._ends = [0]
        self._waiting = np.empty((0, columns), HALF)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)

    def append(self, rows: np.ndarray) -> None:
        self._waiting = np.concatenate([self._waiting, rows])
        while len(self._waiting) >= BLOCK_ROWS:
            self._write(self._waiting[:BLOCK_ROWS])
            self._waiting = self._waiting[BLOCK_ROWS:]

    def close(self) -> None:
        if len(self._waiting):
            self._write(self._waiting)
        self.file.close()
        np.save(self._folder / BLOCKS, np.array(self._ends, np.int64), allow_pickle=False)

    def _write(self, rows: np.ndarray) -> None:
        lower, upper = byte_planes(rows.view(np.uint16).ravel(), 2)
        packed = self._compressor.compress(upper.tobytes()) + lower.tobytes()
        self.file.write(packed)
        self._ends.append(self._ends[-1] + len(packed))


class RowReader:
    """Rows of features that `RowWriter` wrote."""

    def __init__(self, folder: Path, rows: int, columns: int, how_to_renew: str) -> None:
        """Look at the files, without reading the features.

        Args:
            folder: where they are.
            rows: V, that there must be.
            columns: D.
            how_to_renew: what to do about files that cannot be used.

        Raises:
            MissingFileError: a file is missing.
            InputError: one is damaged, or they do not fit.

        """
        self.rows, self.columns = rows, columns
        self._folder, self._renew = folder, how_to_renew
        self._same: np.ndarray | None = None
        if (folder / SAME).is_file():
            self._same = map_array(folder / SAME, np.dtype(np.int32), (rows,), how_to_renew)
        different = None if self._same is not None else rows
        self._plain: np.ndarray | None = None
        if (folder / PACKED).is_file():
            number = np.dtype(np.int64)
            self._blocks = map_array(folder / BLOCKS, number, (None,), how_to_renew)
            self._check_blocks(different)
        else:
            self._plain = map_array(folder / PLAIN, HALF, (different, columns), how_to_renew)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """float16[n, D]: some rows, by their numbers in 0..V-1, in any order.

        Raises:
            InputError: a file is damaged; names it.
            IndexError: there is no such row.

        """
        rows = np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.rows:
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {self.rows}")
        different = rows if self._same is None else self._same[rows]
        if len(different) and different.min() < 0:
            raise FeatureError(f"{self._folder / SAME}: a row below 0, damaged: {self._renew}")
        try:
            if self._plain is not None:
                return np.asarray(self._plain[different])
            return self._unpacked(different)
        except (*DAMAGE, zstandard.ZstdError) as error:
            raise FeatureError(
                f"{self._folder}: damaged features ({error}): {self._renew}"
            ) from error

    def _check_blocks(self, different: int | None) -> None:
        packed = self._folder / PACKED
        size, end = packed.stat().st_size, int(self._blocks[-1]) if len(self._blocks) else -1
        if size != end:
            raise FeatureError(f"{packed}: {size} bytes, expected {end}: {self._renew}")
        blocks = len(self._blocks) - 1
        # Of every number a byte is as it is.
        if max(1, (blocks - 1) * BLOCK_ROWS) * self.columns > size:
            raise FeatureError(
                f"{packed}: {size} bytes for {blocks} blocks of rows of {self.columns} numbers: "
                f"{self._renew}"
            )
        if different is not None and blocks != -(-different // BLOCK_ROWS):
            raise FeatureError(
                f"{packed}: {blocks} blocks of {BLOCK_ROWS} rows, expected those of {different} "
                f"rows: {self._renew}"
            )

    def _unpacked(self, different: np.ndarray) -> np.ndarray:
        """Rows of blocks, each of which is read and unpacked once."""
        found = np.empty((len(different), self.columns), HALF)
        order = np.argsort(different, kind="stable")
        block_of = different[order] // BLOCK_ROWS
        begins = 1 + np.flatnonzero(block_of[1:] != block_of[:-1])
        with (self._folder / PACKED).open("rb") as file:
            for places in np.split(order, begins) if len(order) else ():
                block = int(different[places[0]]) // BLOCK_ROWS
                first, end = int(self._blocks[block]), int(self._blocks[block + 1])
                if not 0 <= first <= end:
                    raise ValueError(f"block {block} is from {first} to {end}")
                file.seek(first)
                rows = _unpack(file.read(end - first), BLOCK_ROWS * self.columns)
                rows = rows.reshape(-1, self.columns)
                found[places] = rows[different[places] - block * BLOCK_ROWS]
        return found


def _unpack(packed: bytes, most: int) -> np.ndarray:
    """float16[n]: the numbers of one block, of at most so many."""
    numbers = zstandard.frame_content_size(packed)
    if not 0 <= numbers <= min(most, len(packed)):
        raise ValueError(f"a block of {numbers} numbers in {len(packed)} bytes")
    upper = np.frombuffer(zstandard.ZstdDecompressor().decompress(packed), np.uint8)
    lower = np.frombuffer(packed[len(packed) - numbers :], np.uint8)
    return from_byte_planes(np.stack([lower, upper])).view(HALF)


def facts_of(folder: Path, name: str) -> dict[str, Any]:
    """What a room's JSON file says: `points` and `visible`, numbers, and whatever else there is.

    Raises:
        FeatureError: it cannot be read.

    """
    path = folder / name
    try:
        content = parse_json(read_bytes(path))
        return {**content, **{key: int(content[key]) for key in ("points", "visible")}}
    except MALFORMED as error:
        raise FeatureError(f"{path}: not the facts of a room's features: {error}") from error
