"""LAS files by hand and LAZ files of LASzip; and wrong ones, whose numbers make nothing."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.clouds.cloud_files import las_bytes, write_laz
from uov_jax.clouds import CloudError, Reading, read_cloud
from uov_jax.errors import MissingPackageError

POINTS = 300
MIDDLE = (500_000.0, 4_000_000.0, 300.0)  # a map's: metres east and north of somewhere
COUNT, COUNT_1_4, RECORDS, BEGIN = 107, 247, 100, 96  # bytes of the header


def made(minor: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, bytes]:
    """Positions in millimetres, intensity and colours, and their file."""
    rng = np.random.default_rng(minor)
    numbers = rng.integers(-30_000, 30_000, (POINTS, 3)).astype(np.int32)
    intensity = rng.integers(0, 65_536, POINTS).astype(np.uint16)
    colors = rng.integers(0, 65_536, (POINTS, 3)).astype(np.uint16)
    return numbers, intensity, colors, las_bytes(numbers, intensity, colors, minor, offset=MIDDLE)


def written(folder: Path, ending: str, minor: int) -> Path:
    path = folder / f"a{ending}"
    content = made(minor)[3]
    if ending == ".laz":
        return write_laz(path, content, folder)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("minor", [2, 4])
@pytest.mark.parametrize("ending", [".las", ".laz"])
def test_points_come_back_to_the_last_bit(tmp_path: Path, ending: str, minor: int) -> None:
    numbers, intensity, colors, _ = made(minor)
    cloud = read_cloud(written(tmp_path, ending, minor))
    # As the specification says: an integer times the scale, and the offset.
    expected = numbers * np.float64(0.001) + np.array(MIDDLE)
    np.testing.assert_array_equal(cloud.positions, expected, strict=True)
    np.testing.assert_array_equal(cloud.intensity, intensity.astype(np.float32), strict=True)
    np.testing.assert_array_equal(cloud.colors, (colors >> 8).astype(np.uint8), strict=True)
    assert cloud.finite.all()
    kind = 7 if minor == 4 else 3
    assert cloud.source.form == f"{ending[1:].upper()} 1.{minor}, point format {kind}"


def test_coordinates_of_a_map_are_moved_near_and_the_way_is_remembered(tmp_path: Path) -> None:
    cloud = read_cloud(written(tmp_path, ".las", 2))
    assert np.abs(cloud.offset - MIDDLE)[:2].max() < 5
    assert cloud.offset[2] == 0  # 300 m above the sea are not far
    assert (cloud.offset == np.round(cloud.offset)).all()
    # Half a unit of float32 at 512 m, of 64 m in x and y.
    error = np.abs(cloud.xyz + cloud.offset - cloud.positions).max(axis=0)
    assert (error <= [3.9e-6, 3.9e-6, 3.1e-5]).all()
    assert np.abs(cloud.xyz[:, :2]).max() < 64


def test_colours_that_are_bytes_or_missing(tmp_path: Path) -> None:
    numbers, intensity, colors, _ = made()
    (tmp_path / "a.las").write_bytes(las_bytes(numbers, intensity, colors >> 8))
    cloud = read_cloud(tmp_path / "a.las")
    np.testing.assert_array_equal(cloud.colors, colors >> 8)
    assert cloud.source.notes == ("the colours are taken as 0 to 255, not as 0 to 65535",)
    (tmp_path / "a.las").write_bytes(las_bytes(numbers, intensity, colors * np.uint16(0)))
    cloud = read_cloud(tmp_path / "a.las")
    assert cloud.colors is None
    assert cloud.source.notes == ("the colours are 0 throughout: taken as missing",)
    with pytest.raises(CloudError, match=r"a\.las: the points have no colours, only x, y, z, int"):
        cloud.needed_colors()


def test_a_scale_and_an_intensity_scale(tmp_path: Path) -> None:
    numbers, intensity, colors, _ = made()
    (tmp_path / "a.las").write_bytes(las_bytes(numbers, intensity, colors, scale=1.0))
    reading = Reading(scale=0.001, intensity_scale=1 / 65535)
    cloud = read_cloud(tmp_path / "a.las", reading)
    np.testing.assert_array_equal(cloud.xyz, (numbers * 0.001).astype(np.float32))
    np.testing.assert_array_equal(cloud.intensity, (intensity / 65535).astype(np.float32))


def patched(content: bytes, place: int, code: str, value: int) -> bytes:
    size = struct.calcsize(code)
    return content[:place] + struct.pack(code, value) + content[place + size :]


LAS, LAS_4 = made(2)[3], made(4)[3]


@pytest.mark.parametrize("ending", [".las", ".laz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(400), r"but a zip archive, .*expected b'LASF'"),
        (b"nothing of this kind at all", "not a LAS or LAZ file but a text file"),
        (bytes(400), "not a LAS or LAZ file: it begins with"),
        (LAS[:200], "200 bytes are no header of a LAS file: cut off"),
        (LAS[:-1], "300 points of 34 bytes need 10,200, found 10,199: cut off"),
        (LAS_4[:-1], "300 points of 36 bytes need 10,800, found 10,799: cut off"),
        (patched(LAS, COUNT, "<I", 2**32 - 1), "4,294,967,295 points of 34 bytes need"),
        (patched(LAS_4, COUNT_1_4, "<Q", 2**60), "points of 36 bytes need"),
        (patched(LAS, COUNT, "<I", 0), "no points in it, says its header"),
        (patched(LAS, RECORDS, "<I", 2**32 - 1), "4,294,967,295 records follow its 227 bytes"),
        (patched(LAS, BEGIN, "<I", 2**31), "points begin at byte 2,147,483,648"),
        (patched(LAS, 104, "<B", 77), "damaged, or not as the LAS specification says"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, ending: str, content: bytes, message: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match=rf"a\{ending}: .*{message}") as caught:
            read_cloud(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("minor", [2, 4])
def test_compressed_points_that_are_not_as_many(
    tmp_path: Path, minor: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cut off, of other numbers than the header says, and with chunks or layers of gigabytes."""
    path = written(tmp_path, ".laz", minor)
    content = path.read_bytes()
    (begin,) = struct.unpack_from("<I", content, BEGIN)
    (table,) = struct.unpack_from("<q", content, begin)
    count, code = (COUNT_1_4, "<Q") if minor == 4 else (COUNT, "<I")
    bad = [
        content[:-1000],  # without the table of chunks
        patched(content, count, code, 2**31),  # more points than chunks
        patched(content, begin, "<q", 2**40),  # the table is beyond the end
        patched(content, table + 4, "<I", 2**32 - 1),  # chunks
    ]
    if minor == 4:
        layers = begin + 8 + 36
        bad += [
            patched(content, COUNT_1_4, "<Q", POINTS - 1),
            patched(content, layers, "<I", POINTS + 1),  # more points in the chunk
            patched(content, layers + 4, "<I", 2**32 - 1),  # a layer of gigabytes
        ]
    for wrong in bad:
        path.write_bytes(wrong)
        # Before anything is decompressed: lazrs would make what the numbers say.
        with pytest.raises(CloudError, match=r"a\.laz: .* do not go with .* chunks of points of 3"):
            read_cloud(path)
    path.write_bytes(content[:-5])
    with pytest.raises(CloudError, match=r"a\.laz: damaged, or not as the LAS specification says"):
        read_cloud(path)
    # What laspy and lazrs would say besides.
    assert capfd.readouterr() == ("", "")


def test_damaged_bytes_give_one_line_or_other_points(tmp_path: Path) -> None:
    path = written(tmp_path, ".laz", 4)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(200):
        bad = bytearray(content)
        for place in rng.integers(0, min(len(content), 700), 3):
            bad[place] = rng.integers(0, 256)
        path.write_bytes(bad)
        try:
            read_cloud(path)
        except CloudError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in refused)


@pytest.mark.parametrize(("ending", "package"), [(".las", "laspy"), (".laz", "lazrs")])
def test_a_missing_package_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, package: str
) -> None:
    path = written(tmp_path, ending, 2)
    monkeypatch.setitem(sys.modules, package, None)
    expected = (
        rf"a\{ending}: reading it needs the package '{package}', .*pip install 'uov-jax\[las\]'"
    )
    with pytest.raises(MissingPackageError, match=expected):
        read_cloud(path)
