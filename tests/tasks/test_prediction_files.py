"""Files of labels: what they hold, how a stopped call goes on, and what is left out.

The labeller here labels by the signs of coordinates, so that expectations need no network.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData

from tests.clouds.cloud_files import cloud_message, sweep, write_mcap
from uov_jax.clouds import Cloud, Reading, clouds_in, read_label
from uov_jax.errors import InputError, MissingPackageError
from uov_jax.pictures import rerun
from uov_jax.tasks import prediction_files
from uov_jax.tasks.prediction import Prediction
from uov_jax.tasks.prediction_files import (
    JOURNAL,
    SUMMARY,
    Journal,
    PredictionSettings,
    label_clouds,
    made_with,
    summary,
)

CLASSES = ("ignore", "left_side", "right_side")
PLAIN = PredictionSettings(pictures=0)
ROOT = Path(__file__).parents[2]


class BySide:
    """Labels points by the sign of x."""

    def __init__(self, source: Path, name: str = "by side") -> None:
        self.source, self.name = source, name
        self.classes = CLASSES
        self.colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
        self.card = SimpleNamespace(ahead="y")
        self.is_of_rooms = False
        self.asked: list[str] = []
        self.warnings: tuple[str, ...] = ()

    def identity(self) -> list[str]:
        return [self.name]

    def predict_cloud(self, cloud: Cloud, *, afi: bool = False) -> Prediction:
        del afi
        self.asked.append(cloud.name)
        side = np.where(cloud.xyz[cloud.finite, 0] < 0, 1, 2).astype(np.uint8)
        labels = np.zeros(len(cloud), np.uint8)
        labels[cloud.finite] = side
        return Prediction(labels, cloud.finite, self.warnings)


def sides(points: np.ndarray) -> np.ndarray:
    """uint8[N]: what `BySide` gives."""
    found = np.where(points[:, 0] < 0, 1, 2).astype(np.uint8)
    found[~np.isfinite(points[:, :3]).all(axis=1)] = 0
    return found


def write_clouds(folder: Path, number: int, points: int = 50) -> dict[str, np.ndarray]:
    """Files of x, y, z and intensity, a point of each nowhere; the arrays by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for index in range(number):
        rng = np.random.default_rng(index)
        array = rng.normal(0, 9, (points + index, 4)).astype(np.float32)
        array[:, 3] = rng.uniform(0, 200, len(array))
        array[index % points, 1] = np.nan
        np.save(folder / f"sweep_{index:03d}.npy", array)
        found[f"sweep_{index:03d}"] = array
    return found


def write_clouds_file(folder: Path) -> Path:
    """One file of `write_clouds`."""
    write_clouds(folder, 1)
    return folder / "sweep_000.npy"


@pytest.fixture
def network(tmp_path: Path) -> Any:
    source = tmp_path / "network.npz"
    source.write_bytes(b"weights")
    return BySide(source)


def test_every_cloud_gets_its_files(tmp_path: Path, network: Any) -> None:
    given = write_clouds(tmp_path / "clouds", 3)
    result = label_clouds(
        network, clouds_in(tmp_path / "clouds"), PredictionSettings(tmp_path / "out", pictures=2)
    )
    for name, array in given.items():
        labels = read_label(tmp_path / "out" / f"{name}.predicted.label", len(array))
        np.testing.assert_array_equal(labels, sides(array))
        with np.load(tmp_path / "out" / f"{name}.predicted.npz") as content:
            np.testing.assert_array_equal(content["labels"], sides(array))
            assert tuple(content["classes"]) == CLASSES
        vertices = PlyData.read(tmp_path / "out" / f"{name}.predicted.ply")["vertex"]
        np.testing.assert_array_equal(vertices["y"], array[:, 1])
        np.testing.assert_array_equal(vertices["red"], 255 * (sides(array) == 1))
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["sweep_000.predicted.png", "sweep_001.predicted.png"]
    every = np.concatenate([sides(array) for array in given.values()])
    np.testing.assert_array_equal(result.points, [0, *np.bincount(every)[1:]])
    assert (result.done, result.earlier, result.failed, result.not_finite) == (3, 0, 0, 3)
    assert result.finished


def test_labels_are_put_beside_the_clouds(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 2)
    file = tmp_path / "clouds" / "sweep_001.npy"
    label_clouds(network, clouds_in(file), PLAIN)
    assert (tmp_path / "clouds" / "sweep_001.predicted.label").is_file()
    # What was written is no cloud.
    assert len(clouds_in(tmp_path / "clouds")) == 2


