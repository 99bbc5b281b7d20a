"""Sweeps as files: what is read, and what is refused because it cannot be a sweep."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from uov_jax.datasets.lidar_file import (
    NEAREST,
    NUSCENES_COLUMNS,
    RING,
    SEMANTICKITTI_COLUMNS,
    implausible,
    read_points,
)
from uov_jax.errors import InputError
from uov_jax.host import engine

COLUMNS = {"nuscenes": NUSCENES_COLUMNS, "semantickitti": SEMANTICKITTI_COLUMNS}
# Of a whole number of points of four columns, of five and of six.
POINTS = 1200


def cloud(names: str, largest_intensity: float, points: int = POINTS) -> np.ndarray:
    """float32[points, columns]: a sweep with those columns."""
    rng = np.random.default_rng(0)
    made = {
        "x": rng.normal(0, 20, points),
        "y": rng.normal(0, 20, points),
        "z": rng.normal(0, 2, points),
        "intensity": rng.uniform(0, 1, points) * largest_intensity,
        "ring": rng.integers(0, 32, points),
        "_": rng.uniform(-1e9, 1e9, points),
    }
    return np.stack([made[name] for name in names.split()], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    "names",
    ["x y z intensity", "x y z intensity ring", "x y z intensity ring _", "x y z intensity _ _"],
)
def test_columns_are_read_as_they_are_named(tmp_path: Path, names: str) -> None:
    stored = cloud(names, 255)
    stored.tofile(tmp_path / "sweep.bin")
    points = read_points(tmp_path / "sweep.bin", NUSCENES_COLUMNS.with_names(names))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, stored[:, :4])


def test_columns_in_another_order_come_back_in_ours(tmp_path: Path) -> None:
    stored = cloud("intensity _ z y x", 255)
    stored.tofile(tmp_path / "sweep.bin")
    points = read_points(tmp_path / "sweep.bin", NUSCENES_COLUMNS.with_names("intensity,_,z,y,x"))
    np.testing.assert_array_equal(points, stored[:, [4, 3, 2, 0]])


@pytest.mark.parametrize("expected", COLUMNS)
@pytest.mark.parametrize(
    "names",
    ["x y z intensity", "x y z intensity ring", "x y z intensity ring _", "x y z intensity _"],
)
def test_other_columns_are_never_read_as_points(tmp_path: Path, expected: str, names: str) -> None:
    wanted = COLUMNS[expected]
    if names == " ".join(wanted.names):
        return
    cloud(names, wanted.largest_intensity).tofile(tmp_path / "sweep.bin")
    with pytest.raises(InputError, match=r"sweep.bin: .*of point \d+ is") as caught:
        read_points(tmp_path / "sweep.bin", wanted)
    assert f"With {len(names.split())} columns, {names}, it would do" in str(caught.value)


@pytest.mark.parametrize("expected", COLUMNS)
@pytest.mark.parametrize("size", [0, 19, 399])
def test_a_truncated_sweep_is_refused(tmp_path: Path, expected: str, size: int) -> None:
    (tmp_path / "sweep.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"sweep.bin: truncated, .*: {size} bytes, .*multiple of"):
        read_points(tmp_path / "sweep.bin", COLUMNS[expected])


def ascii_pcd() -> bytes:
    rows = "\n".join(" ".join(f"{x:.4f}" for x in row) for row in cloud("x y z intensity", 1)[:50])
    return f"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nDATA ascii\n{rows}\n".encode()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, cloud("x y z intensity", 1))
    return file.getvalue()


@pytest.mark.parametrize("expected", COLUMNS)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (ascii_pcd(), "a PCD file"),
        (b"# .PCD v0.7\nDATA binary\n" + cloud("x y z intensity", 1).tobytes(), "a PCD file"),
        (b"ply\nformat binary_little_endian 1.0\n" + bytes(500), "a PLY file"),
        (npy(), "a .npy file"),
        (b"LASF" + bytes(400), "a LAS file"),
        (b"PK\x03\x04" + bytes(300), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html><body>Sign in to download</body></html>", "a text file"),
        (b"1.5 2.5 0.5 0.1\n" * 40, "a text file"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, expected: str, content: bytes, what: str) -> None:
    wanted = COLUMNS[expected]
    # Of a fitting length: nothing but the content tells.
    content += b" " * (-len(content) % wanted.bytes_per_point)
    (tmp_path / "sweep.bin").write_bytes(content)
    with pytest.raises(InputError, match=f"sweep.bin: this is .*{what}"):
        read_points(tmp_path / "sweep.bin", wanted)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 5001.0, "x of point 7 is 5001 .*at most 5,000 m"),
        (2, -6e5, "z of point 7 is -600000 "),
        (3, -1.0, "intensity of point 7 is -1 .*expected 0 to 255"),
        (3, 256.0, "intensity of point 7 is 256 "),
        (4, 0.5, "ring of point 7 is 0.5 .*a whole number"),
        (4, -1.0, "ring of point 7 is -1 "),
        (1, np.nan, "point 7 is not finite"),
        (4, np.inf, "point 7 is not finite"),
    ],
)
def test_what_no_column_can_hold_is_named(
    tmp_path: Path, column: int, value: float, message: str
) -> None:
    stored = cloud("x y z intensity ring", 255)
    stored[7, column] = value
    stored.tofile(tmp_path / "sweep.bin")
    with pytest.raises(InputError, match=f"sweep.bin: {message}"):
        read_points(tmp_path / "sweep.bin", NUSCENES_COLUMNS)


@pytest.mark.parametrize("expected", COLUMNS)
@pytest.mark.parametrize("numbers", [np.zeros(4000, "<i4"), np.arange(4000, dtype="<i4")])
def test_zeros_and_other_types_are_no_sweep(
    tmp_path: Path, expected: str, numbers: np.ndarray
) -> None:
    columns = COLUMNS[expected]
    table = numbers.reshape(-1, len(columns.names)).copy()
    if RING in columns.names:
        table[:, columns.names.index(RING)] = 0
    table.tofile(tmp_path / "x.bin")
    with pytest.raises(InputError, match=r"x.bin: all .* points lie within 0.01 m of the LiDAR"):
        read_points(tmp_path / "x.bin", columns)


@pytest.mark.parametrize("expected", COLUMNS)
def test_what_is_looked_at_in_a_moment_is_what_is_said_in_words(expected: str) -> None:
    """One number of a sweep replaced by every kind of number."""
    columns = COLUMNS[expected]
    plain = cloud(" ".join(columns.names), columns.largest_intensity)[:20]
    kinds = [0.0, -0.0, 0.5, -1.0, 1.0, 1.5, 255.0, 256.0, 1024.0, 1025.0, 5000.0, -5000.1, 3e38]
    kinds += [np.nan, np.inf, -np.inf]
    seen = set()
    for column in range(len(columns.names)):
        for value in kinds:
            table = plain.copy()
            table[7, column] = value
            quick = engine().is_plausible_sweep(table, *columns.ranges(), NEAREST)
            wrong = implausible(table, columns, columns.largest_intensity)
            slow = np.isfinite(table).all() and not wrong
            assert quick == slow, (column, value)
            seen.add(quick)
    assert seen == {False, True}
    assert not engine().is_plausible_sweep(0 * plain, *columns.ranges(), NEAREST)


def test_extremes_of_real_sweeps_are_read(tmp_path: Path) -> None:
    rows = [(5000.0, -5000.0, 0.0, 0.0, 0.0), (-0.0, 0.0, -3.0, 255.0, 127.0)]
    (tmp_path / "sweep.bin").write_bytes(b"".join(struct.pack("<5f", *row) for row in rows))
    points = read_points(tmp_path / "sweep.bin", NUSCENES_COLUMNS)
    np.testing.assert_array_equal(points, np.array(rows, np.float32)[:, :4])


def test_real_sweeps_are_read(real_nuscenes: Path, real_semantickitti: Path) -> None:
    (sweep,) = (real_nuscenes / "samples" / "LIDAR_TOP").glob("*.pcd.bin")
    assert read_points(sweep, NUSCENES_COLUMNS).shape == (34_688, 4)
    scan = real_semantickitti / "sequences" / "00" / "velodyne" / "000000.bin"
    assert read_points(scan, SEMANTICKITTI_COLUMNS).shape == (scan.stat().st_size // 16, 4)
    with pytest.raises(InputError, match="intensity of point"):
        read_points(sweep, SEMANTICKITTI_COLUMNS)


def test_a_missing_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="x.bin: no such LiDAR sweep"):
        read_points(tmp_path / "x.bin", NUSCENES_COLUMNS)


@pytest.mark.parametrize(
    "names", ["", "x y z", "x y z intensity intensity", "x y z intensity time", "x x y z intensity"]
)
def test_columns_that_make_no_sweep_are_refused(names: str) -> None:
    with pytest.raises(InputError, match="expected x, y, z and intensity"):
        NUSCENES_COLUMNS.with_names(names)
