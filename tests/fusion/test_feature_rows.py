"""Rows of features as files: what is read is what was written, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.feature_rows import BLOCK_ROWS, FeatureError, RowReader, RowWriter

AGAIN = "fuse again"


def halves(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Any bits that are finite numbers: subnormal ones and -0 too."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**16, (rows, columns)).astype(np.uint16)
    found = bits.view(np.float16)
    found[~np.isfinite(found)] = -0.0
    return found


def written(folder: Path, parts: list[np.ndarray], compress: bool) -> dict[str, int]:
    writer = RowWriter(folder, parts[0].shape[1], compress=compress)
    for part in parts:
        writer.append(part)
    return writer.close()


def bits(rows: np.ndarray) -> np.ndarray:
    assert rows.dtype == np.float16
    return rows.view(np.uint16)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("sizes", [[1], [BLOCK_ROWS], [BLOCK_ROWS + 1, 0, 5, 300]])
@pytest.mark.parametrize("different", [None, 7])
def test_any_rows_are_read_as_they_were_written(tmp_path, compress, sizes, different):
    rows = halves(sum(sizes), 12)
    if different:  # many are equal
        rows = rows[np.random.default_rng(1).integers(0, min(different, len(rows)), len(rows))]
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    facts = written(tmp_path, parts, compress)
    unique = len(np.unique(bits(rows), axis=0))
    assert facts == {"rows": len(rows), "different": unique}
    assert (tmp_path / "same.npy").exists() == (unique < len(rows))
    reader = RowReader(tmp_path, len(rows), 12, AGAIN)
    chosen = np.random.default_rng(2).integers(0, len(rows), 50)
    for wanted in (chosen, np.arange(len(rows)), chosen[:0], np.array([len(rows) - 1])):
        np.testing.assert_array_equal(bits(reader.read(wanted)), bits(rows[wanted]))


def test_a_plain_file_is_one_of_numpy(tmp_path):
    rows = halves(100, 8)
    written(tmp_path, [rows[:30], rows[30:]], compress=False)
    np.testing.assert_array_equal(bits(np.load(tmp_path / "features.npy")), bits(rows))


def test_equal_rows_and_blocks_take_less(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.03, (2000, 256)).astype(np.float16)
    for name, content, compress in (
        ("plain", rows, False),
        ("equal", rows[rng.integers(0, 100, 2000)], False),
        ("blocks", rows, True),
    ):
        (tmp_path / name).mkdir()
        written(tmp_path / name, [content], compress)
    size = {
        name.name: sum(path.stat().st_size for path in name.iterdir())
        for name in tmp_path.iterdir()
    }
    assert size["plain"] < 2000 * 512 + 200
    assert size["equal"] < 0.06 * size["plain"]
    # Of sign, exponent and two digits, about five of eight bits are information.
    assert 0.7 * size["plain"] < size["blocks"] < 0.9 * size["plain"]


@pytest.mark.parametrize("compress", [False, True])
def test_rows_that_are_not_there_are_refused(tmp_path, compress):
    written(tmp_path, [halves(5, 4)], compress)
    reader = RowReader(tmp_path, 5, 4, AGAIN)
    for wrong in (-1, 5):
        with pytest.raises(IndexError, match="of 5"):
            reader.read(np.array([0, wrong]))


def test_damage_is_named(tmp_path):
    written(tmp_path, [halves(200, 4)], True)
    packed = tmp_path / "features.zst"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1])
    with pytest.raises(FeatureError, match=r"features\.zst: \d+ bytes, expected \d+: fuse again"):
        RowReader(tmp_path, 200, 4, AGAIN)
    packed.write_bytes(b"\0" * 40 + whole[40:])
    reader = RowReader(tmp_path, 200, 4, AGAIN)
    with pytest.raises(FeatureError, match="damaged features .*: fuse again"):
        reader.read(np.array([3]))
    packed.unlink()
    (tmp_path / "blocks.npy").unlink()
    with pytest.raises(MissingFileError, match=r"features\.npy: missing: fuse again"):
        RowReader(tmp_path, 200, 4, AGAIN)


@pytest.mark.parametrize("other", [100, 300])
def test_packed_blocks_of_another_room_are_refused(tmp_path, other):
    written(tmp_path, [halves(200, 4)], True)
    assert len(RowReader(tmp_path, 200, 4, AGAIN).read(np.arange(200))) == 200
    with pytest.raises(FeatureError, match=f"expected those of {other} rows: fuse again"):
        RowReader(tmp_path, other, 4, AGAIN)


def test_files_that_do_not_fit_are_refused(tmp_path):
    written(tmp_path, [halves(20, 4)], False)
    for rows, columns in ((21, 4), (20, 5)):
        with pytest.raises(InputError, match=r"features\.npy: expected float16 \[.*: fuse again"):
            RowReader(tmp_path, rows, columns, AGAIN)
    np.save(tmp_path / "same.npy", np.full(20, 33, np.int32))
    with pytest.raises(FeatureError, match="damaged features"):
        RowReader(tmp_path, 20, 4, AGAIN).read(np.array([0]))
