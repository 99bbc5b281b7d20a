"""The command embed_words: a folder that evaluation takes words from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from uov_jax.command_line import embed_words as script
from uov_jax.fusion.features import FeatureFolder
from uov_jax.vocabulary import load_vocabulary


class Stub:
    """A teacher with words, in the place of `DenseTeacher`."""

    name, weights_hash = "maskclip", "a" * 64

    def __init__(self, teacher: object) -> None:
        del teacher

    def text_embeddings(self, words: tuple[str, ...], prompt: str) -> np.ndarray:
        """A unit row that tells words and prompt."""
        rows = np.array([[len(word), len(prompt), 1.0] for word in words], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def arguments(output: Path, *more: str) -> list[str]:
    return ["--teacher", "maskclip", "--vocabulary", "s3dis", "--output", str(output), *more]


def test_words_are_written_with_their_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    dense = pytest.importorskip("uov_jax.teachers.dense")
    monkeypatch.setattr(dense, "DenseTeacher", Stub)
    monkeypatch.setattr(script, "create_teacher", lambda *_: None)
    assert script.main(arguments(tmp_path / "words")) == 0
    said = capsys.readouterr().out
    assert "Wrote 13 words of 3 numbers each" in said
    assert f"--config.data.text={tmp_path / 'words'}" in said
    vocabulary = load_vocabulary("s3dis")
    folder = FeatureFolder(tmp_path / "words", vocabulary)
    assert (folder.manifest.teacher, folder.manifest.weights_hash) == ("maskclip", "a" * 64)
    expected = Stub(None).text_embeddings(vocabulary.words, "a {} in a scene")
    np.testing.assert_array_equal(folder.text_embeddings, expected)
    assert script.main(arguments(tmp_path / "words", "--prompt", "{}")) == 1
    assert "give another folder" in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("uov_jax.teachers.")]:
        if name not in ("uov_jax.teachers.teacher", "uov_jax.teachers.runtime"):
            monkeypatch.delitem(sys.modules, name)
    assert script.main(arguments(tmp_path / "words")) == 1
    assert "needs the package 'torch'" in capsys.readouterr().err
    assert not (tmp_path / "words").exists()
