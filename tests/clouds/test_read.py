"""Files of every format by their endings, folders of them, and the real sensors' files in all."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pypcd4 import Encoding

from tests.clouds.cloud_files import (
    cloud_message,
    colored,
    colors_of,
    las_bytes,
    pcd_bytes,
    records,
    sweep,
    table_of,
    write_db3,
    write_laz,
    write_mcap,
    write_pcd,
    write_ply,
    xyz_of,
)
from tests.conftest import real_root
from tests.datasets.indoor_files import openscene_pickle
from uov_jax.clouds import (
    ENDINGS,
    CloudError,
    Reading,
    clouds_in,
    read_cloud,
    write_arrays,
    write_colored,
    write_label,
)
from uov_jax.datasets.rooms import RoomError
from uov_jax.errors import InputError, MissingFileError, UserError
from uov_jax.pickled import PickleError


def test_clouds_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    tables = {name: table_of(sweep(seed=seed), "x y z") for seed, name in enumerate("cab")}
    for name, table in tables.items():
        np.save(tmp_path / f"{name}.npy", table)
    for other in ("notes.txt", "a.label", ".hidden.npy"):
        (tmp_path / other).write_bytes(b"no cloud")
    (tmp_path / "deeper").mkdir()
    np.save(tmp_path / "deeper" / "d.npy", tables["a"])
    clouds = clouds_in(tmp_path)
    assert (len(clouds), clouds.others) == (3, 2)
    for _ in range(2):
        found = {name: load() for name, load in clouds}
        assert list(found) == ["a", "b", "c"]
        for name, cloud in found.items():
            assert cloud.name == name
            assert cloud.source.place == str(tmp_path / f"{name}.npy")
            np.testing.assert_array_equal(cloud.xyz, tables[name])


def test_nothing_is_read_before_it_is_wanted_and_a_wrong_file_stops_no_other(
    tmp_path: Path,
) -> None:
    for name in "ac":
        np.save(tmp_path / f"{name}.npy", table_of(sweep(), "x y z"))
    (tmp_path / "b.pcd").write_bytes(b"no cloud")
    loaders = dict(clouds_in(tmp_path))
    with pytest.raises(CloudError, match=r"b\.pcd: not a PCD file"):
        loaders["b"]()
    assert len(loaders["c"]()) == 40
    # To a process of its own.
    assert pickle.loads(pickle.dumps(loaders["a"]))().name == "a"


def test_predictions_beside_their_clouds_are_no_clouds(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", table_of(sweep(), "x y z"))
    cloud = read_cloud(tmp_path / "a.npy")
    labels, colors = np.ones(len(cloud), np.uint8), np.zeros((2, 3), np.uint8)
    write_label(tmp_path, "a", labels)
    write_arrays(tmp_path, "a", labels, ["none", "car"])
    write_colored(tmp_path, cloud, labels, ["none", "car"], colors)
    assert [name for name, _ in clouds_in(tmp_path)] == ["a"]


def test_nuscenes_sweeps_are_called_without_their_endings(tmp_path: Path) -> None:
    table_of(sweep(), "x y z intensity ring").tofile(tmp_path / "n015__LIDAR_TOP__15.pcd.bin")
    ((name, load),) = clouds_in(tmp_path)
    assert name == load().name == "n015__LIDAR_TOP__15"


@pytest.mark.parametrize("ending", [".PLY", ".Pcd"])
def test_capitals_make_no_difference(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".PLY":
        write_ply(path, sweep())
    else:
        path.write_bytes(pcd_bytes(sweep()))
    np.testing.assert_array_equal(read_cloud(path).xyz, xyz_of(sweep()))
    assert [name for name, _ in clouds_in(tmp_path)] == ["a"]


def test_two_clouds_of_one_name_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", table_of(sweep(), "x y z"))
    write_ply(tmp_path / "a.ply", sweep())
    same = r"a\.ply: its labels would be called like those of a\.npy: rename one"
    with pytest.raises(CloudError, match=same):
        clouds_in(tmp_path)
    with pytest.raises(CloudError, match=same):
        read_cloud(tmp_path)


def test_a_file_called_like_a_sweep_of_a_bag_is_refused(tmp_path: Path) -> None:
    write_mcap(tmp_path / "drive.mcap", {"/points": [cloud_message(sweep())] * 2})
    np.save(tmp_path / "drive-1.npy", table_of(sweep(), "x y z"))
    assert len(clouds_in(tmp_path)) == 3
    np.save(tmp_path / "drive-000001.npy", table_of(sweep(), "x y z"))
    with pytest.raises(CloudError, match=r"drive-000001\.npy: .* like those of a sweep of drive"):
        clouds_in(tmp_path)


def test_a_damaged_bag_stops_no_other_cloud(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", table_of(sweep(), "x y z"))
    (tmp_path / "b.mcap").write_bytes(b"no bag")
    loaders = dict(clouds_in(tmp_path))
    assert len(loaders["a"]()) == 40
    with pytest.raises(CloudError, match=r"b\.mcap: no ROS 2 bag, or damaged"):
        loaders["b"]()


def test_options_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", table_of(sweep(), "x y z"))
    for path in (tmp_path, tmp_path / "a.npy"):
        with pytest.raises(CloudError, match="topics are of bags, and here is none"):
            clouds_in(path, Reading(topic="/points"))
    (tmp_path / "b.pth").write_bytes(openscene_pickle((xyz_of(sweep()), 0)))
    with pytest.raises(CloudError, match=r"b\.pth: arrays .* leave --columns out"):
        read_cloud(tmp_path / "b.pth", Reading(columns="x y z"))


def test_what_is_no_cloud_or_folder_of_clouds_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such file or folder of point clouds"):
        clouds_in(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match=r"a\.las: no such file or folder of point clouds"):
        read_cloud(tmp_path / "a.las")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CloudError, match=r"empty: no point clouds in this folder; \.bin, .* read"):
        clouds_in(tmp_path / "empty")
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "a.npy", np.ones((2, 3)))
    (tmp_path / "a.txt").write_text("1 2 3\n")
    with pytest.raises(CloudError, match=r"no point clouds in this folder, but in .*/sub; \.bin"):
        clouds_in(tmp_path)
    for name, what in (("a.txt", "files called .txt"), ("a", "files without an ending")):
        (tmp_path / name).write_text("1 2 3\n")
        with pytest.raises(CloudError, match=rf"{what} are not read as point clouds; \.bin, \.pcd"):
            read_cloud(tmp_path / name)
    np.save(tmp_path / "sub" / "b.npy", np.ones((2, 3)))
    with pytest.raises(CloudError, match="sub: 2 clouds, expected a single one"):
        read_cloud(tmp_path / "sub")


@pytest.mark.parametrize("ending", ENDINGS)
def test_empty_files_and_those_of_another_format_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"")
    with pytest.raises(CloudError, match=rf"a\{ending}: (an empty file|no ROS 2 bag)"):
        read_cloud(path)
    others = {".pcd": pcd_bytes(sweep()), ".ply": ply(tmp_path), ".npz": b"PK\x03\x04" + bytes(99)}
    for content in (content for kind, content in others.items() if kind != ending):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"a\{ending}: ") as caught:
            read_cloud(path)
        assert "\n" not in str(caught.value)


def ply(folder: Path) -> bytes:
    return write_ply(folder / "plain", sweep()).read_bytes()


def test_openscenes_files(tmp_path: Path) -> None:
    room = colored()
    parts = (
        xyz_of(room),
        (colors_of(room) / np.float32(127.5) - 1).astype(np.float32),
        np.ones(40),
    )
    path = tmp_path / "a.pth"
    path.write_bytes(openscene_pickle(parts))
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.positions, xyz_of(room), strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    path.write_bytes(openscene_pickle((xyz_of(room).astype(np.float64) / 3, 0)))
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.positions, xyz_of(room).astype(np.float64) / 3, strict=True)
    assert cloud.colors is None
    path.write_bytes(openscene_pickle({"model": np.ones(3)}))
    with pytest.raises(RoomError, match=r"a\.pth: expected coordinates, colours and.*found dict"):
        read_cloud(path)
    path.write_bytes(openscene_pickle(parts)[:-20])
    with pytest.raises(PickleError, match=r"a\.pth: damaged, or not of torch.save or pickle"):
        read_cloud(path)


Fields = dict[str, np.ndarray]


def in_every_format(folder: Path, fields: Fields) -> list[Path]:
    """The same points as files of every format that keeps them to the last bit."""
    names: dict[str, Callable[[Path], object]] = {
        "a.npy": lambda path: np.save(path, records(fields)),
        "b.npz": lambda path: np.savez_compressed(path, **fields),
        "c.pcd": lambda path: write_pcd(path, fields, Encoding.BINARY),
        "d.pcd": lambda path: write_pcd(path, fields, Encoding.BINARY_COMPRESSED),
        "e.pcd": lambda path: path.write_bytes(pcd_bytes(fields, "ascii")),
        "f.ply": lambda path: write_ply(path, fields, text=True),
        "g.ply": lambda path: write_ply(path, fields, order=">"),
        "h.ply": lambda path: write_ply(path, fields, order="<"),
        "i.mcap": lambda path: write_mcap(path, {"/points": [cloud_message(fields)]}),
        "j.db3": lambda path: write_db3(path, {"/points": [cloud_message(fields)]}),
    }
    if "red" in fields:
        parts = (xyz_of(fields), (colors_of(fields) / np.float32(127.5) - 1).astype(np.float32))
        names["k.pth"] = lambda path: path.write_bytes(openscene_pickle(parts))
    for name, write in names.items():
        write(folder / name)
    return [folder / name for name in names]


def real_fields(dataset: str) -> Fields:
    """What a real sensor's file holds, and that it is read so."""
    root = real_root(dataset)
    if dataset == "scannet":
        table = np.fromfile(root / "scene0000_00.bin", np.float32).reshape(-1, 6)
        fields = dict(zip("xyz", table.T[:3], strict=True))
        colors = table.T[3:].astype(np.uint8)
        return fields | dict(zip(("red", "green", "blue"), colors, strict=True))
    pattern, width = {"nuscenes": ("*/LIDAR_TOP/*.bin", 5), "semantickitti": ("*/*/*/*.bin", 4)}[
        dataset
    ]
    (path,) = root.glob(pattern) if dataset == "semantickitti" else root.rglob("*.pcd.bin")
    table = np.fromfile(path, np.float32).reshape(-1, width)
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.positions, table[:, :3], strict=True)
    np.testing.assert_array_equal(cloud.intensity, table[:, 3], strict=True)
    return dict(zip(["x", "y", "z", "intensity"], table.T[:4].copy(), strict=True))


