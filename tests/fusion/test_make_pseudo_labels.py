"""Pseudo labels of rooms: exactly the published code's, whole folders, refusals by name."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import DATA
from tests.tiny_rooms import BED, CHAIR, FLOOR, TABLE, WALL, write_features, write_rooms
from uov_jax.datasets.rooms import RoomError, RoomStore
from uov_jax.errors import InputError, MissingFileError, NotFiniteError
from uov_jax.evaluation.scores import Scores
from uov_jax.evaluation.scoring import ROOMS
from uov_jax.evaluation.tables import format_table
from uov_jax.files import write_text
from uov_jax.fusion.features import FeatureFolder, FeatureWriter
from uov_jax.fusion.label_report import LabelReport, report_of
from uov_jax.fusion.make_pseudo_labels import LabelSettings, RoomLabeller, best_words
from uov_jax.fusion.pseudo_labels import PseudoLabelError, PseudoLabelFolder
from uov_jax.fusion.words import RoomWords
from uov_jax.vocabulary import Vocabulary, load_vocabulary

NONE = 20  # the published code's label of a point without a feature


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return load_vocabulary("scannet")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, words: Vocabulary) -> RoomStore:
    return write_rooms(tmp_path_factory.mktemp("rooms"), words)


@pytest.fixture(scope="module")
def features(
    tmp_path_factory: pytest.TempPathFactory, store: RoomStore, words: Vocabulary
) -> FeatureFolder:
    return write_features(tmp_path_factory.mktemp("features"), store, words, noise=1.5)


def published(
    tmp_path: Path, words: Vocabulary
) -> tuple[RoomStore, FeatureFolder, np.lib.npyio.NpzFile]:
    """The room of the fixture in a store, and its features in a folder."""
    fixture = np.load(DATA / "indoor_ess.npz", allow_pickle=False)
    points = len(fixture["mask_full"])
    store = write_rooms(tmp_path / "rooms", words, splits={"train": ["room"]}, points=points)
    classes = [words.eval_classes[number + 1] for number in fixture["scene_classes"]]
    write_text(store.root / "scene_labels.txt", f"room: {', '.join(classes)}")
    manifest = dataclasses.replace(
        write_features(tmp_path / "others", store, words).manifest, embedding_size=768
    )
    writer = FeatureWriter(tmp_path / "features", manifest, fixture["text"])
    seen = fixture["mask_full"]
    writer.write("room", seen.astype(np.uint16), fixture["features"][seen])
    return RoomStore(store.root, words), FeatureFolder(tmp_path / "features", words), fixture


def test_labels_and_probabilities_are_those_of_the_published_code(
    tmp_path: Path, words: Vocabulary
) -> None:
    store, features, fixture = published(tmp_path, words)
    labeller = RoomLabeller(store, features, words, tmp_path / "labels", LabelSettings())
    assert list(labeller.label(labeller.check(["room"]))) == ["room"]
    points = len(fixture["pseudo"])
    expected = np.where(fixture["pseudo"] == NONE, 0, fixture["pseudo"] + 1)
    np.testing.assert_array_equal(labeller.folder.labels("room", points), expected)
    # Half a unit in the last place of the half precision in which they are kept, below 1/2; and
    # float32's own error, see below.
    seen = fixture["mask_full"]
    found = labeller.folder.probabilities("room", points)
    np.testing.assert_allclose(
        found[seen].astype(np.float32), fixture["probability"][seen], rtol=3e-6, atol=2.0**-13
    )
    assert not found[~seen].any()


def test_probabilities_are_exact_before_they_are_kept(words: Vocabulary) -> None:
    fixture = np.load(DATA / "indoor_ess.npz", allow_pickle=False)
    seen = fixture["mask_full"]
    allowed = np.isin(np.arange(20), fixture["scene_classes"])
    found = best_words([fixture["features"][seen]], fixture["text"], allowed)
    np.testing.assert_array_equal(found.word, fixture["pseudo"][seen])
    # Sums of 768 float32 products of up to 1.5 in another order.
    np.testing.assert_allclose(found.probability, fixture["probability"][seen], rtol=3e-6)


@pytest.mark.parametrize("chunk", [1, 7, 541, 542, 10_000])
def test_parts_change_nothing(chunk: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(542, 24)).astype(np.float16)
    text = rng.normal(size=(9, 24)).astype(np.float32)
    allowed = np.arange(9) % 2 == 0
    whole = best_words([features], text, allowed)
    starts = range(0, len(features), chunk)
    parts = best_words((features[start : start + chunk] for start in starts), text, allowed)
    np.testing.assert_array_equal(parts.word, whole.word)
    np.testing.assert_array_equal(parts.unfiltered, whole.unfiltered)
    np.testing.assert_allclose(parts.probability, whole.probability, rtol=1e-5)


def test_without_a_word_that_may_be_chosen_there_is_none() -> None:
    found = best_words(
        [np.ones((3, 2), np.float16)], np.eye(2, dtype=np.float32), np.zeros(2, bool)
    )
    np.testing.assert_array_equal(found.word, -1)
    assert not found.probability.any()
    assert len(best_words([], np.eye(2, dtype=np.float32)).word) == 0


def test_the_filter_keeps_to_the_classes_of_the_room(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    rooms = store.names()
    with_filter = RoomLabeller(store, features, words, tmp_path / "with", LabelSettings())
    without = RoomLabeller(store, features, words, tmp_path / "without", LabelSettings(False))
    for labeller in (with_filter, without):
        assert list(labeller.label(labeller.check(rooms), workers=2)) == rooms
    for name in rooms:
        points = store.facts(name).points
        labels = with_filter.folder.labels(name, points)
        other = without.folder.labels(name, points)
        assert set(np.unique(labels)) <= {0, WALL, FLOOR, BED, CHAIR, TABLE}
        assert len(np.unique(other)) > 6
        seen = features.room(name, points).visible
        np.testing.assert_array_equal(labels > 0, seen)
        moves = with_filter.folder.facts(name).moves
        pairs = np.stack([other[seen], labels[seen]], axis=1)
        expected = np.zeros_like(moves)
        np.add.at(expected, tuple(pairs.T), 1)
        np.testing.assert_array_equal(moves, expected)
    reports = [report_of(store, labeller.folder, rooms) for labeller in (with_filter, without)]
    assert reports[0].changed > 0
    assert reports[1].changed == 0
    right, others_right = (report.content()["right"] for report in reports)
    assert right > others_right


def test_the_report_counts_what_is_on_the_disk(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    labeller = RoomLabeller(store, features, words, tmp_path, LabelSettings())
    list(labeller.label(labeller.check(store.names())))
    report = report_of(store, labeller.folder, store.names())
    labels, truth = [], []
    for name in store.names():
        room = store.room(name)
        assert room.labels is not None
        labels.append(labeller.folder.labels(name, len(room)))
        truth.append(room.labels)
    label, true = np.concatenate(labels), np.concatenate(truth)
    bed = report.content()["classes"]["bed"]
    assert bed["points"] == np.count_nonzero(label == BED)
    assert bed["share"] == np.count_nonzero(label == BED) / np.count_nonzero(label)
    judged = (label == BED) & (true > 0)
    assert bed["purity"] == np.count_nonzero(true[judged] == BED) / np.count_nonzero(judged)
    assert report.content()["classes"]["sofa"]["purity"] is None
    assert report.content()["rooms_with_truth"] == 3
    written = report.write(tmp_path)
    assert [path.name for path in written] == ["report.json", "report.txt", "confusion.csv"]
    assert "bed" in (tmp_path / "report.txt").read_text("utf-8")


def test_the_mean_iou_is_that_of_judged_rooms() -> None:
    """A class that is labelled, but not in the truth, takes no part; a missing label is a miss."""
    names = ("none", "wall", "floor", "bed", "chair")
    truth = np.array([1, 1, 1, 1, 2, 2, 0], np.uint8)
    labels = np.array([1, 1, 0, 3, 2, 2, 4], np.uint8)
    report = LabelReport(names)
    report.add(labels, truth, np.zeros((5, 5), np.int64))
    content = report.content()
    assert content["mean_iou"] == (2 / 4 + 2 / 2) / 2
    assert content["classes"]["bed"]["iou"] == 0
    judged = Scores(names, ROOMS)
    facts = {"truth": truth, "teacher_label": None, "seen": None, "views": None}
    judged.add(facts, {"labels": labels})
    table = format_table({"labels": judged.columns["labels"].everywhere}, "csv", ROOMS)
    (row,) = [line for line in table.splitlines() if line.startswith("mean IoU,")]
    assert float(row.split(",")[1]) == content["mean_iou"]
    assert "the classes that the truth has" in content["mean_iou_convention"]
    assert report.table().splitlines()[-1] == (
        "Mean IoU over the classes that the truth has; a point without a label is a miss."
    )
    unjudged = LabelReport(names)
    unjudged.add(labels, None, np.zeros((5, 5), np.int64))
    assert "Mean IoU" not in unjudged.table()


def test_each_point_takes_the_feature_of_the_point_that_is_named(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    """As the published code does with the first point of each voxel."""
    name = store.names()[0]
    points = store.facts(name).points
    first = np.arange(points) // 3 * 3
    own = RoomLabeller(store, features, words, tmp_path / "own", LabelSettings())
    settings = LabelSettings(voxel_size=0.05)
    voxels = RoomLabeller(store, features, words, tmp_path / "v", settings, lambda room: first)
    for labeller in (own, voxels):
        list(labeller.label([name]))
    np.testing.assert_array_equal(
        voxels.folder.labels(name, points), own.folder.labels(name, points)[first]
    )
    with pytest.raises(PseudoLabelError, match="voxel_size"):
        RoomLabeller(store, features, words, tmp_path / "v", LabelSettings())


def test_what_is_there_is_kept_and_other_labels_are_refused(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    rooms = store.names()
    labeller = RoomLabeller(store, features, words, tmp_path, LabelSettings())
    list(labeller.label(rooms[:1]))
    assert RoomLabeller(store, features, words, tmp_path, LabelSettings()).check(rooms) == rooms[1:]
    with pytest.raises(MissingFileError, match="2 of 3 rooms have no pseudo labels"):
        labeller.folder.check(rooms)
    with pytest.raises(PseudoLabelError, match="scene_filter = True, not of False"):
        RoomLabeller(store, features, words, tmp_path, LabelSettings(False))


def test_scene_labels_that_changed_are_noticed(
    tmp_path: Path, features: FeatureFolder, words: Vocabulary
) -> None:
    store = write_rooms(tmp_path / "rooms", words)
    rooms = store.names()
    labeller = RoomLabeller(store, features, words, tmp_path / "labels", LabelSettings())
    list(labeller.label(rooms))
    write_text(store.root / "scene_labels.txt", f"{rooms[0]}: bed, desk")
    again = RoomStore(store.root, words)
    labeller = RoomLabeller(again, features, words, tmp_path / "labels", LabelSettings())
    with pytest.raises(PseudoLabelError, match="now it has bed, desk"):
        labeller.check(rooms)
    write_text(store.root / "scene_labels.txt", f"{rooms[0]}: bed, unicorn")
    again = RoomStore(store.root, words)
    labeller = RoomLabeller(again, features, words, tmp_path / "labels", LabelSettings())
    with pytest.raises(RoomError, match="'unicorn' is none of the classes"):
        labeller.check(rooms)


def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    offices = load_vocabulary("s3dis")
    with pytest.raises(InputError, match="words of the vocabulary 'scannet', not of 's3dis'"):
        FeatureFolder(features.root, offices)
    others = write_rooms(tmp_path / "others", words, dataset="mine")
    with pytest.raises(InputError, match="features of rooms of 'scannet'"):
        RoomLabeller(others, features, words, tmp_path / "out", LabelSettings())
    few = write_features(tmp_path / "few", store, words, rooms=store.names()[:1])
    labeller = RoomLabeller(store, few, words, tmp_path / "out", LabelSettings())
    with pytest.raises(MissingFileError, match="2 of 3 rooms have no features"):
        labeller.check(store.names())
    another = write_features(tmp_path / "another", store, words, teacher="other")
    with pytest.raises(PseudoLabelError, match="teacher = 'tiny', not of 'other'"):
        RoomLabeller(store, another, words, tmp_path / "out", LabelSettings())
    with pytest.raises(PseudoLabelError, match="made of fused features of 'tiny'"):
        labeller.folder.check_features(another)
    labeller.folder.check_features(few)
    with pytest.raises(PseudoLabelError, match="of the vocabulary 'scannet', not of 's3dis'"):
        PseudoLabelFolder(tmp_path / "out", offices)


def test_rooms_without_labels_need_a_line_each(
    tmp_path: Path, features: FeatureFolder, words: Vocabulary
) -> None:
    store = write_rooms(tmp_path / "rooms", words, labels=False)
    labeller = RoomLabeller(store, features, words, tmp_path / "labels", LabelSettings())
    with pytest.raises(RoomError, match="write a line 'scene0000_00: wall, floor'"):
        labeller.check(store.names())
    without = RoomLabeller(store, features, words, tmp_path / "any", LabelSettings(False))
    list(without.label(without.check(store.names())))
    report = report_of(store, without.folder, store.names())
    assert report.judged == 0
    assert report.content()["right"] is None
    assert [path.name for path in report.write(tmp_path)] == ["report.json", "report.txt"]


def test_points_that_no_view_sees_have_no_label(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    """Here all but one."""
    name = store.names()[0]
    points = store.facts(name).points
    writer = FeatureWriter(tmp_path / "features", features.manifest, features.text_embeddings)
    views = np.zeros(points, np.uint16)
    views[7] = 3
    writer.write(name, views, features.text_embeddings[[4]].astype(np.float16))
    unseen = FeatureFolder(tmp_path / "features", words)
    labeller = RoomLabeller(store, unseen, words, tmp_path / "labels", LabelSettings())
    list(labeller.label([name]))
    labels = labeller.folder.labels(name, points)
    assert np.flatnonzero(labels).tolist() == [7]
    assert labels[7] == CHAIR
    content = report_of(store, labeller.folder, [name]).content()
    assert content["labelled"] == 1
    assert content["coverage"] == (store.room(name).labels[7] > 0) / np.count_nonzero(
        store.room(name).labels
    )


def test_damaged_files_are_named(tmp_path: Path, store: RoomStore, words: Vocabulary) -> None:
    name = store.names()[0]
    features = write_features(tmp_path / "features", store, words)
    broken = np.load(features.root / name / "features.npy")
    broken[5] = np.nan
    np.save(features.root / name / "features.npy", broken)
    labeller = RoomLabeller(store, features, words, tmp_path / "labels", LabelSettings())
    with pytest.raises(NotFiniteError, match=rf"{name}/features.npy: the feature in row 5 is not"):
        list(labeller.label([name]))
    assert not labeller.folder.has(name)
    others = store.names()[1:]
    list(labeller.label(others))
    folder = tmp_path / "labels" / others[0]
    np.save(folder / "labels.npy", np.full(store.facts(others[0]).points, 21, np.uint8))
    with pytest.raises(PseudoLabelError, match="label of point 0 is 21, expected 0 to 20"):
        labeller.folder.labels(others[0], store.facts(others[0]).points)
    with pytest.raises(RoomError, match="expected uint8"):
        labeller.folder.labels(others[1], 3)
    write_text(folder / "labels.json", "{}")
    with pytest.raises(PseudoLabelError, match="not the facts of a room's pseudo labels"):
        labeller.folder.facts(others[0])


def test_words_in_another_prompt_label_otherwise_and_are_recorded(
    tmp_path: Path, store: RoomStore, features: FeatureFolder, words: Vocabulary
) -> None:
    name = store.names()[0]
    points = store.facts(name).points
    swapped = features.text_embeddings.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    bare = RoomWords(tmp_path / "bare", swapped, "tiny", "0" * 64, "{}")
    settings = LabelSettings()
    own = RoomLabeller(store, features, words, tmp_path / "own", settings)
    other = RoomLabeller(store, features, words, tmp_path / "other", settings, words=bare)
    for labeller in (own, other):
        list(labeller.label([name]))
    before, after = (made.folder.labels(name, points) for made in (own, other))
    exchanged = np.arange(len(words.eval_classes))
    exchanged[[WALL, FLOOR]] = FLOOR, WALL
    np.testing.assert_array_equal(after, exchanged[before])
    assert (own.folder.manifest.words, own.folder.manifest.prompt) == ("", "")
    facts = other.folder.manifest
    assert facts.words == hashlib.sha256(swapped.tobytes()).hexdigest()
    assert facts.prompt == "{}"
    other.folder.check_features(features)
    with pytest.raises(PseudoLabelError, match="words = "):
        RoomLabeller(store, features, words, tmp_path / "other", settings)
    unknown = dataclasses.replace(bare, prompt="")
    with pytest.raises(PseudoLabelError, match="prompt = '{}', not of ''"):
        RoomLabeller(store, features, words, tmp_path / "other", settings, words=unknown)
    for wrong, message in (
        ({"teacher": "another"}, "embedded by the teacher 'another'"),
        ({"weights_hash": "1" * 64}, "one cannot be compared with the other"),
        ({"text": swapped[:, :8]}, "features of 16 numbers, the words of .*bare have 8"),
        ({"text": swapped[:9]}, "embeddings of 9 words, the vocabulary 'scannet' has 20"),
    ):
        others = dataclasses.replace(bare, **wrong)
        with pytest.raises(InputError, match=message):
            RoomLabeller(store, features, words, tmp_path / "new", settings, words=others)
    assert not (tmp_path / "new").exists()
