"""Texts embedded by a teacher's text tower, for commands that ask for any text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from uov_jax.vocabulary import vocabulary_of_words


def embedded_texts(
    teacher: str,
    texts: Sequence[str],
    weights: Sequence[Path],
    device: str,
    require_weights: Callable[[str], None],
) -> np.ndarray:
    """float32[texts, D]: unit rows by a teacher's text tower, whose weights are checked."""
    # Late, because they need PyTorch.
    from uov_jax.teachers import TeacherOptions, create_teacher, packages_needed

    with packages_needed(teacher):
        from uov_jax.teachers.weights import weights_hash

    require_weights(weights_hash(weights))
    settings = TeacherOptions(tuple(weights), device)
    made = create_teacher(teacher, vocabulary_of_words(texts), settings)
    assert made.text_embeddings is not None
    return made.text_embeddings