def test_only_what_is_asked_for_is_written(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 1)
    settings = PredictionSettings(tmp_path / "out", kinds=("npz",), pictures=0)
    label_clouds(network, clouds_in(tmp_path / "clouds"), settings)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {JOURNAL, SUMMARY, "sweep_000.predicted.npz"}
    with pytest.raises(InputError, match="kinds \\('doc',\\): expected some of label, npz, ply"):
        PredictionSettings(kinds=("doc",))
    with pytest.raises(InputError, match=r"a\.rrd: a recording is made of the \.label files"):
        PredictionSettings(kinds=("npz",), recording=Path("a.rrd"))


def test_the_table_says_how_many_points_each_class_has(tmp_path: Path, network: Any) -> None:
    given = write_clouds(tmp_path / "clouds", 2)
    result = label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    every = np.concatenate([sides(array) for array in given.values()])
    lines = (tmp_path / "clouds" / SUMMARY).read_text().splitlines()
    assert lines == summary(network, result).splitlines()
    counts = {line[:12].strip(): line[12:].split()[0] for line in lines[1:]}
    assert counts == {
        "left side": f"{(every == 1).sum()}",
        "right side": f"{(every == 2).sum()}",
        "not finite": "2",
    }


# ---- going on -----------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 3)
    clouds = clouds_in(tmp_path / "clouds")
    first = label_clouds(network, clouds, PLAIN)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "clouds").glob("*.predicted.*")}
    network.asked.clear()
    again = label_clouds(network, clouds, PLAIN)
    assert network.asked == []
    assert (again.done, again.earlier) == (3, 3)
    np.testing.assert_array_equal(again.points, first.points)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    label_clouds(network, clouds, PredictionSettings(pictures=0, again=True))
    assert network.asked == ["sweep_000", "sweep_001", "sweep_002"]


def test_a_deleted_file_is_written_again(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 3)
    clouds = clouds_in(tmp_path / "clouds")
    label_clouds(network, clouds, PLAIN)
    network.asked.clear()
    (tmp_path / "clouds" / "sweep_001.predicted.npz").unlink()
    label_clouds(network, clouds, PLAIN)
    assert network.asked == ["sweep_001"]


def test_a_cloud_that_changed_is_labelled_anew(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 3)
    label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    network.asked.clear()
    other = np.ones((7, 4), np.float32)
    np.save(tmp_path / "clouds" / "sweep_001.npy", other)
    result = label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    assert network.asked == ["sweep_001"]
    assert (result.done, result.earlier) == (3, 2)
    labels = read_label(tmp_path / "clouds" / "sweep_001.predicted.label", 7)
    np.testing.assert_array_equal(labels, sides(other))
    # Neither done nor counted, though it once was.
    (tmp_path / "clouds" / "sweep_001.npy").write_bytes(b"no cloud")
    result = label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    assert (result.done, result.earlier, result.failed) == (2, 2, 1)


def test_a_sweep_of_a_bag_that_changed_is_labelled_anew(tmp_path: Path, network: Any) -> None:
    def write(*seeds: int) -> None:
        messages = [cloud_message(sweep(50, seed)) for seed in seeds]
        (tmp_path / "drive.mcap").unlink(missing_ok=True)
        write_mcap(tmp_path / "drive.mcap", {"/points": messages})

    write(0, 1, 2)
    label_clouds(network, clouds_in(tmp_path / "drive.mcap"), PLAIN)
    network.asked.clear()
    write(0, 7, 2, 3)
    result = label_clouds(network, clouds_in(tmp_path / "drive.mcap"), PLAIN)
    assert network.asked == ["drive-000001", "drive-000003"]
    assert (result.done, result.earlier) == (4, 2)