@pytest.mark.parametrize("dataset", ["nuscenes", "semantickitti", "scannet"])
def test_a_real_sensors_points_are_the_same_in_every_format(tmp_path: Path, dataset: str) -> None:
    fields = real_fields(dataset)
    for path in in_every_format(tmp_path, fields):
        cloud = read_cloud(path)
        np.testing.assert_array_equal(
            cloud.positions, xyz_of(fields), strict=True, err_msg=path.name
        )
        np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
        assert not cloud.offset.any()
        assert cloud.finite.all()
        if "red" in fields:
            np.testing.assert_array_equal(cloud.colors, colors_of(fields), strict=True)
        else:
            np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)


def test_a_real_room_without_names_is_asked_for(tmp_path: Path) -> None:
    path = real_root("scannet") / "scene0000_00.bin"
    with pytest.raises(CloudError, match="nothing tells whether .*'x y z red green blue'"):
        read_cloud(path)
    cloud = read_cloud(path, Reading(columns="x y z red green blue"))
    np.testing.assert_array_equal(cloud.colors, colors_of(real_fields("scannet")), strict=True)


@pytest.mark.parametrize("ending", [".las", ".laz"])
def test_a_real_room_in_millimetres_of_las(tmp_path: Path, ending: str) -> None:
    fields = real_fields("scannet")
    numbers = np.rint(xyz_of(fields).astype(np.float64) * 1000).astype(np.int32)
    colors = colors_of(fields).astype(np.uint16) << 8
    content = las_bytes(numbers, np.zeros(len(numbers), np.uint16), colors, minor=4)
    path = tmp_path / f"a{ending}"
    if ending == ".laz":
        write_laz(path, content, tmp_path)
    else:
        path.write_bytes(content)
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.positions, numbers * np.float64(0.001), strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(fields), strict=True)


