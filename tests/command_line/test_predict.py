"""The command predict: what it reads, writes and says, and how it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import uov_jax
from tests.clouds.cloud_files import colors_of, las_bytes, write_laz, xyz_of
from tests.clouds.test_read import in_every_format, real_fields
from tests.datasets.indoor_files import openscene_pickle
from tests.pages import ROOT, blocks_of
from tests.tasks.test_prediction import parts, room_run, run
from uov_jax import teachers
from uov_jax.checkpoints.files import load_state_dict_file, save_state_dict_file
from uov_jax.checkpoints.transfer import export_checkpoint
from uov_jax.clouds import Reading, read_cloud, read_label
from uov_jax.command_line import predict as script
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.rooms import RoomStore
from uov_jax.fusion.features import FeatureManifest, FeatureWriter
from uov_jax.vocabulary import load_vocabulary

__all__ = ["room_run", "run"]  # fixtures

NO_PICTURES = ("--pictures", "0")
# The sweeps of the tiny dataset are of random points: none is like another.
pytestmark = pytest.mark.filterwarnings("ignore::uov_jax.tasks.prediction.CloudWarning")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def sweep(run: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A file of x, y, z, intensity and ring, and the arrays that `predict` takes."""
    keyframe = NuScenesTables(run.parent, "v1.0-mini").keyframes("mini_val")[0]
    file = tmp_path / "sweep.pcd.bin"
    file.write_bytes(keyframe.lidar_path.read_bytes())
    return file, parts(keyframe)


def call(*arguments: object) -> int:
    return script.main([*map(str, arguments)])


