"""S3DIS's text files: read whole, with the damaged bytes that the release has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import write_s3dis_object
from uov_jax.datasets.rooms import RoomError
from uov_jax.datasets.s3dis_text import MOST_BAD, read_text_points
from uov_jax.errors import MissingFileError

LINES = ["-2.1 3.25 0.5 10 20 30", "1.0 2.0 3.0 155 155 165", "4 5 6 0 255 0"]
POINTS = np.array([[-2.1, 3.25, 0.5, 10, 20, 30], [1, 2, 3, 155, 155, 165], [4, 5, 6, 0, 255, 0]])


def written(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes((end.join(lines) + end).encode("latin1"))
    return path


def test_points_come_back(tmp_path: Path) -> None:
    numbers = write_s3dis_object(tmp_path, "Area_1/office_1", "chair_1", 200)
    found = read_text_points(tmp_path / "Area_1" / "office_1" / "Annotations" / "chair_1.txt")
    np.testing.assert_allclose(found.points, numbers, rtol=1e-15)
    assert found.notes == ()


@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n", "\n\n"])
def test_ends_of_lines(tmp_path: Path, end: str) -> None:
    np.testing.assert_array_equal(
        read_text_points(written(tmp_path / "a.txt", *LINES, end=end)).points, POINTS
    )


def test_colours_written_as_fractions_and_a_last_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1.000000 2.000000 3.000000 126.000000 98.000000 58.000000\n" + LINES[2])
    found = read_text_points(path)
    np.testing.assert_array_equal(found.points, [[1, 2, 3, 126, 98, 58], POINTS[2]])
    assert found.notes == ()


@pytest.mark.parametrize(
    ("line", "point", "how"),
    [
        # In a number, between two of them, and beside one.
        ("1.0 2.0 3.0 15\x105 155 165", [1, 2, 3, 155, 155, 165], "was read without"),
        ("1.0 2.0 3.0 155\x10155 165", [1, 2, 3, 155, 155, 165], "was read with spaces for"),
        ("1.0 2.\x000 3.0 155 155 165", [1, 2, 3, 155, 155, 165], "was read without"),
        ("1.0 2.0 3.0 155 155 165\xff", [1, 2, 3, 155, 155, 165], "was read without"),
        ("1.0 2.0 3.0 155 155", None, "is no point and was left out"),
        ("1.0 2.0 3.0 155 155 165 7", None, "is no point and was left out"),
        ("1.0 2.0 3.0 155 155 265", None, "is no point and was left out"),
        ("1.0 2.0 3.0 -1 155 165", None, "is no point and was left out"),
        ("1.0 2.0.0 3.0 155 155 165", None, "is no point and was left out"),
        ("1.0 2.0 - 155 155 165", None, "is no point and was left out"),
        ("1.0 2.0 1e999 155 155 165", None, "is no point and was left out"),
        ("x y z r g b", None, "is no point and was left out"),
    ],
)
def test_damaged_lines_are_mended_or_left_out_and_told(
    tmp_path: Path, line: str, point: list[float] | None, how: str
) -> None:
    path = written(tmp_path / "ceiling_1.txt", LINES[0], line, LINES[2])
    found = read_text_points(path)
    middle = [] if point is None else [point]
    np.testing.assert_array_equal(found.points, np.array([POINTS[0], *middle, POINTS[2]]))
    (note,) = found.notes
    assert note.startswith(f"{path}:2: ")
    assert how in note


def test_nothing_is_shifted_where_two_lines_are_damaged_in_opposite_ways(tmp_path: Path) -> None:
    """Seven numbers in one and five in another are no two points."""
    path = written(tmp_path / "a.txt", LINES[0], "1 2 3 4 5 6 7", "8 9 10 11 12", LINES[2])
    found = read_text_points(path)
    np.testing.assert_array_equal(found.points, POINTS[[0, 2]])
    assert len(found.notes) == 2
    glued = written(
        tmp_path / "b.txt", LINES[0], *["1.5.5 2 3.5.5 4.5.5 5.5.5 6.5.5"] * 6, LINES[2]
    )
    found = read_text_points(glued)
    np.testing.assert_array_equal(found.points, POINTS[[0, 2]])
    assert len(found.notes) == 6


def test_an_empty_file_has_no_points(tmp_path: Path) -> None:
    for text in ("", "\n \n"):
        path = tmp_path / "a.txt"
        path.write_text(text)
        found = read_text_points(path)
        assert found.points.shape == (0, 6)
        assert found.notes == ()


@pytest.mark.parametrize("line", ["1 2 3", "1 2 3 4 5 999"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    written(tmp_path / "a.txt", *LINES, *[line] * (MOST_BAD + 1))
    with pytest.raises(RoomError, match=r"a\.txt.*lines (are not x y z r g b|that are no points)"):
        read_text_points(tmp_path / "a.txt")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="is S3DIS unpacked completely"):
        read_text_points(tmp_path / "a.txt")
