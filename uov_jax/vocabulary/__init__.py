"""Class dictionaries: the words a teacher is prompted with and the classes they stand for."""

from __future__ import annotations

from uov_jax.vocabulary.vocabulary import (
    Vocabulary,
    VocabularyError,
    load_vocabulary,
    parse_vocabulary,
    vocabulary_identity,
    vocabulary_of_words,
)

__all__ = [
    "Vocabulary",
    "VocabularyError",
    "load_vocabulary",
    "parse_vocabulary",
    "vocabulary_identity",
    "vocabulary_of_words",
]
