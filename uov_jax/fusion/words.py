"""Embeddings of a vocabulary's words, as a folder or a file has them, and whose they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE
from uov_jax.fusion.features import OPENSCENE, FeatureFolder
from uov_jax.vocabulary import Vocabulary

# Published features have no words of their own: OpenSeg's space is that of CLIP's text tower, which
# this teacher has.
_TEACHER_OF_WORDS = {OPENSCENE: "maskclip"}
_UNIT = 1e-3  # how far from 1 the length of a unit row in half precision may be


@dataclasses.dataclass(frozen=True, eq=False)
class RoomWords:
    """Embeddings of a vocabulary's words.

    Attributes:
        source: the folder or file that they are from.
        text: float32[W, D], a unit row for every word.
        teacher: whose they are, "" where that is not known.
        weights_hash: sha256 of its weights, "" where that is not known.
        prompt: that the words stood in, "" where that is not known.

    """

    source: Path
    text: np.ndarray
    teacher: str = ""
    weights_hash: str = ""
    prompt: str = ""

    def require_same_teacher(self, what: object, teacher: str, weights_hash: str) -> None:
        """InputError if something is of another teacher, or of other weights, than the words."""
        own, other = (_TEACHER_OF_WORDS.get(name, name) for name in (self.teacher, teacher))
        for name, mine, theirs in (
            ("the teacher", own, other),
            ("weights of sha256", self.weights_hash, weights_hash),
        ):
            if mine and theirs and mine != theirs:
                raise InputError(
                    f"{what}: features of {name} {theirs!r}, but the words of {self.source} are "
                    f"embedded by {name} {mine!r}: one cannot be compared with the other"
                )


def read_words(source: Path, vocabulary: Vocabulary) -> RoomWords:
    """The words of a folder of features or of `embed_words`, or of a file `text_embeddings.npz`.

    Raises:
        MissingFileError: it is not there.
        InputError: it has other words than the vocabulary, or is damaged.

    """
    of_folder = source.is_dir() or not source.suffix
    words = _read_folder(source, vocabulary) if of_folder else RoomWords(source, _read_file(source))
    if len(words.text) != len(vocabulary):
        raise InputError(
            f"{source}: embeddings of {len(words.text)} words, the vocabulary "
            f"{vocabulary.name!r} has {len(vocabulary)}"
        )
    # What wrote a folder has made unit rows.
    return words if of_folder else dataclasses.replace(words, text=_unit_rows(source, words.text))


def _read_folder(root: Path, vocabulary: Vocabulary) -> RoomWords:
    folder = FeatureFolder(root, vocabulary)
    facts = folder.manifest
    prompt = str(facts.settings.get("prompt") or "")
    return RoomWords(root, folder.text_embeddings, facts.teacher, facts.weights_hash, prompt)


def _read_file(path: Path) -> np.ndarray:
    if not path.is_file():
        raise MissingFileError(f"{path}: no file of embeddings of words there")
    try:
        with np.load(path, allow_pickle=False) as stored:
            text = np.asarray(stored["embeddings"], np.float32)
    except DAMAGE as error:
        raise InputError(f"{path}: not a file with embeddings of words: {error}") from error
    if text.ndim != 2:
        raise InputError(f"{path}: expected a row a word, found embeddings {list(text.shape)}")
    return text


def _unit_rows(path: Path, text: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(text, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise InputError(
            f"{path}: expected a row a word, each with a direction, found zeros or numbers that "
            "are not finite"
        )
    # Rows that are of length 1 already keep their bits.
    return text if np.allclose(norms, 1, rtol=0, atol=_UNIT) else text / norms
