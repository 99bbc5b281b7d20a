"""Splits: the official ones, SLidR's, shares of them, and a dataset's own."""

from __future__ import annotations

import json

import pytest

from uov_jax.datasets.splits import official_splits, read_own_splits, scenes_of_split

ALL = sorted({scene for members in official_splits().values() for scene in members})


def scenes(split, present=None, own=None):
    return scenes_of_split(split, ALL if present is None else present, own or {}, "DATASET")


def test_official_splits_have_the_published_sizes_and_do_not_overlap():
    splits = official_splits()
    assert [len(splits[name]) for name in ("train", "val", "test")] == [700, 150, 150]
    assert [len(splits[name]) for name in ("mini_train", "mini_val")] == [8, 2]
    assert not set(splits["train"]) & set(splits["val"])
    assert not set(splits["train"] + splits["val"]) & set(splits["test"])
    assert set(splits["train_detect"]) | set(splits["train_track"]) == set(splits["train"])


def test_slidr_holds_out_100_training_scenes():
    splits = official_splits()
    assert len(splits["verify"]) == 100
    assert len(splits["parametrize"]) == 600
    assert set(splits["verify"]) | set(splits["parametrize"]) == set(splits["train"])
    assert splits["verify"][:3] == ("scene-0008", "scene-0009", "scene-0019")
    assert splits["verify"][-1] == "scene-1107"


def test_official_splits_equal_the_devkits():
    from nuscenes.utils.splits import create_splits_scenes

    for name, members in create_splits_scenes().items():
        assert sorted(official_splits()[name]) == sorted(members), name


@pytest.mark.parametrize(("share", "step"), [("1%", 100), ("5%", 20), ("10%", 10), ("25%", 4)])
def test_a_share_keeps_every_nth_scene_in_the_order_of_the_table(share, step):
    train = set(official_splits()["train"])
    table = ALL[::-1]  # the table's order counts, not that of the names
    expected = [scene for scene in table if scene in train][step - 1 :: step]
    assert scenes(f"train:{share}", table) == expected
    assert len(expected) == 700 // step


def test_100_percent_is_everything():
    assert scenes("val:100%") == scenes("val")


def test_scene_names_stand_for_themselves_in_the_order_of_the_table():
    assert scenes(["scene-0061", "scene-0003"]) == ["scene-0003", "scene-0061"]
    assert scenes("scene-0061") == ["scene-0061"]
    with pytest.raises(ValueError, match="1 of 2 requested scenes .*: scene-9999"):
        scenes(["scene-0061", "scene-9999"])


def test_own_splits_extend_and_win_over_the_official_ones():
    own = {"sim_val": ("a",), "val": ("b",)}
    assert scenes("sim_val", ["a", "b"], own) == ["a"]
    assert scenes("val", ["a", "b"], own) == ["b"]


@pytest.mark.parametrize(
    ("split", "present", "message"),
    [
        ("trian", None, "unknown split 'trian', known are mini_train, mini_val, parametrize"),
        ("train", ["scene-0003"], "none of the 700 scenes of the split 'train'"),
        ("train:1%", ["scene-0001"], "'train:1%' keeps every 100th scene, but 'train' has 1 here"),
        ("train:3%", None, "must be 1%, 2%"),
        ("train:0%", None, "must be 1%, 2%"),
        ("train:x", None, "found 'x'"),
        ("train:1", None, "found '1'"),
    ],
)
def test_impossible_splits_are_refused(split, present, message):
    with pytest.raises(ValueError, match=message):
        scenes(split, present)


def test_own_splits_file(tmp_path):
    path = tmp_path / "splits.json"
    assert read_own_splits(path) == {}
    path.write_text(json.dumps({"sim_train": ["a", "b"]}))
    assert read_own_splits(path) == {"sim_train": ("a", "b")}
    for content in ("{", "[]", '{"sim_train": "a"}', '{"sim_train": [1]}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"splits.json: "):
            read_own_splits(path)
