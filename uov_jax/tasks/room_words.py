"""The words that rooms are judged by, and whether they lie in the space of a network's features."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from uov_jax.checkpoints.folder import read_record
from uov_jax.checkpoints.run import find_checkpoint
from uov_jax.errors import InputError
from uov_jax.fusion.words import RoomWords, read_words
from uov_jax.vocabulary import Vocabulary


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
    return read_words(source, vocabulary)


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
