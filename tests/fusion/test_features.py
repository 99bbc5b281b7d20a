"""The folder of fused features: written whole or not at all, read by rows, bound to its facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.features import (
    ROWS_AT_ONCE,
    FeatureError,
    FeatureFolder,
    FeatureManifest,
    FeatureWriter,
    expected_bytes,
)
from uov_jax.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary("scannet")
FACTS = FeatureManifest("tiny", "0" * 64, 6, "scannet", "scannet", VOCABULARY.hash)
TEXT = np.random.default_rng(0).normal(size=(len(VOCABULARY), 6)).astype(np.float32)
TEXT /= np.linalg.norm(TEXT, axis=1, keepdims=True)


def room(points: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Views of points, and features of those that are seen."""
    rng = np.random.default_rng(seed)
    views = rng.integers(0, 4, points).astype(np.uint16)
    return views, rng.normal(size=(np.count_nonzero(views), 6)).astype(np.float16)


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureWriter:
    return FeatureWriter(tmp_path, FACTS, TEXT, compress=request.param)


def test_what_was_written_is_read(writer):
    views, features = room(2 * ROWS_AT_ONCE)
    assert not writer.has("a")
    writer.write("a", views, features)
    assert writer.has("a")
    folder = FeatureFolder(writer.root, VOCABULARY)
    assert folder.manifest == FACTS
    np.testing.assert_array_equal(folder.text_embeddings, TEXT)
    found = folder.room("a", len(views))
    assert found.views.dtype == np.uint16
    np.testing.assert_array_equal(found.views, views)
    np.testing.assert_array_equal(found.visible, views > 0)
    np.testing.assert_array_equal(found.features, features)
    rows = found.rows()
    assert rows.dtype == np.int32
    seen = np.flatnonzero(views)
    assert (rows[views == 0] == -1).all()
    chosen = np.random.default_rng(1).choice(seen, 20)
    np.testing.assert_array_equal(found.read(rows[chosen]), features[np.searchsorted(seen, chosen)])


def test_a_room_may_come_in_parts(writer):
    views, features = room(90)
    ends = np.cumsum([np.count_nonzero(part) for part in np.split(views, [20, 60])])
    with writer.open("a", {"frames": 3}) as writing:
        for part, rows in zip(
            np.split(views, [20, 60]), np.split(features, ends[:-1]), strict=True
        ):
            writing.append(part, iter([rows[:3], rows[3:]]))
    np.testing.assert_array_equal(FeatureFolder(writer.root).room("a", 90).features, features)
    facts = json.loads((writer.root / "a" / "fused.json").read_text())
    assert len(facts.pop("content")) == 64
    assert facts == {
        "frames": 3,
        "points": 90,
        "visible": len(features),
        "different": len(features),
    }


def test_a_room_is_there_whole_or_not_at_all(writer):
    views, features = room()

    def stopped() -> Iterator[np.ndarray]:
        yield features[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), writer.open("a") as writing:
        writing.append(views, stopped())
    assert not writer.has("a")
    assert not list(writer.root.glob(".a*"))
    writer.write("a", views, features)
    with pytest.raises(MissingFileError, match="1 of 2 rooms have no features, the first is b"):
        FeatureFolder(writer.root).check(["a", "b"])
    writer.write("a", views[:9], features[: np.count_nonzero(views[:9])])  # replaces
    assert len(FeatureFolder(writer.root).room("a", 9).views) == 9


def test_what_killed_writers_left_is_removed(writer):
    for name in (".a.0123.tmp", ".a.b.0123.tmp", ".b.0123.tmp"):
        (writer.root / name).mkdir()
    writer.remove_unfinished(["a"])
    assert sorted(path.name for path in writer.root.glob(".*")) == [".a.b.0123.tmp", ".b.0123.tmp"]


@pytest.mark.parametrize(
    ("views", "features", "message"),
    [
        ([0, 0, 0], np.zeros((0, 6)), "room a: no view sees any of its points"),
        ([], np.zeros((0, 6)), "room a: no view sees any of its points"),
        ([1, 0, 2], np.ones((3, 6)), "room a: 2 points are seen, expected as many features of 6"),
        ([1, 0, 2], np.ones((2, 5)), r"expected as many features of 6 numbers, found \[2, 5\]"),
        ([1, 0, 2], np.full((2, 6), np.nan), "room a: a feature is not finite in half precision"),
        ([1], np.full((1, 6), 1e5), "room a: a feature is not finite in half precision"),
    ],
)
def test_what_is_no_room_is_refused_and_nothing_of_it_kept(writer, views, features, message):
    with np.errstate(over="ignore"):
        halves = features.astype(np.float16)
    with pytest.raises(FeatureError, match=message):
        writer.write("a", np.array(views, np.uint16), halves)
    assert not writer.has("a")
    assert not list(writer.root.glob(".a*"))