def labels_of(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.predicted.label"
    return read_label(path, path.stat().st_size // 4)


def test_a_file_gets_labels_a_picture_and_a_table(
    run: Path, sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file, given = sweep
    columns = ("--columns", "x y z intensity ring")
    assert call(run, file, *columns) == 0
    names = {path.name for path in file.parent.iterdir()} - {file.name}
    assert names == {
        *(f"sweep.predicted.{ending}" for ending in ("label", "npz", "ply", "png")),
        *("predicted.txt", "predicted.jsonl"),
    }
    expected = uov_jax.load(run).predict(**given)
    np.testing.assert_array_equal(labels_of(file.parent, "sweep"), expected)
    said = capsys.readouterr().out
    assert "1 cloud(s) of " in said
    assert "16 classes: barrier, bicycle" in said
    assert (file.parent / "predicted.txt").read_text() in said + "\n"
    assert f"Labelled 1 cloud(s). Wrote into {file.parent}: NAME.predicted.label" in said
    assert f"Next: look at the pictures and predicted.txt in {file.parent}" in said


def test_an_export_and_afi_and_output(run: Path, sweep: Any, tmp_path: Path) -> None:
    file, given = sweep
    export_checkpoint(run, tmp_path / "network.npz")
    columns = ("--columns", "x y z intensity ring", "--files", "label", *NO_PICTURES)
    # Of so few points AFI makes what `predict` makes.
    done = call(tmp_path / "network.npz", file, "--afi", "--output", tmp_path / "out", *columns)
    assert done == 0
    expected = uov_jax.load(run).predict(**given, afi=True)
    np.testing.assert_array_equal(labels_of(tmp_path / "out", "sweep"), expected)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"sweep.predicted.label", "predicted.txt", "predicted.jsonl"}


def test_options_of_reading_undo_other_units_and_axes(
    run: Path, sweep: Any, tmp_path: Path
) -> None:
    _, given = sweep
    # Powers of two lose no bit.
    table = np.column_stack([given["points"][:, [0, 2, 1]] * [1, 1, -1], given["intensity"]])
    table = (table * np.array([8, 8, 8, 0.25])).astype(np.float32)
    np.save(tmp_path / "other.npy", table)
    options = ("--scale", 0.125, "--up", "y", "--intensity-scale", 4)
    named = ("--columns", "x y z intensity", *NO_PICTURES)
    assert call(run, tmp_path / "other.npy", *options, *named) == 0
    expected = uov_jax.load(run).predict(**given)
    np.testing.assert_array_equal(labels_of(tmp_path, "other"), expected)


def test_lift_moves_points_up(run: Path, sweep: Any, tmp_path: Path) -> None:
    _, given = sweep
    low = given["points"] - np.float32([0, 0, 2])
    np.save(tmp_path / "low.npy", np.column_stack([low, given["intensity"]]).astype(np.float32))
    assert call(run, tmp_path / "low.npy", "--lift", 2, *NO_PICTURES) == 0
    expected = uov_jax.load(run).predict(low + np.float32([0, 0, 2]), intensity=given["intensity"])
    np.testing.assert_array_equal(labels_of(tmp_path, "low"), expected)


def test_texts_are_labelled(run: Path, sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file, given = sweep
    columns = ("--columns", "x y z intensity ring", *NO_PICTURES)
    assert call(run, file, "--text", "traffic cone", "sedan", *columns) == 0
    asked = uov_jax.load(run).for_texts(["traffic cone", "sedan"])
    np.testing.assert_array_equal(labels_of(file.parent, "sweep"), asked.predict(**given))
    assert "2 classes: traffic cone, sedan." in capsys.readouterr().out


def test_texts_of_a_folder_of_words(run: Path, sweep: Any, tmp_path: Path) -> None:
    file, given = sweep
    identity = uov_jax.load(run).card.words
    assert identity is not None
    scannet = load_vocabulary("scannet")
    rows = np.random.default_rng(3).normal(size=(len(scannet), 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    manifest = FeatureManifest(
        identity.teacher, identity.weights_hash, 16, "", "scannet", scannet.hash, kind="words"
    )
    FeatureWriter(tmp_path / "words", manifest, rows)
    columns = ("--columns", "x y z intensity ring", *NO_PICTURES)
    assert call(run, file, "--text", "bed", "--embeddings", tmp_path / "words", *columns) == 0
    asked = uov_jax.load(run).for_texts({"bed": rows[scannet.index("bed")]})
    labels = labels_of(file.parent, "sweep")
    assert np.mean(labels == asked.predict(**given)) > 0.99  # stored in half precision


def test_texts_embedded_by_the_teachers_weights(
    run: Path, sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, given = sweep
    vector = np.eye(1, 16, 5, dtype=np.float32)
    made: list[str] = []

    def create(name: str, vocabulary: Any, options: Any) -> Any:
        made.append(name)
        assert vocabulary.words == ("a shopping cart",)
        assert options.weights == (tmp_path / "weights.pth",)
        return SimpleNamespace(text_embeddings=vector)

    pytest.importorskip("torch")
    from uov_jax.teachers import weights

    words = uov_jax.load(run).card.words
    assert words is not None
    monkeypatch.setattr(teachers, "create_teacher", create)
    monkeypatch.setattr(weights, "weights_hash", lambda paths: words.weights_hash)
    (tmp_path / "weights.pth").write_bytes(b"weights")
    options = ("--text", "a shopping cart", "--weights", tmp_path / "weights.pth")
    columns = ("--columns", "x y z intensity ring", *NO_PICTURES)
    assert call(run, file, *options, *columns) == 0
    assert made == [words.teacher]
    asked = uov_jax.load(run).for_texts({"a shopping cart": vector[0]})
    np.testing.assert_array_equal(labels_of(file.parent, "sweep"), asked.predict(**given))


def test_a_folder_goes_on_and_says_what_was_before(
    run: Path, sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = sweep
    columns = ("--columns", "x y z intensity ring", *NO_PICTURES)
    assert call(run, file.parent, *columns) == 0
    (file.parent / "second.bin").write_bytes(file.read_bytes())
    (file.parent / "third.bin").write_bytes(b"1234")
    capsys.readouterr()
    assert call(run, file.parent, *columns) == 1  # one is damaged
    said = capsys.readouterr().out
    assert "third is left out: " in said
    assert "1 of 3 clouds were left out" in said
    assert "Labelled 2 cloud(s), 1 of them before." in said


def test_a_room_is_labelled(room_run: Path, tmp_path: Path) -> None:
    room = RoomStore(room_run.parent / "rooms").room("scene0002_00")
    colors = (room.colors / np.float32(127.5) - 1).astype(np.float32)
    (tmp_path / "room.pth").write_bytes(openscene_pickle((room.coords, colors)))
    assert call(room_run, tmp_path / "room.pth") == 0
    expected = uov_jax.load(room_run).predict(room.coords, colours=room.colors)
    np.testing.assert_array_equal(labels_of(tmp_path, "room"), expected)
    assert (tmp_path / "room.predicted.png").is_file()


@pytest.mark.parametrize("dataset", ["nuscenes", "semantickitti", "scannet"])
def test_a_real_cloud_gets_the_same_labels_in_every_format(
    dataset: str, run: Path, room_run: Path, tmp_path: Path
) -> None:
    fields = real_fields(dataset)
    files = in_every_format(tmp_path, fields)
    checkpoint = room_run if dataset == "scannet" else run
    points = np.stack([fields[axis] for axis in "xyz"], axis=1)
    network = uov_jax.load(checkpoint)
    if dataset == "scannet":
        colours = np.stack([fields[c] for c in ("red", "green", "blue")], axis=1)
        expected = network.predict(points, colours=colours)
    else:
        expected = network.predict(points, intensity=fields["intensity"])
    assert len(np.unique(expected)) > 1
    for path in files:
        labels = network.predict_cloud(read_cloud(path)).labels
        np.testing.assert_array_equal(labels, expected, err_msg=path.name)
    assert call(checkpoint, path, "--files", "label", *NO_PICTURES) == 0
    (file,) = tmp_path.glob("*.predicted.label")
    np.testing.assert_array_equal(read_label(file, len(points)), expected)


@pytest.mark.parametrize("ending", [".las", ".laz"])
@pytest.mark.parametrize("dataset", ["nuscenes", "semantickitti", "scannet"])
def test_a_real_cloud_of_las(
    dataset: str, ending: str, run: Path, room_run: Path, tmp_path: Path
) -> None:
    """Of millimetres and 16 bits of intensity, as the format has them."""
    fields = real_fields(dataset)
    numbers = np.rint(xyz_of(fields).astype(np.float64) * 1000).astype(np.int32)
    rooms, number = dataset == "scannet", len(numbers)
    colors = colors_of(fields) if rooms else np.zeros((number, 3), np.uint8)
    intensity, scale = np.zeros(number, np.uint16), 1.0
    if not rooms:
        scale = {"nuscenes": 1.0, "semantickitti": 1 / 4096}[dataset]
        intensity = np.rint(fields["intensity"] / scale).astype(np.uint16)
    content = las_bytes(numbers, intensity, colors.astype(np.uint16) << 8)
    path = tmp_path / f"a{ending}"
    if ending == ".laz":
        write_laz(path, content, tmp_path)
    else:
        path.write_bytes(content)
    network = uov_jax.load(room_run if rooms else run)
    labels = network.predict_cloud(read_cloud(path, Reading(intensity_scale=scale))).labels
    points = (numbers * 0.001).astype(np.float32)
    given: dict[str, Any] = {"colours": colors} if rooms else {}
    if not rooms:
        given = {"intensity": intensity.astype(np.float32) * np.float32(scale)}
    np.testing.assert_array_equal(labels, network.predict(points, **given))


@pytest.mark.parametrize("recipe", ["tmp_san", "configs/tmp_san.py"])
def test_weights_of_others_with_the_recipe_that_they_are_of(
    recipe: str, run: Path, sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name or its file; without it one line says which there are."""
    file, _ = sweep
    export_checkpoint(run, tmp_path / "network.npz")
    tensors = load_state_dict_file(tmp_path / "network.npz").state_dict
    save_state_dict_file(tmp_path / "theirs.npz", tensors)
    columns = ("--columns", "x y z intensity ring", *NO_PICTURES)
    assert call(tmp_path / "theirs.npz", file, *columns) == 1
    assert "name the recipe that they are of" in capsys.readouterr().err
    # The recipe is found; its network is larger than this one.
    assert call(tmp_path / "theirs.npz", file, "--recipe", recipe, *columns) == 1
    assert "173 tensors of the recipe's network are not there" in capsys.readouterr().err
    assert call(tmp_path / "theirs.npz", file, "--recipe", "moon", *columns) == 1
    assert "moon" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_the_three_lines_of_a_page_label_points(
    page: str, run: Path, sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [
        block for block in blocks_of(ROOT / page) if any("uov_jax.load(" in x for x in block.lines)
    ]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tmp_san-sim").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    _, given = sweep
    names: dict[str, Any] = dict(given)
    exec("\n".join(line.strip() for line in block.lines), names)
    np.testing.assert_array_equal(names["labels"], uov_jax.load(run).predict(**given))
    assert names["network"].classes[1] == "barrier"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "sedann"], "error: 'sedann' is neither a word nor a class"),
        (["--scale", "0"], "error: scale 0.0: expected a positive number"),
        (["--up", "up"], "error: up 'up': expected one of the axes"),
        (["--columns", "x y z _ _"], "the points have no intensity"),
        (["--files", "npz", "--rerun", "a.rrd"], "a.rrd: a recording is made of the .label files"),
        (["--embeddings", "nowhere", "--text", "bed"], "nowhere: no embeddings of words: make"),
        (["--weights", "text.pth"], "error: --weights is of texts, and none are given: add --text"),
    ],
)
def test_a_mistake_is_one_line(
    run: Path,
    sweep: Any,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, _ = sweep
    columns = [] if "--columns" in arguments else ["--columns", "x y z intensity ring"]
    assert call(run, file, *columns, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error: ") == 1


def test_what_is_no_cloud_and_no_checkpoint_is_one_line(
    run: Path, sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = sweep
    (tmp_path / "empty").mkdir()
    assert call(run, tmp_path / "empty") == 1
    assert "empty: no point clouds in this folder" in capsys.readouterr().err
    assert call(tmp_path / "empty", file) == 1
    assert "empty: a folder without a checkpoint" in capsys.readouterr().err
    assert call(file, file) == 1
    assert "sweep.pcd.bin: not a checkpoint of torch.save" in capsys.readouterr().err


def test_the_viewers_package_is_named_with_its_install_line(
    run: Path, sweep: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = sweep
    monkeypatch.setitem(sys.modules, "rerun", None)
    options = ("--columns", "x y z intensity ring", "--rerun", "a.rrd")
    assert call(run, file, *options) == 1
    assert "pip install 'uov-jax[rerun]'" in capsys.readouterr().err
