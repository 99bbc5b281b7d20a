"""The words that rooms are judged by, and whether they lie in the space of a network's features."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from uov_jax.checkpoints.run import find_checkpoint, read_record
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE
from uov_jax.fusion.features import FeatureFolder
from uov_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class RoomWords:
    """Embeddings of a vocabulary's words.

    Attributes:
        source: the folder or file that they are from.
        text: float32[W, D], a unit row for every word.
        teacher: whose they are, "" where that is not known.
        weights_hash: sha256 of its weights, "" where that is not known.

    """

    source: Path
    text: np.ndarray
    teacher: str = ""
    weights_hash: str = ""

    def require_same_teacher(self, what: object, teacher: str, weights_hash: str) -> None:
        """InputError if something is of another teacher, or of other weights, than the words."""
        for name, mine, theirs in (
            ("the teacher", self.teacher, teacher),
            ("weights of sha256", self.weights_hash, weights_hash),
        ):
            if mine and theirs and mine != theirs:
                raise InputError(
                    f"{what}: features of {name} {theirs!r}, but the words of {self.source} are "
                    f"embedded by {name} {mine!r}: one cannot be compared with the other"
                )


def room_words(data: ConfigDict, vocabulary: Vocabulary) -> RoomWords:
    """The words that a recipe names: of `data.text`, else those kept with `data.features`.

    Args:
        data: `text`, a folder of features or a file such as its text_embeddings.npz, "" for none;
            `features`, a folder of features, "" for none.
        vocabulary: whose words they must be.

    Raises:
        InputError: nothing is named, or what is named has other words.
        MissingFileError: it is not there.

    """
    source = Path(data.text or data.features)
    if not (data.text or data.features):
        raise InputError(
            "there are no words to judge by: name a folder of features with config.data.features "
            "or config.data.text"
        )
    if source.is_dir() or not source.suffix:
        folder = FeatureFolder(source, vocabulary)
        facts = folder.manifest
        words = RoomWords(source, folder.text_embeddings, facts.teacher, facts.weights_hash)
    else:
        words = RoomWords(source, _read_file(source))
    if len(words.text) != len(vocabulary):
        raise InputError(
            f"{source}: embeddings of {len(words.text)} words, the vocabulary "
            f"{vocabulary.name!r} has {len(vocabulary)}"
        )
    return words


def require_network(words: RoomWords, path: str | Path) -> None:
    """InputError unless a checkpoint's network has features in the space of the words.

    Files of other programs do not say what theirs is; nothing is refused then.
    """
    if not Path(path).is_dir():
        return
    folder = find_checkpoint(path)
    identity = read_record(folder)["identity"]
    words.require_same_teacher(
        folder, identity.get("teacher", ""), identity.get("teacher_weights", "")
    )
    size = int(identity.get("embedding_size", words.text.shape[1]))
    if size != words.text.shape[1]:
        raise InputError(
            f"{folder}: features of {size} numbers, the words of {words.source} have "
            f"{words.text.shape[1]}"
        )


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
