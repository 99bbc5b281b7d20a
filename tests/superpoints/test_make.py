"""Making pseudo labels of many keyframes, from Python and by the script."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_dataset import write_dumps
from uov_jax.datasets.nuscenes import read_lidarseg
from uov_jax.dumps.folder import DumpFolder, MissingDumpError
from uov_jax.superpoints.labels import evaluation_labels
from uov_jax.superpoints.make import make_superpoints, prepare


def label(keyframes, dumps, vocabulary, root, workers=1, format="native"):
    folder = prepare(keyframes, dumps, vocabulary, root, format)
    return folder, list(make_superpoints(keyframes, dumps, vocabulary, folder, workers))


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_keyframes, tiny_dumps, vocabulary):
    root = tmp_path_factory.mktemp("labels") / "tiny"
    return label(tiny_keyframes, tiny_dumps, vocabulary, root)


def test_every_keyframe_is_written_and_counted(results, tiny_keyframes, vocabulary):
    folder, found = results
    folder.check(tiny_keyframes)
    for keyframe, result in zip(tiny_keyframes, found, strict=True):
        assert result.bytes == folder.path(keyframe).stat().st_size
        assert result.points == 400
        pseudo = evaluation_labels(folder.raw_labels(keyframe, 400), vocabulary)
        truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, 400)]
        assert result.labelled == np.count_nonzero(pseudo)
        expected = np.zeros((17, 17), int)
        for true, given in zip(truth, pseudo, strict=True):
            expected[true, given] += true > 0
        np.testing.assert_array_equal(result.counts, expected)
        assert np.trace(expected) > 0


def test_workers_change_nothing(tmp_path, results, tiny_keyframes, tiny_dumps, vocabulary):
    folder, found = label(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "two", workers=2)
    for keyframe, ours, theirs in zip(tiny_keyframes, found, results[1], strict=True):
        assert ours.bytes == theirs.bytes
        np.testing.assert_array_equal(ours.counts, theirs.counts)
        assert folder.path(keyframe).read_bytes() == results[0].path(keyframe).read_bytes()


def test_a_stopped_run_goes_on_and_reports_on_all(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    root = tmp_path / "labels"
    folder = prepare(tiny_keyframes, tiny_dumps, vocabulary, root, "native")
    part = make_superpoints(tiny_keyframes, tiny_dumps, vocabulary, folder)
    next(part)
    part.close()
    times = folder.path(tiny_keyframes[0]).stat().st_mtime_ns
    _, found = label(tiny_keyframes, tiny_dumps, vocabulary, root)
    assert [bool(result.bytes) for result in found] == [False, True, True, True]
    assert folder.path(tiny_keyframes[0]).stat().st_mtime_ns == times
    assert all(result.counts is not None for result in found)


def test_what_a_killed_process_left_is_removed(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    folder = prepare(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "out", "native")
    own = folder.root / f".{tiny_keyframes[1].token}.4711.tmp.npz"
    others = folder.root / ".another-shards.4711.tmp.npz"
    for path in (own, others):
        path.write_bytes(b"half")
    list(make_superpoints(tiny_keyframes[:2], tiny_dumps, vocabulary, folder))
    assert not own.exists()
    assert others.is_file()


def test_a_truncated_file_of_an_earlier_run_is_named(
    tmp_path, tiny_keyframes, tiny_dumps, vocabulary
):
    folder, _ = label(tiny_keyframes[:1], tiny_dumps, vocabulary, tmp_path / "labels")
    path = folder.path(tiny_keyframes[0])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{path.name}: corrupt .* delete it and make it again"):
        label(tiny_keyframes[:1], tiny_dumps, vocabulary, tmp_path / "labels")


def test_missing_dumps_are_found_before_anything_is_written(
    tmp_path, tiny_keyframes, vocabulary, tiny_dumps
):
    dumps = DumpFolder(write_dumps(tmp_path / "d", tiny_keyframes[:2], vocabulary).root, vocabulary)
    with pytest.raises(MissingDumpError, match="2 of 4 keyframes have no dump"):
        prepare(tiny_keyframes, dumps, vocabulary, tmp_path / "labels", "native")
    assert not (tmp_path / "labels").exists()
    folder, _ = label(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "labels")
    # Labels that exist need no dump any more.
    prepare(tiny_keyframes, dumps, vocabulary, folder.root, "native")


def test_dumps_without_words_have_no_labels(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    class Wordless:
        root, teacher, text_embeddings = tmp_path, "slic", None

    with pytest.raises(ValueError, match="the dumps of 'slic' have no words"):
        prepare(tiny_keyframes, Wordless(), vocabulary, tmp_path / "labels", "native")
    folder = prepare(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "labels", "native")
    with pytest.raises(ValueError, match="workers must be at least 1"):
        next(make_superpoints(tiny_keyframes, tiny_dumps, vocabulary, folder, 0))
