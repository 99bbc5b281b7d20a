"""Files of columns without names: which columns they may be, and what contradicts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clouds.cloud_files import colored, colors_of, sweep, table_of, xyz_of
from uov_jax.clouds import CloudError, Reading, read_cloud


@pytest.mark.parametrize(
    "names",
    ["x y z intensity", "x y z intensity ring", "x y z intensity ring _", "x y z intensity _ _"],
)
@pytest.mark.parametrize("named", [False, True])
def test_usual_columns_need_no_name(tmp_path: Path, names: str, named: bool) -> None:
    fields = sweep()
    fields["x"][2], fields["z"][5] = np.nan, np.inf
    table_of(fields, names).tofile(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", Reading(columns=names if named else None))
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)
    assert np.flatnonzero(~cloud.finite).tolist() == [2, 5]
    rest = " _" * (len(names.split()) - 4)
    taken = f"columns taken as x y z intensity{rest}"
    assert (taken in cloud.source.notes) != named


@pytest.mark.parametrize("names", ["_ z y x intensity", "x,y,z", "intensity x y z ring _ _"])
def test_other_columns_are_read_as_they_are_named(tmp_path: Path, names: str) -> None:
    fields = sweep()
    table_of(fields, names.replace(",", " ")).tofile(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", Reading(columns=names))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    assert (cloud.intensity is None) == ("intensity" not in names)


def test_columns_that_nothing_tells_apart_are_asked_for(tmp_path: Path) -> None:
    room = colored(48)  # no negative number, and a length that four columns have as well
    table_of(room, "x y z red green blue").tofile(tmp_path / "a.bin")
    either = r"a\.bin: 1,152 bytes: nothing tells whether .* or 'x y z red green blue': name them"
    with pytest.raises(CloudError, match=either):
        read_cloud(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", Reading(columns="x y z red green blue"))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(room), strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)


def test_a_cloud_in_millimetres_says_so(tmp_path: Path) -> None:
    table = table_of(sweep(), "x y z intensity")
    (table * np.array([1000, 1000, 1000, 1], np.float32)).tofile(tmp_path / "a.bin")
    far = (
        r"a\.bin: no cloud in metres, but maybe 'x y z intensity' in millimetres: .* --scale 0.001$"
    )
    with pytest.raises(CloudError, match=far):
        read_cloud(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", Reading(scale=0.001))
    # Rounded to float32 twice.
    np.testing.assert_allclose(cloud.xyz, table[:, :3], rtol=1.2e-7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# .PCD v0.7\nDATA ascii\n", "this is a PCD file with its header, not float32 columns"),
        (b"1.5 2.5 0.5 0.1\n" * 40, "this is a text file, not float32 columns"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a pointer of Git LFS"),
        (b"\x89MCAP0\r\n" + bytes(100), "this is a ROS 2 bag, not float32 columns"),
        (bytes(1600), "none of the usual columns .*all 100 points lie within 0.01 m"),
        (bytes(17), "none of the usual columns .*truncated, or of other columns: 17 bytes"),
        (np.full(400, np.nan, np.float32).tobytes(), "no point is finite$"),
        (sweep()["x"].astype(np.float64).tobytes(), "none of the usual columns"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(CloudError, match=rf"a\.bin: .*{message}") as caught:
        read_cloud(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)


def test_coordinates_of_a_map_are_read_where_the_columns_are_named(tmp_path: Path) -> None:
    table = table_of(sweep(), "x y z intensity") + np.float32([400_000, 5_700_000, 30, 0])
    table.tofile(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", Reading(columns="x y z intensity"))
    np.testing.assert_array_equal(cloud.positions, table[:, :3], strict=True)
    assert cloud.offset[1] == pytest.approx(5_700_000, abs=50)
    (note,) = cloud.source.notes
    assert "these are coordinates of a map" in note


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "x y z intensity",
            r"\w+ of point \d+ is .*; with the columns 'x y z intensity _' it",
        ),
        ("x y z intensity _ _ _", "truncated, or of other columns: 800 bytes, expected a positive"),
        ("x y z red green", "'x y z red green' names none: expected x, y and z and maybe"),
        ("x y intensity", "names none: expected x, y and z"),
        ("x y z z intensity", "names none: expected x, y and z"),
        ("x y z amplitude", "names none: expected x, y and z"),
        ("intensity=i", "its columns have no names, and 'intensity=i' names none"),
        ("x y z red green blue ring _ _ _", "red of point 0 is .*expected a whole number 0 to 255"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, columns: str, message: str) -> None:
    table_of(sweep(), "x y z intensity ring").tofile(tmp_path / "a.bin")
    with pytest.raises(CloudError, match=rf"a\.bin: .*{message}"):
        read_cloud(tmp_path / "a.bin", Reading(columns=columns))