def test_labels_of_another_file_are_not_taken_for_a_clouds_own(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of KITTI's sequences, whose scans are called alike: equal in size, and in their time."""
    for folder, sign in (("a", 1), ("b", -1)):
        (tmp_path / folder).mkdir()
        for name in ("000000", "000001"):
            points = np.float32(
                [[sign, 2, 3, 4], [sign, 5, 1, 2], [sign, 9, 2, 5], [sign, 1, 1, 1]]
            )
            np.save(tmp_path / folder / f"{name}.npy", points)
            os.utime(tmp_path / folder / f"{name}.npy", ns=(5, 5))
    settings = PredictionSettings(tmp_path / "out", pictures=0)
    label_clouds(network, clouds_in(tmp_path / "a"), settings)
    result = label_clouds(network, clouds_in(tmp_path / "b"), settings)
    assert (result.done, result.earlier, result.failed) == (0, 0, 2)
    said = capsys.readouterr()
    assert "a/000000.npy: give another --output" in said.out + said.err
    path = tmp_path / "out" / "000000.predicted.label"
    np.testing.assert_array_equal(read_label(path, 4), 2)
    # As the message says, deleting them makes room.
    for label in (tmp_path / "out").glob("000001.predicted.*"):
        label.unlink()
    result = label_clouds(network, clouds_in(tmp_path / "b"), settings)
    assert (result.done, result.earlier, result.failed) == (1, 0, 1)
    # What has been moved is labelled anew.
    (tmp_path / "a").rename(tmp_path / "moved")
    result = label_clouds(network, clouds_in(tmp_path / "b"), settings)
    assert (result.done, result.earlier, result.failed) == (2, 1, 0)
    np.testing.assert_array_equal(read_label(path, 4), 1)


def test_a_file_that_vanishes_stops_no_other(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clouds(tmp_path / "clouds", 4)
    clouds = clouds_in(tmp_path / "clouds")
    (tmp_path / "clouds" / "sweep_002.npy").unlink()
    result = label_clouds(network, clouds, PLAIN)
    assert (result.done, result.failed) == (3, 1)
    said = capsys.readouterr()
    assert "sweep_002.npy: No such file or directory" in said.out + said.err
    assert (tmp_path / "clouds" / SUMMARY).is_file()


def test_pictures_that_are_asked_for_later_are_drawn(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 2)
    clouds = clouds_in(tmp_path / "clouds")
    assert label_clouds(network, clouds, PLAIN).pictures == 0
    network.asked.clear()
    assert label_clouds(network, clouds, PredictionSettings(pictures=1)).pictures == 1
    assert len(network.asked) == 1


def test_a_height_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="lift nan: expected a number of metres"):
        PredictionSettings(lift=float("nan"))


@pytest.mark.parametrize(
    "changes",
    [{"afi": True}, {"lift": 1.0}, {"reading": Reading(scale=2.0)}, {"kinds": ("label",)}],
)
def test_other_settings_label_anew(tmp_path: Path, network: Any, changes: Any) -> None:
    write_clouds(tmp_path / "clouds", 2)
    clouds = clouds_in(tmp_path / "clouds")
    label_clouds(network, clouds, PLAIN)
    network.asked.clear()
    label_clouds(network, clouds, PredictionSettings(pictures=0, **changes))
    assert network.asked == ["sweep_000", "sweep_001"]


def test_another_network_or_other_texts_label_anew(tmp_path: Path, network: Any) -> None:
    before = made_with(network, PLAIN)
    assert made_with(BySide(network.source), PLAIN) == before
    assert made_with(BySide(network.source, "other texts"), PLAIN) != before
    os.utime(network.source, ns=(1, 1))
    assert made_with(network, PLAIN) != before


def test_a_journal_that_was_cut_off_loses_that_line_alone(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 3)
    clouds = clouds_in(tmp_path / "clouds")
    label_clouds(network, clouds, PLAIN)
    path = tmp_path / "clouds" / JOURNAL
    path.write_bytes(path.read_bytes()[:-9])
    network.asked.clear()
    result = label_clouds(network, clouds, PLAIN)
    assert network.asked == ["sweep_002"]
    assert (result.done, result.earlier) == (3, 2)
    again = Journal(tmp_path / "clouds", made_with(network, PLAIN))
    assert set(again.done) == {"sweep_000", "sweep_001", "sweep_002"}


def test_a_journal_of_anything_is_read(tmp_path: Path) -> None:
    lines = [b"\xff\xfe", b"[]", b'{"cloud": 1}', json.dumps({"made_with": "a"}).encode(), b"null"]
    (tmp_path / JOURNAL).write_bytes(b"\n".join(lines))
    assert Journal(tmp_path, "a").done == {}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.tasks.test_prediction_files import BySide, PLAIN
    from uov_jax.clouds import clouds_in
    from uov_jax.tasks.prediction_files import label_clouds
    class Killed(BySide):
        def predict_cloud(self, cloud, *, afi=False):
            if cloud.name == sys.argv[3]:
                os.kill(os.getpid(), int(sys.argv[4]))
            return super().predict_cloud(cloud)
    result = label_clouds(Killed(Path(sys.argv[1])), clouds_in(sys.argv[2]), PLAIN)
    print(result.done, result.signal, result.finished)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_call_goes_on_where_it_was(
    tmp_path: Path, network: Any, number: signal.Signals
) -> None:
    given = write_clouds(tmp_path / "clouds", 6)
    folder = tmp_path / "clouds"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(network.source), str(folder)]
    ended = subprocess.run(
        [*command, "sweep_003", str(int(number))],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if number == signal.SIGKILL:
        assert ended.returncode == -signal.SIGKILL
        done = 3
    else:
        # The cloud that it was at is finished.
        assert ended.stdout.split()[-3:] == ["4", str(int(number)), "False"]
        done = 4
    assert len(list(folder.glob("*.label"))) == done
    result = label_clouds(network, clouds_in(folder), PLAIN)
    assert network.asked == [f"sweep_{index:03d}" for index in range(done, 6)]
    assert (result.done, result.earlier) == (6, done)
    for name, array in given.items():
        labels = read_label(folder / f"{name}.predicted.label", len(array))
        np.testing.assert_array_equal(labels, sides(array))
    lines = (folder / JOURNAL).read_text().splitlines()
    assert len(lines) == 6
    assert not list(folder.glob(".*tmp*"))


def test_memory_stays_flat_over_many_clouds(tmp_path: Path, network: Any) -> None:
    write_clouds(tmp_path / "clouds", 60, points=20)
    alive: list[weakref.ref[Cloud]] = []
    most = 0
    plain = network.predict_cloud

    def counted(cloud: Cloud, *, afi: bool = False) -> Prediction:
        nonlocal most
        alive.append(weakref.ref(cloud))
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
        return plain(cloud, afi=afi)

    network.predict_cloud = counted
    settings = PredictionSettings(kinds=("label",), pictures=0)
    gc.collect()
    gc.freeze()  # what other tests left takes a second to go through
    try:
        assert label_clouds(network, clouds_in(tmp_path / "clouds"), settings).done == 60
    finally:
        gc.unfreeze()
    assert most <= 2


# ---- what goes wrong ----------------------------------------------------------------------------


def test_one_damaged_cloud_of_several_is_left_out(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clouds(tmp_path / "clouds", 3)
    (tmp_path / "clouds" / "sweep_001.npy").write_bytes(b"no cloud")
    result = label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    assert (result.done, result.failed) == (2, 1)
    said = capsys.readouterr()
    assert "sweep_001 is left out: " in said.out + said.err
    assert not (tmp_path / "clouds" / "sweep_001.predicted.label").exists()


def test_a_bag_that_breaks_off_loses_what_comes_after(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clouds(tmp_path / "clouds", 2)
    messages = [cloud_message(sweep(200, seed)) for seed in range(5)]
    bag = write_mcap(tmp_path / "clouds" / "drive.mcap", {"/points": messages}, chunk_size=3000)
    content = bytearray(bag.read_bytes())
    place = content.index(b"zstd", content.index(b"zstd") + 1) + 60  # in the second chunk
    content[place : place + 40] = bytes(40)
    bag.write_bytes(content)
    clouds = clouds_in(tmp_path / "clouds")
    result = label_clouds(network, clouds, PLAIN)
    number = len(network.asked) - 2
    assert 1 <= number <= 3
    drive = [f"drive-{index:06d}" for index in range(number)]
    assert network.asked == [*drive, "sweep_000", "sweep_001"]
    assert (result.done, result.failed, result.total) == (2 + number, 5 - number, 7)
    assert result.finished
    said = capsys.readouterr()
    assert (
        f"drive-{number:06d} is left out ({5 - number} clouds): {bag}, sweep {number} of /points: "
        "the bag breaks off here" in said.out + said.err
    )
    # A recording is made of those that are there.
    frames = prediction_files._frames(
        network,
        clouds,
        PLAIN,
        tmp_path / "clouds",
        Journal(tmp_path / "clouds", made_with(network, PLAIN)),
    )
    assert len(list(frames)) == 2 + number


def test_labels_that_were_being_written_over_are_made_anew(
    tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two files of a cloud, in a call with other options."""
    write_clouds(tmp_path / "clouds", 1)
    clouds = clouds_in(tmp_path / "clouds")
    label_clouds(network, clouds, PLAIN)

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    other = BySide(network.source, "another network")
    with monkeypatch.context() as patch:
        patch.setattr(prediction_files, "write_arrays", die)
        with pytest.raises(KeyboardInterrupt):
            label_clouds(other, clouds, PLAIN)
    network.asked.clear()
    label_clouds(network, clouds, PLAIN)
    assert network.asked == ["sweep_000"]


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path, network: Any) -> None:
    (load,) = dict(clouds_in(write_clouds_file(tmp_path))).values()
    journal = Journal(tmp_path, "made")
    journal.path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        journal.add("a", load, np.zeros(3, np.int64), 0)
    assert caught.value.filename == "/dev/full"


def test_a_damaged_cloud_alone_is_an_error(tmp_path: Path, network: Any) -> None:
    (tmp_path / "a.npy").write_bytes(b"no cloud")
    with pytest.raises(InputError, match=r"a\.npy"):
        label_clouds(network, clouds_in(tmp_path / "a.npy"), PLAIN)


def test_each_kind_of_warning_is_said_once(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clouds(tmp_path / "clouds", 4)
    network.warnings = ("give --scale 0.001", "give --up y")
    label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    said = capsys.readouterr()
    text = said.out + said.err
    assert text.count("does not look like the training data: give --scale 0.001") == 1
    assert text.count("does not look like the training data: give --up y") == 1


def test_lifted_points_stay_where_they_were_in_files(tmp_path: Path, network: Any) -> None:
    given = write_clouds(tmp_path / "clouds", 1)
    seen: list[np.ndarray] = []
    plain = network.predict_cloud
    network.predict_cloud = lambda cloud, afi: (seen.append(cloud.xyz), plain(cloud, afi=afi))[1]
    label_clouds(network, clouds_in(tmp_path / "clouds"), PredictionSettings(pictures=0, lift=1.5))
    array = given["sweep_000"]
    np.testing.assert_array_equal(seen[0][:, 2], array[:, 2] + np.float32(1.5))
    vertices = PlyData.read(tmp_path / "clouds" / "sweep_000.predicted.ply")["vertex"]
    np.testing.assert_array_equal(vertices["z"], array[:, 2])


# ---- recordings ---------------------------------------------------------------------------------


def test_a_recording_needs_its_package_before_anything_is_done(
    tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clouds(tmp_path / "clouds", 1)
    monkeypatch.setitem(sys.modules, "rerun", None)
    settings = PredictionSettings(pictures=0, recording=tmp_path / "a.rrd")
    with pytest.raises(MissingPackageError, match="pip install"):
        label_clouds(network, clouds_in(tmp_path / "clouds"), settings)
    assert network.asked == []


def test_a_recording_has_all_clouds_with_their_labels(
    tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write_clouds(tmp_path / "clouds", 3)
    label_clouds(network, clouds_in(tmp_path / "clouds"), PLAIN)
    network.asked.clear()
    frames: list[Any] = []

    def recorded(found: Any, colors: np.ndarray, path: Path, *, names: Any) -> int:
        frames.extend(found)
        assert (colors.shape, tuple(names)) == ((3, 3), CLASSES)
        path.write_bytes(b"recording")
        return len(frames)

    monkeypatch.setattr(prediction_files, "require_rerun", lambda: None)
    monkeypatch.setattr(prediction_files, "write_recording", recorded)
    settings = PredictionSettings(pictures=0, recording=tmp_path / "new" / "a.rrd")
    result = label_clouds(network, clouds_in(tmp_path / "clouds"), settings)
    assert result.recording == tmp_path / "new" / "a.rrd"
    assert network.asked == []  # Of a call before.
    for array, frame in zip(given.values(), frames, strict=True):
        finite = np.isfinite(array[:, :3]).all(axis=1)
        np.testing.assert_array_equal(frame.points, array[finite, :3])
        np.testing.assert_array_equal(frame.panels["prediction"], sides(array)[finite])


def test_the_viewers_own_package_writes_it(tmp_path: Path, network: Any) -> None:
    pytest.importorskip("rerun")
    assert rerun.require_rerun()
    write_clouds(tmp_path / "clouds", 2)
    settings = PredictionSettings(pictures=0, recording=tmp_path / "a.rrd")
    label_clouds(network, clouds_in(tmp_path / "clouds"), settings)
    assert (tmp_path / "a.rrd").stat().st_size > 1000
