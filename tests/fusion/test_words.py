"""Embeddings of words: folders and files, whose they are, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.features import OPENSCENE, FeatureManifest, FeatureWriter
from uov_jax.fusion.words import RoomWords, read_words
from uov_jax.vocabulary import load_vocabulary

SCANNET = load_vocabulary("scannet")


@pytest.fixture
def text() -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((len(SCANNET), 6)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_folder_says_whose_its_words_are(tmp_path: Path, text: np.ndarray) -> None:
    manifest = FeatureManifest(
        "maskclip", "a" * 64, 6, "", "scannet", SCANNET.hash, "words", {"prompt": "a {}"}
    )
    FeatureWriter(tmp_path / "words", manifest, text)
    words = read_words(tmp_path / "words", SCANNET)
    assert (words.teacher, words.weights_hash, words.prompt) == ("maskclip", "a" * 64, "a {}")
    np.testing.assert_array_equal(words.text, text)
    unknown = dataclasses.replace(manifest, settings={"prompt": None})
    FeatureWriter(tmp_path / "unknown", unknown, text)
    assert read_words(tmp_path / "unknown", SCANNET).prompt == ""
    with pytest.raises(InputError, match="not of 's3dis'"):
        read_words(tmp_path / "words", load_vocabulary("s3dis"))


def test_a_file_has_rows_of_unit_length_made_of_any(tmp_path: Path, text: np.ndarray) -> None:
    np.savez(tmp_path / "unit.npz", embeddings=text)
    np.testing.assert_array_equal(read_words(tmp_path / "unit.npz", SCANNET).text, text)
    lengths = np.arange(1, len(text) + 1, dtype=np.float32)[:, None]
    np.savez(tmp_path / "long.npz", embeddings=lengths * text)
    np.testing.assert_allclose(read_words(tmp_path / "long.npz", SCANNET).text, text, rtol=1e-6)


def test_what_are_no_words_is_refused(tmp_path: Path, text: np.ndarray) -> None:
    path = tmp_path / "words.npz"
    with pytest.raises(MissingFileError, match="no file of embeddings of words"):
        read_words(path, SCANNET)
    for value in (0, np.nan):
        wrong = text.copy()
        wrong[3] = value
        np.savez(path, embeddings=wrong)
        with pytest.raises(InputError, match="each with a direction"):
            read_words(path, SCANNET)
    np.savez(path, embeddings=text[:4])
    with pytest.raises(InputError, match=r"20 words, any numbers\], .*, found \[4, 6\]"):
        read_words(path, SCANNET)
    np.savez(path, embeddings=text[0])
    with pytest.raises(InputError, match=r"found \[6\]"):
        read_words(path, SCANNET)
    np.savez(path, others=text)
    with pytest.raises(InputError, match="not a file with embeddings of words"):
        read_words(path, SCANNET)


def test_published_features_are_compared_with_the_words_of_clip(text: np.ndarray) -> None:
    """Whose text tower OpenSeg has; they have no other words."""
    clip = RoomWords(Path("words"), text, "maskclip", "a" * 64)
    clip.require_same_teacher("features", OPENSCENE, "")
    RoomWords(Path("words"), text, OPENSCENE).require_same_teacher("net", "maskclip", "a" * 64)
    san = RoomWords(Path("words"), text, "san", "a" * 64)
    with pytest.raises(InputError, match="one cannot be compared with the other"):
        san.require_same_teacher("features", OPENSCENE, "")
