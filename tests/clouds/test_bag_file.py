"""ROS 2 bags of mcap's own package and of sqlite3, with messages by hand; and wrong ones."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType, IndexType

from tests.clouds.cloud_files import (
    cloud_message,
    colored,
    colors_of,
    sweep,
    write_bag,
    write_db3,
    write_mcap,
    xyz_of,
)
from tests.fuzz.rule import MOST_MEMORY, frugal
from uov_jax.clouds import Cloud, CloudError, Reading, clouds_in, read_cloud
from uov_jax.errors import MissingPackageError

TOPIC = "/lidar/points"
SWEEPS = [sweep(20 + number, seed=number) for number in range(3)]
MESSAGES = [cloud_message(fields) for fields in SWEEPS]


def only(folder: Path, message: bytes) -> Cloud:
    """The cloud of a bag of one message."""
    return read_cloud(write_mcap(folder / "one.mcap", {TOPIC: [message]}))


@pytest.mark.parametrize("kind", ["mcap", "db3", "folder", "split"])
def test_sweeps_come_in_their_order_to_the_last_bit(tmp_path: Path, kind: str) -> None:
    topics = {TOPIC: MESSAGES}
    path = {
        "mcap": lambda: write_mcap(tmp_path / "drive.mcap", topics),
        "db3": lambda: write_db3(tmp_path / "drive.db3", topics),
        "folder": lambda: write_bag(tmp_path / "drive", topics),
        "split": lambda: write_bag(tmp_path / "drive", topics, files=2),
    }[kind]()
    clouds = clouds_in(path)
    assert len(clouds) == 3
    for _ in range(2):  # Every pass opens the bag anew.
        found = [(name, load()) for name, load in clouds]
        assert [name for name, _ in found] == [f"drive-{number:06d}" for number in range(3)]
        for (name, cloud), fields in zip(found, SWEEPS, strict=True):
            assert cloud.name == name
            np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
            np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
            np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)
            assert cloud.source.fields == ("x", "y", "z", "intensity", "ring")
    assert found[2][1].source.place == f"{path}, sweep 2 of {TOPIC}"


@pytest.mark.parametrize(
    "options",
    [
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.ZSTD, "chunk_size": 1},
        {"use_chunking": False},
        {"index_types": IndexType.NONE, "use_statistics": False, "use_summary_offsets": False},
    ],
)
def test_all_ways_of_writing_mcap(tmp_path: Path, options: dict[str, Any]) -> None:
    clouds = clouds_in(write_mcap(tmp_path / "a.mcap", {TOPIC: MESSAGES}, **options))
    for (_, load), fields in zip(clouds, SWEEPS, strict=True):
        np.testing.assert_array_equal(load().xyz, xyz_of(fields))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("height", "gap", "margin"), [(1, 0, 0), (4, 3, 0), (4, 2, 16), (1, 4, 8)])
def test_rows_gaps_and_byte_orders(
    tmp_path: Path, order: str, height: int, gap: int, margin: int
) -> None:
    fields = sweep() | {"normal": np.ones((40, 3), np.float64)}
    cloud = only(tmp_path, cloud_message(fields, height, order, gap, margin))
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)


def test_colours_and_doubles(tmp_path: Path) -> None:
    room = colored()
    red, green, blue = (room[name].astype(np.uint32) for name in ("red", "green", "blue"))
    fields = {axis: room[axis] / np.float64(3) for axis in "xyz"}
    fields |= {"rgb": (red << 16 | green << 8 | blue).view(np.float32), "i": room["red"]}
    cloud = only(tmp_path, cloud_message(fields))
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.colors, colors_of(room), strict=True)
    np.testing.assert_array_equal(cloud.intensity, room["red"].astype(np.float32), strict=True)


def test_an_ousters_intensity_is_its_intensity(tmp_path: Path) -> None:
    fields = sweep() | {"reflectivity": np.ones(40, np.uint16)}
    assert only(tmp_path, cloud_message(fields)).intensity.tolist() == fields["intensity"].tolist()
    del fields["intensity"]
    assert only(tmp_path, cloud_message(fields)).intensity.tolist() == [1.0] * 40


def test_topics_are_chosen(tmp_path: Path) -> None:
    topics = {"/front": MESSAGES[:1], "/rear": MESSAGES[1:]}
    path = write_mcap(tmp_path / "a.mcap", topics)
    several = r"a\.mcap: point clouds of several topics: /front \(1 sweeps\), /rear \(2 sweeps\):"
    with pytest.raises(CloudError, match=several):
        clouds_in(path)
    rear = [load() for _, load in clouds_in(path, Reading(topic="/rear"))]
    assert [len(cloud) for cloud in rear] == [21, 22]
    np.testing.assert_array_equal(read_cloud(path, Reading(topic="/front")).xyz, xyz_of(SWEEPS[0]))
    with pytest.raises(CloudError, match="no point clouds of the topic '/top', only /front"):
        clouds_in(path, Reading(topic="/top"))
    with pytest.raises(CloudError, match=r"a\.mcap: 2 clouds, expected a single one"):
        read_cloud(path, Reading(topic="/rear"))


def test_a_sweep_that_is_wrong_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = cloud_message(SWEEPS[1])[:100]
    path = write_mcap(tmp_path / "a.mcap", {TOPIC: [MESSAGES[0], bad, MESSAGES[2]]})
    loaders = [load for _, load in clouds_in(path)]
    with pytest.raises(CloudError, match=rf"a\.mcap, sweep 1 of {TOPIC}: no sensor_msgs.*damaged"):
        loaders[1]()
    np.testing.assert_array_equal(loaders[2]().xyz, xyz_of(SWEEPS[2]))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "no sensor_msgs/msg/PointCloud2, or damaged"),
        (bytes(40), "no sensor_msgs/msg/PointCloud2, or damaged"),
        (cloud_message({"x": sweep()["x"], "y": sweep()["y"]}), "the points have no z, only x, y"),
        (cloud_message(sweep(0)), "no points in it"),
        (cloud_message(sweep(), width=41), "1 rows of 41 points of 18 bytes, 738 bytes a row, do"),
        (cloud_message(sweep(), width=2**32 - 1), "rows of 4,294,967,295 points of 18 bytes"),
        (cloud_message(sweep(), 4, height=5), "5 rows of 10 points of 18 bytes, 180 bytes a row"),
        (cloud_message(sweep(), 4, row_step=179), "4 rows of 10 points of 18 bytes, 179 bytes a r"),
        (cloud_message(sweep(), point_step=17), "field 'ring' of datatype 4 and 1 numbers at byte"),
        (cloud_message(sweep(), datatype=9), "field 'x' of datatype 9 and 1 numbers at byte 0 of"),
        (cloud_message(sweep()).replace(b"y\0", b"x\0"), "field 'x' of datatype 7 .* there twice"),
        (
            cloud_message(sweep()).replace(struct.pack("<I", 720), struct.pack("<I", 2**31)),
            "no sensor_msgs/msg/PointCloud2, or damaged",
        ),
    ],
)
def test_what_is_wrong_in_a_message_is_named(tmp_path: Path, message: bytes, says: str) -> None:
    with pytest.raises(CloudError, match=rf"one\.mcap, sweep 0 of {TOPIC}: .*{says}") as caught:
        only(tmp_path, message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".mcap", ".db3"])
@pytest.mark.parametrize(
    "content", [b"no bag", bytes(4000), b"\x89MCAP0\r\n", b"SQLite format 3\0"]
)
def test_what_is_no_bag_is_named(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(CloudError, match=rf"a\{ending}: no ROS 2 bag, or damaged: ") as caught:
        clouds_in(path)
    assert "\n" not in str(caught.value)


def test_bags_that_broke_off(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {TOPIC: MESSAGES})
    content = path.read_bytes()
    path.write_bytes(content[:-300])
    with pytest.raises(CloudError, match=r"a\.mcap: no ROS 2 bag, or damaged: .*`mcap recover`"):
        clouds_in(path)
    # The index is whole, the sweeps are not.
    place = content.index(b"zstd") + 60
    path.write_bytes(content[:place] + bytes(40) + content[place + 40 :])
    clouds = clouds_in(path)
    ((name, load),) = clouds
    assert (name, load.clouds) == ("a-000000", len(MESSAGES))
    with pytest.raises(CloudError, match=rf"a\.mcap, sweep 0 of {TOPIC}: the bag breaks off here"):
        load()
    folder = write_bag(tmp_path / "drive", {TOPIC: MESSAGES})
    (folder / "drive_0.db3").unlink()
    with pytest.raises(CloudError, match="drive: no ROS 2 bag, or damaged: ReaderError: Some data"):
        clouds_in(folder)
    (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: ]")
    with pytest.raises(CloudError, match="drive: no ROS 2 bag, or damaged: ReaderError: Could not"):
        clouds_in(folder)


def test_bags_without_point_clouds(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {"/camera": [b""]}, kind="sensor_msgs/msg/Image")
    only_image = r"a\.mcap: no topic of sensor_msgs/msg/PointCloud2 .*, only /camera \(sensor"
    with pytest.raises(CloudError, match=only_image):
        clouds_in(path)
    path = write_db3(tmp_path / "b.db3", {TOPIC: []})
    with pytest.raises(CloudError, match=rf"b\.db3: no message of the topic {TOPIC} in this bag"):
        clouds_in(path)


def test_bags_among_the_files_of_a_folder(tmp_path: Path) -> None:
    write_mcap(tmp_path / "b.mcap", {TOPIC: MESSAGES[:2]})
    np.save(tmp_path / "a.npy", xyz_of(SWEEPS[0]))
    np.save(tmp_path / "c.npy", xyz_of(SWEEPS[1]))
    clouds = clouds_in(tmp_path)
    assert len(clouds) == 4
    assert [name for name, _ in clouds] == ["a", "b-000000", "b-000001", "c"]


def test_a_missing_package_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_mcap(tmp_path / "a.mcap", {TOPIC: MESSAGES})
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    expected = r"a\.mcap: reading it needs the package 'rosbags', .*pip install 'uov-jax\[ros\]'"
    with pytest.raises(MissingPackageError, match=expected):
        clouds_in(path)


def test_a_record_that_says_it_is_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "a.mcap", {"/points": [cloud_message(sweep())]}, use_chunking=False
    )
    content = bytearray(path.read_bytes())
    (summary,) = struct.unpack_from("<Q", content, len(content) - 28)
    struct.pack_into("<Q", content, summary + 1, 2**34)  # the length after the kind
    path.write_bytes(content)
    with (
        frugal(MOST_MEMORY),
        pytest.raises(CloudError, match=r"a\.mcap: no ROS 2 bag, or damaged: .*Truncated record"),
    ):
        read_cloud(path)