@pytest.mark.parametrize(
    "ending", [".pcd", ".ply", ".npy", ".npz", ".pth", ".mcap", ".db3", ".bin"]
)
def test_damaged_bytes_give_one_line_or_other_points(tmp_path: Path, ending: str) -> None:
    """Whatever is in a file: no other error, no gigabytes."""
    fields = sweep(120)
    makers: dict[str, Callable[[Path], object]] = {
        ".pcd": lambda path: path.write_bytes(pcd_bytes(fields, "ascii")),
        ".ply": lambda path: write_ply(path, fields),
        ".npy": lambda path: np.save(path, records(fields)),
        ".npz": lambda path: np.savez_compressed(path, **fields),
        ".pth": lambda path: path.write_bytes(openscene_pickle((xyz_of(fields), 0))),
        ".mcap": lambda path: write_mcap(path, {"/points": [cloud_message(fields)]}),
        ".db3": lambda path: write_db3(path, {"/points": [cloud_message(fields)]}),
        ".bin": lambda path: table_of(fields, "x y z intensity").tofile(path),
    }
    path = tmp_path / f"a{ending}"
    makers[ending](path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for number in range(150):
        bad = bytearray(content)
        near = min(len(content), 400) if number % 2 else len(content)
        for place in rng.integers(0, near, 1 + number % 4):
            bad[place : place + 1 + number % 3] = rng.bytes(1 + number % 3)
        path.write_bytes(bad[: rng.integers(1, len(bad))] if number % 5 == 0 else bad)
        try:
            read_cloud(path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(line.startswith(f"{path}") and "\n" not in line for line in refused)
