"""PLY files: ASCII and both byte orders, meshes with faces, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import cloud, ply_fields, write_ply
from uov_jax.datasets.ply_file import (
    PlyError,
    read_ply,
    read_ply_header,
    vertex_colors,
    vertex_coords,
)
from uov_jax.errors import MissingFileError

FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("points", [1, 30])
def test_vertices_come_back(tmp_path: Path, format: str, points: int) -> None:
    coords, colors = cloud(points)
    fields = ply_fields(coords, colors) | {"label": np.arange(points, dtype=np.uint16) + 500}
    path = write_ply(tmp_path / "a.ply", fields, format)
    assert read_ply_header(path).vertices == points
    vertices = read_ply(path)
    np.testing.assert_array_equal(vertex_coords(vertices, path), coords)
    np.testing.assert_array_equal(vertex_colors(vertices, path), colors)
    np.testing.assert_array_equal(vertices["label"], fields["label"])
    assert vertices["label"].dtype == np.uint16


def test_doubles_become_float32(tmp_path: Path) -> None:
    coords = np.array([[1.25, 2.5, 1 / 3]])
    fields = {name: coords[:, axis] for axis, name in enumerate("xyz")}
    found = vertex_coords(read_ply(write_ply(tmp_path / "a.ply", fields)), tmp_path)
    np.testing.assert_array_equal(found, coords.astype(np.float32))


def test_vertices_without_colours_have_none(tmp_path: Path) -> None:
    fields = {name: np.zeros(2, np.float32) for name in "xyz"}
    path = write_ply(tmp_path / "a.ply", fields)
    assert vertex_colors(read_ply(path), path) is None


def test_no_vertices(tmp_path: Path) -> None:
    fields = {name: np.zeros(0, np.float32) for name in "xyz"}
    for format in FORMATS:
        assert len(read_ply(write_ply(tmp_path / "a.ply", fields, format))) == 0


def test_carriage_returns_of_other_systems(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", ply_fields(*cloud(3)), "ascii")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    np.testing.assert_array_equal(vertex_coords(read_ply(path), path), cloud(3)[0])


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, format: str) -> None:
    path = write_ply(tmp_path / "a.ply", ply_fields(*cloud(30)), format, faces=0)
    content = path.read_bytes()
    header = read_ply_header(path).size
    for length in (header + 100, header):
        path.write_bytes(content[:length])
        with pytest.raises(PlyError, match=r"a\.ply: .*(need|ends with|do not fit|no numbers)"):
            read_ply(path)


HEADER = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ply", "solid"), "not a PLY file, it begins with b'solid"),
        (("end_header", "end"), "not a PLY file"),
        (("ascii 1.0", "ascii 2.0"), "the header's line 'format ascii 2.0' is not understood"),
        (("element vertex", "element face"), "expected a format, then vertices as the first"),
        (("property float x", "property list uchar int x"), "properties that are single numbers"),
        (("property float x", "property float128 x"), "'property float128 x' is not understood"),
        (("vertex 1", "vertex many"), "'element vertex many' is not understood"),
        (("property float x\n", ""), "tells no format, or no vertices with properties"),
        (("format ascii 1.0\n", ""), "tells no format, or no vertices"),
        (("float x", "float x\nproperty float x"), "tells no format, or no vertices"),
        (("\n1\n", "\none\n"), "points that are no numbers"),
        (("\n1\n", "\n1 2\n"), "expected 1 points of 1 numbers, found"),
        (("float x", "uchar x"), None),
    ],
)
def test_what_is_no_ply_file_is_named(
    tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    path = tmp_path / "a.ply"
    path.write_text(HEADER.replace(*change, 1))
    if message is None:
        assert read_ply(path)["x"] == [1]
        return
    with pytest.raises(PlyError, match=rf"a\.ply: .*{message}"):
        read_ply(path)


@pytest.mark.parametrize("number", ["300", "-1", "nan"])
def test_a_number_beyond_its_type_is_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a.ply"
    path.write_text(HEADER.replace("float x", "uchar x").replace("\n1\n", f"\n{number}\n"))
    with pytest.raises(PlyError, match="a point has a 'x' that is not 0 to 255"):
        read_ply(path)


def test_what_vertices_lack_is_named(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", {"x": np.zeros(1, np.float32), "y": np.zeros(1, "f4")})
    with pytest.raises(PlyError, match="the vertices have no 'z', only x, y"):
        vertex_coords(read_ply(path), path)
    path = write_ply(tmp_path / "b.ply", {"red": np.zeros(1, np.uint8)})
    with pytest.raises(PlyError, match="the vertices have no 'green', only red"):
        vertex_colors(read_ply(path), path)
    fields = {name: np.zeros(1, np.float32) for name in ("red", "green", "blue")}
    path = write_ply(tmp_path / "c.ply", fields)
    with pytest.raises(PlyError, match="colours are float32, float32, float32, expected uchar"):
        vertex_colors(read_ply(path), path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a\.ply: no such PLY file"):
        read_ply(tmp_path / "a.ply")
