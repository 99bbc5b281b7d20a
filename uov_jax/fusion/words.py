"""Embeddings of a vocabulary's words, as a folder or a file has them, and whose they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from uov_jax.errors import InputError
from uov_jax.fusion.features import OPENSCENE, FeatureFolder
from uov_jax.fusion.word_embeddings import read_embeddings
from uov_jax.vocabulary import Vocabulary

# Published features have no words of their own: OpenSeg's space is that of CLIP's text tower, which
# this teacher has.
_TEACHER_OF_WORDS = {OPENSCENE: "maskclip"}


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
    if not source.is_dir() and source.suffix:
        return RoomWords(source, read_embeddings(source, len(vocabulary)))
    folder = FeatureFolder(source, vocabulary)
    facts = folder.manifest
    prompt = str(facts.settings.get("prompt") or "")
    return RoomWords(source, folder.text_embeddings, facts.teacher, facts.weights_hash, prompt)