def test_parts_with_too_few_features_are_refused(writer):
    views, features = room()
    with (
        pytest.raises(FeatureError, match=r"\d+ points are seen, expected as many features, found"),
        writer.open("a") as writing,
    ):
        writing.append(views, iter([features[:-1]]))


def test_a_folder_is_bound_to_its_teacher_and_words(writer):
    for field, value in (("teacher", "other"), ("weights_hash", "1"), ("embedding_size", 7)):
        other = dataclasses.replace(FACTS, **{field: value})
        with pytest.raises(FeatureError, match=f"fused features of {field} = .*another folder"):
            FeatureWriter(writer.root, other, TEXT)
    with pytest.raises(FeatureError, match="of settings.cut = 'nothing', not of 3"):
        FeatureWriter(writer.root, dataclasses.replace(FACTS, settings={"cut": 3}), TEXT)
    FeatureWriter(writer.root, FACTS, TEXT)
    with pytest.raises(FeatureError, match="words of the vocabulary 'scannet', not of 's3dis'"):
        FeatureFolder(writer.root, load_vocabulary("s3dis"))


def test_a_folder_is_bound_to_the_embeddings_of_its_words(writer):
    close = TEXT + np.random.default_rng(1).uniform(-9e-4, 9e-4, TEXT.shape).astype(np.float32)
    FeatureWriter(writer.root, FACTS, close)  # the same words on another device
    np.testing.assert_array_equal(FeatureFolder(writer.root).text_embeddings, TEXT)
    other = TEXT.copy()
    other[3] = other[3, ::-1]
    with pytest.raises(FeatureError, match=r"other embeddings of the words .* the first in row 3"):
        FeatureWriter(writer.root, FACTS, other)
    with pytest.raises(FeatureError, match=f"holds {len(TEXT)} words, not {len(TEXT) - 1}: give"):
        FeatureWriter(writer.root, FACTS, TEXT[:-1])
    with pytest.raises(FeatureError, match="other embeddings of the words"):
        FeatureWriter(writer.root, FACTS, np.full_like(TEXT, np.nan))


def test_features_are_told_apart_by_their_content(tmp_path):
    """However they are kept, and in whatever parts they came."""
    views, features = room(90)

    def identity(name: str, views: np.ndarray, rows: np.ndarray, **options: bool) -> str:
        writer = FeatureWriter(tmp_path / name, FACTS, TEXT, **options)
        half = 40, np.count_nonzero(views[:40])
        with writer.open("a") as writing:
            writing.append(views[: half[0]], rows[: half[1]])
            writing.append(views[half[0] :], rows[half[1] :])
        writer.write("b", *room(20, seed=1))
        return FeatureFolder(writer.root).identity(["a"])

    one = identity("one", views, features)
    assert identity("packed", views, features, compress=True) == one
    turned, other = views.copy(), features.copy()
    turned[np.flatnonzero(views)[0]] += 1
    other[3, 2] += 1
    assert len({one, identity("views", turned, features), identity("rows", views, other)}) == 3
    folder = FeatureFolder(tmp_path / "one")
    assert folder.identity(["a", "b"]) not in (one, folder.identity(["b"]))
    with pytest.raises(MissingFileError, match="1 of 2 rooms have no features, the first is c"):
        folder.identity(["a", "c"])


def test_files_that_do_not_fit_the_room_are_named(writer):
    views, features = room()
    writer.write("a", views, features)
    folder = FeatureFolder(writer.root)
    with pytest.raises(FeatureError, match="features of a room of 50 points, not of 51"):
        folder.room("a", 51)
    np.save(writer.root / "a" / "views.npy", np.ones(50, np.uint16))
    with pytest.raises(FeatureError, match=r"views\.npy: 50 points are seen, expected \d+"):
        folder.room("a", 50)
    (writer.root / "a" / "fused.json").write_text("[]")
    with pytest.raises(FeatureError, match="not the facts of a room's features"):
        folder.room("a", 50)
    (writer.root / "text_embeddings.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"text_embeddings\.npz: not a file with embeddings"):
        _ = folder.text_embeddings


def test_the_expected_size_is_what_it_takes_at_most(tmp_path):
    writer = FeatureWriter(tmp_path, FACTS, TEXT)
    views = np.ones(1000, np.uint16)
    writer.write("a", views, np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float16))
    size = sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    assert 0 <= size - expected_bytes(1000, 6) < 400  # headers
