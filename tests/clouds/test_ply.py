"""Clouds of PLY files as plyfile writes them, with the names that other programs give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.clouds.cloud_files import colored, colors_of, sweep, write_ply, xyz_of
from uov_jax.clouds import Reading, read_cloud
from uov_jax.datasets.ply_file import PlyError


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_plyfile_writes_comes_back_to_the_last_bit(
    tmp_path: Path, text: bool, order: str, dtype: type[np.floating]
) -> None:
    fields = {name: values.astype(dtype) / 3 for name, values in sweep().items()}
    fields["y"][[1, 4]] = np.nan, -np.inf
    path = write_ply(tmp_path / "a.ply", fields | {"label": np.arange(40, dtype="u2")}, text, order)
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"].astype(np.float32))
    assert np.flatnonzero(~cloud.finite).tolist() == [1, 4]


@pytest.mark.parametrize("text", [True, False])
def test_colours_of_a_room(tmp_path: Path, text: bool) -> None:
    room = colored()
    cloud = read_cloud(write_ply(tmp_path / "a.ply", room | {"alpha": room["red"]}, text))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(room), strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    assert cloud.intensity is None


@pytest.mark.parametrize("name", ["scalar_Intensity", "Reflectance", "I", "remission"])
def test_names_of_other_programs(tmp_path: Path, name: str) -> None:
    fields = sweep()
    fields[name] = fields.pop("intensity")
    renamed = {key.upper() if key in "xyz" else key: values for key, values in fields.items()}
    cloud = read_cloud(write_ply(tmp_path / "a.ply", renamed))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields[name], strict=True)


def test_colours_of_other_types(tmp_path: Path) -> None:
    room = colored()
    fractions = {
        n: v / np.float32(255) if n in ("red", "green", "blue") else v for n, v in room.items()
    }
    cloud = read_cloud(write_ply(tmp_path / "a.ply", fractions))
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    short = {n.replace("red", "r0"): v for n, v in room.items()}
    cloud = read_cloud(write_ply(tmp_path / "a.ply", short), Reading(columns="red=r0"))
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)


def test_a_header_of_another_file_is_refused(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", sweep())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"vertex 40", b"vertex 30"))
    with pytest.raises(PlyError, match=r"a\.ply: 180 bytes follow the 30 vertices, and the header"):
        read_cloud(path)
    path.write_bytes(content.replace(b"vertex 40", b"vertex 99999999999999"))
    with pytest.raises(PlyError, match="vertices need 1,799,999,999,999,982 bytes, found 720"):
        read_cloud(path)
    path = write_ply(tmp_path / "a.ply", sweep(), text=True)
    path.write_bytes(path.read_bytes().replace(b"vertex 40", b"vertex 99999999999999"))
    with pytest.raises(PlyError, match="points of 5 numbers do not fit into"):
        read_cloud(path)
