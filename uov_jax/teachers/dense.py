"""Teachers as fusion asks them: dense features of frames, and words in the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax.datasets.frames import Frame, read_color
from uov_jax.errors import InputError
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures, MaskFeatures
from uov_jax.fusion.prompts import BARE_PROMPT, OPENSCENE_PROMPT, prompted
from uov_jax.teachers.teacher import Teacher
from uov_jax.teachers.text import word_embeddings


class DenseTeacher:
    """A teacher's dense features: MaskCLIP's own patches, else the embedding of a pixel's mask.

    See `uov_jax.fusion.image_features.ImageTeacher`.
    """

    quick = False

    def __init__(self, teacher: Teacher) -> None:
        """Take a teacher with words.

        Raises:
            InputError: it has none, so that its features could not be compared with any.

        """
        if teacher.text_embeddings is None:
            raise InputError(
                f"the teacher {teacher.name!r} has no words, so that nothing could be found with "
                "its features: take maskclip, san, fcclip or catseg"
            )
        self.name, self.weights_hash = teacher.name, teacher.weights_hash
        self.embedding_size, self.settings = teacher.embedding_size, teacher.settings
        self._teacher = teacher
        self._words: Any = teacher  # a teacher with words has its text tower too
        self._dense: Any = getattr(teacher, "dense_features", None)

    def load(self, frame: Frame) -> np.ndarray:
        """uint8[H, W, 3]: the frame's image."""
        return read_color(frame)

    def features(self, frame: Frame, loaded: np.ndarray) -> ImageFeatures:
        """The features of an image: a grid of patches, or masks."""
        if self._dense is not None:
            return FeatureGrid(self._dense(loaded))
        (found,) = self._teacher.segment([loaded])
        return MaskFeatures(found.masks, found.embeddings)

    def text_embeddings(self, words: Sequence[str], prompt: str = OPENSCENE_PROMPT) -> np.ndarray:
        """float32[W, D]: a unit row for every word, in one prompt.

        Args:
            words: W of them.
            prompt: with {} for the word; "{}" alone is what 3DSS-VLG's pseudo labels are made with.

        Raises:
            InputError: a prompt without {}, or one that is too long.

        """
        prompts = prompted(words, prompt)
        return word_embeddings(self._words.text_tower, prompts, (BARE_PROMPT,), self.weights_hash)
