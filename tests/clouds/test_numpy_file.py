"""Numpy's files: arrays with and without names, and wrong ones, whose headers make nothing."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clouds.cloud_files import colored, colors_of, records, sweep, table_of, xyz_of
from uov_jax.clouds import CloudError, Reading, read_cloud


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("columns", [3, 4])
def test_a_plain_array_comes_back_to_the_last_bit(
    tmp_path: Path, columns: int, order: Any, dtype: str
) -> None:
    table = np.asarray(table_of(sweep(), "x y z intensity")[:, :columns] / 3, dtype, order)
    np.save(tmp_path / "a.npy", table)
    cloud = read_cloud(tmp_path / "a.npy")
    native = table.astype(table.dtype.newbyteorder("="))
    np.testing.assert_array_equal(cloud.positions, native[:, :3], strict=True)
    np.testing.assert_array_equal(cloud.xyz, table[:, :3].astype(np.float32), strict=True)
    if columns == 4:
        np.testing.assert_array_equal(cloud.intensity, table[:, 3].astype(np.float32), strict=True)
    else:
        assert cloud.intensity is None
        with pytest.raises(CloudError, match=r"a\.npy: the points have no intensity, as its colum"):
            cloud.needed_intensity()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["xyz", "points", "coords", "Positions"])
def test_arrays_by_name(tmp_path: Path, name: str, compressed: bool) -> None:
    fields, room = sweep(), colored()
    save = np.savez_compressed if compressed else np.savez
    arrays = {name: xyz_of(fields), "reflectivity": fields["intensity"][:, None]}
    save(tmp_path / "a.npz", **arrays, colours=colors_of(room), classes=np.array(["a", "b"]))
    cloud = read_cloud(tmp_path / "a.npz")
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)


def test_arrays_of_other_names_are_asked_for(tmp_path: Path) -> None:
    fields = sweep()
    np.savez(tmp_path / "a.npz", pts=xyz_of(fields), power=fields["intensity"])
    with pytest.raises(CloudError, match=r"a\.npz: the points have no x, y, z, only pts, power"):
        read_cloud(tmp_path / "a.npz")
    cloud = read_cloud(tmp_path / "a.npz", Reading(columns="xyz=pts intensity=power"))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields))
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"])
    np.savez(tmp_path / "a.npz", pts=xyz_of(fields))
    cloud = read_cloud(tmp_path / "a.npz", Reading(columns="xyz=pts"))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields))


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_fields_with_names(tmp_path: Path, ending: str) -> None:
    fields = sweep()
    rows = records({"id": np.arange(len(fields["x"])), **fields}, ">")
    save = np.save if ending == ".npy" else np.savez
    save(tmp_path / f"a{ending}", rows)
    cloud = read_cloud(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)


def test_an_array_alone_and_objects_beside_it(tmp_path: Path) -> None:
    table = table_of(sweep(), "x y z intensity")
    np.savez(tmp_path / "a.npz", table)
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npz").xyz, table[:, :3])
    np.savez(tmp_path / "a.npz", points=table, about=np.array({"no": "points"}, object))
    cloud = read_cloud(tmp_path / "a.npz")
    np.testing.assert_array_equal(cloud.intensity, table[:, 3])


def test_columns_are_named_where_nothing_tells_them(tmp_path: Path) -> None:
    room = colored()
    table = table_of(room, "x y z red green blue")
    np.save(tmp_path / "a.npy", table)
    either = r"a\.npy: 6 columns: nothing tells whether .*'x y z intensity _ _' or 'x y z red green"
    with pytest.raises(CloudError, match=either):
        read_cloud(tmp_path / "a.npy")
    cloud = read_cloud(tmp_path / "a.npy", Reading(columns="x y z red green blue"))
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    with pytest.raises(CloudError, match="6 columns, but 4 are named: x y z intensity"):
        read_cloud(tmp_path / "a.npy", Reading(columns="x y z intensity"))
    np.save(tmp_path / "a.npy", np.concatenate([table, table], axis=1))
    with pytest.raises(CloudError, match=r"12 columns: none of the usual columns: name them all"):
        read_cloud(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", points=table, intensity=room["x"])
    cloud = read_cloud(tmp_path / "a.npz", Reading(columns="x y z red green blue"))
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    np.testing.assert_array_equal(cloud.intensity, room["x"], strict=True)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 17.0, 255.0]], np.float32), [0, 17, 255]),
        (np.array([[0, 17, 255]], np.int64), [0, 17, 255]),
        (np.array([[0, 17 << 8, 65535]], np.uint16), [0, 17, 255]),
        (np.array([[0, 17 << 8, 65535]], ">u2"), [0, 17, 255]),
        (np.array([[1, 2, 3, 255]], np.uint8), [1, 2, 3]),
    ],
)
def test_colours_of_other_types(tmp_path: Path, stored: np.ndarray, expected: list[int]) -> None:
    np.savez(tmp_path / "a.npz", xyz=np.ones((1, 3), np.float32), colors=stored)
    assert read_cloud(tmp_path / "a.npz").needed_colors().tolist() == [expected]


ONES = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"xyz": ONES, "colors": ONES[:2]}, "2 colours, but 4 points"),
        ({"xyz": ONES, "intensity": ONES[:2, 0]}, "2 intensities, but 4 points"),
        ({"xyz": ONES[:, :2], "a": ONES}, r"positions: expected numbers \[points, 3\], .*\[4, 2\]"),
        ({"x": ONES[:, 0], "y": ONES[:, 0]}, "the points have no z, only x, y"),
        ({"x": ONES[:1, 0], "y": ONES[:, 0], "z": ONES[:, 0]}, "of different lengths: 1, 4, 4"),
        ({"xyz": ONES[:0], "a": ONES}, "no points in it"),
        ({"xyz": ONES * np.nan, "a": ONES}, "of 4 points none has a finite position"),
        ({}, "the points have no x, y, z, only nothing"),
        ({"arr_0": ONES[:, :2]}, r"an array of float32 \[4, 2\], expected numbers"),
        ({"arr_0": np.array([["a"] * 3])}, r"an array of <U1 \[1, 3\], expected numbers"),
    ],
)
def test_what_is_wrong_in_an_archive_is_named(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CloudError, match=rf"a\.npz: .*{message}"):
        read_cloud(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"xyz": ONES, "colors": ONES * -1}, "colours of float32 from -1 to -1, expected bytes"),
        ({"xyz": ONES, "colors": ONES * 1.5}, "colours of float32 from 1.5 to 1.5"),
        ({"xyz": ONES, "intensity": ONES}, r"intensity: expected a number a point, .*\[4, 3\]"),
        ({"xyz": ONES, "rgb": ONES[:, 0].astype("f8")}, "packed colours of float64, expected 32"),
        ({"xyz": ONES, "rgb": ONES[:, :2]}, r"colours: expected numbers \[points, 3\]"),
    ],
)
def test_what_is_wrong_is_an_error_for_who_needs_it(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    cloud = read_cloud(tmp_path / "a.npz")
    needed, other = cloud.needed_colors, cloud.needed_intensity
    if "intensity" in arrays:
        needed, other = cloud.needed_intensity, cloud.needed_colors
    with pytest.raises(CloudError, match=rf"a\.npz: .*{message}"):
        needed()
    with pytest.raises(CloudError, match="the points have no"):
        other()


def test_fractions_may_be_rounded(tmp_path: Path) -> None:
    colors = np.array([[-1e-7, 0.5, 1.0000002]], np.float32)
    np.savez(tmp_path / "a.npz", xyz=ONES[:1], colors=colors)
    assert read_cloud(tmp_path / "a.npz").needed_colors().tolist() == [[0, 128, 255]]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HUGE = npy(np.zeros((1, 3), np.float32)).replace(b"(1, 3)", b"(999999999999, 3)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ply\nformat ascii 1.0\n", "not a .npy file but a PLY file"),
        (npy(ONES)[:-1], r"cut off: 47 bytes for an array float32 \[4, 3\]"),
        (npy(ONES)[:20], "not an array of numpy, or damaged"),
        (npy(ONES)[:7] + b"\x09" + npy(ONES)[8:], "not an array of numpy, or damaged"),
        (
            npy(ONES).replace(b"(4, 3)", b"(9, 9)"),
            r"cut off: 48 bytes for an array float32 \[9, 9\]",
        ),
        (npy(ONES).replace(b"'<f4'", b"'<q9'"), "not an array of numpy, or damaged"),
        (npy(np.array([[print]])), "it holds Python's objects, as a pickle"),
        (npy(ONES[0]), r"an array of float32 \[3\], expected numbers"),
        (
            npy(records(sweep()).reshape(4, -1)),
            r"points in an array \[4, 10\], expected",
        ),
        (HUGE, r"cut off: .* bytes for an array float32 \[999999999999, 3\]"),
    ],
)
def test_what_is_wrong_in_an_array_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match=rf"a\.npy: .*{message}"):
            read_cloud(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_archives_that_are_none_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, xyz=ONES, intensity=ONES[:, 0])
    content = path.read_bytes()
    for bad, message in (
        (content[:-40], "not an .npz of plain arrays, or damaged: File is not a zip"),
        (npy(ONES), "not an .npz file but a .npy file"),
        (content.replace(ONES.tobytes(), ONES.tobytes()[::-1]), "or damaged: Bad CRC-32"),
    ):
        path.write_bytes(bad)
        with pytest.raises(CloudError, match=rf"a\.npz: .*{message}"):
            read_cloud(path)


def test_an_archive_that_claims_more_than_it_can_hold_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xyz.npy", HUGE)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match=r"a\.npz: .*'xyz.npy' is cut off"):
            read_cloud(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
