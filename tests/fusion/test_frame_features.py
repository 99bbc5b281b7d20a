"""Features that lie beside the frames as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fusion.rooms import poses, write_frames
from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.frame_features import FileTeacher, read_features, write_features
from uov_jax.fusion.image_features import FeatureGrid, MaskFeatures
from uov_jax.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary("scannet")


def write_teacher(root: Path, **changes: object) -> Path:
    content = {"name": "own", "embedding_size": 6, "vocabulary_hash": VOCABULARY.hash} | changes
    root.mkdir(exist_ok=True)
    (root / "teacher.json").write_text(json.dumps(content))
    return root


def test_masks_and_grids_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    masks = MaskFeatures(
        rng.integers(0, 4, (6, 8)).astype(np.uint16), rng.normal(size=(3, 6)).astype(np.float16)
    )
    found = read_features(write_features(tmp_path / "0", masks), 6)
    assert isinstance(found, MaskFeatures)
    np.testing.assert_array_equal(found.masks, masks.masks)
    np.testing.assert_array_equal(found.embeddings, masks.embeddings)
    grid = FeatureGrid(rng.normal(size=(6, 3, 4)).astype(np.float16))
    path = write_features(tmp_path / "1", grid)
    assert path.name == "1.npy"
    for resize in ("bilinear", "nearest"):
        found = read_features(path, 6, resize)
        assert isinstance(found, FeatureGrid)
        assert found.resize == resize
        np.testing.assert_array_equal(found.planes, grid.planes)


def test_the_features_of_a_frame_lie_beside_its_image(tmp_path):
    frames = write_frames(tmp_path / "room", poses(2))
    (tmp_path / "room" / "features").mkdir()
    teacher = FileTeacher(write_teacher(tmp_path, resize="nearest"))
    assert (teacher.name, teacher.embedding_size, teacher.quick) == ("own", 6, True)
    grid = FeatureGrid(np.ones((6, 3, 4), np.float16))
    write_features(tmp_path / "room" / "features" / "1", grid)
    found = teacher.features(frames[1], teacher.load(frames[1]))
    assert isinstance(found, FeatureGrid)
    assert found.resize == "nearest"
    with pytest.raises(MissingFileError, match=r"features/0\.npz: no features of this frame, nor"):
        teacher.load(frames[0])


def test_words_come_with_the_teacher(tmp_path):
    teacher = FileTeacher(write_teacher(tmp_path))
    with pytest.raises(MissingFileError, match="no file of embeddings of words"):
        teacher.text_embeddings(VOCABULARY)
    rows = np.random.default_rng(0).normal(size=(len(VOCABULARY), 6))
    np.savez(tmp_path / "text_embeddings.npz", embeddings=rows)
    found = teacher.text_embeddings(VOCABULARY)
    np.testing.assert_allclose(found, rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    with pytest.raises(InputError, match="has other words than the vocabulary 's3dis'"):
        teacher.text_embeddings(load_vocabulary("s3dis"))
    for wrong in (rows[1:], rows[:, 1:], rows * 0, rows * np.nan):
        np.savez(tmp_path / "text_embeddings.npz", embeddings=wrong)
        with pytest.raises(
            InputError, match=r"expected embeddings \[20 words, 6 numbers\], each with a direc"
        ):
            teacher.text_embeddings(VOCABULARY)
    np.savez(tmp_path / "text_embeddings.npz", rows=rows)
    with pytest.raises(InputError, match="not a file with embeddings of words"):
        teacher.text_embeddings(VOCABULARY)


@pytest.mark.parametrize(
    "changes", [{"embedding_size": "many"}, {"resize": "cubic"}, {"name": None, "resize": 3}]
)
def test_a_teacher_that_says_too_little_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match=r"teacher\.json: expected name, embedding_size"):
        FileTeacher(write_teacher(tmp_path, **changes))


def test_frames_without_a_teacher_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"teacher\.json: no teacher's features lie beside"):
        FileTeacher(tmp_path)
    (tmp_path / "teacher.json").write_text("{")
    with pytest.raises(InputError, match=r"teacher\.json: expected name, embedding_size"):
        FileTeacher(tmp_path)


HALF, IDS = np.float16, np.uint16


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("0.npz", {"masks": np.zeros((2, 2), IDS)}, "damaged, or no features of an image"),
        (
            "0.npz",
            {"masks": np.zeros((2, 2), np.int64), "embeddings": np.zeros((1, 6), HALF)},
            r"expected masks uint16 \[h, w\] and .*found int64 \[2, 2\]",
        ),
        (
            "0.npz",
            {"masks": np.zeros((2, 2), IDS), "embeddings": np.zeros((1, 5), HALF)},
            r"expected masks uint16 .* embeddings float16 \[M, 6\], .* \[1, 5\]",
        ),
        (
            "0.npz",
            {"masks": np.full((2, 2), 2, IDS), "embeddings": np.zeros((1, 6), HALF)},
            "a pixel of mask 2, but there are 1 embeddings",
        ),
        ("0.npy", np.zeros((5, 3, 3), HALF), r"expected float16 \[6, h, w\], found float16 \[5"),
        ("0.npy", np.zeros((6, 3), HALF), r"expected float16 \[6, h, w\], found float16 \[6, 3\]"),
        ("0.npy", np.zeros((6, 3, 3), int), r"expected float16 \[6, h, w\], found int64"),
        ("0.npy", np.zeros((6, 0, 3), HALF), r"expected float16 \[6, h, w\], found float16 \[6, 0"),
    ],
)
def test_files_of_something_else_are_named(tmp_path, name, arrays, message):
    if isinstance(arrays, dict):
        np.savez(tmp_path / name, **arrays)
    else:
        np.save(tmp_path / name, arrays)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        read_features(tmp_path / name, 6)


@pytest.mark.parametrize("name", ["0.npz", "0.npy"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=f"{name}: damaged, or no features"):
        read_features(tmp_path / name, 6)
