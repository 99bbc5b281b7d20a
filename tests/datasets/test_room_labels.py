"""Predicted labels of rooms: ScanNet's numbers, a line a point, and back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from uov_jax.datasets.room_labels import RoomLabelFormat
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.submission import expected_bytes, pack_submission, write_labels
from uov_jax.errors import InputError, MissingFileError
from uov_jax.vocabulary import load_vocabulary

# The benchmark's 20 classes, of NYU40's 40.
NYU40 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
ROOMS = ("scene0707_00", "scene0708_00")


def write_table(path: Path, leave_out: str = "") -> Path:
    """ScanNet's table, two columns of it, with its own spelling of refrigerator."""
    classes = load_vocabulary("scannet").eval_classes[1:]
    rows = ["id\tnyu40id\tnyu40class"]
    for number, name in zip(NYU40, classes, strict=True):
        if name != leave_out:
            written = "refridgerator" if name == "refrigerator" else name
            rows += [f"{number}\t{number}\t{written}", f"{number + 100}\t{number}\t{written}"]
    rows.append("999\t40\totherprop")
    path.write_text("\n".join(rows), "utf-8")
    return path


def test_labels_are_the_numbers_of_the_benchmark(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.tsv")
    form = RoomLabelFormat(ROOMS, load_vocabulary("scannet"), table)
    classes = np.arange(21, dtype=np.uint8)
    path = write_labels(form, tmp_path / "out", 0, classes)
    assert path == tmp_path / "out" / "scene0707_00.txt"
    assert path.read_text() == "".join(f"{number}\n" for number in (0, *NYU40))
    np.testing.assert_array_equal(form.read(path, 21), classes)
    assert expected_bytes(form, 2) == 2 * 150_000 * 3


def test_without_the_table_labels_are_numbers_of_classes(tmp_path: Path) -> None:
    form = RoomLabelFormat(ROOMS, load_vocabulary("s3dis"))
    path = write_labels(form, tmp_path, 1, np.array([13, 0, 7], np.uint8))
    assert path.read_text() == "13\n0\n7\n"
    np.testing.assert_array_equal(form.read(path, 3), [13, 0, 7])


def test_a_submission_has_every_room_at_its_top(tmp_path: Path) -> None:
    form = RoomLabelFormat(ROOMS, load_vocabulary("scannet"))
    write_labels(form, tmp_path / "net", 0, np.ones(2, np.uint8))
    with pytest.raises(MissingFileError, match="1 of 2 predictions of the split are missing"):
        pack_submission(form, tmp_path / "net", 2)
    write_labels(form, tmp_path / "net", 1, np.ones(3, np.uint8))
    with zipfile.ZipFile(pack_submission(form, tmp_path / "net", 2)) as file:
        assert file.namelist() == ["scene0707_00.txt", "scene0708_00.txt"]
        assert file.read("scene0708_00.txt") == b"1\n1\n1\n"


def test_mistakes_are_named(tmp_path: Path) -> None:
    vocabulary = load_vocabulary("scannet")
    with pytest.raises(MissingFileError, match="no table of ScanNet's labels"):
        RoomLabelFormat(ROOMS, vocabulary, tmp_path / "none.tsv")
    table = write_table(tmp_path / "table.tsv", leave_out="sofa")
    with pytest.raises(RoomError, match="NYU40 has no class 'sofa'"):
        RoomLabelFormat(ROOMS, vocabulary, table)
    form = RoomLabelFormat(ROOMS, vocabulary, write_table(tmp_path / "table.tsv"))
    with pytest.raises(InputError, match=r"scene0707_00.txt: class 21 of point 1 \(1 such points"):
        write_labels(form, tmp_path, 0, np.array([1, 21], np.uint8))
    path = tmp_path / "a.txt"
    with pytest.raises(MissingFileError, match="no such file of predicted labels"):
        form.read(path, 2)
    path.write_text("1\n13\n")
    with pytest.raises(InputError, match="a.txt:2: '13' is the number of no class"):
        form.read(path, 2)
    with pytest.raises(InputError, match="2 labels, but the room has 3 points"):
        form.read(path, 3)
