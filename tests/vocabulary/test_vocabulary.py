"""The class dictionaries: content of the shipped one, and the refusal of malformed files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uov_jax.vocabulary import (
    VocabularyError,
    load_vocabulary,
    parse_vocabulary,
    vocabulary_of_words,
)

SMALL = {
    "eval_classes": ["ignore", "road", "car"],
    "groups": [
        {"raw_index": 3, "eval_class": 2, "words": ["car", "jeep"]},
        {"raw_index": 9, "eval_class": 1, "words": ["road", "jeep"]},
    ],
}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_nuscenes_has_the_published_words_groups_and_classes():
    vocabulary = load_vocabulary()
    assert vocabulary.name == "nuscenes"
    assert len(vocabulary) == len(vocabulary.words) == 175
    assert np.array_equal(np.unique(vocabulary.word_group), np.arange(31))
    assert len(vocabulary.eval_classes) == 17
    assert vocabulary.eval_classes[0] == "ignore"
    assert vocabulary.words[0] == "car"
    assert " rolling hills" in vocabulary.words


def test_nuscenes_raw_labels_map_to_the_16_evaluated_classes():
    expected = np.zeros(256, np.uint8)
    table = {9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8}
    table |= {22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 30: 16}
    for raw, eval_class in table.items():
        expected[raw] = eval_class
    vocabulary = load_vocabulary()
    np.testing.assert_array_equal(vocabulary.raw_to_eval, expected)
    np.testing.assert_array_equal(
        vocabulary.word_eval_class, expected[vocabulary.word_raw_index].astype(np.int32)
    )


def test_duplicated_words_are_addressed_by_index():
    vocabulary = load_vocabulary()
    seen = [word for word in set(vocabulary.words) if len(vocabulary.indices(word)) > 1]
    assert sorted(seen) == ["pavilion", "scooter"]
    first, second = vocabulary.indices("scooter")
    assert vocabulary.word_eval_class[first] == 6  # motorcycle
    assert vocabulary.word_eval_class[second] == 0  # personal mobility
    with pytest.raises(ValueError, match=rf"'scooter' stands at indices \({first}, {second}\)"):
        vocabulary.index("scooter")
    with pytest.raises(ValueError, match="'zeppelin' stands nowhere"):
        vocabulary.index("zeppelin")
    assert vocabulary.index("car") == 0


def test_words_of_class_are_the_inverse_of_word_eval_class():
    vocabulary = load_vocabulary()
    parts = [vocabulary.words_of_class(c) for c in range(17)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(175))
    assert [vocabulary.words[i] for i in parts[8]] == ["cone", "safety cone"]


@pytest.mark.parametrize(
    ("name", "stuff"),
    [
        # Classes whose masks the published dumps merge: all behind the 96th word.
        ("nuscenes", {"driveable_surface", "other_flat", "sidewalk", "terrain", "manmade"}),
        # What the datasets' own instance labels leave out.
        ("semantickitti", {"road", "parking", "sidewalk", "other-ground", "building", "fence"}),
        ("scannet", {"wall", "floor"}),
        ("s3dis", {"ceiling", "floor", "wall"}),
    ],
)
def test_things_are_what_can_be_counted(name, stuff):
    vocabulary = load_vocabulary(name)
    classes = np.array(vocabulary.eval_classes)[vocabulary.word_eval_class]
    assert vocabulary.word_is_thing.shape == (len(vocabulary),)
    assert not vocabulary.word_is_thing[np.isin(classes, list(stuff))].any()
    things = {"nuscenes": "car", "semantickitti": "person"}.get(name, "chair")
    assert vocabulary.word_is_thing[vocabulary.index(things)]
    if name == "nuscenes":
        np.testing.assert_array_equal(vocabulary.word_is_thing, np.arange(175) < 96)


def test_nuscenes_palette():
    vocabulary = load_vocabulary()
    assert vocabulary.colors.shape == (17, 3)
    assert vocabulary.colors.dtype == np.uint8
    assert tuple(vocabulary.colors[0]) == (0, 0, 0)
    assert tuple(vocabulary.colors[4]) == (255, 158, 0)
    assert len({tuple(rgb) for rgb in vocabulary.colors}) == 17


@pytest.mark.parametrize(
    ("name", "classes"), [("semantickitti", 19), ("scannet", 20), ("s3dis", 13)]
)
def test_the_other_datasets_have_a_word_for_each_class(name, classes):
    vocabulary = load_vocabulary(name)
    assert vocabulary.name == name
    assert len(vocabulary.eval_classes) == classes + 1
    assert set(range(1, classes + 1)) <= set(vocabulary.word_eval_class.tolist())
    assert len(set(vocabulary.words)) == len(vocabulary)
    assert len({tuple(rgb) for rgb in vocabulary.colors}) == classes + 1


def test_semantickitti_words_follow_the_published_learning_map():
    vocabulary = load_vocabulary("semantickitti")
    static = {10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10}
    static |= {48: 11, 49: 12, 50: 13, 51: 14, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19}
    expected = np.zeros(256, np.uint8)
    expected[list(static)] = list(static.values())
    np.testing.assert_array_equal(vocabulary.raw_to_eval, expected)


def test_indoor_labels_are_those_of_the_prepared_scenes():
    for name, classes in [("scannet", 20), ("s3dis", 13)]:
        expected = np.concatenate([np.arange(1, classes + 1), np.zeros(256 - classes)])
        np.testing.assert_array_equal(load_vocabulary(name).raw_to_eval, expected)
    assert load_vocabulary("scannet").words[-1] == "other"


def test_a_file_of_the_same_schema_is_read(tmp_path):
    vocabulary = load_vocabulary(write(tmp_path / "small.json", SMALL))
    assert vocabulary.name == "small"
    assert vocabulary.words == ("car", "jeep", "road", "jeep")
    np.testing.assert_array_equal(vocabulary.word_group, [0, 0, 1, 1])
    np.testing.assert_array_equal(vocabulary.word_raw_index, [3, 3, 9, 9])
    assert vocabulary.raw_to_eval[9] == 1
    assert len({tuple(rgb) for rgb in vocabulary.colors}) == 3


def test_hash_follows_words_and_classes_but_not_name_and_colors(tmp_path):
    small = load_vocabulary(write(tmp_path / "small.json", SMALL)).hash
    coloured = SMALL | {"name": "other", "colors": [[0, 0, 0], [1, 2, 3], [4, 5, 6]]}
    coloured["groups"] = [SMALL["groups"][0] | {"thing": True}, SMALL["groups"][1]]
    same = load_vocabulary(write(tmp_path / "coloured.json", coloured))
    assert same.hash == small
    assert same.word_is_thing.tolist() == [True, True, False, False]
    for change in (
        {"eval_classes": ["ignore", "street", "car"]},
        {"groups": SMALL["groups"][::-1]},
        {"groups": [SMALL["groups"][0], SMALL["groups"][1] | {"words": ["road", " jeep"]}]},
    ):
        other = load_vocabulary(write(tmp_path / "changed.json", SMALL | change))
        assert other.hash != small


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match=r"no vocabulary of that name.*nuscenes"):
        load_vocabulary("nuscene")


GROUP = SMALL["groups"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "top level: expected an object, found 'list'"),
        ({"groups": []}, "eval_classes: expected 2 to 255"),
        ({"eval_classes": ["ignore", "a", "a"], "groups": [GROUP]}, "expected different names"),
        ({"eval_classes": ["ignore", "a"]}, "groups: expected a non-empty list, found None"),
        (SMALL | {"groups": [GROUP, 5]}, r"groups\[1\]: expected an object, found 5"),
        (SMALL | {"groups": [GROUP | {"raw_index": 256}]}, r"groups\[0\].raw_index: .*0..255"),
        (SMALL | {"groups": [GROUP | {"raw_index": True}]}, r"groups\[0\].raw_index: .*True"),
        (SMALL | {"groups": [GROUP | {"eval_class": 3}]}, r"groups\[0\].eval_class: .* 0..2"),
        (SMALL | {"groups": [GROUP | {"thing": 1}]}, r"groups\[0\].thing: expected true or false"),
        (SMALL | {"groups": [GROUP | {"words": []}]}, r"groups\[0\].words: .*found \[\]"),
        (SMALL | {"groups": [GROUP | {"words": [" "]}]}, r"groups\[0\].words"),
        (
            SMALL | {"groups": [GROUP, GROUP | {"eval_class": 1}]},
            r"groups\[1\].eval_class: expected 2, as an earlier group gives raw index 3, found 1",
        ),
        (SMALL | {"colors": [[0, 0, 0]]}, "colors: expected 3 RGB triples"),
        (SMALL | {"name": 3}, "name: expected a string"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path, content, message):
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(VocabularyError, match=message) as caught:
        load_vocabulary(path)
    assert str(caught.value).startswith(str(path))


def test_text_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("{groups")
    with pytest.raises(VocabularyError, match="not a JSON file"):
        load_vocabulary(path)


def test_words_make_a_dictionary_of_their_own():
    vocabulary = vocabulary_of_words(["a shopping cart", " rolling hills"])
    assert vocabulary.words == ("a shopping cart", " rolling hills")
    assert vocabulary.eval_classes == ("ignore", "a shopping cart", " rolling hills")
    assert vocabulary.word_eval_class.tolist() == [1, 2]
    for words, message in [
        ([], "the words given: .*eval_classes"),
        (["a", "a"], "the words given: .*eval_classes: expected different names"),
        (["a", ""], "the words given: .*eval_classes"),
        ([str(i) for i in range(256)], "the words given: .*eval_classes: expected 2 to 255"),
    ]:
        with pytest.raises(VocabularyError, match=message):
            vocabulary_of_words(words)


def test_ground_is_a_property_of_the_classes(tmp_path: Path) -> None:
    assert load_vocabulary("nuscenes").ground_classes == (11, 12, 13, 14)
    kitti = load_vocabulary("semantickitti")
    names = [kitti.eval_classes[number] for number in kitti.ground_classes]
    assert names == ["road", "parking", "sidewalk", "other-ground", "terrain"]
    groups = [{"raw_index": 200, "eval_class": 1, "words": ["floor"]}]
    content = {"eval_classes": ["ignore", "floor"], "groups": groups}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content))
    assert load_vocabulary(path).ground_classes == ()
    assert load_vocabulary(path).num_raw_labels == 201
    assert load_vocabulary("nuscenes").num_raw_labels == 32
    for wrong in ("floor", ["ceiling"], ["ignore"], [1]):
        path.write_text(json.dumps(content | {"ground": wrong}))
        with pytest.raises(VocabularyError, match="not a vocabulary: ground: expected names of"):
            load_vocabulary(path)


@pytest.mark.parametrize("name", ["nuscenes", "scannet", "s3dis", "semantickitti"])
def test_a_vocabulary_is_read_back_from_its_content(name):
    vocabulary = load_vocabulary(name)
    found = parse_vocabulary(json.loads(json.dumps(vocabulary.content())), "there")
    assert (found.hash, found.words, found.name) == (
        vocabulary.hash,
        vocabulary.words,
        vocabulary.name,
    )
    assert found.ground_classes == vocabulary.ground_classes
    for field in ("colors", "raw_to_eval", "word_is_thing", "word_eval_class", "word_raw_index"):
        np.testing.assert_array_equal(getattr(found, field), getattr(vocabulary, field))
