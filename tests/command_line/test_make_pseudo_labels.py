"""The command make_pseudo_labels: what it says before and after, and how it fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_rooms import write_features, write_rooms
from uov_jax.command_line import make_pseudo_labels as script
from uov_jax.datasets.rooms import RoomStore
from uov_jax.fusion.features import FeatureFolder, FeatureWriter
from uov_jax.fusion.pseudo_labels import PseudoLabelFolder
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """A folder with `rooms` and `features` of them."""
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(tmp_path / "rooms", vocabulary)
    write_features(tmp_path / "features", store, vocabulary, noise=1.5)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    words = {name: folder / name for name in ("rooms", "features")} | {"output": folder / "labels"}
    return [part for name, path in words.items() for part in (f"--{name}", str(path))] + [*more]


def test_it_reports_and_says_what_comes_next(rooms: Path, capsys: pytest.CaptureFixture) -> None:
    assert script.main(arguments(rooms, "--workers", "2")) == 0
    out = capsys.readouterr().out
    assert "3 of 3 rooms to label with the classes that their rooms have by fused features" in out
    assert "1,875 points, 5.6 kB into" in out
    assert "3 rooms are labelled" in out
    assert "The scene-level filter changed the class of" in out
    assert "python scripts/train.py --config configs/ess_scannet.py --workdir" in out
    assert f"--config.data.labels={rooms / 'labels'}" in out
    assert "split" not in out.partition("Next:")[2]
    content = json.loads((rooms / "labels" / "report.json").read_text("utf-8"))
    assert content["rooms"] == 3
    assert 0 < content["right"] <= 1
    assert script.main(arguments(rooms)) == 0
    again = capsys.readouterr().out
    assert "0 of 3 rooms to label" in again
    assert out.partition("In %")[2] == again.partition("In %")[2]


def test_shards_share_the_rooms_and_the_last_reports_on_all(
    rooms: Path, capsys: pytest.CaptureFixture
) -> None:
    assert script.main(arguments(rooms, "--shard", "1/2")) == 0
    out = capsys.readouterr().out
    assert "Shard 1/2: 2 of 3 rooms." in out
    assert "2 of 3 rooms are labelled" in out
    assert "Next, once every shard is done" in out
    assert script.main(arguments(rooms, "--shard", "2/2")) == 0
    assert "3 rooms are labelled" in capsys.readouterr().out


def test_a_split_is_labelled_alone_without_the_filter(
    rooms: Path, capsys: pytest.CaptureFixture
) -> None:
    assert script.main(arguments(rooms, "--split", "val", "--no-filter")) == 0
    out = capsys.readouterr().out
    assert "1 of 1 rooms to label with any class" in out
    assert "filter changed" not in out
    assert script.main(arguments(rooms)) == 1
    assert "scene_filter = False, not of True: give another folder" in capsys.readouterr().err


def test_mistakes_are_told_in_one_line(rooms: Path, capsys: pytest.CaptureFixture) -> None:
    assert script.main(arguments(rooms, "--split", "test")) == 1
    assert "no split 'test' in this store" in capsys.readouterr().err
    assert script.main(arguments(rooms, "--vocabulary", "s3dis")) == 1
    assert "labels of the vocabulary 'scannet', not of 's3dis'" in capsys.readouterr().err
    (rooms / "features" / "scene0001_00" / "features.npy").write_bytes(b"")
    assert script.main(arguments(rooms)) == 1
    assert "scene0001_00/features.npy: damaged" in capsys.readouterr().err


def test_points_take_the_feature_of_the_first_point_of_their_voxel(
    rooms: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of a voxel as large as the room all points have one label, that of the first."""
    assert script.main(arguments(rooms, "--voxel-size", "50", "--seed", "3")) == 0
    labels = np.load(rooms / "labels" / "scene0000_00" / "labels.npy")
    assert len(np.unique(labels)) <= 8  # the room may lie across sides of voxels
    capsys.readouterr()
    assert script.main(arguments(rooms)) == 1
    assert "voxel_size = 50.0, not of 0.0: give another folder" in capsys.readouterr().err
    assert script.main(arguments(rooms, "--voxel-size", "-1")) == 1
    assert "--voxel-size -1.0: expected metres, more than 0" in capsys.readouterr().err


def test_the_first_point_of_a_voxel_depends_on_seed_and_name_alone(rooms: Path) -> None:
    room = RoomStore(rooms / "rooms").room("scene0000_00")
    first = script.first_of_voxel(0.3, 1)(room)
    np.testing.assert_array_equal(first, script.first_of_voxel(0.3, 1)(room))
    assert not np.array_equal(first, script.first_of_voxel(0.3, 2)(room))
    assert (first <= np.arange(len(room))).all()
    np.testing.assert_array_equal(first[first], first)
    # 0.3 m, up to 11 % more by scale, along the diagonal.
    away = np.linalg.norm(room.coords - room.coords[first], axis=1)
    assert 0 < away.max() < 0.3 / 0.9 * np.sqrt(3)
    assert len(np.unique(first)) > 100


@pytest.mark.parametrize("named", ["folder", "file"])
def test_words_in_another_prompt_are_named_by_folder_or_file(
    rooms: Path, capsys: pytest.CaptureFixture, named: str
) -> None:
    vocabulary = load_vocabulary("scannet")
    features = FeatureFolder(rooms / "features")
    bare = np.random.default_rng(1).permutation(features.text_embeddings)
    manifest = dataclasses.replace(
        features.manifest, dataset="", kind="words", settings={"prompt": "{}"}
    )
    FeatureWriter(rooms / "bare", manifest, bare)
    place = rooms / "bare" if named == "folder" else rooms / "bare" / "text_embeddings.npz"
    assert script.main(arguments(rooms, "--text", str(place))) == 0
    said = capsys.readouterr().out
    assert f"By the words of {place}" in said
    assert ("in the prompt '{}'" in said) == (named == "folder")
    facts = PseudoLabelFolder(rooms / "labels", vocabulary).manifest
    assert facts.prompt == ("{}" if named == "folder" else "")
    assert facts.words
    assert script.main(arguments(rooms)) == 1
    assert "give another folder" in capsys.readouterr().err
    assert script.main(arguments(rooms, "--text", str(rooms / "none.npz"))) == 1
    assert "none.npz: no file of embeddings of words" in capsys.readouterr().err
